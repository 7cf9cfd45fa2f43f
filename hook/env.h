/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_ENV_H
#define TR_HOOK_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include "tranche/limits.h"

/*
 * HAMi's variables, read exactly. Amounts are those of rt/bytes.h, where 0 means "no
 * limit", as there. What cannot be read is never taken for a number: is_bad, and cuInit
 * refuses.
 */
#define TR_ENV_INDICES 64u

enum tr_env_core { TR_CORE_DEFAULT, TR_CORE_FORCE, TR_CORE_DISABLE };

struct tr_env {
	bool has_limit; /* of memory, any device */
	bool is_bad;
	bool is_disabled; /* CUDA_DISABLE_CONTROL=true */
	bool has_limit_of[TR_ENV_INDICES];
	uint64_t limit_bytes; /* of every device without its own; TR_UNLIMITED: none */
	uint64_t limit_bytes_of[TR_ENV_INDICES];
	bool has_cores; /* a limit of time, any device; its policy is not to disable it */
	uint8_t sm_percent; /* of every device without its own: 1..99; 0: none */
	bool has_sm_percent_of[TR_ENV_INDICES];
	uint8_t sm_percent_of[TR_ENV_INDICES];
	uint8_t priority, log_level;
	enum tr_env_core core;
};

void tr_env_read(struct tr_env *out);

/* The limit of the device with that number in the container. -1: the number cannot be
 * known, and the lowest of all holds. */
uint64_t tr_env_limit(const struct tr_env *env, int index);
/* The same for time: percent of the device, 0: no limit. */
unsigned tr_env_cores(const struct tr_env *env, int index);

/* CUDA_VISIBLE_DEVICES: which container number each ordinal is. */
struct tr_visible {
	bool is_plain; /* unset (ordinal i is number i), or plain numbers only */
	bool is_listed;
	uint8_t count;
	uint8_t index_of[TR_ENV_INDICES];
};
void tr_visible_read(struct tr_visible *out, const char *text);
int tr_visible_index(const struct tr_visible *visible, int ordinal);

#endif /* TR_HOOK_ENV_H */
