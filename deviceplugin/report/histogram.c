/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/view.h"
#include "rt/sat.h"

const uint64_t tr_histogram_bounds_ns[TR_HISTOGRAM_BOUNDS] = {
	500000,    1000000,   2500000,   5000000,    10000000,   25000000,   50000000,
	100000000, 250000000, 500000000, 1000000000, 2500000000, 5000000000, 10000000000,
};

void tr_histogram_add(struct tr_histogram *histogram, uint64_t ns)
{
	unsigned i = 0;

	while (i < TR_HISTOGRAM_BOUNDS && ns > tr_histogram_bounds_ns[i])
		i++;
	histogram->counts[i]++;
	histogram->sum_ns = tr_sat_add(histogram->sum_ns, ns);
}
