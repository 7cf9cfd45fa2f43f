/* SPDX-License-Identifier: Apache-2.0 */
/*
 * External memory is the same memory, not more of it: what is written through one name is
 * read through the other, and a mapping outlives the import. A capture records copies and
 * memsets and runs none of them.
 */

#include <cuda.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "machine.h"

#define BYTES (2u << 20)

static CUdeviceptr p;

static uint64_t used_bytes(void)
{
	size_t free_bytes, total_bytes;

	SUCCEEDS(cuMemGetInfo(&free_bytes, &total_bytes));
	return total_bytes - free_bytes;
}

/* Memory of ours at `p`, and a descriptor that names it. */
static int export_memory(void)
{
	CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .requestedHandleTypes =
					     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				     .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	CUmemAccessDesc access = { .location = prop.location,
				   .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
	CUmemGenericAllocationHandle handle;
	int fd = -1;

	SUCCEEDS(cuMemCreate(&handle, BYTES, &prop, 0));
	SUCCEEDS(cuMemAddressReserve(&p, BYTES, 0, 0, 0));
	SUCCEEDS(cuMemMap(p, BYTES, 0, handle, 0));
	SUCCEEDS(cuMemSetAccess(p, BYTES, &access, 1));
	SUCCEEDS(cuMemExportToShareableHandle(&fd, handle,
					      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	return fd;
}

static void check_refusals(void)
{
	CUDA_EXTERNAL_MEMORY_HANDLE_DESC d = {
		.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
		.handle.fd = STDIN_FILENO,
		.size = BYTES
	};
	CUexternalMemory memory;

	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuImportExternalMemory(&memory, &d));
	d.handle.fd = -1;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuImportExternalMemory(&memory, &d));
	d.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_WIN32;
	ANSWERS(CUDA_ERROR_NOT_SUPPORTED, cuImportExternalMemory(&memory, &d));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuDestroyExternalMemory(NULL));
}

static void check_buffer(CUexternalMemory memory)
{
	CUDA_EXTERNAL_MEMORY_BUFFER_DESC d = { .offset = 4096, .size = 64 };
	CUdeviceptr mapped;
	unsigned char back[64];

	SUCCEEDS(cuExternalMemoryGetMappedBuffer(&mapped, memory, &d));
	SUCCEEDS(cuMemsetD8(p + 4096, 0x5a, 64));
	SUCCEEDS(cuMemcpyDtoH(back, mapped, 64));
	for (int i = 0; i < 64; i++)
		CHECK(back[i] == 0x5a);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(back, mapped + 1, 64));
	d.offset = BYTES;
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuExternalMemoryGetMappedBuffer(&mapped, memory, &d));
	SUCCEEDS(cuMemFree(mapped));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(back, mapped, 1));
}

static void check_mipmap(CUexternalMemory memory)
{
	CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC d = {
		.offset = 65536,
		.arrayDesc = { 64, 8, 0, CU_AD_FORMAT_UNSIGNED_INT8, 1, 0 },
		.numLevels = 1,
	};
	unsigned char row[64];
	CUmipmappedArray mipmap;
	CUarray level;

	SUCCEEDS(cuExternalMemoryGetMappedMipmappedArray(&mipmap, memory, &d));
	SUCCEEDS(cuMipmappedArrayGetLevel(&level, mipmap, 0));
	SUCCEEDS(cuMemsetD8(p + 65536, 0x77, 64));
	SUCCEEDS(cuMemcpyAtoH(row, level, 0, 64));
	CHECK(row[0] == 0x77 && row[63] == 0x77);
	SUCCEEDS(cuMipmappedArrayDestroy(mipmap));
	d.arrayDesc.Width = 4096;
	d.arrayDesc.Height = 1024;
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuExternalMemoryGetMappedMipmappedArray(&mipmap, memory, &d));
}

static void check_memory(int fd)
{
	CUDA_EXTERNAL_MEMORY_HANDLE_DESC d = {
		.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
		.handle.fd = fd,
		.size = BYTES
	};
	uint64_t before = used_bytes();
	CUexternalMemory memory;

	SUCCEEDS(cuImportExternalMemory(&memory, &d));
	check_buffer(memory);
	check_mipmap(memory);
	CHECK(used_bytes() == before);
	SUCCEEDS(cuDestroyExternalMemory(memory));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuDestroyExternalMemory(memory));
	CHECK(used_bytes() == before);
}

static void check_semaphore(CUstream stream)
{
	CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC d = {
		.type = CU_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD, .handle.fd = -1
	};
	CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS signal = { .params.fence.value = 1 };
	CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS wait = { .params.fence.value = 1 };
	CUexternalSemaphore semaphore, stale;

	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuImportExternalSemaphore(&semaphore, &d));
	d.handle.fd = dup(STDERR_FILENO);
	SUCCEEDS(cuImportExternalSemaphore(&semaphore, &d));
	SUCCEEDS(cuSignalExternalSemaphoresAsync(&semaphore, &signal, 1, stream));
	SUCCEEDS(cuWaitExternalSemaphoresAsync(&semaphore, &wait, 1, stream));
	stale = semaphore;
	SUCCEEDS(cuDestroyExternalSemaphore(semaphore));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE,
		cuWaitExternalSemaphoresAsync(&stale, &wait, 1, stream));
}

static void check_capture(CUstream stream)
{
	unsigned char from[16], back[16];
	size_t nodes = 0;
	CUgraphExec exec;
	CUgraph graph;

	memset(from, 0x11, sizeof from);
	SUCCEEDS(cuMemsetD8(p, 0, 64));
	SUCCEEDS(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	SUCCEEDS(cuMemcpyHtoDAsync(p, from, 16, stream));
	SUCCEEDS(cuMemsetD8Async(p + 8, 0x22, 8, stream));
	SUCCEEDS(cuStreamEndCapture(stream, &graph));
	SUCCEEDS(cuGraphGetNodes(graph, NULL, &nodes));
	CHECK(nodes == 2);
	SUCCEEDS(cuMemcpyDtoH(back, p, 16));
	CHECK(back[0] == 0 && back[15] == 0);
	SUCCEEDS(cuGraphInstantiate(&exec, graph, 0));
	SUCCEEDS(cuGraphLaunch(exec, stream));
	SUCCEEDS(cuStreamSynchronize(stream));
	SUCCEEDS(cuMemcpyDtoH(back, p, 16));
	CHECK(back[0] == 0x11 && back[7] == 0x11 && back[8] == 0x22 && back[15] == 0x22);
	SUCCEEDS(cuGraphExecDestroy(exec));
	SUCCEEDS(cuGraphDestroy(graph));
}

int main(void)
{
	CUstream stream;
	CUcontext ctx;

	machine_prepare("h100", "own");
	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	SUCCEEDS(cuStreamCreate(&stream, 0));
	check_refusals();
	check_memory(export_memory());
	check_semaphore(stream);
	check_capture(stream);
	return 0;
}
