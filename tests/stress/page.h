/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STRESS_PAGE_H
#define STRESS_PAGE_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * What the tenants of a stress test and whoever starts, stops, kills and judges them share:
 * a file that all map. Seat i is the process that the parent started, seat STRESS_SEATS + i
 * a process that tenant i started itself.
 */
#define STRESS_SEATS   64u
#define STRESS_DEVICES 2u

enum stress_command { STRESS_RUN, STRESS_QUIET, STRESS_END };

struct stress_seat {
	_Atomic int32_t pid;
	_Atomic uint32_t quiet_epoch; /* the quiet point that it has reached */
	_Atomic uint64_t steps;
	_Atomic uint64_t call_began_ns; /* 0: not in a step */
	_Atomic uint32_t result;        /* of the step that should not have answered so */
	char why[64];                   /* and which that was; "": all is well */
};

struct stress_page {
	_Atomic uint32_t command, epoch;
	uint32_t any_result; /* the policy is garbage: no answer is wrong, silence is */
	uint32_t has_pools;  /* reserves may pass the limit by a step for a moment */
	uint64_t limit_bytes, floor_bytes; /* of each device */
	_Atomic uint64_t kills, forks, execs, allocated, refused;
	struct stress_seat seats[2 * STRESS_SEATS];
};

#endif /* STRESS_PAGE_H */
