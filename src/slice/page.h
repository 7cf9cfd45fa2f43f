/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_SLICE_PAGE_H
#define TR_SLICE_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "tranche/err.h"
#include "tranche/policy.h"

/* The policy page: making, changing (host side) and reading it. Layout: tranche/policy.h.
 */

struct tr_page_device {
	const char *uuid; /* "GPU-..." */
	uint64_t limit_bytes, context_floor_bytes, total_bytes;
	/* For armed slices. 0: all of it; rate_max 0: as much as rate */
	uint64_t rate_q32, rate_max_q32;
	enum tr_priority priority;
	enum tr_bypass on_bypass;
};

struct tr_page_spec {
	const char *name, *state_path;
	uint64_t serial; /* not 0 */
	bool armed;
	unsigned device_count;
	const struct tr_page_device *devices;
};

/* Makes the page in full (allocated, not sparse) and only then under PATH; mode 0644.
 * -EEXIST when PATH exists, -EINVAL with a sentence for a bad spec, -ENOSPC when the disk
 * is full (no file left). */
int tr_page_create(const char *path, const struct tr_page_spec *spec, struct tr_err *err);

struct tr_page {
	const struct tr_policy *map; /* mapped read-only; NULL: none */
	struct tr_policy *writable;  /* the same page for the host side, or NULL */
	int lock_fd;                 /* the writer's; -1 for readers */
	unsigned device_count;       /* checked copies: the file is not ours alone */
	uint32_t flags;
	uint64_t serial;
	char state_path[256];
	char name[64];
};

/* Maps PATH. -ENOENT absent, -EBADMSG not a page, -EPROTONOSUPPORT another ABI. The mapping
 * of a reader is not inherited by fork (MADV_DONTFORK is NOT set: a page may be read in a
 * child). */
int tr_page_open(struct tr_page *out, const char *path, struct tr_err *err);
/* As above, writable; waits up to 1 s for another writer, then -EAGAIN. */
int tr_page_open_writer(struct tr_page *out, const char *path, struct tr_err *err);
/* As above without the lock, for whoever writes only words of its own, or takes the lock (byte 0 of
 * lock_fd) each time. */
int tr_page_open_shared(struct tr_page *out, const char *path, struct tr_err *err);
void tr_page_close(struct tr_page *page);

/* Other rows, in place, for the page at PATH that has one row, ONLY's, is armed or not and of the serial as SPEC
 * says, and that no process has looked at yet: what a reader takes once for good (device_count, UUIDs) changes.
 * Its name and state path stay; SPEC's are not looked at. -EINVAL: another page; else errors as
 * tr_page_open_writer() and tr_page_create(). Not atomic: whoever is killed in it writes the page anew. */
int tr_page_refill(const char *path, const char *only, const struct tr_page_spec *spec,
		   struct tr_err *err);

/* The row whose UUID is UUID, or -ENOENT. */
int tr_page_find(const struct tr_page *page, const char *uuid, tr_dev *out);

/* A writer brackets several words that belong together. */
void tr_page_begin(struct tr_page *page);
void tr_page_end(struct tr_page *page);

/* Identity of a UUID string in one word (never 0); equal strings, equal keys. */
uint64_t tr_uuid_key(const char *uuid);

/* What one context of a process takes before anybody has measured it: by compute
 * capability. */
uint64_t tr_context_floor_bytes(int compute_major);

#endif /* TR_SLICE_PAGE_H */
