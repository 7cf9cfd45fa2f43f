/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_FLEET_H
#define TR_KEEPER_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "gpu/gpu.h"
#include "keeper/judge.h"
#include "keeper/leases.h"
#include "keeper/slices.h"

/*
 * The slices of one machine, as its keeper sees them: those of its own root, which it writes to, and
 * those of other users that it can read, which only count as neighbours.
 */

struct tr_kept_row { /* of the policy page; what leases look at comes first */
	int gpu;     /* of the machine; -1: not one of its devices */
	unsigned rank;
	bool can_borrow;
	bool is_unlent, is_unblocked; /* the page is known to have no lease; no block */
	struct tr_activity activity;
	uint64_t read_ns; /* when all these were read */
	uint64_t longest_ns;
	struct tr_gamma gamma;
	struct tr_watch watch;
	struct tr_look look, second; /* being gathered */
	uint64_t charged_ns, paid_ns, spanned_ns, launches, crowd,
		looked_ns; /* at the last look; 0: none yet */
};

struct tr_kept {
	struct tr_kept_row *rows; /* device_count */
	const struct tr_policy_device *devices;
	unsigned device_count;
	bool is_armed, is_ours, is_occupied;
	bool is_there;         /* seen by the scan that runs */
	bool has_newcomer;     /* CROWD has to be taken anew */
	int page_fd, state_fd; /* page_fd: of others */
	uint32_t high_water;   /* slots ever taken; checked */
	uint64_t crowd;        /* a digest of who sits in it */
	uint64_t looked_in_ns; /* when it was seen who does */
	struct tr_page page;   /* writable; not of others: their owner could cut it short */
	struct tr_policy_device *copy; /* of others' rows */
	char path[200];
	ino_t inode; /* of the page */
};

struct tr_fleet {
	const struct tr_gpus *gpus; /* the caller's */
	bool is_given;              /* what is kept was added by hand: there are no scans */
	char root[160];             /* of this user; "": none */
	struct tr_kept **slices;
	size_t count, room;
	struct timespec root_changed;
	uint64_t root_ns, scanned_ns; /* when the root was looked at, and through */
};

void tr_fleet_open(struct tr_fleet *out, const struct tr_gpus *gpus);
void tr_fleet_close(struct tr_fleet *fleet);

/* Adds one by hand, as one of ours. */
int tr_fleet_add(struct tr_fleet *fleet, const struct tr_slice_dir *dir,
		 struct tr_err *err);
/* Takes the one in directory PATH out, after FORGET. -ENOENT. */
int tr_fleet_drop(struct tr_fleet *fleet, const char *path,
		  void (*forget)(const struct tr_kept *kept, void *arg), void *arg);
/* Looks through the roots when ours changed or a second has gone by. FORGET is called for each slice
 * that is gone, before it is freed. */
void tr_fleet_scan(struct tr_fleet *fleet, uint64_t now_ns,
		   void (*forget)(const struct tr_kept *kept, void *arg), void *arg);

/* The slice's row of the machine's device GPU; -1: it has none there. */
int tr_kept_row_of(const struct tr_kept *kept, int gpu);

/* ---- parts of a state file, by pread: never all of it --------------------------------- */

/* Reads BYTES at OFFSET, all of them or false. */
bool tr_kept_read(const struct tr_kept *kept, void *out, size_t bytes, size_t offset);
/* is_occupied, and others' rows: a system call each; of one that sleeps once a second. */
void tr_kept_look_in(struct tr_kept *kept, uint64_t now_ns);
/* high_water. */
void tr_kept_count(struct tr_kept *kept);
/* The same, and crowd. */
void tr_kept_refresh(struct tr_kept *kept);
/* A living process holds slot S. */
bool tr_kept_is_held(const struct tr_kept *kept, unsigned s);

#endif /* TR_KEEPER_FLEET_H */
