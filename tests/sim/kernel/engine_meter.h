/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_ENGINE_METER_H
#define SIM_KERNEL_ENGINE_METER_H

#include <stddef.h>
#include <stdint.h>

/* How long at least one of several was running, in all and in each of the last sixths of a second.
 * Nothing happens at the borders of sixths: time is dealt out to them when a run ends, or asked
 * for while one goes on. */
#define ENGINE_SIXTH_NS 166666667ull
#define ENGINE_SIXTHS   120u

struct engine_meter {
	uint32_t running;
	uint64_t since_ns; /* while running */
	uint64_t total_ns; /* of runs that ended */
	struct {
		uint64_t number; /* the sixth that ends at (number + 1) * ENGINE_SIXTH_NS */
		uint64_t ns;
	} sixths[ENGINE_SIXTHS];
};

void engine_meter_start(struct engine_meter *m, uint64_t now_ns);
void engine_meter_stop(struct engine_meter *m, uint64_t now_ns);
uint64_t engine_meter_total_ns(const struct engine_meter *m, uint64_t now_ns);
/* Of sixth NUMBER, which has ended and is one of the last ENGINE_SIXTHS. */
uint32_t engine_meter_percent(const struct engine_meter *m, uint64_t number);

#endif /* SIM_KERNEL_ENGINE_METER_H */
