/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_INJECT_CDI_H
#define TR_INJECT_CDI_H

#include <stddef.h>

#include "deviceplugin/inject/driver.h"
#include "tranche/err.h"

/*
 * The files that tell a container runtime what a CDI device name means. Two kinds:
 *
 *   tranche.io/driver=all   CDI_DIR/tranche-driver.json     the driver's files, the same for every container
 *   tranche.io/gpu=NAME     CDI_DIR/tranche-gpu-N.json      device nodes and slice of an allocation
 *
 * Allocate names both. Without the second a container has no device node, so the first may be there all the time.
 * Allocations share a few files: containerd reads all files for each container that it makes, and their number is what
 * that costs (docs/inject.md). Files appear whole or not at all. Any thread, but one at a time in one process.
 */

#define TR_CDI_KIND          "tranche.io/gpu"
#define TR_CDI_DRIVER_KIND   "tranche.io/driver"
#define TR_CDI_DRIVER_DEVICE TR_CDI_DRIVER_KIND "=all"
#define TR_CDI_NAME_MAX      63

struct tr_cdi_slice {     /* what one container is given */
	const char *name; /* [a-z0-9]{1,63}: CDI device name */
	const int *minors;
	size_t minor_count; /* 0: a slice without a GPU, no device node at all */
	const int *caps; /* /dev/nvidia-caps/nvidia-capN: instances of GPUs in MIG mode */
	size_t cap_count;
	const char
		*slice_dir; /* host path; its ro and rw become TR_SLICE_DIR's; NULL: none */
	const char *hook_path,
		*preload_path; /* host paths, struct tr_installed; NULL: none */
};

/*
 * Writes what SLICE means, in place of what it meant; makes CDI_DIR when it is missing. Of DRIVER only the
 * device nodes are used; NULL will do without minors.
 * -EINVAL: a name, a path (absolute, UTF-8, no control characters, no "..") or a minor that cannot be; else
 * what the file system said. What was there stays as it was then.
 */
int tr_cdi_write(const char *cdi_dir, const struct tr_driver_files *driver,
		 const struct tr_cdi_slice *slice, struct tr_err *err);

/*
 * The same for many at once: of the files that they share each is written once. All zero bits: empty.
 * What is added is not there before tr_cdi_flush().
 */
struct tr_cdi_batch {
	struct tr_cdi_change *first;
};
/* Checks SLICE, and takes a copy of what it means, in place of one of that name. -EINVAL. */
int tr_cdi_add(struct tr_cdi_batch *batch, const struct tr_driver_files *driver,
	       const struct tr_cdi_slice *slice, struct tr_err *err);
/* BATCH is empty then, whatever became of it: after an error some of it may be there. */
int tr_cdi_flush(struct tr_cdi_batch *batch, const char *cdi_dir, struct tr_err *err);
/* Of NAME, or (NULL) of all: as if it had not been added. */
void tr_cdi_forget(struct tr_cdi_batch *batch, const char *name);

/* The file of TR_CDI_DRIVER_DEVICE. Left untouched when it says that already. */
int tr_cdi_write_driver(const char *cdi_dir, const struct tr_driver_files *driver,
			struct tr_err *err);
/* 0 also when there is none. */
int tr_cdi_remove(const char *cdi_dir, const char *name, struct tr_err *err);

/* Names of the allocations that are there, in no order; removes what interrupted writers left.
 * 0 also when there is no folder. */
int tr_cdi_each(const char *cdi_dir, void (*each)(const char *name, void *arg), void *arg,
		struct tr_err *err);

#endif /* TR_INJECT_CDI_H */
