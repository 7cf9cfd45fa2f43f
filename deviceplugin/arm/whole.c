/* SPDX-License-Identifier: Apache-2.0 */
/* Cards for a pod that no GPU scheduler decided on: wholly free ones, and whole. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/identify.h"
#include "kube/pod_devices.h"
#include "tranche/names.h"

/* The decision is one that its containers can be armed with: as many devices as each asks for. Anybody can
 * write one to a pod that asks for none. */
static bool is_asked_for(struct tr_pod_devices *devices, const struct tr_pod *pod,
			 const char *resource)
{
	tr_autofree uint32_t *wanted = tr_xcalloc(pod->container_count + 1,
						  sizeof(*wanted));

	for (size_t i = 0; i < pod->container_count; i++)
		if (tr_wanted(pod, i, resource, &wanted[i], NULL) < 0)
			return false;
	return tr_pod_devices_align(devices, wanted, pod->container_count, NULL) == 0;
}

bool tr_pod_is_on(const struct tr_pod *pod, const char *resource, const char *uuid)
{
	const char *text = tr_named_find(&pod->object.annotations, TR_POD_ALLOCATED);
	struct tr_pod_devices devices = { 0 };
	bool is_on = false;

	if (!text || pod->phase == TR_POD_SUCCEEDED || pod->phase == TR_POD_FAILED ||
	    tr_pod_devices_parse(&devices, text, NULL) < 0)
		return false;
	for (size_t i = 0; i < devices.part_count; i++)
		is_on = is_on || strcmp(devices.parts[i].id, uuid) == 0;
	is_on = is_on && is_asked_for(&devices, pod, resource);
	tr_pod_devices_free(&devices);
	return is_on;
}

/* How many cards the pod needs: containers that run together have their own; those that end before the
 * app containers have the same as these. */
static int count_cards(const struct tr_pod *pod, const char *resource, uint32_t *wanted,
		       uint32_t *cards, struct tr_err *err)
{
	uint32_t sidecars = 0, apps = 0, alone = 0;

	for (size_t i = 0; i < pod->container_count; i++) {
		int r = tr_wanted(pod, i, resource, &wanted[i], err);

		if (r < 0)
			return r;
		if (pod->containers[i].kind == TR_CONTAINER_SIDECAR)
			sidecars += wanted[i];
		else if (pod->containers[i].kind == TR_CONTAINER_APP)
			apps += wanted[i];
		else if (wanted[i] > alone)
			alone = wanted[i];
	}
	*cards = sidecars + (apps > alone ? apps : alone);
	return 0;
}

static uint32_t choose(const struct tr_book *book, const struct tr_cards *cards,
		       tr_card_is_promised *is_promised, void *arg,
		       const struct tr_card **chosen, uint32_t most)
{
	uint32_t n = 0;

	for (unsigned c = 0; c < cards->count && n < most; c++) {
		const struct tr_card *card = &cards->at[c];
		struct tr_room taken;

		tr_room_taken(book, card->uuid, &taken);
		if (card->is_healthy && !taken.containers && card->give_bytes >> 20 &&
		    !(is_promised && is_promised(card->uuid, arg)))
			chosen[n++] = card;
	}
	return n;
}

static void print(const struct tr_pod *pod, const uint32_t *wanted,
		  const struct tr_card *const *cards, uint32_t count, struct tr_buf *out)
{
	uint32_t next = 0;

	for (size_t i = 0; i < pod->container_count; i++) {
		bool is_init = pod->containers[i].kind == TR_CONTAINER_INIT;

		for (uint32_t k = 0; k < wanted[i]; k++) {
			/* From the end, where no sidecar's are: those come first. */
			const struct tr_card *card = is_init ? cards[count - 1 - k]
							     : cards[next++];

			tr_buf_print(out, "%s,NVIDIA,%" PRIu64 ",100:", card->uuid,
				     card->give_bytes >> 20);
		}
		tr_buf_text(out, ";");
	}
}

int tr_whole_cards(const struct tr_book *book, const struct tr_cards *cards,
		   const struct tr_pod *pod, const char *resource,
		   tr_card_is_promised *is_promised, void *arg, struct tr_buf *decision,
		   struct tr_err *err)
{
	tr_autofree uint32_t *wanted = tr_xcalloc(pod->container_count + 1,
						  sizeof(*wanted));
	const struct tr_card *chosen[TR_GPUS_MAX];
	uint32_t needed = 0, n;
	int r = count_cards(pod, resource, wanted, &needed, err);

	if (r < 0)
		return r;
	n = choose(book, cards, is_promised, arg, chosen, TR_GPUS_MAX);
	if (!needed || n < needed)
		return tr_fail(
			err, ENOSPC,
			"no GPU scheduler has decided on pod %s/%s, and of the %u whole "
			"GPUs that it would get %u are free",
			pod->object.space, pod->object.name, needed, n);
	print(pod, wanted, chosen, needed, decision);
	return 0;
}
