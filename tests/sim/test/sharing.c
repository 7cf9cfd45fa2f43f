/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory in two processes, by IPC handle, by descriptor, by fabric name and through a pool:
 * both see the same bytes, the exporter pays, and the importer keeps them when the exporter
 * is killed.
 */

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "machine.h"
#include "truth.h"

#define G (2 * MIB)

static int wire = -1; /* to the other process */

static void say(const void *p, size_t n, int fd)
{
	struct iovec iov = { (void *)(uintptr_t)p, n };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	CHECK(sendmsg(wire, &m, 0) == (ssize_t)n);
}

static int hear(void *p, size_t n)
{
	struct iovec iov = { p, n };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	int fd = -1;

	CHECK(recvmsg(wire, &m, MSG_WAITALL) == (ssize_t)n);
	if (m.msg_controllen > 0)
		memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
	return fd;
}

static void start_cuda(void)
{
	CUcontext ctx;

	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
}

static char *bytes_at(CUdeviceptr p)
{
	return (char *)(uintptr_t)p;
}

static CUdeviceptr map_handle(CUmemGenericAllocationHandle h)
{
	CUmemAccessDesc d = { { CU_MEM_LOCATION_TYPE_DEVICE, { 0 } },
			      CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
	CUdeviceptr va;

	SUCCEEDS(cuMemAddressReserve(&va, G, 0, 0, 0));
	SUCCEEDS(cuMemMap(va, G, 0, h, 0));
	SUCCEEDS(cuMemSetAccess(va, G, &d, 1));
	return va;
}

/* ---- the exporter ---------------------------------------------------------------- */

static void export_ipc(void)
{
	CUdeviceptr filler, small, large;
	CUipcMemHandle h[2];

	SUCCEEDS(cuMemAlloc_v2(&filler, 4096));
	SUCCEEDS(cuMemAlloc_v2(&small, 1000));
	SUCCEEDS(cuMemAlloc_v2(&large, 5 * MIB));
	bytes_at(small)[999] = 'S';
	bytes_at(large)[5 * MIB - 1] = 'L';
	SUCCEEDS(cuIpcGetMemHandle(&h[0], small));
	SUCCEEDS(cuIpcGetMemHandle(&h[1], large + 7));
	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuIpcOpenMemHandle_v2(&filler, h[0], 1));
	say(h, sizeof(h), -1);
}

static void export_vmm(void)
{
	CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .requestedHandleTypes =
					     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				     .location = { CU_MEM_LOCATION_TYPE_DEVICE, { 0 } } };
	CUmemGenericAllocationHandle h, f;
	CUmemFabricHandle name;
	int fd;

	SUCCEEDS(cuMemCreate(&h, G, &prop, 0));
	bytes_at(map_handle(h))[5] = 'V';
	SUCCEEDS(cuMemExportToShareableHandle(&fd, h,
					      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuMemExportToShareableHandle(&name, h, CU_MEM_HANDLE_TYPE_FABRIC, 0));
	prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_FABRIC;
	SUCCEEDS(cuMemCreate(&f, G, &prop, 0));
	bytes_at(map_handle(f))[6] = 'F';
	SUCCEEDS(cuMemExportToShareableHandle(&name, f, CU_MEM_HANDLE_TYPE_FABRIC, 0));
	say(&name, sizeof(name), fd);
	close(fd);
}

static void export_pool(void)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				 .location = { CU_MEM_LOCATION_TYPE_DEVICE, { 0 } } };
	CUmemPoolPtrExportData share;
	CUmemoryPool pool;
	CUdeviceptr p;
	int fd;

	SUCCEEDS(cuMemPoolCreate(&pool, &props));
	SUCCEEDS(cuMemPoolExportToShareableHandle(
		&fd, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	SUCCEEDS(cuMemAllocFromPoolAsync(&p, 512, pool, NULL));
	SUCCEEDS(cuMemAllocFromPoolAsync(&p, 512, pool, NULL));
	bytes_at(p)[511] = 'P';
	SUCCEEDS(cuMemPoolExportPointer(&share, p));
	say(&share, sizeof(share), fd);
	close(fd);
}

static void be_exporter(void)
{
	char go;

	start_cuda();
	export_ipc();
	export_vmm();
	export_pool();
	hear(&go, 1);
	for (;;)
		pause(); /* killed here */
}

/* ---- the importer ---------------------------------------------------------------- */

static CUdeviceptr opened[2], mapped[2], pooled;
static CUmemGenericAllocationHandle handles[2];
static CUmemoryPool pool;

static void import_ipc(void)
{
	CUdeviceptr again;
	CUipcMemHandle h[2];

	hear(h, sizeof(h));
	for (int i = 0; i < 2; i++)
		SUCCEEDS(cuIpcOpenMemHandle_v2(&opened[i], h[i], 1));
	SUCCEEDS(cuIpcOpenMemHandle(&again, h[0], 1));
	CHECK(again == opened[0]);
	SUCCEEDS(cuIpcCloseMemHandle(again)); /* still open once */
	CHECK(bytes_at(opened[0])[999] == 'S' && bytes_at(opened[1])[5 * MIB - 1] == 'L');
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(opened[0]));
	h[0].reserved[3] ^= 1;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuIpcOpenMemHandle_v2(&again, h[0], 1));
}

