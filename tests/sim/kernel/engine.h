/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_ENGINE_H
#define SIM_KERNEL_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rm/rm.h"
#include "rm/time.h"

/*
 * The GPUs of a machine in time: a discrete-event core that knows no clock, no memory shared with
 * anybody and no thread. The caller says how far time has gone and hears what happened on the way.
 * Deterministic: the same calls at the same times have the same outcome.
 *
 * Rules (docs/simulator.md). Work of a channel runs in order. Kernels of one process run together as
 * far as multiprocessors allow, by priority, then first come, first served; one that was started
 * keeps its multiprocessors. Processes take turns of QUANTUM on a device: whoever has kernels or
 * stamps ready keeps the device while its turn lasts or nobody else wants it; the kernels of the
 * others stand still meanwhile. With MPS they share the space instead and there are no turns. Each
 * device has three copy engines (in, out, local), which serve first come, first served and do not
 * need a turn.
 */

struct engine;

struct engine_setup {
	uint32_t device_count;
	uint32_t sm_count[RM_DEVICES_MAX];
	uint64_t quantum_ns, switch_ns; /* a turn; what a change of turns costs */
	bool is_mps;
};

/* Called from engine_advance(), in order of time; must not call the engine. */
struct engine_hears {
	/* TICKET of CHANNEL is done. */
	void (*done)(void *arg, uint64_t client, uint64_t channel, uint64_t ticket,
		     uint64_t at_ns);
	void (*stamped)(void *arg, uint64_t client, uint32_t stamp, uint64_t generation,
			uint64_t at_ns);
	void *arg;
};

struct engine *engine_new(const struct engine_setup *setup,
			  const struct engine_hears *hears);
void engine_free(struct engine *e);
/* Who hears from now on. */
void engine_hear(struct engine *e, const struct engine_hears *hears);

/* CLIENT: a key of the caller's, not 0. 0, -EINVAL, -EEXIST, -ENOMEM. Gone: its work ends at once, unfinished; those who wait for it
 * (no one can: stamps and channels are the client's own) hear nothing. */
int engine_client_add(struct engine *e, uint64_t client);
void engine_client_gone(struct engine *e, uint64_t client);
/* 0, -ENOENT (no such client), -EINVAL (no such device), -EEXIST, -ENOMEM. */
int engine_channel_open(struct engine *e, uint64_t client, uint64_t channel,
			uint32_t device, int priority);
void engine_channel_close(struct engine *e, uint64_t client, uint64_t channel);
/* At the time of the last engine_advance(); takes effect in the next one, which is due at once.
 * Channels number their tickets themselves: 1, 2, ... 0, -ENOENT (no such channel, or closed), -EINVAL,
 * -ENOMEM. */
int engine_submit(struct engine *e, uint64_t client, uint64_t channel,
		  const struct rm_work *work);

/* The id may begin anew at generation 0. False: work that is pending names it; ask again later. */
bool engine_stamp_close(struct engine *e, uint64_t client, uint32_t stamp);

/* When something happens next by itself; UINT64_MAX: never. */
uint64_t engine_next_ns(const struct engine *e);
/* Time goes on to TO (never back): everything due until then happens. */
void engine_advance(struct engine *e, uint64_t to_ns);
uint64_t engine_now_ns(const struct engine *e);

/* Time in which a kernel ran: CLIENT 0 is the device as a whole. Kernels that ended. */
uint64_t engine_busy_ns(const struct engine *e, uint32_t device, uint64_t client);
uint64_t engine_kernels(const struct engine *e, uint32_t device, uint64_t client);

/* The same of all clients that ran a kernel there, in the order in which they were added. Returns how
 * many; those beyond ROOM are left out. */
struct engine_use {
	uint64_t client, busy_ns, kernels;
};
size_t engine_uses(const struct engine *e, uint32_t device, struct engine_use *out,
		   size_t room);

/* Utilisation over the sixths of a second that ended after AFTER, oldest first; *n: room in, rows
 * out. CLIENT 0: the device, which has a row for every sixth. A client has rows while it has channels
 * there, and for every sixth it used; none any more when it is gone. The last 120 sixths. SM: a kernel
 * ran; MEM: a copy. */
struct engine_sample {
	uint64_t end_ns, client;
	uint32_t sm_percent, mem_percent; /* rounded to the nearest */
};
void engine_samples(const struct engine *e, uint32_t device, bool by_client,
		    uint64_t after_ns, struct engine_sample *rows, size_t *n);

#endif /* SIM_KERNEL_ENGINE_H */
