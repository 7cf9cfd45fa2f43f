/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CLI_ENTER_H
#define TR_CLI_ENTER_H

#include <stdbool.h>

#include "keeper/slices.h"
#include "tranche/err.h"
#include "tranche/limits.h"

/*
 * How a program gets into its slice. As root: a mount namespace of its own where the page
 * and the state file lie at their fixed paths and /etc/ld.so.preload names the library, so
 * that nothing depends on the environment. Otherwise: LD_PRELOAD and TRANCHE_POLICY,
 * cooperative.
 */
struct tr_enter {
	const struct tr_slice_dir *dir;
	const char *uuids[TR_DEVICES_MAX]; /* for CUDA_VISIBLE_DEVICES where the program
					      sees more */
	unsigned uuid_count;               /* 0: leave it alone */
	bool is_sim;
	bool has_namespace; /* set by prepare */
	char library[256], sim[256];
};

/* The state file's path as the processes of a new slice will see it; NULL: as the host
 * does. */
const char *tr_enter_state_path(void);

/* -EBUSY inside a slice: the inner one's processes would not count in the outer one. */
int tr_enter_check(struct tr_err *err);
/* Before the fork: finds the library, makes what is mounted later. */
int tr_enter_prepare(struct tr_enter *enter, struct tr_err *err);
/* In the child, before exec; ARG is the struct tr_enter. */
int tr_enter_slice(void *arg, struct tr_err *err);

#endif /* TR_CLI_ENTER_H */
