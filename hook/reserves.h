/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_RESERVES_H
#define TR_HOOK_RESERVES_H

#include "hook.h"

/*
 * Memory that the driver holds in reserve for this process: one reserve per memory pool and
 * one per device for graphs. Charged is what the driver says is reserved, as last read;
 * what the application has of it is counted here, so that an allocation that the reserve
 * can serve costs neither a reservation nor a question.
 */
#define TR_POOLS_MAX    1024u
#define TR_ORDINALS_MAX 64u

struct tr_reserve;

/* The pool behind HANDLE, or NULL: not ours to count (imported, host memory). */
struct tr_reserve *tr_pool_find(CUmemoryPool handle);
/* The pool that cuMemAllocAsync on ORDINAL takes from now. */
struct tr_reserve *tr_pool_current(CUdevice ordinal);
void tr_pool_current_changed(void);
/* A new pool of device memory. -ENOMEM: no room to know it. */
int tr_pool_add(CUmemoryPool handle, CUdevice ordinal, tr_dev dev);
/* Around cuMemPoolDestroy: it ends when its last allocation does. */
struct tr_reserve *tr_pool_destroy_begin(CUmemoryPool handle);
void tr_pool_destroy_end(struct tr_reserve *pool, bool is_destroyed);

/* Before an allocation of BYTES on STREAM: TR_SERVED when the reserve has it, else how much
 * the reserve would have to grow is in GROWTH. */
enum tr_pool_plan { TR_SERVED, TR_LOOK, TR_GROW, TR_UNREADABLE };
enum tr_pool_plan tr_pool_plan(struct tr_reserve *pool, uint64_t bytes, CUstream stream,
			       uint64_t *growth);
void tr_pool_unplan(struct tr_reserve *pool, uint64_t bytes);
void tr_pool_allocated(struct tr_reserve *pool);
/* The driver has been asked for memory under CHARGE: what it reserved in truth is charged
 * now and CHARGE is spent. OUT_OF_MEMORY: that is more than the slice has. */
CUresult tr_reserve_settle(struct tr_reserve *reserve, struct tr_charge *charge,
			   uint64_t taken_bytes);
/* They were freed on STREAM, which may have them again. */
void tr_pool_freed(uint16_t number, uint64_t bytes, CUstream stream);
/* BYTES of the pool numbered NUMBER came back. */
void tr_pool_returned(uint16_t number, uint64_t bytes);
uint16_t tr_pool_number(const struct tr_reserve *pool);

tr_dev tr_reserve_dev(const struct tr_reserve *reserve);
/* The graph memory of ORDINAL. NULL: no such device in the slice, or this driver has none.
 */
struct tr_reserve *tr_graph_reserve(CUdevice ordinal);
/* What the reserve must at least grow by for BYTES more; asks the driver. */
uint64_t tr_reserve_growth(struct tr_reserve *reserve, uint64_t bytes);

/* graph_calls.c: gives up what the graph memory of ORDINAL does not use, unless a launch is
 * counting on it. */
void tr_graph_trim(CUdevice ordinal);
void tr_graphs_forget(void);

/* Reads again what is reserved on DEV, after giving up what is not used when TRIM. */
void tr_reserves_refresh(tr_dev dev, bool trim);
/* The same without trimming and at most every 100 ms: for those who tell what is used. */
void tr_reserves_look(tr_dev dev);
/* A context is gone. PRIMARY_OF: that device's primary one, and its pools' allocations. */
void tr_reserves_context_gone(const tr_dev *primary_of);
/* The program has waited for the device: drivers give up reserve then. */
void tr_reserves_synchronised(void);
void tr_reserves_forget(void);

#endif /* TR_HOOK_RESERVES_H */
