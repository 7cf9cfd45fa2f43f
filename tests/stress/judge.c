/* SPDX-License-Identifier: Apache-2.0 */
#include "judge.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rm/inspect.h"
#include "rt/file.h"
#include "slice/seat.h"

#define UNIT_BYTES  512u
#define STEP_BYTES  (UINT64_C(32) << 20) /* what a pool of the driver grows by */
#define CLIENTS_MAX 512u

/* What the driver knows about one process. */
struct truth {
	uint64_t listed[RM_DEVICES_MAX][RM_KINDS]; /* rounded as the ledger rounds */
	uint64_t taken[RM_DEVICES_MAX][RM_KINDS];
};

static struct rm_client clients[CLIENTS_MAX];

static size_t look(void)
{
	size_t n = CLIENTS_MAX;

	if (rm_clients(clients, &n) != 0)
		crowd_fail("the machine does not answer");
	return n;
}

static void add_object(const struct rm_live *object, void *arg)
{
	struct truth *truth = arg;

	if (object->device < RM_DEVICES_MAX)
		truth->listed[object->device][object->kind] +=
			(object->bytes + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
}

static void add_client(struct truth *truth, const struct rm_client *client)
{
	for (unsigned d = 0; d < RM_DEVICES_MAX; d++)
		for (unsigned k = 0; k < RM_KINDS; k++)
			truth->taken[d][k] += client->bytes[d][k];
	if (client->has_objects)
		(void)rm_live_each(client->serial, add_object, truth);
}

static uint64_t total(const uint64_t kinds[RM_KINDS])
{
	uint64_t sum = 0;

	for (unsigned k = 0; k < RM_KINDS; k++)
		sum += kinds[k];
	return sum;
}

void judge_open(struct judge *judge, const char *dir)
{
	static struct tr_gpus gpus;
	struct tr_err err = { 0 };

	*judge = (struct judge){ .dir = { .alive_fd = -1 } };
	(void)snprintf(judge->dir.path, sizeof(judge->dir.path), "%s", dir);
	(void)snprintf(judge->dir.policy_path, sizeof(judge->dir.policy_path), "%s/policy",
		       dir);
	(void)snprintf(judge->dir.state_path, sizeof(judge->dir.state_path), "%s/state",
		       dir);
	judge->state = malloc(sizeof(*judge->state));
	if (!judge->state || rm_open() != 0 || tr_gpu_open(&gpus, &err) < 0)
		crowd_fail("the judge cannot start: %s", err.msg);
	tr_keeper_open(&judge->keeper, &gpus);
	if (tr_keeper_add(&judge->keeper, &judge->dir, &err) < 0 ||
	    tr_page_open(&judge->page, judge->dir.policy_path, &err) < 0)
		crowd_fail("the judge cannot start: %s", err.msg);
}

void judge_close(struct judge *judge)
{
	tr_keeper_close(&judge->keeper);
	tr_page_close(&judge->page);
	tr_gpu_close();
	free(judge->state);
}

/* The slot that PID holds now. */
static unsigned find_slot(const struct tr_state *state, int pid)
{
	for (unsigned s = 0; s < TR_SLOTS_MAX; s++)
		if (state->slots[s].tag && state->slots[s].pid == pid)
			return s;
	crowd_fail("process %d has no slot", pid);
}

/* Contexts + code + what remains of blocks, less managed memory that is not there: what
 * NVML shows beyond the ledger. */
static uint64_t beyond(const struct truth *t, unsigned d)
{
	static const enum rm_kind own[] = { RM_CONTEXT, RM_CODE, RM_LIMITS };
	uint64_t more = 0, less = t->listed[d][RM_MANAGED];

	for (unsigned i = 0; i < sizeof(own) / sizeof(*own); i++)
		more += t->taken[d][own[i]];
	for (unsigned k = 0; k < RM_KINDS; k++) {
		if (k == RM_MANAGED || k == RM_CONTEXT || k == RM_CODE || k == RM_LIMITS)
			continue;
		if (t->taken[d][k] < t->listed[d][k])
			crowd_fail("device %u: %s: took %" PRIu64 ", lists %" PRIu64, d,
				   rm_kind_name((enum rm_kind)k), t->taken[d][k],
				   t->listed[d][k]);
		if (k != RM_BLOCK && k != RM_ARRAY && t->taken[d][k] != t->listed[d][k])
			crowd_fail("device %u: %s is not exact", d,
				   rm_kind_name((enum rm_kind)k));
		more += t->taken[d][k] - t->listed[d][k];
	}
	more += t->taken[d][RM_MANAGED];
	return more > less ? more - less : 0;
}

static void compare_kinds(const struct truth *t, unsigned d)
{
	for (unsigned k = 0; k < RM_KINDS; k++)
		if (t->listed[d][k] || t->taken[d][k])
			fprintf(stderr,
				"  device %u: %s listed %" PRIu64 " taken %" PRIu64 "\n", d,
				rm_kind_name((enum rm_kind)k), t->listed[d][k],
				t->taken[d][k]);
}

static void compare_one(struct judge *judge, const struct crowd *crowd, int pid,
			const struct truth *t, bool with_keeper)
{
	const struct tr_state *state = judge->state;
	const struct tr_policy *policy = judge->page.map;
	unsigned s = find_slot(state, pid), d;
	uint64_t floors = 0;

	for (d = 0; d < STRESS_DEVICES; d++) {
		uint64_t used = state->mem[d][s].used_bytes;

		floors += state->mem[d][s].floor_bytes;
		judge->compared++;
		if (used != total(t->listed[d])) {
			compare_kinds(t, d);
			crowd_fail("process %d, device %u: ledger %" PRIu64
				   ", driver %" PRIu64,
				   pid, d, used, total(t->listed[d]));
		}
		if (!t->taken[d][RM_CONTEXT] != !state->mem[d][s].floor_bytes)
			crowd_fail("process %d, device %u: floor %" PRIu64
				   ", contexts %" PRIu64,
				   pid, d, (uint64_t)state->mem[d][s].floor_bytes,
				   t->taken[d][RM_CONTEXT]);
		if (!with_keeper || !t->taken[d][RM_CONTEXT])
			continue;
		judge->overheads++;
		if (policy->overhead_tag[s] != state->slots[s].tag ||
		    policy->overhead_bytes[d][s] != beyond(t, d)) {
			compare_kinds(t, d);
			crowd_fail("process %d, device %u: overhead %" PRIu64
				   ", driver %" PRIu64,
				   pid, d, (uint64_t)policy->overhead_bytes[d][s],
				   beyond(t, d));
		}
	}
	if (floors != state->slots[s].contexts * crowd->page->floor_bytes)
		crowd_fail("process %d: %u contexts, floors of %" PRIu64 " bytes", pid,
			   (unsigned)state->slots[s].contexts, floors);
}

void judge_sweep(struct judge *judge)
{
	struct tr_err err = { 0 };

	judge->has_swept = true;
	if (tr_keeper_sweep(&judge->keeper, &err) < 0)
		crowd_fail("keeper: %s", err.msg);
}

void judge_compare(struct judge *judge, const struct crowd *crowd, bool with_keeper)
{
	struct tr_err err = { 0 };
	size_t n;

	if (with_keeper)
		judge_sweep(judge);
	if (tr_state_read(judge->dir.state_path, judge->state, &err) < 0)
		crowd_fail("%s", err.msg);
	n = look();
	for (unsigned i = 0; i < STRESS_SEATS; i++) {
		int pid = atomic_load(&crowd->page->seats[i].pid);
		struct truth truth = { 0 };

		for (size_t c = 0; c < n; c++)
			if (clients[c].own_pid == pid)
				add_client(&truth, &clients[c]);
		compare_one(judge, crowd, pid, &truth, with_keeper);
	}
}

void judge_sample(struct judge *judge, const struct crowd *crowd)
{
	struct truth truth = { 0 };
	size_t n = look();

	for (size_t c = 0; c < n; c++)
		add_client(&truth, &clients[c]);
	judge->samples++;
	for (unsigned d = 0; d < STRESS_DEVICES; d++) {
		uint64_t sum = total(truth.listed[d]);
		/* A pool takes its step before anybody can know how much that is; past the
		 * limit it is given back at once (docs/guarantees.md). */
		uint64_t reserves = truth.listed[d][RM_POOL] + truth.listed[d][RM_GRAPH];
		uint64_t room = reserves ? STEP_BYTES * STRESS_SEATS : 0;

		/* Until somebody has measured them, contexts are counted before they are
		 * made. */
		if (!judge->has_swept)
			sum += truth.taken[d][RM_CONTEXT];
		if (sum > judge->highest_bytes)
			judge->highest_bytes = sum;
		if (sum - reserves > crowd->page->limit_bytes ||
		    sum > crowd->page->limit_bytes + room)
			crowd_fail("device %u: %" PRIu64 " bytes are allocated", d, sum);
	}
}

static void expect_nothing(const struct judge *judge, const char *when)
{
	struct tr_slice_use use;

	for (unsigned d = 0; d < STRESS_DEVICES; d++) {
		tr_slice_use(judge->page.map, judge->state, d, &use);
		if (use.used_bytes || use.overhead_bytes || use.processes)
			crowd_fail("device %u %s: used %" PRIu64 ", overhead %" PRIu64, d,
				   when, use.used_bytes, use.overhead_bytes);
	}
}

void judge_end(struct judge *judge)
{
	struct rm_memory memory;
	struct tr_seat seat;
	struct tr_err err = { 0 };
	int fd;

	for (unsigned d = 0; d < STRESS_DEVICES; d++)
		if (rm_memory(d, &memory) != 0 || memory.used != 0)
			crowd_fail("device %u: %" PRIu64 " bytes are left", d, memory.used);
	if (tr_state_read(judge->dir.state_path, judge->state, &err) < 0)
		crowd_fail("%s", err.msg);
	expect_nothing(judge, "as the host reads it");
	fd = open(judge->dir.state_path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || tr_seat_watch(&seat, judge->dir.state_path, 0, &err) < 0)
		crowd_fail("%s", err.msg);
	(void)tr_state_reap(seat.state, fd);
	memcpy(judge->state, seat.state, sizeof(*judge->state));
	tr_seat_leave(&seat);
	(void)close(fd);
	expect_nothing(judge, "after reaping");
	for (unsigned s = 0; s < TR_SLOTS_MAX; s++)
		for (unsigned d = 0; d < TR_DEVICES_MAX; d++)
			if (judge->state->mem[d][s].used_bytes ||
			    judge->state->mem[d][s].floor_bytes)
				crowd_fail("slot %u, device %u: not 0", s, d);
}
