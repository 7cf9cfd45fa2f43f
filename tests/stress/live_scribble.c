/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_scribble TENANT HOOK SECONDS LIMIT FLOOR UUID UUID: programs run in a slice while
 * somebody writes any bits over its policy page and state file. No call crashes or hangs,
 * in the programs and in the host's reader; a new slice knows nothing of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "judge.h"
#include "rm/inspect.h"
#include "rt/bytes.h"
#include "slice/page.h"
#include "slice/seat.h"

#define SEATS    12u
#define PULSE_MS 15000u
#define SERIAL   8

struct target {
	unsigned char *bytes;
	size_t n;
};

static struct target map_file(const char *path)
{
	struct stat st;
	struct target target = { 0 };
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *map;

	if (fd < 0 || fstat(fd, &st) < 0)
		crowd_fail("%s: %s", path, strerror(errno));
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		crowd_fail("%s: %s", path, strerror(errno));
	(void)close(fd);
	target.bytes = map;
	target.n = (size_t)st.st_size;
	return target;
}

/* One bit, one word, an extreme word, or a stretch; half of it in the header. */
static void scribble(struct crowd *crowd, struct target target)
{
	static const uint64_t extremes[] = { 0, 1, UINT64_MAX, UINT64_MAX - 511,
					     INT64_MAX };
	size_t room = crowd_random(crowd, 2) ? 4096 : target.n;
	size_t at = crowd_random(crowd, room - 64);
	uint64_t word = crowd->random * UINT64_C(0x9e3779b97f4a7c15);

	switch (crowd_random(crowd, 4)) {
	case 0:
		target.bytes[at] ^= (unsigned char)(1u << (word & 7));
		break;
	case 1:
		memcpy(target.bytes + (at & ~(size_t)7), &word, sizeof(word));
		break;
	case 2:
		memcpy(target.bytes + (at & ~(size_t)7), &extremes[word % 5], sizeof(word));
		break;
	default:
		memset(target.bytes + at, (int)(word & 0xff), 1 + word % 63);
	}
}

/* Now and then the files are right again, so that programs get in and far. */
static void run(struct crowd *crowd, struct judge *judge, struct target policy,
		struct target state, uint64_t until_ns)
{
	unsigned char *good_policy = malloc(policy.n), *good_state = malloc(4096);
	uint64_t scribbles = 0;

	if (!good_policy || !good_state)
		crowd_fail("no memory");
	memcpy(good_policy, policy.bytes, policy.n);
	memcpy(good_state, state.bytes, 128);
	for (unsigned round = 0; crowd_clock_ns() < until_ns; round++) {
		for (unsigned i = 0; i < 200; i++, scribbles++)
			scribble(crowd, crowd_random(crowd, 3) ? state : policy);
		(void)tr_keeper_sweep(&judge->keeper, NULL);
		(void)tr_state_read(judge->dir.state_path, judge->state, NULL);
		for (unsigned d = 0; d < TR_DEVICES_MAX; d++) {
			struct tr_slice_use use;

			tr_slice_use(judge->page.map, judge->state, d, &use);
		}
		if (round % 4 == 0) {
			memcpy(policy.bytes, good_policy, policy.n);
			memcpy(state.bytes, good_state, 128);
			crowd_kill_one(crowd);
		}
		crowd_pause_ms(5);
		crowd_tend(crowd);
		crowd_check_pulse(crowd, PULSE_MS);
	}
	printf("%llu scribbles, %llu kills, %llu allocations, %llu refused\n",
	       (unsigned long long)scribbles, (unsigned long long)crowd->kills,
	       (unsigned long long)crowd->page->allocated,
	       (unsigned long long)crowd->page->refused);
	free(good_policy);
	free(good_state);
}

/* A slice made after all this, for the last program. */
static void make_slice(const struct crowd *crowd, const char *dir, char **uuids)
{
	struct tr_page_device devices[STRESS_DEVICES];
	char policy[300], state[300];
	struct tr_page_spec spec = { .name = "after",
				     .serial = SERIAL,
				     .state_path = state,
				     .device_count = STRESS_DEVICES,
				     .devices = devices };
	struct tr_err err = { 0 };

	(void)snprintf(policy, sizeof(policy), "%s/policy.new", dir);
	(void)snprintf(state, sizeof(state), "%s/state.new", dir);
	for (unsigned d = 0; d < STRESS_DEVICES; d++)
		devices[d] = (struct tr_page_device){
			.uuid = uuids[d],
			.limit_bytes = crowd->page->limit_bytes,
			.context_floor_bytes = crowd->page->floor_bytes,
		};
	if (tr_state_create(state, SERIAL, 0600, &err) < 0 ||
	    tr_page_create(policy, &spec, &err) < 0)
		crowd_fail("%s", err.msg);
	(void)setenv("TRANCHE_POLICY", policy, 1);
}

int main(int argc, char **argv)
{
	const char *dir = getenv("TEST_DIR");
	uint64_t give_up_ns;
	struct rm_memory memory;
	struct judge judge;
	struct crowd crowd;
	int status;

	if (argc != 8 || !dir)
		return 2;
	crowd_open(&crowd, dir, argv[1], argv[2]);
	crowd.seats = SEATS;
	crowd.page->any_result = 1;
	crowd.page->has_pools = 1;
	if (tr_bytes_parse(argv[4], &crowd.page->limit_bytes) < 0 ||
	    tr_bytes_parse(argv[5], &crowd.page->floor_bytes) < 0)
		crowd_fail("LIMIT and FLOOR are amounts");
	judge_open(&judge, dir);
	for (unsigned seat = 0; seat < SEATS; seat++)
		crowd_start(&crowd, seat);
	run(&crowd, &judge, map_file(judge.dir.policy_path), map_file(judge.dir.state_path),
	    crowd_clock_ns() + strtoull(argv[3], NULL, 10) * UINT64_C(1000000000));
	crowd_end(&crowd);
	give_up_ns = crowd_clock_ns() + UINT64_C(5000000000);
	for (unsigned d = 0; d < STRESS_DEVICES; d++)
		while (rm_memory(d, &memory) != 0 || memory.used != 0)
			if (crowd_clock_ns() > give_up_ns)
				crowd_fail("device %u is not empty", d);
	make_slice(&crowd, dir, argv + 6);
	status = crowd_run_last(&crowd);
	if (status)
		crowd_fail("a new slice: %d", status);
	judge_close(&judge);
	return 0;
}
