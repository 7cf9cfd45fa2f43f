/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_dump STATE: what a state file holds, as JSON, read as the host reads it: with
 * pread() and without a slot. A line per slot that was ever taken and holds anything or has
 * a tag. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "tranche/state.h"

static struct tr_state state;

static void print_slot(unsigned s, const char *before)
{
	const char *comma = "";

	printf("%s{\"slot\":%u,\"tag\":%" PRIu64
	       ",\"pid\":%d,\"contexts\":%u,\"pinned\":%" PRIu64 ",\"devices\":[",
	       before, s, (uint64_t)state.slots[s].tag, (int)state.slots[s].pid,
	       (unsigned)state.slots[s].contexts, (uint64_t)state.slots[s].pinned_bytes);
	for (unsigned d = 0; d < TR_DEVICES_MAX; d++) {
		uint64_t used = state.mem[d][s].used_bytes,
			 floor = state.mem[d][s].floor_bytes;

		if (!used && !floor)
			continue;
		printf("%s{\"device\":%u,\"used\":%" PRIu64 ",\"floor\":%" PRIu64 "}",
		       comma, d, used, floor);
		comma = ",";
	}
	printf("]}");
}

int main(int argc, char **argv)
{
	const char *comma = "";
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: ledger_dump STATE\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &state, sizeof(state), 0) != (ssize_t)sizeof(state) ||
	    state.magic != TR_STATE_MAGIC || state.abi != TR_STATE_ABI) {
		fprintf(stderr, "ledger_dump: %s: no state file\n", argv[1]);
		return 1;
	}
	printf("{\"high_water\":%u,\"refused\":[", (unsigned)state.high_water);
	for (unsigned d = 0; d < TR_DEVICES_MAX; d++)
		printf("%s%" PRIu64, d ? "," : "", (uint64_t)state.devices[d].refused);
	printf("],\"slots\":[");
	for (unsigned s = 0; s < TR_SLOTS_MAX; s++) {
		bool has_any = state.slots[s].tag != 0;

		for (unsigned d = 0; d < TR_DEVICES_MAX; d++)
			has_any |= state.mem[d][s].used_bytes ||
				   state.mem[d][s].floor_bytes;
		if (has_any) {
			print_slot(s, comma);
			comma = ",";
		}
	}
	printf("]}\n");
	(void)close(fd);
	return 0;
}
