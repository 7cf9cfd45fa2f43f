/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml/sim_nvml.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * Start, end, errors and what the system as a whole tells. nvmlInit counts: each one needs
 * its nvmlShutdown. The connection to the machine is kept after the last one: handles of a
 * client that starts again stay good, as they do on a real machine.
 */

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int init_count;
static atomic_int open_pid; /* whose connection it is: a child has none */

nvmlReturn_t nv_result(int r)
{
	switch (-r) {
	case 0:
		return NVML_SUCCESS;
	case ENODEV:
		return NVML_ERROR_DRIVER_NOT_LOADED;
	case ENOMEM:
		return NVML_ERROR_MEMORY;
	case ENOENT:
		return NVML_ERROR_NOT_FOUND;
	case ENOSPC:
		return NVML_ERROR_INSUFFICIENT_SIZE;
	case EINVAL:
		return NVML_ERROR_INVALID_ARGUMENT;
	case EPERM:
	case EACCES:
		return NVML_ERROR_NO_PERMISSION;
	default:
		return NVML_ERROR_UNKNOWN;
	}
}

/* A real NVML works on in a forked child, so the child connects by itself, once. */
static int connect_here(void)
{
	int pid = (int)getpid();
	int r;

	if (atomic_load(&open_pid) == pid)
		return 0;
	r = rm_open();
	if (r == 0)
		atomic_store(&open_pid, pid);
	return r;
}

nvmlReturn_t nv_enter_early(const char *entry)
{
	int code = rm_fault(entry);

	return code < 0 ? NVML_SUCCESS : (nvmlReturn_t)code;
}

static const struct {
	const char *function;
	uint32_t driver_version;
} since[] = {
#define NV_SINCE(function, version) { #function, version },
#include "nvml/since.def"
#undef NV_SINCE
};

#define ROWS_SINCE (sizeof(since) / sizeof(since[0]))

/* The rows are in order of version: a driver newer than the last one has everything. */
static bool driver_has(const char *entry, uint32_t driver_version)
{
	for (size_t i = ROWS_SINCE; i-- > 0 && since[i].driver_version > driver_version;) {
		if (strcmp(since[i].function, entry) == 0)
			return false;
	}
	return true;
}

nvmlReturn_t nv_enter(const char *entry)
{
	nvmlReturn_t r = nv_enter_early(entry);

	if (r != NVML_SUCCESS)
		return r;
	if (atomic_load(&init_count) == 0)
		return NVML_ERROR_UNINITIALIZED;
	r = nv_result(connect_here());
	if (r == NVML_SUCCESS && !driver_has(entry, rm_machine()->driver_version))
		return NVML_ERROR_FUNCTION_NOT_FOUND;
	return r;
}

nvmlReturn_t nv_enter_device(const char *entry, nvmlDevice_t handle, struct nv_device *out)
{
	nvmlReturn_t r = nv_enter(entry);

	if (r == NVML_SUCCESS)
		r = nv_device_of(handle, out);
	return r == NVML_SUCCESS ? nv_answer(out->index) : r;
}

nvmlReturn_t nv_answer(uint32_t index)
{
	return (nvmlReturn_t)rm_state(index, RM_ANSWER);
}

nvmlReturn_t nv_unsupported(const char *entry)
{
	nvmlReturn_t r = nv_enter(entry);

	return r == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : r;
}

nvmlReturn_t nv_memory(uint32_t index, struct rm_memory *out)
{
	return nv_result(rm_memory(index, out));
}

nvmlReturn_t nv_text(char *out, size_t room, const char *text)
{
	size_t n = strlen(text) + 1;

	if (!out)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (room < n)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	memcpy(out, text, n);
	return NVML_SUCCESS;
}

uint64_t nv_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static nvmlReturn_t start(unsigned int flags)
{
	nvmlReturn_t r;

	/* NVML_INIT_FLAG_NO_GPUS and _NO_ATTACH change what may fail, not what is answered.
	 */
	if (flags & ~(unsigned int)(NVML_INIT_FLAG_NO_GPUS | NVML_INIT_FLAG_NO_ATTACH))
		return NVML_ERROR_INVALID_ARGUMENT;
	pthread_mutex_lock(&init_lock);
	r = nv_result(connect_here());
	if (r == NVML_SUCCESS)
		r = nv_find_devices();
	if (r == NVML_SUCCESS)
		atomic_fetch_add(&init_count, 1);
	pthread_mutex_unlock(&init_lock);
	return r;
}

nvmlReturn_t nvmlInit(void)
{
	nvmlReturn_t r = nv_enter_early(__func__);

	return r == NVML_SUCCESS ? start(0) : r;
}

nvmlReturn_t nvmlInit_v2(void)
{
	nvmlReturn_t r = nv_enter_early(__func__);

	return r == NVML_SUCCESS ? start(0) : r;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
	nvmlReturn_t r = nv_enter_early(__func__);

	return r == NVML_SUCCESS ? start(flags) : r;
}

nvmlReturn_t nvmlShutdown(void)
{
	nvmlReturn_t r = nv_enter_early(__func__);

	if (r != NVML_SUCCESS)
		return r;
	pthread_mutex_lock(&init_lock);
	if (atomic_load(&init_count) == 0)
		r = NVML_ERROR_UNINITIALIZED;
	else
		atomic_fetch_sub(&init_count, 1);
	pthread_mutex_unlock(&init_lock);
	return r;
}

