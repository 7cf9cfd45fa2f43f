/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "keeper/slices.h"
#include "rt/bytes.h"
#include "rt/sat.h"

/* What the living slices of a device were promised. */
struct promises {
	const char *uuid;
	uint64_t bytes, total_bytes, rate_q32;
};

static int add_slice(const struct tr_slice_dir *dir, void *arg)
{
	struct promises *sum = arg;
	struct tr_page page;
	tr_dev dev;

	if (!tr_slice_is_alive(dir) || tr_page_open(&page, dir->policy_path, NULL) < 0)
		return 0;
	if (tr_page_find(&page, sum->uuid, &dev) == 0) {
		const struct tr_policy_device *row = &page.map->devices[dev.at];
		uint64_t rate = row->rate_q32 ? row->rate_q32 : TR_RATE_ALL;

		/* No limit is no promise, and low priority is a promise to step back. */
		sum->total_bytes = row->total_bytes;
		if (row->limit_bytes < row->total_bytes)
			sum->bytes = tr_sat_add(sum->bytes, row->limit_bytes);
		if (page.flags & TR_POLICY_ARMED && row->priority != TR_PRIORITY_LOW &&
		    rate < TR_RATE_ALL)
			sum->rate_q32 = tr_sat_add(sum->rate_q32, rate);
	}
	tr_page_close(&page);
	return 0;
}

void tr_promises_tell(const char *uuid, unsigned device)
{
	struct promises sum = { .uuid = uuid };
	char bytes[TR_BYTES_TEXT], total[TR_BYTES_TEXT];

	(void)tr_slices_each(add_slice, &sum);
	/* Roundings of thirds are no broken promise. */
	if (sum.rate_q32 > TR_RATE_ALL + TR_RATE_ALL / 1000)
		(void)fprintf(stderr,
			      "tranche: the slices of device %u were promised %.1f %% of "
			      "its time: "
			      "while all of them are busy each gets less\n",
			      device, (double)sum.rate_q32 * 100 / (double)TR_RATE_ALL);
	if (sum.bytes <= sum.total_bytes)
		return;
	tr_bytes_print(bytes, sum.bytes);
	tr_bytes_print(total, sum.total_bytes);
	(void)fprintf(
		stderr,
		"tranche: the slices of device %u may use %s together, and it has %s: "
		"one of them can be refused below its limit\n",
		device, bytes, total);
}
