/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkslice DIR LIMIT FLOOR UUID...: a slice for the tests of the hook: DIR/policy and
 * DIR/state. LIMIT and FLOOR as people write them; LIMIT "none": no limit. Prints nothing.
 */
#include <stdio.h>
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
	int i;

	if (argc < 4 || argc - 4 > (int)TR_DEVICES_MAX)
		return fail("mkslice DIR LIMIT FLOOR UUID...");
	if (strcmp(argv[2], "none") != 0 && tr_bytes_parse(argv[2], &limit) < 0)
		return fail("LIMIT is no amount");
	if (tr_bytes_parse(argv[3], &floor_bytes) < 0)
		return fail("FLOOR is no amount");
	(void)snprintf(policy, sizeof(policy), "%s/policy", argv[1]);
	(void)snprintf(state, sizeof(state), "%s/state", argv[1]);
	spec.state_path = state;
	for (i = 4; i < argc; i++)
		devices[spec.device_count++] =
			(struct tr_page_device){ .uuid = argv[i],
						 .limit_bytes = limit,
						 .context_floor_bytes = floor_bytes };
	if (tr_state_create(state, SERIAL, 0666, &err) < 0 ||
	    tr_page_create(policy, &spec, &err) < 0)
		return fail(err.msg);
	return 0;
}
