/* SPDX-License-Identifier: Apache-2.0 */
/* Module images: what is found in them, what they cost on the device, what garbage answers.
 */

#include <cuda.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

static const char ptx[] =
	"// a comment before everything\n"
	".version 7.0\n.target sm_70\n.address_size 64\n"
	".extern .func (.param .b32 r) printer(.param .b64 a);\n"
	".visible .global .align 4 .u32 counter = 5;\n"
	".const .align 8 .f64 table[2][3] = {{1.5, 2.0, 0d3FF0000000000000}};\n"
	".global .align 4 .b8 big[3145728];\n"
	".visible .entry add(.param .u64 .ptr .global .align 1 a, .param .u32 n,\n"
	"	.param .u64 b, .param .align 8 .b8 c[24])\n"
	".maxntid 256, 1, 1\n"
	"{ .shared .align 4 .b8 tile[1024]; { mov.u32 %r1, 0; } ret; }\n"
	".func helper(.param .b32 x) { ret; }\n"
	".visible .entry nothing() { ret; }\n";

static CUresult load(const void *image)
{
	CUmodule m;
	CUresult r = cuModuleLoadData(&m, image);

	if (r == CUDA_SUCCESS)
		SUCCEEDS(cuModuleUnload(m));
	return r;
}

static void find_variables(CUmodule m)
{
	CUdeviceptr p;
	size_t n;
	uint32_t counter = 0;

	SUCCEEDS(cuModuleGetGlobal(&p, &n, m, "counter"));
	CHECK(n == sizeof counter);
	memcpy(&counter, (const void *)(uintptr_t)p, sizeof counter);
	CHECK(counter == 5);
	SUCCEEDS(cuModuleGetGlobal(NULL, &n, m, "table"));
	CHECK(n == 48);
	ANSWERS(CUDA_ERROR_NOT_FOUND, cuModuleGetGlobal(&p, &n, m, "tab"));
}

static void find_names(void)
{
	static const size_t offsets[] = { 0, 8, 16, 24 }, sizes[] = { 8, 4, 8, 24 };
	CUmodule m;
	CUfunction f;
	size_t n, offset;
	unsigned count;
	int value;
	const char *name;

	SUCCEEDS(cuModuleLoadData(&m, ptx));
	SUCCEEDS(cuModuleGetFunction(&f, m, "add"));
	ANSWERS(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&f, m, "helper"));
	ANSWERS(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&f, m, "ad"));
	SUCCEEDS(cuModuleGetFunctionCount(&count, m));
	CHECK(count == 2);
	SUCCEEDS(cuFuncGetName(&name, f));
	CHECK(!strcmp(name, "add"));
	for (size_t i = 0; i < 4; i++) {
		SUCCEEDS(cuFuncGetParamInfo(f, i, &offset, &n));
		CHECK(offset == offsets[i] && n == sizes[i]);
	}
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuFuncGetParamInfo(f, 4, &offset, &n));
	SUCCEEDS(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, f));
	CHECK(value == 1024);
	SUCCEEDS(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f));
	CHECK(value == 256);
	find_variables(m);
	SUCCEEDS(cuModuleUnload(m));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload(m));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuModuleGetFunction(&f, m, "add"));
}

/* 3 MiB of variables are two blocks of 2 MiB; they go with the module. */
static void count_bytes(void)
{
	CUmodule m;
	size_t before, during, after, total;

	SUCCEEDS(cuMemGetInfo(&before, &total));
	SUCCEEDS(cuModuleLoadData(&m, ptx));
	SUCCEEDS(cuMemGetInfo(&during, &total));
	CHECK(before - during == 4u << 20);
	SUCCEEDS(cuModuleUnload(m));
	SUCCEEDS(cuMemGetInfo(&after, &total));
	CHECK(after == before);
}

