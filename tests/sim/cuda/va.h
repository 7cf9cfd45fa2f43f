/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_VA_H
#define SIM_CUDA_VA_H

/*
 * The addresses the driver hands out: windows of this process' address space, reserved with
 * PROT_NONE and grown when full. What is not mapped stays unreachable, so a stray access to
 * freed device memory faults instead of reading someone else's bytes. Callers hold
 * sim_mem_lock().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_window {
	SIM_WINDOW_DEVICE, /* in units of 2 MiB */
	SIM_WINDOW_HOST,   /* pinned host memory, in pages */
	SIM_WINDOW_LOW,    /* below 2 GiB, for the 32-bit ABIs; in units of 2 MiB */
	SIM_WINDOWS
};

/* BYTES at ALIGN (0: the window's unit); 0 when there is no room. */
uint64_t sim_va_take(enum sim_window w, size_t bytes, size_t align);
/* The same at a wished address; false when that is not free. */
bool sim_va_take_at(enum sim_window w, uint64_t base, size_t bytes);
/* Unmaps and gives back. */
void sim_va_give(enum sim_window w, uint64_t base, size_t bytes);
/* Does P lie in a window for device memory (live or not)? */
bool sim_va_is_device(uint64_t p);

/* What stands behind a taken range: a range of a file, anonymous memory, nothing. 0/-errno.
 */
int sim_va_map(uint64_t base, size_t bytes, int fd, uint64_t offset);
int sim_va_map_anonymous(uint64_t base, size_t bytes);
void sim_va_unmap(uint64_t base, size_t bytes);

#endif /* SIM_CUDA_VA_H */