static void import_vmm(void)
{
	CUmemAllocationProp prop;
	CUmemFabricHandle name;
	int fd = hear(&name, sizeof(name));

	SUCCEEDS(cuMemImportFromShareableHandle(&handles[0], (void *)(intptr_t)fd,
						CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	close(fd);
	SUCCEEDS(cuMemImportFromShareableHandle(&handles[1], &name,
						CU_MEM_HANDLE_TYPE_FABRIC));
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuMemImportFromShareableHandle(&handles[0], NULL,
					       CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	SUCCEEDS(cuMemGetAllocationPropertiesFromHandle(&prop, handles[0]));
	CHECK(prop.location.type == CU_MEM_LOCATION_TYPE_DEVICE && prop.location.id == 0);
	for (int i = 0; i < 2; i++)
		mapped[i] = map_handle(handles[i]);
	CHECK(bytes_at(mapped[0])[5] == 'V' && bytes_at(mapped[1])[6] == 'F');
}

static void import_pool(void)
{
	CUmemPoolPtrExportData share;
	CUdeviceptr p;
	int fd = hear(&share, sizeof(share));

	SUCCEEDS(cuMemPoolImportFromShareableHandle(
		&pool, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	close(fd);
	SUCCEEDS(cuMemPoolImportPointer(&pooled, pool, &share));
	CHECK(bytes_at(pooled)[511] == 'P');
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemAllocFromPoolAsync(&p, 1, pool, NULL));
	share.reserved[0] ^= 1;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemPoolImportPointer(&p, pool, &share));
}

static uint64_t device_used(void)
{
	size_t free_bytes, total;

	SUCCEEDS(cuMemGetInfo_v2(&free_bytes, &total));
	return total - free_bytes;
}

static void let_go(void)
{
	for (int i = 0; i < 2; i++) {
		SUCCEEDS(cuIpcCloseMemHandle(opened[i]));
		SUCCEEDS(cuMemUnmap(mapped[i], G));
		SUCCEEDS(cuMemRelease(handles[i]));
		SUCCEEDS(cuMemAddressFree(mapped[i], G));
	}
	SUCCEEDS(cuMemFreeAsync(pooled, NULL));
	SUCCEEDS(cuMemPoolDestroy(pool));
}

int main(void)
{
	const uint64_t shared = 2 * MIB + 6 * MIB + 2 * G + 32 * MIB;
	uint64_t alone;
	pid_t other;
	int pair[2];

	machine_prepare("h100", "host");
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	other = fork();
	CHECK(other >= 0);
	wire = pair[other == 0];
	close(pair[other != 0]);
	if (other == 0)
		be_exporter();
	start_cuda();
	import_ipc();
	import_vmm();
	import_pool();
	TRUTH(RM_BLOCK, 0, 0, 0); /* the exporter pays */
	TRUTH(RM_VMM, 0, 0, 0);
	TRUTH(RM_POOL, 0, 0, 0);

	CHECK(truth_of(other, RM_BLOCK, 0).held == 8 * MIB);
	CHECK(kill(other, SIGKILL) == 0);
	CHECK(waitpid(other, NULL, 0) == other);
	for (int ms = 0; truth_of(other, RM_BLOCK, 0).held != 0; ms++) {
		CHECK(ms < 5000);
		usleep(1000);
	}
	CHECK(bytes_at(opened[0])[999] == 'S' && bytes_at(opened[1])[5 * MIB - 1] == 'L');
	CHECK(bytes_at(mapped[0])[5] == 'V' && bytes_at(mapped[1])[6] == 'F');
	CHECK(bytes_at(pooled)[511] == 'P');
	alone = device_used();
	let_go();
	CHECK(alone - device_used() == shared);
	return 0;
}
