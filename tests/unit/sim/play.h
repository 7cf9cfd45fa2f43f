/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TEST_SIM_PLAY_H
#define TEST_SIM_PLAY_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/engine.h"

/* An engine and all that it said. Clients, channels and stamps are small numbers. */
#define PLAY_US 1000ull
#define PLAY_MS 1000000ull
#define PLAY_S  1000000000ull

#define PLAY_NEVER UINT64_MAX

struct play_word {
	uint64_t client, id, number,
		at_ns; /* id: channel or stamp; number: ticket or generation */
	int is_stamp;
};

struct play {
	struct engine *engine;
	struct play_word *words;
	size_t count, room;
	uint64_t done; /* tickets in all, counted even when words are not kept */
	int keeps_words;
};

#define PLAY_DEFAULTS .device_count = 1, .sm_count = { 100 }, .quantum_ns = 2 * PLAY_MS

/* CLIENTS of them are added: 1, 2, ..., each with channel 1 on device 0. */
void play_begin(struct play *p, const struct engine_setup *setup, uint64_t clients);
void play_end(struct play *p);

void play_open(struct play *p, uint64_t client, uint64_t channel, uint32_t device,
	       int priority);
void play_kernel(struct play *p, uint64_t client, uint64_t channel, uint32_t sms,
		 uint64_t ns);
void play_copy(struct play *p, uint64_t client, uint64_t channel, enum rm_work_kind kind,
	       uint64_t ns);
void play_stamp(struct play *p, uint64_t client, uint64_t channel, uint32_t stamp,
		uint64_t generation);
void play_wait_stamp(struct play *p, uint64_t client, uint64_t channel, uint32_t stamp,
		     uint64_t generation);
void play_wait_channel(struct play *p, uint64_t client, uint64_t channel, uint64_t other,
		       uint64_t ticket);
/* When it was said, or PLAY_NEVER. */
uint64_t play_done_ns(const struct play *p, uint64_t client, uint64_t channel,
		      uint64_t ticket);
uint64_t play_stamp_ns(const struct play *p, uint64_t client, uint32_t stamp,
		       uint64_t generation);
/* Channel 1 of each client of a bitmask never has fewer than two kernels of NS[client]. */
void play_saturate(struct play *p, uint64_t clients, const uint64_t *ns, uint64_t to_ns);

#endif /* TEST_SIM_PLAY_H */
