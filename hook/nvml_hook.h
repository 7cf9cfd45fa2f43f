/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_NVML_HOOK_H
#define TR_HOOK_NVML_HOOK_H

/* Each version of a function is a name of its own, as in the library. */
#ifndef NVML_NO_UNVERSIONED_FUNC_DEFS
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#endif
#include <nvml.h>

/* As in hook.h: bodies are other symbols than exports. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wredundant-decls"
#define TR_CALL(symbol) extern __typeof__(symbol) symbol __asm__("tr_hook_" #symbol);
#include "nvml_calls.def"
#undef TR_CALL
#pragma GCC diagnostic pop

struct tr_nvml {
#define TR_CALL(symbol) __typeof__(symbol) *symbol;
#include "nvml_calls.def"
#undef TR_CALL
	__typeof__(nvmlDeviceGetUUID) *nvmlDeviceGetUUID; /* called, not hooked */
	__typeof__(nvmlDeviceGetIndex) *nvmlDeviceGetIndex;
};
extern struct tr_nvml tr_nvml;

#endif /* TR_HOOK_NVML_HOOK_H */
