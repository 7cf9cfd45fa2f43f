/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STUB_NVML_H
#define STUB_NVML_H

/* Under the name that the generated definitions include: here they all succeed. */
#include <nvml.h>

nvmlReturn_t nv_unsupported(const char *entry);

#endif /* STUB_NVML_H */
