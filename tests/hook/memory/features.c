/* SPDX-License-Identifier: Apache-2.0 */
/*
 * F15: prints what the driver answers about peers, sharing and multicast on two devices.
 * Run once without and once with the hook, the two outputs are the same byte by byte.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"

#define COUNT(rows) (sizeof(rows) / sizeof(*(rows)))

static void print_bytes(const char *what, const void *bytes, size_t n)
{
	printf("%s", what);
	for (size_t i = 0; i < n; i++)
		printf(" %02x", ((const unsigned char *)bytes)[i]);
	printf("\n");
}

static void peers(CUcontext other)
{
	int can = -1, value = -1;

	printf("can access peer %u", cuDeviceCanAccessPeer(&can, 0, 1));
	printf(" %d\n", can);
	for (int a = CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK;
	     a <= CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED; a++) {
		printf("p2p %d: %u", a,
		       cuDeviceGetP2PAttribute(&value, (CUdevice_P2PAttribute)a, 0, 1));
		printf(" %d\n", value);
	}
	printf("enable %u\n", cuCtxEnablePeerAccess(other, 0));
	printf("enable again %u\n", cuCtxEnablePeerAccess(other, 0));
	printf("disable %u\n", cuCtxDisablePeerAccess(other));
}

static const CUmemAllocationProp shared = {
	.type = CU_MEM_ALLOCATION_TYPE_PINNED,
	.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
	.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 },
};

static void objects(void)
{
	CUmemAccessDesc access[2] = {
		{ .location = shared.location,
		  .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE },
		{ .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 1 },
		  .flags = CU_MEM_ACCESS_FLAGS_PROT_READ },
	};
	CUmemGenericAllocationHandle h, copy = 0;
	CUmemAllocationProp told = { 0 };
	unsigned long long flags = 0;
	CUdeviceptr va;
	unsigned value = 0;
	int fd = -1;

	OK(cuMemCreate(&h, 2 * MIB, &shared, 0));
	printf("properties %u\n", cuMemGetAllocationPropertiesFromHandle(&told, h));
	print_bytes("properties", &told, sizeof(told));
	OK(cuMemAddressReserve(&va, 2 * MIB, 0, 0, 0));
	OK(cuMemMap(va, 2 * MIB, 0, h, 0));
	printf("access %u\n", cuMemSetAccess(va, 2 * MIB, access, COUNT(access)));
	printf("ask access %u", cuMemGetAccess(&flags, &access[1].location, va));
	printf(" %llu\n", flags);
	printf("export %u", cuMemExportToShareableHandle(
				    &fd, h, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	printf(" %d\n", fd >= 0);
	printf("import %u\n",
	       cuMemImportFromShareableHandle(&copy, (void *)(uintptr_t)fd,
					      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	OK(cuMemsetD32(va, 0x12345678, 16));
	OK(cuMemcpyDtoH(&value, va, sizeof(value)));
	printf("value %x\n", value);
	OK(cuMemUnmap(va, 2 * MIB));
	printf("release %u\n", cuMemRelease(copy));
	OK(cuMemRelease(h));
	(void)close(fd);
}

static void multicast(void)
{
	CUmulticastObjectProp prop = { .numDevices = 2, .size = 2 * MIB };
	CUmemGenericAllocationHandle mc = 0;
	size_t granularity = 0;
	CUresult res;

	printf("granularity %u",
	       cuMulticastGetGranularity(&granularity, &prop,
					 CU_MULTICAST_GRANULARITY_MINIMUM));
	printf(" %zu\n", granularity);
	res = cuMulticastCreate(&mc, &prop);
	printf("multicast %u\n", res);
	if (res != CUDA_SUCCESS)
		return;
	printf("add %u\n", cuMulticastAddDevice(mc, 0));
	printf("add %u\n", cuMulticastAddDevice(mc, 1));
	printf("bind nothing %u\n", cuMulticastBindMem(mc, 0, 0, 0, 2 * MIB, 0));
	printf("bind at nothing %u\n", cuMulticastBindAddr(mc, 0, 0, 2 * MIB, 0));
	printf("unbind %u\n", cuMulticastUnbind(mc, 0, 0, 2 * MIB));
	printf("release %u\n", cuMemRelease(mc));
}

/* What the child, who has its own view of the driver, reads of the parent's memory. */
static void open_memory(int from)
{
	CUipcMemHandle handle;
	unsigned value = 0;
	CUdeviceptr p = 0;

	CHECK(read(from, &handle, sizeof(handle)) == (ssize_t)sizeof(handle));
	(void)check_context();
	printf("open %u",
	       cuIpcOpenMemHandle(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	printf(" %u\n", cuMemcpyDtoH(&value, p, sizeof(value)));
	printf("read %x\n", value);
	printf("free of what is not ours %u\n", cuMemFree(p));
	printf("close %u\n", cuIpcCloseMemHandle(p));
	(void)fflush(stdout);
	_exit(0);
}

static void share(int to, pid_t child)
{
	CUipcMemHandle handle;
	CUdeviceptr p;
	int status = -1;

	OK(cuMemAlloc(&p, 2 * MIB));
	OK(cuMemsetD32(p, 0x0badcafe, 16));
	OK(cuIpcGetMemHandle(&handle, p));
	CHECK(write(to, &handle, sizeof(handle)) == (ssize_t)sizeof(handle));
	CHECK(waitpid(child, &status, 0) == child);
	printf("child %d\n", status);
	OK(cuMemFree(p));
}

int main(void)
{
	CUcontext other, ctx;
	int ends[2];
	pid_t child;

	CHECK(pipe(ends) == 0);
	child = fork();
	if (child == 0)
		open_memory(ends[0]);
	ctx = check_context();
	OK(cuDevicePrimaryCtxRetain(&other, 1));
	OK(cuCtxSetCurrent(ctx));
	peers(other);
	objects();
	multicast();
	(void)fflush(stdout);
	share(ends[1], child);
	return 0;
}