static void take_lazily(void)
{
	CUmodule m;
	CUfunction f;
	CUmoduleLoadingMode mode;
	CUfunctionLoadingState state;
	size_t before, during, total;

	SUCCEEDS(cuModuleGetLoadingMode(&mode));
	CHECK(mode == CU_MODULE_LAZY_LOADING);
	SUCCEEDS(cuMemGetInfo(&before, &total));
	SUCCEEDS(cuModuleLoadData(&m, "tranche-sim kernels: one two"));
	SUCCEEDS(cuMemGetInfo(&during, &total));
	CHECK(before == during);
	SUCCEEDS(cuModuleEnumerateFunctions(&f, 1, m));
	SUCCEEDS(cuFuncIsLoaded(&state, f));
	CHECK(state == CU_FUNCTION_LOADING_STATE_UNLOADED);
	SUCCEEDS(cuFuncLoad(f));
	SUCCEEDS(cuMemGetInfo(&during, &total));
	CHECK(before - during == 2u << 20);
	SUCCEEDS(cuModuleUnload(m));
}

static void put(unsigned char *p, uint64_t value, size_t n)
{
	memcpy(p, &value, n);
}

/* A fat binary of one PTX entry for ARCH; flag 0x2000: as one LZ4 block of literals. */
static void make_fatbin(unsigned char *out, unsigned arch, uint64_t flags)
{
	size_t n = strlen(ptx) + 1, packed = 0;
	unsigned char *body = out + 16 + 64;

	memset(out, 0, 16 + 64);
	if (flags & 0x2000) { /* a token, and a length of 15 + 255 + ... */
		size_t left = n - 15;
		body[packed++] = 0xf0;
		for (; left >= 255; left -= 255)
			body[packed++] = 255;
		body[packed++] = (unsigned char)left;
	}
	memcpy(body + packed, ptx, n);
	packed += n;
	put(out, 0xBA55ED50u, 4);
	put(out + 4, 1, 2);
	put(out + 6, 16, 2);
	put(out + 8, 64 + packed, 8);
	put(out + 16, 1, 2); /* PTX */
	put(out + 16 + 4, 64, 4);
	put(out + 16 + 8, packed, 8);
	put(out + 16 + 16, packed, 4);
	put(out + 16 + 28, arch, 4);
	put(out + 16 + 40, flags, 8);
	put(out + 16 + 56, n, 8);
}

static void read_fatbins(void)
{
	static unsigned char bytes[8192];
	struct {
		uint32_t magic, version;
		const void *image;
		void *more;
	} wrapper = { 0x466243b1, 1, bytes, NULL };

	make_fatbin(bytes, 70, 0);
	SUCCEEDS(load(bytes));
	SUCCEEDS(load(&wrapper));
	make_fatbin(bytes, 70, 0x2000);
	SUCCEEDS(load(bytes));
	bytes[16 + 64 + 1] = 7; /* a literal length that ends early */
	CHECK(load(bytes) != CUDA_SUCCESS);
	make_fatbin(bytes, 70, 0x8000);
	ANSWERS(CUDA_ERROR_NOT_SUPPORTED, load(bytes));
	make_fatbin(bytes, 130, 0);
	ANSWERS(CUDA_ERROR_NO_BINARY_FOR_GPU, load(bytes));
	wrapper.image = (const void *)(uintptr_t)16;
	ANSWERS(CUDA_ERROR_INVALID_IMAGE, load(&wrapper));
}

static void refuse_garbage(void)
{
	CUmodule m;
	unsigned char elf[64] = "\177ELF\2\1\1";

	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(&m, NULL));
	ANSWERS(CUDA_ERROR_INVALID_IMAGE, load((const void *)(uintptr_t)64));
	ANSWERS(CUDA_ERROR_INVALID_IMAGE, load("\1\2\3\4"));
	ANSWERS(CUDA_ERROR_INVALID_IMAGE, load(elf));
	ANSWERS(CUDA_ERROR_INVALID_PTX, load("hello world"));
	ANSWERS(CUDA_ERROR_INVALID_PTX,
		load(".version 7.0\n.target sm_70\n.entry a( { ret; }"));
	ANSWERS(CUDA_ERROR_INVALID_PTX,
		load(".version 7.0\n.target sm_70\n.entry a() { ret;"));
	ANSWERS(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, load(".version 99.0\n.target sm_70\n"));
	ANSWERS(CUDA_ERROR_NO_BINARY_FOR_GPU, load(".version 7.0\n.target sm_130\n"));
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY,
		load(".version 7.0\n.target sm_70\n.global .b8 a[99999999999999];\n"));
	ANSWERS(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&m, "/nonexistent"));
}

