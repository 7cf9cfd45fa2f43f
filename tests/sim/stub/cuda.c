/* SPDX-License-Identifier: Apache-2.0 */
/* What of the driver must give something out; all else is the generated default, success.
 */

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proc.h"
#include "stub.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

/* The generated definitions call this; in the simulator it says "not supported". */
CUresult sim_not_supported(const char *entry);
CUresult sim_not_supported(const char *entry)
{
	return CUDA_SUCCESS;
}

/* The table names them; the stub hides them like any driver of its version. */
#define FUTURE(name)                 \
	CUresult name(void);         \
	CUresult name(void)          \
	{                            \
		return CUDA_SUCCESS; \
	}
/* clang-format off */
FUTURE(cuFutureThing)
FUTURE(cuMemAlloc_v3)
FUTURE(cuLaunchKernel_v2)
FUTURE(cuLaunchKernel_v2_ptsz)
FUTURE(cuFutureAllocAsync)
FUTURE(cuFutureAllocAsync_ptsz)
/* clang-format on */

/* ---- addresses and handles --------------------------------------------------------- */

static atomic_ullong next_address = 0x7f0000000000ull;
static char context_token, module_token, function_token;

static CUdeviceptr take_address(size_t bytes)
{
	return atomic_fetch_add_explicit(&next_address, (bytes + 511) & ~511ull,
					 memory_order_relaxed);
}

static void *take_handle(void)
{
	return (void *)take_address(1);
}

static CUcontext the_context(void)
{
	return (CUcontext)(void *)&context_token;
}

/* ---- start and devices ------------------------------------------------------------- */

CUresult cuInit(unsigned int Flags)
{
	static atomic_flag done = ATOMIC_FLAG_INIT;
	const char *text = getenv("TRANCHE_STUB_INIT_MS");
	long ms = text ? strtol(text, NULL, 10) : 0;
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };

	if (ms > 0 && !atomic_flag_test_and_set(&done))
		nanosleep(&pause, NULL);
	return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *driverVersion)
{
	*driverVersion = STUB_DRIVER_VERSION;
	return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **pStr)
{
	*pStr = error == CUDA_SUCCESS ? "no error" : "error";
	return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **pStr)
{
	*pStr = error == CUDA_SUCCESS ? "CUDA_SUCCESS" : "CUDA_ERROR_UNKNOWN";
	return CUDA_SUCCESS;
}

CUresult cuGetExportTable(const void **ppExportTable, const CUuuid *pExportTableId)
{
	*ppExportTable = NULL;
	return CUDA_ERROR_NOT_FOUND;
}

CUresult cuDeviceGetCount(int *count)
{
	*count = 1;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	*device = 0;
	return ordinal ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
	if (len <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	strncpy(name, STUB_NAME, (size_t)len);
	name[len - 1] = '\0';
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
	static const unsigned char bytes[16] = STUB_UUID_BYTES;

	memcpy(uuid->bytes, bytes, sizeof bytes);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
	return cuDeviceGetUuid_v2(uuid, dev);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	*bytes = STUB_TOTAL_BYTES - STUB_RESERVED_BYTES;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
	static const int values[CU_DEVICE_ATTRIBUTE_MAX] = {
		[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR] = 9,
		[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT] = 132,
		[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK] = 1024,
		[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR] = 2048,
		[CU_DEVICE_ATTRIBUTE_WARP_SIZE] = 32,
		[CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING] = 1,
		[CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY] = 1,
		[CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED] = 1,
		[CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED] = 1,
		[CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT] = 32,
	};

	if ((unsigned int)attrib >= CU_DEVICE_ATTRIBUTE_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	*pi = values[attrib];
	return CUDA_SUCCESS;
}

/* ---- contexts ---------------------------------------------------------------------- */

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
	*pctx = the_context();
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
	*flags = 0;
	*active = 1;
	return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
	*pctx = the_context();
	return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *params, unsigned int flags,
			CUdevice dev)
{
	*pctx = the_context();
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *pctx)
{
	*pctx = the_context();
	return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *pctx)
{
	if (pctx)
		*pctx = the_context();
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	*device = 0;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext ctx)
{
	*device = 0;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long *ctxId)
{
	*ctxId = 1;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int *version)
{
	*version = 3020;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetLimit(size_t *pvalue, CUlimit limit)
{
	*pvalue = 1024;
	return CUDA_SUCCESS;
}

/* ---- memory ------------------------------------------------------------------------ */

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
	if (free_bytes)
		*free_bytes = STUB_TOTAL_BYTES - STUB_RESERVED_BYTES - STUB_USED_BYTES;
	if (total)
		*total = STUB_TOTAL_BYTES - STUB_RESERVED_BYTES;
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
	*dptr = take_address(bytesize);
	return CUDA_SUCCESS;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes,
			    size_t Height, unsigned int ElementSizeBytes)
{
	*pPitch = (WidthInBytes + 511) & ~(size_t)511;
	*dptr = take_address(*pPitch * Height);
	return CUDA_SUCCESS;
}

CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags)
{
	*dptr = take_address(bytesize);
	return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
	*dptr = take_address(bytesize);
	return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
	*dptr = take_address(bytesize);
	return CUDA_SUCCESS;
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool,
				 CUstream hStream)
{
	*dptr = take_address(bytesize);
	return CUDA_SUCCESS;
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool,
				      CUstream hStream)
{
	*dptr = take_address(bytesize);
	return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize, CUdeviceptr dptr)
{
	if (pbase)
		*pbase = dptr;
	if (psize)
		*psize = 512;
	return CUDA_SUCCESS;
}

