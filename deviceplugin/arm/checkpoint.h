/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_ARM_CHECKPOINT_H
#define TR_ARM_CHECKPOINT_H

#include <stdint.h>
#include <sys/stat.h>

#include "deviceplugin/arm/book.h"
#include "deviceplugin/pods.h"

/*
 * What the kubelet itself remembers of its devices: kubelet_internal_checkpoint, in the directory of its sockets (form
 * of v1.20 ... v1.34). It is the one place that has the UID of the pod a device was given to, also of init
 * containers, and it is written before the kubelet lets the container start. Not thread-safe.
 */
#define TR_POD_UID 64

struct tr_checkpoint_row {
	char *id;
	char uid[TR_POD_UID]; /* "": it does not say one */
};

/* Zeroed: nothing read yet. */
struct tr_checkpoint {
	struct tr_checkpoint_row *rows; /* by id */
	size_t count;
	uint64_t read_ns;
	struct stat file; /* that was read */
	bool is_settled; /* it cannot have become another since without that being seen in its struct stat */
};

void tr_checkpoint_free(struct tr_checkpoint *checkpoint);

/* -EBADMSG: it has another form. */
int tr_checkpoint_parse(struct tr_checkpoint *checkpoint, const char *text, size_t n,
			const char *resource, struct tr_err *err);

/* PATH as it was at SINCE_NS (tr_clock_ns()) or later: read only when what was read may be older. Besides
 * tr_checkpoint_parse()'s and tr_slurp()'s errors none. */
int tr_checkpoint_read(struct tr_checkpoint *checkpoint, const char *path,
		       const char *resource, uint64_t since_ns, struct tr_err *err);

/* The UID of the pod that has IDS. -EAGAIN: none; -EBADMSG: it says two. */
int tr_checkpoint_owner(const struct tr_checkpoint *checkpoint, const struct tr_ids *ids,
			char uid[static TR_POD_UID], struct tr_err *err);

#endif /* TR_ARM_CHECKPOINT_H */
