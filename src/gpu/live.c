/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/live.h"

#include <stdio.h>
#include <string.h>

#include "gpu/nvml_table.h"

static enum tr_gpu_answer answer_of(nvmlReturn_t r)
{
	if (r == NVML_SUCCESS)
		return TR_GPU_WELL;
	if (r == NVML_ERROR_GPU_IS_LOST)
		return TR_GPU_LOST;
	return r == NVML_ERROR_RESET_REQUIRED ? TR_GPU_NEEDS_RESET : TR_GPU_FAILS;
}

/* What a driver lacks, or a device does not have, is no failure. */
static bool is_lacking(nvmlReturn_t r)
{
	return r == NVML_ERROR_NOT_SUPPORTED || r == NVML_ERROR_FUNCTION_NOT_FOUND ||
	       r == NVML_ERROR_NO_PERMISSION || r == NVML_ERROR_ARGUMENT_VERSION_MISMATCH ||
	       r == NVML_ERROR_NO_DATA || r == NVML_ERROR_NOT_FOUND;
}

/* True: R is a success. The worst answer stays. */
static bool take(struct tr_gpu_live *out, nvmlReturn_t r, const char *what)
{
	enum tr_gpu_answer answer = is_lacking(r) ? TR_GPU_WELL : answer_of(r);

	if (answer > out->answer) {
		out->answer = answer;
		(void)snprintf(out->says, sizeof(out->says), "%s: %s", what,
			       tr_nvml.nvmlErrorString(r));
	}
	return r == NVML_SUCCESS;
}

static void read_memory(nvmlDevice_t device, struct tr_gpu_live *out)
{
	nvmlMemory_v2_t v2 = { .version = nvmlMemory_v2 };
	nvmlMemory_t v1;

	/* v1 counts what the driver keeps for itself as used. */
	if (tr_nvml.nvmlDeviceGetMemoryInfo_v2 &&
	    tr_nvml.nvmlDeviceGetMemoryInfo_v2(device, &v2) == NVML_SUCCESS) {
		out->used_bytes = v2.used;
		out->has |= TR_GPU_HAS_MEMORY;
	} else if (take(out, tr_nvml.nvmlDeviceGetMemoryInfo(device, &v1), "memory")) {
		out->used_bytes = v1.used;
		out->has |= TR_GPU_HAS_MEMORY;
	}
}

static void read_rates(nvmlDevice_t device, struct tr_gpu_live *out)
{
	nvmlUtilization_t rates;

	if (!tr_nvml.nvmlDeviceGetUtilizationRates ||
	    !take(out, tr_nvml.nvmlDeviceGetUtilizationRates(device, &rates),
		  "utilisation"))
		return;
	out->gpu_percent = rates.gpu;
	out->memory_percent = rates.memory;
	out->has |= TR_GPU_HAS_GPU_RATE | TR_GPU_HAS_MEMORY_RATE;
}

static void read_heat(nvmlDevice_t device, struct tr_gpu_live *out)
{
	unsigned long long energy_mj = 0;

	if (tr_nvml.nvmlDeviceGetTemperature &&
	    take(out,
		 tr_nvml.nvmlDeviceGetTemperature(device, NVML_TEMPERATURE_GPU,
						  &out->celsius),
		 "temperature"))
		out->has |= TR_GPU_HAS_TEMPERATURE;
	if (tr_nvml.nvmlDeviceGetPowerUsage &&
	    take(out, tr_nvml.nvmlDeviceGetPowerUsage(device, &out->power_mw), "power"))
		out->has |= TR_GPU_HAS_POWER;
	if (tr_nvml.nvmlDeviceGetTotalEnergyConsumption &&
	    take(out, tr_nvml.nvmlDeviceGetTotalEnergyConsumption(device, &energy_mj),
		 "energy")) {
		out->energy_mj = energy_mj;
		out->has |= TR_GPU_HAS_ENERGY;
	}
}

static void read_ecc(nvmlDevice_t device, struct tr_gpu_live *out)
{
	unsigned long long corrected = 0, uncorrected = 0;

	if (!tr_nvml.nvmlDeviceGetTotalEccErrors ||
	    !take(out,
		  tr_nvml.nvmlDeviceGetTotalEccErrors(device,
						      NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
						      NVML_VOLATILE_ECC, &uncorrected),
		  "memory errors"))
		return;
	(void)tr_nvml.nvmlDeviceGetTotalEccErrors(device, NVML_MEMORY_ERROR_TYPE_CORRECTED,
						  NVML_VOLATILE_ECC, &corrected);
	out->ecc_corrected = corrected;
	out->ecc_uncorrected = uncorrected;
	out->has |= TR_GPU_HAS_ECC;
}

static void needs_reset(struct tr_gpu_live *out, const char *why)
{
	if (out->answer > TR_GPU_NEEDS_RESET)
		return;
	out->answer = TR_GPU_NEEDS_RESET;
	(void)snprintf(out->says, sizeof(out->says), "%s", why);
}

static void read_repair(nvmlDevice_t device, struct tr_gpu_live *out)
{
	unsigned corrected = 0, uncorrected = 0, is_pending = 0, has_failed = 0;
	nvmlFieldValue_t action = { .fieldId = NVML_FI_DEV_GET_GPU_RECOVERY_ACTION };

	if (tr_nvml.nvmlDeviceGetRemappedRows &&
	    tr_nvml.nvmlDeviceGetRemappedRows(device, &corrected, &uncorrected, &is_pending,
					      &has_failed) == NVML_SUCCESS &&
	    has_failed)
		needs_reset(out, "a row of its memory could not be remapped");
	if (tr_nvml.nvmlDeviceGetFieldValues &&
	    tr_nvml.nvmlDeviceGetFieldValues(device, 1, &action) == NVML_SUCCESS &&
	    action.nvmlReturn == NVML_SUCCESS &&
	    action.valueType == NVML_VALUE_TYPE_UNSIGNED_INT &&
	    action.value.uiVal != NVML_GPU_RECOVERY_ACTION_NONE)
		needs_reset(out, "the driver asks for a reset");
}

void tr_gpu_live(const char *uuid, struct tr_gpu_live *out)
{
	nvmlDevice_t device;
	nvmlReturn_t r = tr_nvml.nvmlDeviceGetHandleByUUID(uuid, &device);

	*out = (struct tr_gpu_live){ 0 };
	if (r != NVML_SUCCESS) {
		/* Not found: it was there, so it is lost. */
		out->answer = r == NVML_ERROR_NOT_FOUND ? TR_GPU_LOST : answer_of(r);
		(void)snprintf(out->says, sizeof(out->says), "device: %s",
			       tr_nvml.nvmlErrorString(r));
		return;
	}
	read_memory(device, out);
	if (strncmp(uuid, "MIG-", 4) == 0)
		return;
	read_rates(device, out);
	read_heat(device, out);
	read_ecc(device, out);
	read_repair(device, out);
}