static const struct {
	nvmlReturn_t code;
	const char *text;
} errors[] = {
	{ NVML_SUCCESS, "Success" },
	{ NVML_ERROR_UNINITIALIZED, "Uninitialized" },
	{ NVML_ERROR_INVALID_ARGUMENT, "Invalid Argument" },
	{ NVML_ERROR_NOT_SUPPORTED, "Not Supported" },
	{ NVML_ERROR_NO_PERMISSION, "Insufficient Permissions" },
	{ NVML_ERROR_ALREADY_INITIALIZED, "Already Initialized" },
	{ NVML_ERROR_NOT_FOUND, "Not Found" },
	{ NVML_ERROR_INSUFFICIENT_SIZE, "Insufficient Size" },
	{ NVML_ERROR_INSUFFICIENT_POWER, "Insufficient External Power" },
	{ NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded" },
	{ NVML_ERROR_TIMEOUT, "Timeout" },
	{ NVML_ERROR_IRQ_ISSUE, "Interrupt Request Issue" },
	{ NVML_ERROR_LIBRARY_NOT_FOUND, "NVML Shared Library Not Found" },
	{ NVML_ERROR_FUNCTION_NOT_FOUND, "Function Not Found" },
	{ NVML_ERROR_CORRUPTED_INFOROM, "Corrupted infoROM" },
	{ NVML_ERROR_GPU_IS_LOST, "GPU is lost" },
	{ NVML_ERROR_RESET_REQUIRED, "GPU requires restart" },
	{ NVML_ERROR_OPERATING_SYSTEM, "The operating system has blocked the request" },
	{ NVML_ERROR_LIB_RM_VERSION_MISMATCH,
	  "RM has detected an NVML/RM version mismatch" },
	{ NVML_ERROR_IN_USE, "In use by another client" },
	{ NVML_ERROR_MEMORY, "Insufficient Memory" },
	{ NVML_ERROR_NO_DATA, "No Data" },
	{ NVML_ERROR_VGPU_ECC_NOT_SUPPORTED, "vGPU ECC not supported" },
	{ NVML_ERROR_INSUFFICIENT_RESOURCES, "Insufficient resources" },
	{ NVML_ERROR_FREQ_NOT_SUPPORTED, "Frequency not supported" },
	{ NVML_ERROR_ARGUMENT_VERSION_MISMATCH, "Argument version mismatch" },
	{ NVML_ERROR_DEPRECATED, "Deprecated" },
	{ NVML_ERROR_NOT_READY, "Not ready" },
	{ NVML_ERROR_GPU_NOT_FOUND, "GPU not found" },
	{ NVML_ERROR_INVALID_STATE, "Invalid state" },
};

/* Works at any time, initialised or not; a number of nobody's is not an error. */
const char *nvmlErrorString(nvmlReturn_t result)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		if (errors[i].code == result)
			return errors[i].text;
	}
	return "Unknown Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
	NV_ENTER();
	return nv_text(version, length, rm_machine()->driver_branch);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
	char text[NVML_SYSTEM_NVML_VERSION_BUFFER_SIZE];

	NV_ENTER();
	snprintf(text, sizeof(text), "%u.%.32s", rm_machine()->driver_version / 1000,
		 rm_machine()->driver_branch);
	return nv_text(version, length, text);
}

static nvmlReturn_t tell_cuda_version(int *version)
{
	if (!version)
		return NVML_ERROR_INVALID_ARGUMENT;
	*version = (int)rm_machine()->driver_version;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *cudaDriverVersion)
{
	NV_ENTER();
	return tell_cuda_version(cudaDriverVersion);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *cudaDriverVersion)
{
	NV_ENTER();
	return tell_cuda_version(cudaDriverVersion);
}

nvmlReturn_t nvmlSystemGetDriverBranch(nvmlSystemDriverBranchInfo_t *branchInfo,
				       unsigned int length)
{
	char text[NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE];

	NV_ENTER();
	if (!branchInfo)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (branchInfo->version != nvmlSystemDriverBranchInfo_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	snprintf(text, sizeof(text), "r%u_00",
		 (unsigned int)strtoul(rm_machine()->driver_branch, NULL, 10));
	if (length > sizeof(branchInfo->branch))
		length = sizeof(branchInfo->branch);
	return nv_text(branchInfo->branch, length, text);
}

/* The name of any process that this one may look at, whether it uses a GPU or not. */
nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
	char path[64], text[1024];
	size_t n;
	FILE *f;

	NV_ENTER();
	if (!name || length == 0)
		return NVML_ERROR_INVALID_ARGUMENT;
	snprintf(path, sizeof(path), "/proc/%u/cmdline", pid);
	f = fopen(path, "re");
	if (!f)
		return errno == EACCES ? NVML_ERROR_NO_PERMISSION : NVML_ERROR_NOT_FOUND;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0'; /* the first word of the command line ends by itself */
	if (n == 0)
		return NVML_ERROR_NOT_FOUND;
	/* The driver cuts what does not fit and calls that a success. */
	snprintf(name, length, "%s", text);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetHicVersion(unsigned int *hwbcCount, nvmlHwbcEntry_t *hwbcEntries)
{
	NV_ENTER();
	(void)hwbcEntries;
	if (!hwbcCount)
		return NVML_ERROR_INVALID_ARGUMENT;
	*hwbcCount = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlUnitGetCount(unsigned int *unitCount)
{
	NV_ENTER();
	if (!unitCount)
		return NVML_ERROR_INVALID_ARGUMENT;
	*unitCount = 0; /* S-class units went with the Tesla S2050 */
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlGetExcludedDeviceCount(unsigned int *deviceCount)
{
	NV_ENTER();
	if (!deviceCount)
		return NVML_ERROR_INVALID_ARGUMENT;
	*deviceCount = 0;
	return NVML_SUCCESS;
}
