/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_VIEW_H
#define TR_REPORT_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "deviceplugin/cards/card.h"
#include "deviceplugin/report/log.h"
#include "tranche/policy.h"

/*
 * What is told about this node, as plain numbers: filled in by whoever knows, printed by metrics.h and
 * slices_json.h. Memory in bytes, time in nanoseconds. One thread.
 */

/* ---- how long calls take ---------------------------------------------------------------- */

#define TR_HISTOGRAM_BOUNDS 14
struct tr_histogram {
	uint64_t counts[TR_HISTOGRAM_BOUNDS + 1]; /* the last: longer than all bounds */
	uint64_t sum_ns;
};
/* Upper bounds, 0.5 ms to 10 s. */
extern const uint64_t tr_histogram_bounds_ns[TR_HISTOGRAM_BOUNDS];
void tr_histogram_add(struct tr_histogram *histogram, uint64_t ns);

/* ---- cards ------------------------------------------------------------------------------ */

struct tr_report_xid {
	unsigned xid;
	uint64_t count; /* since the agent started */
};

struct tr_report_card {
	const struct tr_card *card;
	const struct tr_card_use *use; /* NULL: nothing is told */
	const struct tr_report_xid
		*xids; /* each number once; of an instance those of its GPU */
	size_t xid_count;
	/* Given to containers; tr_report_take() counts it. */
	uint64_t given_bytes, given_slots;
	uint64_t given_cores; /* percent */
};

/* XIDs of no card here: of a GPU that is left alone, or is gone; UUID "": of one that the driver could not name. */
struct tr_report_stray {
	const char *uuid;
	const struct tr_report_xid *xids; /* each number once */
	size_t xid_count;
};

/* ---- allocations ------------------------------------------------------------------------ */

/* One device of one container. */
struct tr_report_device {
	char uuid[48];                     /* "": not known yet */
	uint64_t limit_bytes, total_bytes; /* TR_UNLIMITED: none; 0: not known */
	uint64_t used_bytes, overhead_bytes, peak_bytes;
	uint64_t refused, refused_bytes;
	uint64_t rate_q32, rate_max_q32; /* of the GPU's time; 0: nothing */
	uint64_t sure_q32; /* what it gets of it whatever others do; tr_report_take() */
	uint32_t priority; /* enum tr_priority */
	uint32_t processes;
	bool is_borrowing, is_held_back;
	uint64_t gpu_ns, throttled_ns, launches, gate_waits;
	uint64_t busy_ns, seen_ns; /* by NVML; seen 0: it does not tell */
	uint64_t bypass_seen;
	unsigned busy_percent; /* of the last five seconds or more */
	uint64_t idle_ns;      /* since the last launch, or since it was first reported */
	/* Memory from one look to the next. */
	uint64_t mark_ns, mark_busy_ns, launched_ns;
};

struct tr_report_alloc {
	uint64_t serial;
	char name[24];
	/* Of a waiting one as PodResources tells, "" as long as it does not. */
	char space[64], pod[254], container[64], uid[64];
	unsigned index; /* absolute: init containers first */
	int64_t made_unix_s, armed_unix_s;
	bool is_armed;
	bool is_shown; /* it has a name, and no later one is of the same container */
	bool is_readable; /* its files were, at the last look; else the numbers are those of before */
	unsigned device_count, process_count;
	uint64_t pinned_bytes;
	struct tr_report_device devices[TR_DEVICES_MAX];
	/* Memory from one look to the next. */
	bool is_there, has_ring;
	uint32_t ring_next; /* the ring of refusals was read up to here */
	uint64_t first_seen_ns;
};

/* ---- the agent itself ------------------------------------------------------------------- */

struct tr_report_rpc {
	const char *method; /* "Allocate" */
	struct tr_histogram duration;
	uint64_t errors; /* refused or failed */
};

struct tr_report_process {
	uint64_t cpu_ns, resident_bytes, anonymous_bytes, virtual_bytes, open_fds, max_fds;
	int64_t started_unix_s;
};

struct tr_report_view {
	const char *node; /* its name */
	const char *version, *revision, *build_date;
	bool with_legacy; /* also HAMi's older names */

	struct tr_report_card *cards;
	size_t card_count;
	const char *driver;
	const struct tr_report_stray *strays;
	size_t stray_count;

	struct tr_report_alloc **allocs; /* by serial; tr_report_take() */
	size_t alloc_count, alloc_room;

	const struct tr_report_rpc *rpcs;
	size_t rpc_count;
	struct {
		uint64_t requests, retries, throttled, failed;
	} api;              /* toward the API server */
	bool is_registered; /* a kubelet listens */
	uint64_t registrations;
	uint64_t refused_starts; /* containers that were not armed, with a sentence */
	uint64_t nvml_silent_ns; /* since its thread was last heard of */
	uint64_t keeper_late_ns; /* its last turn, or the next one, which hangs */
	struct tr_log_counts log;
	struct {
		uint64_t answers[6]; /* by the first digit of the status */
		uint64_t put_out, timed_out;
	} http;
	struct tr_report_process process;
};

/* ---- reading ---------------------------------------------------------------------------- */

struct tr_alloc;
struct tr_book;
struct tr_pod_list;

/* A container was refused memory: once for each time that the slice's ring still tells of. */
typedef void tr_report_refusal(const struct tr_report_alloc *alloc, const char *uuid,
			       uint64_t asked_bytes, uint64_t used_bytes, void *arg);

struct tr_report_source {
	const char *slices_dir; /* run_dir/slices */
	const struct tr_book *book;
	tr_report_refusal *refusal; /* or NULL */
	void *refusal_arg;
};

/*
 * Brings VIEW's allocations up to now: limits from the policy pages (mapped read-only: only the host
 * writes them), use from the state files (by pread: a container may do with them what it likes; what
 * cannot be read keeps its last numbers). Every allocation has a row, a waiting one too; one that has
 * left the book has none. Counts what the cards gave. Never fails: what is unreadable is marked.
 * VIEW's allocations are zeroed before the first time.
 */
void tr_report_take(struct tr_report_view *view, const struct tr_report_source *source);
void tr_report_forget(struct tr_report_view *view); /* gives the memory back */

/* An answer of PodResources names allocations that wait: their containers have their series from then
 * on. */
void tr_report_name(struct tr_report_view *view, const struct tr_book *book,
		    const struct tr_pod_list *pods);

/* This process, from /proc/self. What cannot be read is 0. */
void tr_report_process_read(struct tr_report_process *out);

#endif /* TR_REPORT_VIEW_H */
