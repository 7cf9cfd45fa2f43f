/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_IMAGE_H
#define SIM_CUDA_IMAGE_H

/*
 * What a module image declares: functions with their parameters, variables with their
 * sizes. Code is never run, so nothing else of it is kept. Stands alone (no other file of
 * the library), because it is fuzzed alone.
 *
 * Formats: PTX text, cubin (ELF), fat binary (PTX and cubin entries, plain or LZ4), and for
 * tests one line of text, "tranche-sim kernels: name1 name2".
 */

#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL
#endif
#include <cuda.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_param {
	uint32_t offset, bytes;
};

struct sim_image_function {
	char *name;
	bool entry; /* a kernel; else a device function */
	bool params_known;
	struct sim_param *params;
	size_t param_count;
	size_t code_bytes;
	uint32_t registers, shared_bytes, local_bytes, max_threads;
};

enum sim_variable_kind {
	SIM_VAR_GLOBAL,
	SIM_VAR_CONST,
	SIM_VAR_MANAGED,
	SIM_VAR_TEXTURE,
	SIM_VAR_SURFACE
};

struct sim_image_variable {
	char *name;
	enum sim_variable_kind kind;
	uint64_t bytes; /* as the image says: may be absurd */
	uint8_t *init;  /* NULL: zeroes */
	size_t init_bytes;
};

struct sim_image {
	struct sim_image_function *functions;
	size_t function_count, function_room;
	struct sim_image_variable *variables;
	size_t variable_count, variable_room;
	int ptx_version, binary_version; /* 80, 90, ...: as CU_FUNC_ATTRIBUTE_* */
};

struct sim_image_target {
	uint32_t cc;             /* 90; 0: any */
	uint32_t driver_version; /* 13050; 0: any */
};

/* Parses N bytes. Every answer of the driver: INVALID_IMAGE, INVALID_PTX,
 * UNSUPPORTED_PTX_VERSION, NO_BINARY_FOR_GPU, NOT_SUPPORTED (a compression this simulator
 * cannot undo), OUT_OF_MEMORY. */
CUresult sim_image_parse(const void *bytes, size_t n, const struct sim_image_target *target,
			 struct sim_image **out);
/* The same for an image in memory that says itself how long it is (cuModuleLoadData). Reads
 * nothing that is not mapped. */
CUresult sim_image_load(const void *image, const struct sim_image_target *target,
			struct sim_image **out);
/* How many bytes that image is; 0: not an image. */
size_t sim_image_extent(const void *image);
void sim_image_free(struct sim_image *image);

/* ---- between the files of the parser ------------------------------------------------- */

CUresult sim_ptx_parse(const char *text, size_t n, const struct sim_image_target *target,
		       struct sim_image *image);
CUresult sim_elf_parse(const uint8_t *bytes, size_t n,
		       const struct sim_image_target *target, struct sim_image *image);
CUresult sim_fatbin_parse(const uint8_t *bytes, size_t n,
			  const struct sim_image_target *target, struct sim_image *image);
/* Bytes that the ELF file whose first N bytes are given says it has; 0: none. */
size_t sim_elf_extent(const uint8_t *bytes, size_t n);
/* LZ4 block format. Bytes written, or -1 for a malformed block or too little room. */
int64_t sim_lz4_decode(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes);

/* New zeroed entries with a copy of the name; NULL when memory is short. */
struct sim_image_function *sim_image_add_function(struct sim_image *image, const char *name,
						  size_t n);
struct sim_image_variable *sim_image_add_variable(struct sim_image *image, const char *name,
						  size_t n);
bool sim_image_add_param(struct sim_image_function *function, uint32_t offset,
			 uint32_t bytes);

#define SIM_FATBIN_MAGIC  0xBA55ED50u
#define SIM_FATBIN_WRAP   0x466243b1u
#define SIM_FATBIN_HEADER 16u

#endif /* SIM_CUDA_IMAGE_H */
