/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/cards/scores.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kube/node_devices.h"

#define PER_LINK      100
#define LINKS_COUNTED 18

static int near_score(enum tr_gpu_near near)
{
	return near == TR_GPU_NEAR_UNKNOWN ? 0 : 10 * (int)near;
}

/* Links from A that end at B. */
static unsigned direct(const struct tr_card_links *a, const struct tr_card_links *b)
{
	unsigned n = 0;

	for (unsigned i = 0; i < a->link_count; i++)
		n += !a->links[i].is_switch && b->bus_id[0] &&
		     strcasecmp(a->links[i].remote, b->bus_id) == 0;
	return n;
}

static unsigned to_switches(const struct tr_card_links *card)
{
	unsigned n = 0;

	for (unsigned i = 0; i < card->link_count; i++)
		n += card->links[i].is_switch;
	return n;
}

/* -1: the two ends tell different stories. */
static int count_links(const struct tr_card_links *a, const struct tr_card_links *b)
{
	unsigned there = direct(a, b), back = direct(b, a);

	if (there != back)
		return -1;
	if (there == 0) {
		there = to_switches(a);
		back = to_switches(b);
		there = back < there ? back : there;
	}
	return (int)(there < LINKS_COUNTED ? there : LINKS_COUNTED);
}

/* -ENODATA: nobody knows how near they are. */
static int score(const struct tr_card_links *cards, unsigned i, unsigned k, int32_t *out,
		 char *odd, size_t odd_room)
{
	enum tr_gpu_near near = (enum tr_gpu_near)cards[i].near[k];
	int links = count_links(&cards[i], &cards[k]);

	if (near == TR_GPU_NEAR_UNKNOWN)
		return -ENODATA;
	*out = links < 0 ? 0 : near_score(near) + PER_LINK * links;
	if (links < 0 && odd)
		(void)snprintf(odd, odd_room,
			       "%s and %s tell different NVLinks between them: their pair "
			       "scores 0",
			       cards[i].uuid, cards[k].uuid);
	return 0;
}

int tr_scores_print(const struct tr_card_links *cards, unsigned count, struct tr_buf *out,
		    char *odd, size_t odd_room, struct tr_err *err)
{
	struct tr_pair_score *rows = calloc((size_t)count * count + 1, sizeof(*rows));
	size_t n = 0;
	int r = rows ? 0 : tr_fail(err, ENOMEM, "no memory for pair scores");

	if (odd)
		odd[0] = '\0';
	for (unsigned i = 0; r == 0 && i < count; i++) {
		for (unsigned k = 0; r == 0 && k < count; k++) {
			if (i == k)
				continue;
			rows[n].from = cards[i].uuid;
			rows[n].to = cards[k].uuid;
			if (score(cards, i, k, &rows[n++].score, odd, odd_room) < 0)
				r = tr_fail(err, ENODATA,
					    "it is not known how near %s and %s are",
					    cards[i].uuid, cards[k].uuid);
		}
	}
	if (r == 0)
		r = tr_pair_scores_print(rows, n, out);
	free(rows);
	return r;
}
