/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/timeclient.h"

#include <stdlib.h>

void rm_places_reset(struct rm_places *p)
{
	p->next = 0;
	p->n = 0;
}

int64_t rm_places_take(struct rm_places *p, uint32_t limit,
		       bool (*is_drained)(uint32_t place))
{
	for (uint32_t i = 0; i < p->n; i++) {
		uint32_t place = p->closed[i];

		if (is_drained(place)) {
			p->closed[i] = p->closed[--p->n];
			return place;
		}
	}
	return p->next < limit ? (int64_t)p->next++ : -1;
}

void rm_places_give(struct rm_places *p, uint32_t place)
{
	if (p->n == p->room) {
		uint32_t room = p->room * 2 + 64;
		uint32_t *grown = realloc(p->closed, room * sizeof(*p->closed));

		if (!grown)
			return;
		p->closed = grown;
		p->room = room;
	}
	p->closed[p->n++] = place;
}
