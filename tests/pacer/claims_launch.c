/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

/* F14, the launch half: work that comes through this entry point gets the slice's share and no more,
 * and is counted. */
static void entry(const char *row, unsigned devices)
{
	struct tenant *t;
	char workload[96];
	uint64_t busy[2], from, counted;

	(void)snprintf(workload, sizeof(workload), "entry 0 0 %s", row);
	t = stage_start(&(struct play){ "--cores 25 --device 0,1", workload });
	stage_warm();
	from = stage_now();
	for (unsigned d = 0; d < 2; d++)
		busy[d] = stage_busy(t, d);
	stage_sleep(10 * S);
	for (unsigned d = 0; d < 2; d++)
		NEAR(100.0 * (double)(stage_busy(t, d) - busy[d]) /
			     (double)(stage_now() - from),
		     d < devices ? 25 : 0, 1);
	counted = atomic_load(&t->state->pace[0].launches);
	NEAR((double)counted, (double)atomic_load(&t->page->workers[0].device_launches[0]),
	     17);
}

#define ENTRY(name)                     \
	void claim_F14_##name(void)     \
	{                               \
		entry(#name, 1);        \
	}                               \
	void claim_F14_gpa_##name(void) \
	{                               \
		entry("gpa:" #name, 1); \
	}

ENTRY(cuLaunchKernel)
ENTRY(cuLaunchKernel_ptsz)
ENTRY(cuLaunchKernelEx)
ENTRY(cuLaunchKernelEx_ptsz)
ENTRY(cuLaunchCooperativeKernel)
ENTRY(cuLaunchCooperativeKernel_ptsz)
ENTRY(cuLaunch)
ENTRY(cuLaunchGrid)
ENTRY(cuLaunchGridAsync)
ENTRY(cuGraphLaunch)
ENTRY(cuGraphLaunch_ptsz)

void claim_F14_cuLaunchCooperativeKernelMultiDevice(void)
{
	entry("cuLaunchCooperativeKernelMultiDevice", 2);
}