static void use_libraries(void)
{
	CUlibrary l;
	CUkernel k, both[2];
	CUfunction f;
	CUmodule m;
	unsigned count;
	size_t n;
	CUdeviceptr p;

	SUCCEEDS(cuLibraryLoadData(&l, ptx, NULL, NULL, 0, NULL, NULL, 0));
	SUCCEEDS(cuLibraryGetKernel(&k, l, "nothing"));
	SUCCEEDS(cuLibraryGetKernelCount(&count, l));
	CHECK(count == 2);
	SUCCEEDS(cuLibraryEnumerateKernels(both, 2, l));
	CHECK(both[1] == k);
	SUCCEEDS(cuKernelGetFunction(&f, k));
	SUCCEEDS(cuLibraryGetModule(&m, l));
	ANSWERS(CUDA_ERROR_NOT_PERMITTED, cuModuleUnload(m));
	SUCCEEDS(cuLibraryGetGlobal(&p, &n, l, "counter"));
	SUCCEEDS(cuLaunchKernel((CUfunction)k, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
	SUCCEEDS(cuLibraryUnload(l));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuKernelGetFunction(&f, k));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE,
		cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
}

static void link_inputs(void)
{
	CUlinkState state;
	CUmodule m;
	CUfunction f;
	void *image;
	size_t n, bytes;
	char other[] = "tranche-sim kernels: other";

	SUCCEEDS(cuLinkCreate(0, NULL, NULL, &state));
	SUCCEEDS(cuLinkAddData(state, CU_JIT_INPUT_PTX, (void *)(uintptr_t)ptx, sizeof ptx,
			       "a", 0, NULL, NULL));
	SUCCEEDS(cuLinkAddData(state, CU_JIT_INPUT_CUBIN, other, sizeof other, "b", 0, NULL,
			       NULL));
	ANSWERS(CUDA_ERROR_INVALID_PTX,
		cuLinkAddData(state, CU_JIT_INPUT_PTX, other + 3, 8, "c", 0, NULL, NULL));
	SUCCEEDS(cuLinkComplete(state, &image, &n));
	SUCCEEDS(cuModuleLoadData(&m, image));
	SUCCEEDS(cuLinkDestroy(state));
	SUCCEEDS(cuModuleGetFunction(&f, m, "other"));
	SUCCEEDS(cuModuleGetFunction(&f, m, "add"));
	SUCCEEDS(cuFuncGetParamInfo(f, 3, &n, &bytes));
	CHECK(n == 24 && bytes == 24);
	SUCCEEDS(cuModuleUnload(m));
}

static void check_launches(void)
{
	CUmodule m;
	CUfunction f;
	uint64_t a = 0, b = 0;
	uint32_t count = 0;
	char c[24] = "";
	void *params[] = { &a, &count, &b, c };
	int n;

	SUCCEEDS(cuModuleLoadData(&m, ptx));
	SUCCEEDS(cuModuleGetFunction(&f, m, "add"));
	SUCCEEDS(cuLaunchKernel(f, 1, 1, 1, 256, 1, 1, 0, NULL, params, NULL));
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuLaunchKernel(f, 0, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuLaunchKernel(f, 1, 1, 1, 257, 1, 1, 0, NULL, params, NULL));
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 49152, NULL, params, NULL));
	SUCCEEDS(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
				    49152));
	SUCCEEDS(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 49152, NULL, params, NULL));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE,
		cuLaunchKernel(NULL, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
	SUCCEEDS(cuOccupancyMaxActiveBlocksPerMultiprocessor(&n, f, 256, 0));
	CHECK(n == 8); /* 32 registers each: 2048 threads are the limit */
	ANSWERS(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
		cuLaunchCooperativeKernel(f, 65536, 1, 1, 256, 1, 1, 0, NULL, params));
	SUCCEEDS(cuModuleUnload(m));
}

int main(void)
{
	CUcontext ctx;

	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	find_names();
	count_bytes();
	take_lazily();
	read_fatbins();
	refuse_garbage();
	use_libraries();
	link_inputs();
	check_launches();
	return 0;
}
