/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/backoff.h"

#include <sys/random.h>

static uint64_t draw(struct tr_backoff *b)
{
	if (!b->chance && getrandom(&b->chance, sizeof(b->chance), GRND_NONBLOCK) < 0)
		b->chance = (uint64_t)(uintptr_t)b;
	if (!b->chance)
		b->chance = 1;
	/* xorshift64* */
	b->chance ^= b->chance >> 12;
	b->chance ^= b->chance << 25;
	b->chance ^= b->chance >> 27;
	return b->chance * UINT64_C(0x2545F4914F6CDD1D);
}

uint32_t tr_backoff_between(struct tr_backoff *b, uint32_t low, uint32_t high)
{
	return high <= low
		       ? low
		       : low + (uint32_t)((draw(b) >> 32) * ((uint64_t)high - low + 1) >>
					  32);
}

uint32_t tr_backoff_next(struct tr_backoff *b)
{
	uint64_t most = (uint64_t)b->first_ms << (b->tries < 31 ? b->tries : 31);

	if (most > b->max_ms)
		most = b->max_ms;
	else
		b->tries++;
	return tr_backoff_between(b, (uint32_t)(most / 2), (uint32_t)most);
}

void tr_backoff_reset(struct tr_backoff *b)
{
	b->tries = 0;
}
