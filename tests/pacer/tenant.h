/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_PACER_TENANT_H
#define TESTS_PACER_TENANT_H

#include <cuda.h>
#include <stdint.h>
#include <stdio.h>

#include "page.h"

/* Inside a tenant: tenant.c makes calls, workloads.c says which. */
#define BLOCKS  264u /* an H100 is full */
#define THREADS 1024u
#define KERNELS 1000u /* tranche_loop_0 to _999, all told their time */

struct worker {
	struct page *page;
	struct page_worker *row;
	unsigned index, device;
	char **argv;     /* of the program */
	uint64_t number; /* the workload's first argument, in ns */
	unsigned count;  /* its second one */
	void (*body)(struct worker *w);
	CUcontext ctx;
	CUmodule module;
	CUfunction loop;
	CUstream stream;
	uint64_t queued_ns, began_ns;
	uint32_t epoch;
};

uint64_t now_ns(void);
void sleep_ns(uint64_t ns);
/* Ends the process unless R is success. */
void check(struct worker *w, CUresult r, const char *what);
void load_module(struct worker *w);
CUfunction find_function(struct worker *w, const char *name);
/* Around a call that submits. */
void submit_begins(struct worker *w);
void submit_ends(struct worker *w);
void launch(struct worker *w, CUfunction f, uint64_t ns);
void sync_seldom(struct worker *w, uint64_t kernel_ns);

/* workloads.c; NULL: no such one. */
void (*find_workload(const char *name))(struct worker *w);
/* entries.c: a workload too. */
void run_entry(struct worker *w);

#endif /* TESTS_PACER_TENANT_H */
