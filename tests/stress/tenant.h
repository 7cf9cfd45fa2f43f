/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STRESS_TENANT_H
#define STRESS_TENANT_H

#include <cuda.h>
#include <stdbool.h>
#include <stdint.h>

#include "page.h"

#define MIB          ((size_t)1 << 20)
#define HELD_MAX     40u
#define CONTEXTS_MAX 3u

/* What a tenant holds at the moment. */
enum held_kind {
	HELD_NONE,
	HELD_MEMORY, /* cuMemAlloc, pitch, managed */
	HELD_OBJECT, /* of the VMM interface: a handle, a mapping or both */
	HELD_POOLED,
	HELD_ARRAY,
	HELD_MIPMAP,
	HELD_HOST,
	HELD_MODULE,
};

struct held {
	enum held_kind kind;
	CUcontext ctx;
	CUdeviceptr ptr;
	size_t bytes;
	void *handle;
	CUmemGenericAllocationHandle object;
};

struct tenant {
	struct stress_page *page;
	struct stress_seat *seat;
	uint64_t random;
	CUcontext primary[STRESS_DEVICES]; /* NULL: no context there */
	CUcontext own[CONTEXTS_MAX];
	CUmemoryPool pool[STRESS_DEVICES];
	struct held held[HELD_MAX];
};

uint64_t tenant_random(struct tenant *t, uint64_t below);
/* Ends the process where RES is neither success nor one of the errors that a slice which is
 * full may give. True: success. */
bool tenant_check(struct tenant *t, CUresult res, const char *what);

/* One call, or a few that belong together. */
void tenant_obtain(struct tenant *t);
void tenant_release(struct tenant *t, struct held *h);
void tenant_make_context(struct tenant *t);
void tenant_drop_context(struct tenant *t);
void tenant_run_graph(struct tenant *t);

#endif /* STRESS_TENANT_H */
