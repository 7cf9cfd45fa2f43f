/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stddef.h>

#include "rm/client.h"

/* What becomes of devices: read from the board without a round trip, set by the kernel
 * process. */

static const struct wire_board *_Atomic board;

void rm_state_board(const struct wire_board *b)
{
	atomic_store(&board, b);
}

uint64_t rm_state(uint32_t device, enum rm_state_key key)
{
	const struct wire_board *b = atomic_load(&board);

	return b && device < RM_DEVICES_MAX && key < RM_STATE_KEYS
		       ? atomic_load_explicit(&b->state.values[device][key],
					      memory_order_acquire)
		       : 0;
}

int rm_state_set(uint32_t device, enum rm_state_key key, uint64_t value)
{
	struct wire_request req = {
		.op = WIRE_STATE,
		.device = device,
		.kind = (uint32_t)key,
		.bytes = value,
	};
	struct wire_reply reply;

	return rm_call(&req, offsetof(struct wire_request, hello), -1, &reply, NULL);
}

uint64_t rm_xid_count(void)
{
	const struct wire_board *b = atomic_load(&board);

	return b ? atomic_load_explicit(&b->state.xid_count, memory_order_acquire) : 0;
}

bool rm_xid_next(uint64_t *seen, struct rm_xid *out)
{
	const struct wire_board *b = atomic_load(&board);
	uint64_t count = rm_xid_count(), word;

	if (*seen >= count)
		return false;
	if (count - *seen > WIRE_XIDS)
		*seen = count - WIRE_XIDS;
	word = atomic_load(&b->state.xids[(*seen)++ % WIRE_XIDS]);
	*out = (struct rm_xid){ (uint32_t)(word >> 32), (uint32_t)word };
	return true;
}
