/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkslice DIR LIMIT FLOOR CORES UUID...: a slice for the tests of the hook: DIR/policy and
 * DIR/state. LIMIT and FLOOR as people write them; LIMIT "none": no limit. CORES: percent of the
 * GPUs' time, "-" for an unarmed slice. Prints nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/bytes.h"
#include "slice/page.h"
#include "slice/seat.h"

#define SERIAL 4711

static int fail(const char *what)
{
	fprintf(stderr, "mkslice: %s\n", what);
	return 2;
}

int main(int argc, char **argv)
{
	struct tr_page_device devices[TR_DEVICES_MAX] = { 0 };
	struct tr_page_spec spec = { .name = "test", .serial = SERIAL, .devices = devices };
	char policy[512], state[512];
	uint64_t limit = TR_UNLIMITED, floor_bytes;
	struct tr_err err = { 0 };
	struct tr_page page;
	unsigned long cores;
	int i;

	if (argc < 5 || argc - 5 > (int)TR_DEVICES_MAX)
		return fail("mkslice DIR LIMIT FLOOR CORES UUID...");
	if (strcmp(argv[2], "none") != 0 && tr_bytes_parse(argv[2], &limit) < 0)
		return fail("LIMIT is no amount");
	if (tr_bytes_parse(argv[3], &floor_bytes) < 0)
		return fail("FLOOR is no amount");
	(void)snprintf(policy, sizeof(policy), "%s/policy", argv[1]);
	(void)snprintf(state, sizeof(state), "%s/state", argv[1]);
	spec.state_path = state;
	spec.armed = strcmp(argv[4], "-") != 0;
	cores = strtoul(argv[4], NULL, 10);
	for (i = 5; i < argc; i++)
		devices[spec.device_count++] =
			(struct tr_page_device){ .uuid = argv[i],
						 .limit_bytes = limit,
						 .context_floor_bytes = floor_bytes };
	if (tr_state_create(state, SERIAL, 0666, &err) < 0 ||
	    tr_page_create(policy, &spec, &err) < 0)
		return fail(err.msg);
	if (!spec.armed)
		return 0;
	if (tr_page_open_writer(&page, policy, &err) < 0)
		return fail(err.msg);
	for (i = 0; i < (int)spec.device_count; i++)
		atomic_store(&page.writable->devices[i].rate_q32,
			     TR_RATE_ALL * cores / 100);
	tr_page_close(&page);
	return 0;
}
