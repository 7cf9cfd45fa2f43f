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

/* Counters of GPU time since the slice, or the process, began. */
struct tr_view_time {
	uint64_t gpu_ns, launches, throttled_ns;
};

struct tr_view_process {
	pid_t pid;
	char comm[16];
	uint64_t bytes; /* used and overhead, all devices of the slice */
	struct tr_view_time time[TR_DEVICES_MAX];
};

/* What the page says of a device's time. */
struct tr_view_share {
	uint64_t rate_q32, rate_max_q32;
	double gamma;
	uint32_t priority;
	bool is_borrowing, is_blocked;
	uint32_t on_bypass;
	uint64_t bypass_seen;
};

struct tr_view_device {
	char uuid[48];
	uint64_t limit_bytes, total_bytes;
	struct tr_slice_use use;
	/* Of armed slices; else 0. */
	struct tr_view_share share;
	struct tr_view_time time; /* also of processes that are gone */
	uint64_t gate_waits;
	/* What NVML saw, armed or not, and when; 0: it does not tell. */
	uint64_t nvml_busy_ns, nvml_seen_ns;
};

struct tr_view_slice {
	char name[64];
	bool is_alive; /* its host side runs */
	bool is_armed; /* its time is counted */
	uint64_t serial;
	uint64_t at_ns; /* when its counters were read */
	unsigned device_count, process_count;
	struct tr_view_device devices[TR_DEVICES_MAX];
	struct tr_view_process *processes;
};

struct tr_view {
	struct tr_view_slice *slices; /* by name */
	size_t count;
	bool says_why;
};

/* -ENOMEM only: a slice that cannot be read is not in the picture; why, is said if so asked. */
int tr_view_take(struct tr_view *out, bool says_why);
void tr_view_free(struct tr_view *view);

/* The same slice in an older picture, or NULL. */
const struct tr_view_slice *tr_view_find(const struct tr_view *view,
					 const struct tr_view_slice *slice);
void tr_view_add_time(struct tr_view_time *sum, const struct tr_view_time *more);

#endif /* TR_CLI_VIEW_H */
