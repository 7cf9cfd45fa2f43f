/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_NVML_SIM_NVML_H
#define SIM_NVML_SIM_NVML_H

/*
 * Inside the simulated libnvidia-ml.so.1. Every exported function is a plain definition of
 * the header's declaration; without "auto upgrading" each version is its own symbol, as in
 * the real library. What no file defines is a weak generated one that answers
 * NOT_SUPPORTED.
 *
 * Memory and processes come from the machine (rm.h), the same truth as the simulated
 * libcuda's. What the machine does not know (temperatures, clocks, ...) are constants of
 * the model: the values of an idle board.
 */

#ifndef NVML_NO_UNVERSIONED_FUNC_DEFS
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#endif
#include <nvml.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rm/rm.h"

/* First line of every exported function: fault injection, then UNINITIALIZED. */
#define NV_ENTER()                                       \
	do {                                             \
		nvmlReturn_t nv_r_ = nv_enter(__func__); \
		if (nv_r_ != NVML_SUCCESS)               \
			return nv_r_;                    \
	} while (0)
/* ... and the device that HANDLE means, into OUT (struct nv_device). */
#define NV_ENTER_DEVICE(handle, out)                                         \
	do {                                                                 \
		nvmlReturn_t nv_r_ = nv_enter_device(__func__, handle, out); \
		if (nv_r_ != NVML_SUCCESS)                                   \
			return nv_r_;                                        \
	} while (0)

/* What a board of this kind tells that is no business of the kernel driver's. */
struct nv_board {
	const char *model; /* rm_device.model */
	const char *part_number, *vbios;
	nvmlBrandType_t brand;
	uint32_t pcie_generation, pcie_width; /* width in lanes */
	uint32_t nvlinks, nvlink_version;     /* 0 links: none */
	uint32_t fans, idle_celsius, slowdown_celsius, shutdown_celsius;
	uint32_t idle_mw, power_min_mw;
	uint32_t idle_sm_mhz;
	uint32_t idle_memory_mhz; /* 0: always at its full clock, as stacked memory is */
	nvmlPstates_t idle_pstate;
	bool has_ecc, has_serial, has_memory_sensor, has_display;
};

struct nv_device {
	uint32_t index;
	const struct rm_device *facts;
	const struct nv_board *board;
	uint32_t instance; /* of a device in MIG mode, from 1; 0: all of it */
};

/* mig.c */
#define NV_MIG_MOST 7u
uint32_t nv_mig_count(const struct nv_device *dev);
bool nv_mig_of(nvmlDevice_t handle, uint32_t *index, uint32_t *instance);
nvmlDevice_t nv_mig_handle(uint32_t index, uint32_t instance);
void nv_mig_uuid(const struct nv_device *dev, char *out, size_t room);
void nv_mig_name(const struct nv_device *dev, char *out, size_t room);
/* What DEV has of BYTES of its device's. */
uint64_t nv_mig_bytes(const struct nv_device *dev, uint64_t bytes);

nvmlReturn_t nv_enter(const char *entry);
nvmlReturn_t nv_enter_early(const char *entry); /* faults only: init, shutdown, versions */
nvmlReturn_t nv_enter_device(const char *entry, nvmlDevice_t handle, struct nv_device *out);
/* What every call on device INDEX answers: SUCCESS, or a failure that was asked for. */
nvmlReturn_t nv_answer(uint32_t index);
nvmlReturn_t nv_unsupported(const char *entry); /* a function that is not simulated */
nvmlReturn_t nv_result(int r);                  /* -errno of the rm layer */

/* The handle of machine device INDEX, and back: INVALID_ARGUMENT for a handle of nobody's.
 */
nvmlDevice_t nv_handle(uint32_t index);
nvmlReturn_t nv_device_of(nvmlDevice_t handle, struct nv_device *out);
/* Which devices this process may use, found when it starts NVML; DRIVER_NOT_LOADED if it may
 * not use the driver at all. */
nvmlReturn_t nv_find_devices(void);
bool nv_is_allowed(uint32_t index);

const struct nv_board *nv_board_of(const struct rm_device *facts);

/* rm_memory, also in a forked child (which opens the machine anew). */
nvmlReturn_t nv_memory(uint32_t index, struct rm_memory *out);

/* Copies TEXT for the caller: INVALID_ARGUMENT without a buffer, INSUFFICIENT_SIZE if it is
 * small. */
nvmlReturn_t nv_text(char *out, size_t room, const char *text);

/* "GPU-8-4-4-4-12" of 16 bytes; OUT holds at least 48. */
void nv_uuid_text(const uint8_t uuid[16], char *out, size_t room);

uint64_t nv_now_us(void); /* the time stamps of samples: since the epoch */
unsigned int nv_power_mw(const struct nv_device *dev);
uint64_t nv_energy_mj(
	const struct nv_device *dev); /* at idle power since the host started */

#endif /* SIM_NVML_SIM_NVML_H */
