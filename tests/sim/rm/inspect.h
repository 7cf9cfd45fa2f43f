/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_INSPECT_H
#define SIM_RM_INSPECT_H

#include <stddef.h>
#include <stdint.h>

#include "rm/rm.h"

/*
 * The ground truth of tests, beside what NVML tells: every connection of the machine, the
 * bytes it holds by device and kind, and its list of live objects. After rm_open(); errors
 * as in rm.h.
 */

/* Why the last rm_open() or start failed, as a sentence; "" when there is none. */
const char *rm_reason(void);

struct rm_client {       /* one connection; a process has one per driver library it uses */
	uint64_t serial; /* never reused on this machine; 0: held by descriptors only */
	int own_pid, host_pid;
	uint32_t uid;
	bool has_objects; /* it ever added one */
	char name[64];
	uint64_t bytes[RM_DEVICES_MAX][RM_KINDS];
	uint64_t host_bytes;
};
/* *n: room in, rows out; -ENOSPC when there are more (*n says how many). In order of
 * serial. */
int rm_clients(struct rm_client *rows, size_t *n);

struct rm_live {
	enum rm_kind kind;
	uint32_t device;
	uint64_t handle, bytes;
};
/* The live objects of connection SERIAL, each passed to SEE with ARG. Exact while that
 * process is at rest. -ENOENT when the connection is gone. */
int rm_live_each(uint64_t serial, void (*see)(const struct rm_live *object, void *arg),
		 void *arg);

/* "context", "code", "limits", "block", ... */
const char *rm_kind_name(enum rm_kind kind);

/* Ends the machine now, whoever uses it. */
int rm_stop(void);

#endif /* SIM_RM_INSPECT_H */
