/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_GPU_NVML_TABLE_H
#define TR_GPU_NVML_TABLE_H

/* Without this the header renames the first ABIs away, and old drivers have only those. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

#include "tranche/err.h"

/* The driver's functions once tr_gpu_open() has found them; NULL: this driver lacks it. */
#pragma GCC diagnostic push
/* Old drivers have only what newer headers call out of date. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
struct tr_nvml {
	void *library;
#define TR_NVML(symbol, need) __typeof__(symbol) *symbol;
#include "gpu/nvml.def"
#undef TR_NVML
};
#pragma GCC diagnostic pop
extern struct tr_nvml tr_nvml;

int tr_nvml_fail(struct tr_err *err, const char *what, nvmlReturn_t r);

#endif /* TR_GPU_NVML_TABLE_H */
