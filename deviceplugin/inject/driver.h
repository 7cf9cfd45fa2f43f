/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_INJECT_DRIVER_H
#define TR_INJECT_DRIVER_H

#include <stddef.h>

#include "tranche/err.h"

/*
 * What a container needs of the node's NVIDIA driver: its libraries, programs and firmware, and the
 * device nodes that all GPUs share. Reads the file system only; any thread.
 */

/* One of the folders of a container that have all libraries. */
#define TR_DRIVER_FOLDER "/usr/lib64"

/* Where the driver is installed. Paths are absolute; NULL or "" is "/". A program in a container sees the
 * host's folders under other names than a container runtime, which is told the host's. */
struct tr_driver_where {
	const char *root;      /* as this process sees it: libraries below it */
	const char *host_root; /* the same on the host; NULL: as ROOT */
	const char *dev;       /* as this process sees it: DEV/dev/nvidiactl */
	const char *host_dev;  /* the same on the host; NULL: as DEV */
	const char *proc;      /* PROC/driver/nvidia; NULL: "/proc" */
};

struct tr_driver_mount {
	char *host, *container;
};

struct tr_driver_node {
	char *host, *container;
};

struct tr_driver_files {
	char version[32]; /* "580.95.05" */
	struct tr_driver_mount *mounts;
	size_t mount_count;
	struct tr_driver_node *nodes; /* nvidiactl, nvidia-uvm, ... */
	size_t node_count;
	char *host_dev; /* the folder of nvidiaN on the host: "/dev" */
	char *dev;      /* the same as this process sees it */
};

/*
 * Libraries are found by the loader's cache of that root, and where it says nothing in the folders that
 * distributions use. Each is mounted under its soname and its file name into every folder
 * where a glibc looks without being told (docs/inject.md). OUT is to be freed in any case.
 * -ENOENT: no driver there (ERR says what was looked for); -EBADMSG: two versions, or libcuda is not for
 * this processor.
 */
int tr_driver_find(const struct tr_driver_where *where, struct tr_driver_files *out,
		   struct tr_err *err);
void tr_driver_free(struct tr_driver_files *files); /* zeroed is fine */

/* ---- /proc/driver/nvidia ---- */

struct tr_proc_gpu {
	char bus[24];  /* "0000:3b:00.0" */
	char uuid[48]; /* "GPU-..."; "" when the driver shows question marks yet */
	int minor;     /* /dev/nvidiaN */
};

/* The text of one gpus/BUS/information. -EBADMSG when UUID or minor is missing, double or malformed.
 * Pure. */
int tr_proc_gpu_parse(const char *text, size_t n, struct tr_proc_gpu *out);
/* All of PROC/driver/nvidia/gpus (PROC NULL: "/proc"), sorted by minor. The number of them,
 * at most MAX; -ENOENT no such driver; -EBADMSG. */
int tr_proc_gpus(const char *proc, struct tr_proc_gpu *out, size_t max, struct tr_err *err);

/* ---- /proc/driver/nvidia/capabilities ---- */

/* Of /dev/nvidia-caps/nvidia-capN: what fits into a device number. */
#define TR_CAP_MINOR_MAX 0xfffff

struct tr_mig_instance {
	int gpu_minor; /* /dev/nvidiaN of its GPU */
	unsigned gpu_instance, compute_instance;
};

/* The N of a file "access". -EBADMSG when it is missing, double or malformed. Pure. */
int tr_cap_parse(const char *text, size_t n, int *minor);
/* Without both nodes a process cannot open the instance: the one of its GPU instance, and of its compute
 * instance. -ENOENT: the driver has no such instance; -EBADMSG. */
int tr_proc_caps(const char *proc, const struct tr_mig_instance *instance,
		 int minors[static 2], struct tr_err *err);

#endif /* TR_INJECT_DRIVER_H */
