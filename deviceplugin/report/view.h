/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_VIEW_H
#define TR_REPORT_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "deviceplugin/arm/book.h"
#include "deviceplugin/cards/card.h"
#include "deviceplugin/report/log.h"
#include "tranche/limits.h"

/*
 * What is told about this node, as plain numbers: filled in by whoever knows, printed by metrics.h and
 * slices_json.h. Memory in bytes, time in nanoseconds.
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

#define TR_REPORT_UNKNOWN UINT64_MAX /* of any number below: it is not told */

struct tr_report_xid {
	unsigned xid;
	uint64_t count;
};

struct tr_report_card {
	const struct tr_card *card;
	/* NVML. */
	uint64_t used_bytes, gpu_percent, memory_percent, temperature_c, power_mw;
	const struct tr_report_xid *xids; /* each number once */
	size_t xid_count;
	/* Given to allocations; tr_report_take() counts it. */
	uint64_t given_bytes, given_cores, given_slots;
};

/* ---- allocations ------------------------------------------------------------------------ */

/* One device of one container. */
struct tr_report_device {
	char uuid[48];                     /* "": not known yet */
	uint64_t limit_bytes, total_bytes; /* TR_UNLIMITED: none */
	uint64_t used_bytes, overhead_bytes, peak_bytes;
	uint64_t refused, refused_bytes;
	uint64_t rate_q32, rate_max_q32;
	uint32_t priority; /* enum tr_priority */
	bool is_borrowing, is_held_back;
	uint64_t gpu_ns, throttled_ns, launches, gate_waits;
	uint64_t busy_ns, seen_ns; /* by NVML; seen 0: it does not tell */
	uint64_t bypass_seen;
	unsigned processes;
	unsigned busy_percent; /* of the last five seconds or more */
	uint64_t idle_ns;      /* since the last launch, or since the container got it */
	/* tr_report_take()'s memory from one time to the next. */
	uint64_t mark_ns, mark_busy_ns, launched_ns;
};

struct tr_report_alloc {
	const struct tr_alloc *alloc; /* valid as long as the book does not change */
	uint64_t serial;
	bool is_shown; /* false: a later one is of the same container */
	bool is_readable; /* its files were, at the last look; else the numbers are those of before */
	unsigned device_count, process_count;
	uint64_t pinned_bytes;
	uint64_t refusal_next; /* where the ring of refusals was read to */
	uint64_t first_seen_ns;
	struct tr_report_device *devices;
	bool is_there;
};

/* A MIG instance in a container. */
struct tr_report_mig {
	const struct tr_alloc *alloc;
	unsigned device;
	const char *mig_uuid, *profile;
	unsigned gpu_instance, compute_instance;
};

/* ---- the agent itself ------------------------------------------------------------------- */

struct tr_report_rpc {
	const char *method; /* "Allocate" */
	struct tr_histogram duration;
	uint64_t errors; /* refused or failed */
};

struct tr_report_process { /* by tr_report_process_read() */
	uint64_t cpu_ns, resident_bytes, anonymous_bytes, virtual_bytes, open_fds, max_fds,
		threads;
	double started_unix_s;
};

struct tr_report_view {
	const char *node;
	const char *version, *revision, *build_date;
	bool with_legacy; /* also HAMi's older names */

	struct tr_report_card *cards;
	size_t card_count;
	const char *driver;

	struct tr_report_alloc *allocs; /* by serial; tr_report_take() */
	size_t alloc_count, alloc_room;
	const struct tr_report_mig *migs;
	size_t mig_count;

	const struct tr_report_rpc *rpcs;
	size_t rpc_count;
	struct {
		uint64_t requests, retries, throttled, failed;
	} api;              /* toward the API server */
	bool is_registered; /* a kubelet listens */
	uint64_t registrations;
	uint64_t nvml_silent_ns; /* since its thread last told something */
	uint64_t keeper_late_ns; /* how late its last turn was */
	uint64_t keeper_late_max_ns, keeper_turns;
	uint64_t slices_refused; /* containers that were not armed, with a sentence */
	struct tr_log_counts log;
	uint64_t http_answers[6];
	struct tr_report_process process;
};

/* ---- reading ---------------------------------------------------------------------------- */

/* A container of a slice was refused memory: one call for each that is still in the ring. */
typedef void tr_report_refusal(const struct tr_alloc *alloc, const char *uuid,
			       uint64_t asked_bytes, uint64_t used_bytes, void *arg);

struct tr_report_source {
	const char *slices_dir; /* run_dir/slices */
	/* Walks the book: the allocation after AFTER (NULL: the first) by serial, or NULL. */
	const struct tr_alloc *(*next)(const struct tr_alloc *after, void *arg);
	void *next_arg;
	tr_report_refusal *refusal; /* or NULL */
	void *refusal_arg;
};

/*
 * Brings VIEW's allocations up to now: limits from the policy pages (mapped read-only: only the host
 * writes them), use from the state files (by pread: a container may do with them what it likes; what
 * cannot be read keeps its last numbers). Every allocation has rows, a waiting one too; one that has
 * left the book has none. Counts what the cards gave. Never fails: what is unreadable is marked.
 * VIEW is zeroed before the first time.
 */
void tr_report_take(struct tr_report_view *view, const struct tr_report_source *source);
void tr_report_forget(struct tr_report_view *view); /* gives the memory back */

/* This process, from /proc/self. What cannot be read is 0. */
void tr_report_process_read(struct tr_report_process *out);

#endif /* TR_REPORT_VIEW_H */
