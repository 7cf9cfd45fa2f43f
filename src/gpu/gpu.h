/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_GPU_GPU_H
#define TR_GPU_GPU_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tranche/err.h"

/*
 * The accelerators of this machine, as the host sees them: NVML, opened by name at run
 * time. Not thread safe; a process that has opened it must not use it after fork. Calls may
 * block as long as the driver does: callers that must not hang ask from a child process.
 */

#define TR_GPUS_MAX 64

struct tr_gpu {
	char uuid[48]; /* "GPU-..." */
	char name[64];
	uint64_t total_bytes; /* what CUDA can have */
	int compute_major, compute_minor;
	unsigned index; /* NVML's */
};

struct tr_gpus {
	unsigned count;
	struct tr_gpu gpus[TR_GPUS_MAX]; /* in NVML's order */
	char driver[32];
};

/* Opens NVML and lists the devices. -ENOENT: no driver library; -ENODEV: the driver does
 * not answer or has no device; the sentence says which. */
int tr_gpu_open(struct tr_gpus *out, struct tr_err *err);
/* The same for one who goes on with what there is: devices that do not answer are left out and counted in
 * *MISSING, and those that do not tell their memory have total_bytes 0. */
int tr_gpu_open_most(struct tr_gpus *out, unsigned *missing, struct tr_err *err);
void tr_gpu_close(void);
/* The library that is opened next: a path, or NULL: libnvidia-ml.so.1 as the loader finds it. PATH stays
 * the caller's and valid. */
void tr_gpu_library(const char *path);

struct tr_gpu_process {
	pid_t pid; /* as NVML knows it */
	uint64_t bytes;
};

/* The processes that hold a context on the device with UUID. *COUNT: room in, rows out.
 * -ENODATA: the driver shows no per-process memory here. */
int tr_gpu_processes(const char *uuid, struct tr_gpu_process *rows, size_t *count,
		     struct tr_err *err);

struct tr_gpu_sample {
	pid_t pid;
	unsigned sm_percent;
	uint64_t end_us; /* of the sample, on a clock of NVML's own choice */
};

/* What processes used of the multiprocessors in the samples that ended after AFTER_US, in no
 * order. Drivers differ in how many samples of a process they tell at once and in their length
 * (1/6 s to 1 s). *COUNT: room in, rows out; 0 rows: nobody was busy. -ENODATA: not told on this
 * device (MIG, old drivers). */
int tr_gpu_utilization(const char *uuid, uint64_t after_us, struct tr_gpu_sample *rows,
		       size_t *count, struct tr_err *err);

#endif /* TR_GPU_GPU_H */
