/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/cards/scores.h"
#include "deviceplugin/cards/worker.h"

/* Which cards there are. */

#define INSTANCES_MAX 16

static void add_instances(struct tr_cards *out, const struct tr_card_facts *gpu,
			  const struct tr_card_rules *rules)
{
	struct tr_gpu_instance rows[INSTANCES_MAX];
	size_t count = INSTANCES_MAX;

	if (tr_gpu_instances(gpu->uuid, rows, &count, NULL) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		struct tr_card_facts facts = *gpu;

		facts.uuid = rows[i].uuid;
		facts.name = rows[i].name;
		facts.parent = gpu->uuid;
		facts.total_bytes = rows[i].total_bytes;
		facts.gpu_instance = rows[i].gpu_instance;
		facts.compute_instance = rows[i].compute_instance;
		(void)tr_cards_add(out, &facts, rules);
	}
}

void tr_worker_list(struct tr_worker *w, struct tr_cards *out)
{
	*out = (struct tr_cards){ 0 };
	memcpy(out->driver, w->gpus.driver, sizeof(out->driver));
	for (unsigned i = 0; i < w->gpus.count; i++) {
		const struct tr_gpu *gpu = &w->gpus.gpus[i];
		struct tr_gpu_place place;
		struct tr_card_facts facts = {
			.uuid = gpu->uuid,
			.name = gpu->name,
			.parent = "",
			.index = gpu->index,
			.compute_major = gpu->compute_major,
			.total_bytes = gpu->total_bytes,
		};

		(void)tr_gpu_place(gpu->uuid, &place, NULL);
		facts.minor = place.minor;
		facts.numa = place.numa;
		if (place.is_mig)
			add_instances(out, &facts, &w->box->rules);
		else
			(void)tr_cards_add(out, &facts, &w->box->rules);
	}
	if (w->missing)
		(void)snprintf(out->reason, sizeof(out->reason),
			       "%u of %u GPUs did not answer when they were listed",
			       w->missing, w->missing + w->gpus.count);
	else if (!out->count && !out->reason[0])
		(void)snprintf(out->reason, sizeof(out->reason),
			       "all GPUs of this node are left out by configuration, or "
			       "have no instance");
}

/* ---- what is kept of before ---------------------------------------------------------- */

static bool is_same(const struct tr_card *a, const struct tr_card *b)
{
	return strcmp(a->uuid, b->uuid) == 0 && strcmp(a->type, b->type) == 0 &&
	       a->index == b->index && a->minor == b->minor &&
	       a->give_bytes == b->give_bytes && a->numa == b->numa &&
	       a->gpu_instance == b->gpu_instance &&
	       a->compute_instance == b->compute_instance;
}

static bool are_same(const struct tr_cards *a, const struct tr_cards *b)
{
	if (a->count != b->count || strcmp(a->driver, b->driver) != 0 ||
	    strcmp(a->reason, b->reason) != 0)
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (!is_same(&a->at[i], &b->at[i]))
			return false;
	return true;
}

/* A GPU that does not answer is not gone: its card stays, and will be found lost. */
static void carry_lost(const struct tr_worker *w, struct tr_cards *fresh)
{
	for (unsigned i = 0; w->missing && i < w->cards.count; i++) {
		const struct tr_card *card = &w->cards.at[i];
		bool is_listed = false;

		for (unsigned g = 0; g < w->gpus.count; g++)
			is_listed |= strcmp(w->gpus.gpus[g].uuid,
					    card->parent[0] ? card->parent : card->uuid) ==
				     0;
		if (!is_listed && fresh->count < TR_GPUS_MAX)
			fresh->at[fresh->count++] = *card;
	}
}

bool tr_worker_adopt(struct tr_worker *w, const struct tr_cards *fresh)
{
	struct tr_cards *next = malloc(sizeof(*next));
	struct tr_patient *before = malloc(sizeof(w->patients));
	bool is_new = false;

	if (next && before) {
		*next = *fresh;
		carry_lost(w, next);
		is_new = !are_same(next, &w->cards);
	}
	if (is_new) {
		memcpy(before, w->patients, sizeof(w->patients));
		memset(w->patients, 0, sizeof(w->patients));
		for (unsigned i = 0; i < next->count; i++) {
			const struct tr_card *old = tr_card_find(&w->cards,
								 next->at[i].uuid);

			if (!old)
				continue;
			w->patients[i] = before[old - w->cards.at];
			next->at[i].is_healthy = old->is_healthy;
			memcpy(next->at[i].reason, old->reason, sizeof(old->reason));
		}
		w->cards = *next;
		w->look_at = 0;
		w->is_news = true;
	}
	free(next);
	free(before);
	return is_new;
}

/* ---- pair scores --------------------------------------------------------------------- */

static void read_links(const struct tr_worker *w, struct tr_card_links *out, unsigned at)
{
	const struct tr_gpu *gpu = &w->gpus.gpus[at];
	struct tr_gpu_place place;
	size_t count = TR_GPU_LINKS_MAX;

	(void)tr_gpu_place(gpu->uuid, &place, NULL);
	out->uuid = gpu->uuid;
	memcpy(out->bus_id, place.bus_id, sizeof(out->bus_id));
	if (tr_gpu_links(gpu->uuid, out->links, &count, NULL) < 0)
		count = 0;
	out->link_count = (unsigned)count;
	for (unsigned k = 0; k < w->gpus.count; k++)
		if (k != at)
			out->near[k] = (unsigned char)tr_gpu_near(gpu->uuid,
								  w->gpus.gpus[k].uuid);
}

void tr_worker_score(struct tr_worker *w)
{
	struct tr_card_links *links = calloc(w->gpus.count + 1, sizeof(*links));
	struct tr_buf text = { 0 };
	struct tr_err err = { 0 };
	char odd[sizeof(w->cards.odd_links)] = "";
	int r;

	free(w->scores);
	w->scores = NULL;
	if (!links)
		return;
	for (unsigned i = 0; i < w->gpus.count; i++)
		read_links(w, &links[i], i);
	r = tr_scores_print(links, w->gpus.count, &text, odd, sizeof(odd), &err);
	free(links);
	if (odd[0])
		tr_worker_say(w, "%s", odd);
	memcpy(w->cards.odd_links, odd, sizeof(odd));
	if (r == 0)
		w->scores = tr_buf_take(&text);
	else
		tr_worker_say(w, "no pair scores: %s", err.msg);
	tr_buf_free(&text);
}
