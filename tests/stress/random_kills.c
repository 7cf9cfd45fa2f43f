/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random_kills TENANT HOOK LIMIT FLOOR KILLS: 64 programs in one slice that allocate, free,
 * fork, execute and are killed. In phases; after each one, and at the end, two accounts must
 * agree (judge.h). The first half of the kills without a keeper, the second with one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "judge.h"
#include "rt/bytes.h"

#define PHASES        8u
#define KILL_EVERY_MS 10u
#define SAMPLE_EVERY  6u /* kills */
#define SWEEP_EVERY   20u

static uint64_t kills_of(const struct crowd *crowd)
{
	return crowd->kills + atomic_load(&crowd->page->kills);
}

static void run_phase(struct crowd *crowd, struct judge *judge, uint64_t until_kills,
		      bool with_keeper)
{
	for (unsigned i = 1; kills_of(crowd) < until_kills; i++) {
		crowd_pause_ms((unsigned)crowd_random(crowd, KILL_EVERY_MS));
		crowd_tend(crowd);
		crowd_kill_one(crowd);
		if (i % SAMPLE_EVERY == 0) {
			crowd_freeze(crowd);
			judge_sample(judge, crowd);
			crowd_thaw(crowd);
		}
		if (with_keeper && i % SWEEP_EVERY == 0)
			judge_sweep(judge);
	}
	crowd_rest(crowd);
	judge_compare(judge, crowd, with_keeper);
	crowd_freeze(crowd);
	judge_sample(judge, crowd);
	crowd_thaw(crowd);
}

int main(int argc, char **argv)
{
	const char *dir = getenv("TEST_DIR");
	struct crowd crowd;
	struct judge judge;
	uint64_t kills;
	int status;

	if (argc != 6 || !dir) {
		fprintf(stderr, "usage: random_kills TENANT HOOK LIMIT FLOOR KILLS\n");
		return 2;
	}
	crowd_open(&crowd, dir, argv[1], argv[2]);
	kills = strtoull(argv[5], NULL, 10);
	if (tr_bytes_parse(argv[3], &crowd.page->limit_bytes) < 0 ||
	    tr_bytes_parse(argv[4], &crowd.page->floor_bytes) < 0)
		crowd_fail("LIMIT and FLOOR are amounts");
	judge_open(&judge, dir);
	for (unsigned seat = 0; seat < STRESS_SEATS; seat++)
		crowd_start(&crowd, seat);
	for (unsigned phase = 0; phase < PHASES; phase++) {
		crowd.page->has_pools = phase & 1;
		crowd_go_on(&crowd);
		run_phase(&crowd, &judge, kills * (phase + 1) / PHASES,
			  phase >= PHASES / 2);
	}
	crowd_end(&crowd);
	judge_end(&judge);
	status = crowd_run_last(&crowd);
	if (status)
		crowd_fail("the last program: %d", status);
	judge_end(&judge);
	printf("%llu kills, %llu forks, %llu executions, %llu allocations, %llu refused; "
	       "%llu samples, at most %llu bytes; %llu ledgers and %llu overheads agree\n",
	       (unsigned long long)kills_of(&crowd), (unsigned long long)crowd.page->forks,
	       (unsigned long long)crowd.page->execs,
	       (unsigned long long)crowd.page->allocated,
	       (unsigned long long)crowd.page->refused, (unsigned long long)judge.samples,
	       (unsigned long long)judge.highest_bytes, (unsigned long long)judge.compared,
	       (unsigned long long)judge.overheads);
	return 0;
}
