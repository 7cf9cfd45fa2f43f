/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_GPU_PLACE_H
#define TR_GPU_PLACE_H

#include <stdbool.h>

#include "gpu/gpu.h"

/* Where a GPU is: on the bus, among processors, beside its siblings. The rules of gpu.h hold. What a driver
 * does not tell is left as unknown; only a device that does not answer at all is an error (-ENODEV). */

struct tr_gpu_place {
	int minor;       /* /dev/nvidiaN; -1: unknown */
	char bus_id[32]; /* "00000000:3B:00.0"; "": unknown */
	int numa;    /* of the processors near it; -1: unknown, or this machine has none */
	bool is_mig; /* only its instances can be used */
};
int tr_gpu_place(const char *uuid, struct tr_gpu_place *out, struct tr_err *err);

struct tr_gpu_instance {
	char uuid[48]; /* "MIG-..." */
	char name[96];
	uint64_t total_bytes; /* 0: not told */
	unsigned gpu_instance, compute_instance;
};
/* The instances of a GPU in MIG mode that exist now. *COUNT: room in, rows out. */
int tr_gpu_instances(const char *uuid, struct tr_gpu_instance *rows, size_t *count,
		     struct tr_err *err);

/* The nearest thing on the bus that two GPUs share, from far to near. */
enum tr_gpu_near {
	TR_GPU_NEAR_UNKNOWN,
	TR_GPU_NEAR_SYSTEM, /* the way between processors */
	TR_GPU_NEAR_NODE,   /* one processor */
	TR_GPU_NEAR_HOSTBRIDGE,
	TR_GPU_NEAR_SWITCHES, /* several PCIe switches */
	TR_GPU_NEAR_SWITCH,
	TR_GPU_NEAR_BOARD,
};
enum tr_gpu_near tr_gpu_near(const char *uuid, const char *other);

#define TR_GPU_LINKS_MAX 36 /* NVLinks of a GPU */

struct tr_gpu_link {
	char remote[32]; /* bus id at the other end */
	bool is_switch;
};
/* Those that are up. *COUNT: room in, rows out; 0 on devices without. */
int tr_gpu_links(const char *uuid, struct tr_gpu_link *rows, size_t *count,
		 struct tr_err *err);

#endif /* TR_GPU_PLACE_H */