/* Pool counters have eight bytes, what is set by the application has four. */
CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value)
{
	bool wide = attr >= CU_MEMPOOL_ATTR_RELEASE_THRESHOLD &&
		    attr <= CU_MEMPOOL_ATTR_USED_MEM_HIGH;

	memset(value, 0, wide ? sizeof(cuuint64_t) : sizeof(int));
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev)
{
	*pool_out = (CUmemoryPool)(void *)&module_token;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
	return cuDeviceGetDefaultMemPool(pool, dev);
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps)
{
	*pool = take_handle();
	return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *prop,
				       CUmemAllocationGranularity_flags option)
{
	*granularity = 2u << 20;
	return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	*handle = take_address(1);
	return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t alignment,
			     CUdeviceptr addr, unsigned long long flags)
{
	*ptr = take_address(size);
	return CUDA_SUCCESS;
}

CUresult cuArrayCreate_v2(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR *pAllocateArray)
{
	*pHandle = take_handle();
	return CUDA_SUCCESS;
}

CUresult cuArray3DCreate_v2(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pAllocateArray)
{
	*pHandle = take_handle();
	return CUDA_SUCCESS;
}

/* ---- streams, events, code --------------------------------------------------------- */

CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags)
{
	*phStream = take_handle();
	return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority)
{
	*phStream = take_handle();
	return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream hStream, CUcontext *pctx)
{
	*pctx = the_context();
	return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
	*captureStatus = CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing_ptsz(CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
	*captureStatus = CU_STREAM_CAPTURE_STATUS_NONE;
	return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *phEvent, unsigned int Flags)
{
	*phEvent = take_handle();
	return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
	*module = (CUmodule)(void *)&module_token;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name)
{
	*hfunc = (CUfunction)(void *)&function_token;
	return CUDA_SUCCESS;
}

/* ---- look-up ----------------------------------------------------------------------- */

/* The newest ABI of NAME that VERSION has; the per-thread twin first where it is asked for.
 */
static const struct sim_proc *find(const char *name, int version, bool per_thread)
{
	const struct sim_proc *best = NULL;

	for (size_t i = 0; i < sim_proc_count; i++) {
		const struct sim_proc *p = &sim_procs[i];

		if (strcmp(p->base, name) != 0 || p->version > version ||
		    (p->per_thread && !per_thread))
			continue;
		if (!best || p->per_thread > best->per_thread ||
		    (p->per_thread == best->per_thread && p->version > best->version))
			best = p;
	}
	return best;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion,
			     cuuint64_t flags, CUdriverProcAddressQueryResult *symbolStatus)
{
	int version = cudaVersion > STUB_DRIVER_VERSION ? STUB_DRIVER_VERSION : cudaVersion;
	const struct sim_proc *p = find(
		symbol, version, flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);

	*pfn = p ? (void *)p->export : NULL;
	if (symbolStatus)
		*symbolStatus = p ? CU_GET_PROC_ADDRESS_SUCCESS
				  : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
	return CUDA_SUCCESS;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags)
{
	cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, NULL);
	return *pfn ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
