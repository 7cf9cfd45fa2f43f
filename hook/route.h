/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_ROUTE_H
#define TR_HOOK_ROUTE_H

#include <stdbool.h>

/*
 * Pointers of the driver and of NVML, and the hooks that stand for them. The driver is
 * asked first, by whatever way the program asks; only a pointer that *is* a row's function
 * is exchanged.
 */

/* The row with that exported name, or -1. */
int tr_row_find(const char *name);

/* What this library exports under the row's name (exports.S). */
void *tr_row_export(int row);

/* The hook that stands for POINTER, or POINTER. Learns the driver from the first pointer
 * seen. */
void *tr_route_exchange(void *pointer);

/* True when POINTER lies in a driver or an NVML library. */
bool tr_route_is_driver(const void *pointer);

/* A function of the NVML library by name, or NULL. Not for hot paths. */
void *tr_nvml_symbol(const char *name);

#endif /* TR_HOOK_ROUTE_H */
