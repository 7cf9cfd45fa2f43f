/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STRESS_CROWD_H
#define STRESS_CROWD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "page.h"

/* The tenants of a slice, from their parent's side. Failures that make the test worthless
 * end it with a sentence (crowd_fail). */
struct crowd {
	struct stress_page *page;
	char page_path[300];
	const char *program, *preload;
	unsigned seats; /* of STRESS_SEATS in use */
	pid_t anchor;   /* leads the tenants' process group */
	uint64_t random;
	uint64_t kills; /* by the parent; the tenants' own are in the page */
};

_Noreturn void crowd_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* DIR: the test's own directory. PRELOAD: the hook. */
void crowd_open(struct crowd *crowd, const char *dir, const char *program,
		const char *preload);
void crowd_start(struct crowd *crowd, unsigned seat);
/* Kills one at random and starts another in its place. */
void crowd_kill_one(struct crowd *crowd);
/* Notices those that ended by themselves: that ends the test. */
void crowd_tend(struct crowd *crowd);

/* No tenant is in one step for longer than MS. */
void crowd_check_pulse(const struct crowd *crowd, unsigned ms);

/* Every tenant stops between two steps with its lazily read numbers read. */
void crowd_rest(struct crowd *crowd);
void crowd_go_on(struct crowd *crowd);
/* Every process stops where it is, in the middle of an instruction if need be. */
void crowd_freeze(struct crowd *crowd);
void crowd_thaw(struct crowd *crowd);

/* SIGKILL for all; returns when none is left. */
void crowd_end(struct crowd *crowd);
/* Runs one program of its own and returns its exit status. */
int crowd_run_last(struct crowd *crowd);

uint64_t crowd_clock_ns(void);
void crowd_pause_ms(unsigned ms);
uint64_t crowd_random(struct crowd *crowd, uint64_t below);

#endif /* STRESS_CROWD_H */
