/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_GPU_PROBE_H
#define TR_GPU_PROBE_H

/* Exact exported names, not what the header renames them to. */
#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL
#endif
#include <cuda.h>

#include <stdbool.h>
#include <stdint.h>

#define MIB ((size_t)1 << 20)

/* The driver, opened by name as the CUDA runtime does. NULL: this one has no such function. */
struct probe_driver {
#define PROBE(name) __typeof__(name) *name;
#include "probe.def"
#undef PROBE
	void *handle;
};
extern struct probe_driver drv;

/* Opens libcuda.so.1 and libnvidia-ml.so.1; ends the program with a sentence without the former. */
void probe_open(void);
/* cuInit, and the primary context of device 0 current. */
void probe_start(void);
/* Used bytes of device 0 as NVML tells; 0 where there is no NVML. */
uint64_t probe_nvml_used_bytes(void);
uint64_t probe_cuda_free_bytes(void);
uint64_t probe_now_ns(void);

/* One line of output. Steps named same.* must not differ with a hook; memory.* are bytes taken. */
void probe_say(const char *step, int result, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The parts. */
void probe_calls(void);
void probe_lookups(const char *file);
void probe_memory(void);
void probe_costs(void);
void probe_limits(uint64_t limit_bytes);
void probe_kill(uint64_t bytes);

extern const char probe_kernel[];

#endif /* TR_GPU_PROBE_H */
