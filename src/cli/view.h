/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CLI_VIEW_H
#define TR_CLI_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "keeper/slices.h"
#include "tranche/limits.h"

/* What ps and top show: a picture of every slice this user may read, taken at one moment.
 */

struct tr_view_process {
	pid_t pid;
	char comm[16];
	uint64_t bytes; /* used and overhead, all devices of the slice */
};

struct tr_view_device {
	char uuid[48];
	uint64_t limit_bytes, total_bytes;
	struct tr_slice_use use;
};

struct tr_view_slice {
	char name[64];
	bool is_alive; /* its host side runs */
	unsigned device_count, process_count;
	struct tr_view_device devices[TR_DEVICES_MAX];
	struct tr_view_process *processes;
};

struct tr_view {
	struct tr_view_slice *slices; /* by name */
	size_t count;
};

/* -ENOMEM only: a slice that cannot be read is not in the picture. */
int tr_view_take(struct tr_view *out);
void tr_view_free(struct tr_view *view);

#endif /* TR_CLI_VIEW_H */
