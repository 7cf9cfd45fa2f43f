/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_PROC_H
#define SIM_CUDA_PROC_H

#include <stdbool.h>
#include <stddef.h>

/* One ABI of one driver function; the generated table is sorted by base name. */
struct sim_proc {
	const char *base;
	const char *symbol;
	void (*export)(void); /* what dlsym gives */
	void (*thunk)(void);  /* a jump to it, for a driver whose two look-ups differ */
	int version;          /* CUDA version that introduced this ABI */
	bool per_thread;      /* the twin whose default stream is the thread's own */
};
extern const struct sim_proc sim_procs[];
extern const size_t sim_proc_count;

#endif /* SIM_CUDA_PROC_H */
