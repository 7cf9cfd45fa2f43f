/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every copy entry point moves its bytes, called through its own symbol and through the
 * driver's look-up, which must be the same function. argv[1]: the driver's list of exports;
 * a copy in it that this program does not know fails.
 */

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "machine.h"

#define N 200u /* bytes; as a rectangle, 10 rows of 20 */
#define W 20u
#define H 10u

enum place { HOST, DEVICE, ARRAY };

/* Device memory lies low, so that the 32-bit ABIs reach it, too. */
static struct {
	unsigned char host_from[N], host_to[N];
	CUdeviceptr_v1 low_from, low_to;
	CUdeviceptr from, to;
	CUarray array_from, array_to;
	CUcontext ctx;
	CUstream stream;
} g;

/* ---- how each signature is called -------------------------------------------------- */

#define CALL(name, signature, ...)                               \
	static CUresult name(void *fn)                           \
	{                                                        \
		return ((CUresult(*) signature)fn)(__VA_ARGS__); \
	}
#define U  unsigned int
#define P  CUdeviceptr
#define P1 CUdeviceptr_v1
#define S  CUstream
#define A  CUarray
#define C  CUcontext

/* clang-format off */
CALL(unified, (P, P, size_t), g.to, g.from, N)
CALL(unified_s, (P, P, size_t, S), g.to, g.from, N, g.stream)
CALL(peer, (P, C, P, C, size_t), g.to, g.ctx, g.from, g.ctx, N)
CALL(peer_s, (P, C, P, C, size_t, S), g.to, g.ctx, g.from, g.ctx, N, g.stream)
CALL(htod_1, (P1, const void *, U), g.low_to, g.host_from, N)
CALL(htod, (P, const void *, size_t), g.to, g.host_from, N)
CALL(htod_1s, (P1, const void *, U, S), g.low_to, g.host_from, N, g.stream)
CALL(htod_s, (P, const void *, size_t, S), g.to, g.host_from, N, g.stream)
CALL(dtoh_1, (void *, P1, U), g.host_to, g.low_from, N)
CALL(dtoh, (void *, P, size_t), g.host_to, g.from, N)
CALL(dtoh_1s, (void *, P1, U, S), g.host_to, g.low_from, N, g.stream)
CALL(dtoh_s, (void *, P, size_t, S), g.host_to, g.from, N, g.stream)
CALL(dtod_1, (P1, P1, U), g.low_to, g.low_from, N)
CALL(dtod, (P, P, size_t), g.to, g.from, N)
CALL(dtod_1s, (P1, P1, U, S), g.low_to, g.low_from, N, g.stream)
CALL(dtod_s, (P, P, size_t, S), g.to, g.from, N, g.stream)
CALL(dtoa_1, (A, U, P1, U), g.array_to, 0, g.low_from, N)
CALL(dtoa, (A, size_t, P, size_t), g.array_to, 0, g.from, N)
CALL(atod_1, (P1, A, U, U), g.low_to, g.array_from, 0, N)
CALL(atod, (P, A, size_t, size_t), g.to, g.array_from, 0, N)
CALL(htoa_1, (A, U, const void *, U), g.array_to, 0, g.host_from, N)
CALL(htoa, (A, size_t, const void *, size_t), g.array_to, 0, g.host_from, N)
CALL(htoa_1s, (A, U, const void *, U, S), g.array_to, 0, g.host_from, N, g.stream)
CALL(htoa_s, (A, size_t, const void *, size_t, S), g.array_to, 0, g.host_from, N, g.stream)
CALL(atoh_1, (void *, A, U, U), g.host_to, g.array_from, 0, N)
CALL(atoh, (void *, A, size_t, size_t), g.host_to, g.array_from, 0, N)
CALL(atoh_1s, (void *, A, U, U, S), g.host_to, g.array_from, 0, N, g.stream)
CALL(atoh_s, (void *, A, size_t, size_t, S), g.host_to, g.array_from, 0, N, g.stream)
CALL(atoa_1, (A, U, A, U, U), g.array_to, 0, g.array_from, 0, N)
CALL(atoa, (A, size_t, A, size_t, size_t), g.array_to, 0, g.array_from, 0, N)

#define RECTANGLE .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = g.low_from, .srcPitch = W, \
	.dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = g.low_to, .dstPitch = W, \
	.WidthInBytes = W
#define FLAT .Height = H
#define SOLID .srcHeight = 2, .dstHeight = 2, .Height = 2, .Depth = H / 2
CALL(flat_1, (const CUDA_MEMCPY2D_v1 *), &(CUDA_MEMCPY2D_v1){ RECTANGLE, FLAT })
CALL(flat, (const CUDA_MEMCPY2D *), &(CUDA_MEMCPY2D){ RECTANGLE, FLAT })
CALL(flat_1s, (const CUDA_MEMCPY2D_v1 *, S), &(CUDA_MEMCPY2D_v1){ RECTANGLE, FLAT }, g.stream)
CALL(flat_s, (const CUDA_MEMCPY2D *, S), &(CUDA_MEMCPY2D){ RECTANGLE, FLAT }, g.stream)
CALL(solid_1, (const CUDA_MEMCPY3D_v1 *), &(CUDA_MEMCPY3D_v1){ RECTANGLE, SOLID })
CALL(solid, (const CUDA_MEMCPY3D *), &(CUDA_MEMCPY3D){ RECTANGLE, SOLID })
CALL(solid_1s, (const CUDA_MEMCPY3D_v1 *, S), &(CUDA_MEMCPY3D_v1){ RECTANGLE, SOLID }, g.stream)
CALL(solid_s, (const CUDA_MEMCPY3D *, S), &(CUDA_MEMCPY3D){ RECTANGLE, SOLID }, g.stream)
#define PEER .srcContext = g.ctx, .dstContext = g.ctx
CALL(solid_peer, (const CUDA_MEMCPY3D_PEER *), &(CUDA_MEMCPY3D_PEER){ RECTANGLE, SOLID, PEER })
CALL(solid_peer_s, (const CUDA_MEMCPY3D_PEER *, S), &(CUDA_MEMCPY3D_PEER){ RECTANGLE, SOLID, PEER }, g.stream)
/* clang-format on */

/* Two halves, so that a batch is more than one copy. */
#define HALVES                                                                            \
	CUdeviceptr to[2] = { g.to, g.to + N / 2 }, from[2] = { g.from, g.from + N / 2 }; \
	size_t sizes[2] = { N / 2, N / 2 }, first = 0, failed = 7;                        \
	CUmemcpyAttributes attr = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM }

static CUresult batch_1(void *fn)
{
	HALVES;
	CUresult r = ((CUresult(*)(P *, P *, size_t *, size_t, CUmemcpyAttributes *,
				   size_t *, size_t, size_t *, S))fn)(
		to, from, sizes, 2, &attr, &first, 1, &failed, g.stream);

	CHECK(failed == SIZE_MAX);
	return r;
}

static CUresult batch(void *fn)
{
	HALVES;
	(void)failed;
	return ((CUresult(*)(P *, P *, size_t *, size_t, CUmemcpyAttributes *, size_t *,
			     size_t, S))fn)(to, from, sizes, 2, &attr, &first, 1, g.stream);
}

static CUresult attributed(void *fn)
{
	CUmemcpyAttributes attr = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_ANY };

	return ((CUresult(*)(P, P, size_t, CUmemcpyAttributes *, S))fn)(g.to, g.from, N,
									&attr, g.stream);
}

static CUDA_MEMCPY3D_BATCH_OP solid_op(void)
{
	CUDA_MEMCPY3D_BATCH_OP op = {
		.src = { .type = CU_MEMCPY_OPERAND_TYPE_POINTER },
		.dst = { .type = CU_MEMCPY_OPERAND_TYPE_POINTER },
		.extent = { W, 2, H / 2 },
		.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM,
	};

	op.src.op.ptr.ptr = g.from;
	op.dst.op.ptr.ptr = g.to;
	return op;
}

static CUresult solid_batch_1(void *fn)
{
	CUDA_MEMCPY3D_BATCH_OP op = solid_op();
	size_t failed;

	return ((CUresult(*)(size_t, CUDA_MEMCPY3D_BATCH_OP *, size_t *, unsigned long long,
			     S))fn)(1, &op, &failed, 0, g.stream);
}

static CUresult solid_batch(void *fn)
{
	CUDA_MEMCPY3D_BATCH_OP op = solid_op();

	return ((CUresult(*)(size_t, CUDA_MEMCPY3D_BATCH_OP *, unsigned long long, S))fn)(
		1, &op, 0, g.stream);
}

static CUresult solid_attributed(void *fn)
{
	CUDA_MEMCPY3D_BATCH_OP op = solid_op();

	return ((CUresult(*)(CUDA_MEMCPY3D_BATCH_OP *, unsigned long long, S))fn)(&op, 0,
										  g.stream);
}

/* ---- the entry points -------------------------------------------------------------- */

struct entry {
	const char *symbol;
	enum place from, to;
	CUresult (*call)(void *fn);
};

#define THREE(name, twin, from, to, call)                             \
	{ name, from, to, call##_1 }, { name "_v2", from, to, call }, \
	{                                                             \
		name "_v2" twin, from, to, call                       \
	}
#define THREE_ASYNC(name, from, to, call)                                  \
	{ name, from, to, call##_1s }, { name "_v2", from, to, call##_s }, \
	{                                                                  \
		name "_v2_ptsz", from, to, call##_s                        \
	}
#define TWO(name, twin, call)                   \
	{ name, DEVICE, DEVICE, call },         \
	{                                       \
		name twin, DEVICE, DEVICE, call \
	}

/* clang-format off */
static const struct entry entries[] = {
	TWO("cuMemcpy", "_ptds", unified),
	TWO("cuMemcpyAsync", "_ptsz", unified_s),
	TWO("cuMemcpyPeer", "_ptds", peer),
	TWO("cuMemcpyPeerAsync", "_ptsz", peer_s),
	THREE("cuMemcpyHtoD", "_ptds", HOST, DEVICE, htod),
	THREE("cuMemcpyDtoH", "_ptds", DEVICE, HOST, dtoh),
	THREE("cuMemcpyDtoD", "_ptds", DEVICE, DEVICE, dtod),
	THREE("cuMemcpyDtoA", "_ptds", DEVICE, ARRAY, dtoa),
	THREE("cuMemcpyAtoD", "_ptds", ARRAY, DEVICE, atod),
	THREE("cuMemcpyHtoA", "_ptds", HOST, ARRAY, htoa),
	THREE("cuMemcpyAtoH", "_ptds", ARRAY, HOST, atoh),
	THREE("cuMemcpyAtoA", "_ptds", ARRAY, ARRAY, atoa),
	THREE_ASYNC("cuMemcpyHtoDAsync", HOST, DEVICE, htod),
	THREE_ASYNC("cuMemcpyDtoHAsync", DEVICE, HOST, dtoh),
	THREE_ASYNC("cuMemcpyDtoDAsync", DEVICE, DEVICE, dtod),
	THREE_ASYNC("cuMemcpyHtoAAsync", HOST, ARRAY, htoa),
	THREE_ASYNC("cuMemcpyAtoHAsync", ARRAY, HOST, atoh),
	THREE("cuMemcpy2D", "_ptds", DEVICE, DEVICE, flat),
	THREE("cuMemcpy2DUnaligned", "_ptds", DEVICE, DEVICE, flat),
	THREE_ASYNC("cuMemcpy2DAsync", DEVICE, DEVICE, flat),
	THREE("cuMemcpy3D", "_ptds", DEVICE, DEVICE, solid),
	THREE_ASYNC("cuMemcpy3DAsync", DEVICE, DEVICE, solid),
	TWO("cuMemcpy3DPeer", "_ptds", solid_peer),
	TWO("cuMemcpy3DPeerAsync", "_ptsz", solid_peer_s),
	TWO("cuMemcpyBatchAsync", "_ptsz", batch_1),
	TWO("cuMemcpyBatchAsync_v2", "_ptsz", batch),
	TWO("cuMemcpy3DBatchAsync", "_ptsz", solid_batch_1),
	TWO("cuMemcpy3DBatchAsync_v2", "_ptsz", solid_batch),
	TWO("cuMemcpyWithAttributesAsync", "_ptsz", attributed),
	TWO("cuMemcpy3DWithAttributesAsync", "_ptsz", solid_attributed),
};
/* clang-format on */

/* ---- the test ---------------------------------------------------------------------- */

static unsigned char pattern(unsigned int i, unsigned int seed)
{
	return (unsigned char)(i * 7 + seed * 31 + 1);
}

static void put(enum place where, unsigned char *host, CUdeviceptr device, CUarray array,
		const unsigned char *bytes)
{
	if (where == HOST)
		memcpy(host, bytes, N);
	else if (where == DEVICE)
		SUCCEEDS(cuMemcpyHtoD_v2(device, bytes, N));
	else
		SUCCEEDS(cuMemcpyHtoA_v2(array, 0, bytes, N));
}

static void get(enum place where, unsigned char *bytes)
{
	if (where == HOST)
		memcpy(bytes, g.host_to, N);
	else if (where == DEVICE)
		SUCCEEDS(cuMemcpyDtoH_v2(bytes, g.to, N));
	else
		SUCCEEDS(cuMemcpyAtoH_v2(bytes, g.array_to, 0, N));
}

static void try_entry(const struct entry *e, void *fn, unsigned int seed)
{
	unsigned char bytes[N], zeros[N] = { 0 };
	CUresult r;

	for (unsigned int i = 0; i < N; i++)
		bytes[i] = pattern(i, seed);
	put(e->from, g.host_from, g.from, g.array_from, bytes);
	put(e->to, g.host_to, g.to, g.array_to, zeros);
	r = e->call(fn);
	if (r != CUDA_SUCCESS) {
		fprintf(stderr, "%s answered %d\n", e->symbol, (int)r);
		exit(1);
	}
	memset(bytes, 0, sizeof bytes);
	get(e->to, bytes);
	for (unsigned int i = 0; i < N; i++)
		if (bytes[i] != pattern(i, seed)) {
			fprintf(stderr, "%s: byte %u is wrong\n", e->symbol, i);
			exit(1);
		}
}

/* "cuMemcpyHtoD_v2_ptds" -> "cuMemcpyHtoD"; true when it is a per-thread twin. */
static bool base_of(const char *symbol, char *base, size_t room)
{
	bool twin = false;
	char *end;

	snprintf(base, room, "%s", symbol);
	end = strstr(base, "_pt");
	if (end) {
		*end = '\0';
		twin = true;
	}
	end = strstr(base, "_v");
	if (end)
		*end = '\0';
	return twin;
}

static const struct entry *find_entry(const char *symbol)
{
	for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
		if (strcmp(entries[i].symbol, symbol) == 0)
			return &entries[i];
	fprintf(stderr, "%s: exported, and not tested here\n", symbol);
	exit(1);
}

static void try_symbol(void *library, const char *symbol, int version)
{
	const struct entry *e = find_entry(symbol);
	CUdriverProcAddressQueryResult status;
	void *own = dlsym(library, symbol), *found = NULL;
	char base[100];
	bool twin = base_of(symbol, base, sizeof base);

	CHECK(own != NULL);
	try_entry(e, own, 1);
	SUCCEEDS(cuGetProcAddress_v2(base, &found, version,
				     twin ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
					  : CU_GET_PROC_ADDRESS_LEGACY_STREAM,
				     &status));
	CHECK(found == own);
	try_entry(e, found, 2);
}

static void set_up(void)
{
	CUDA_ARRAY_DESCRIPTOR line = { N, 0, CU_AD_FORMAT_UNSIGNED_INT8, 1 };

	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&g.ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(g.ctx));
	SUCCEEDS(cuMemAlloc(&g.low_from, N));
	SUCCEEDS(cuMemAlloc(&g.low_to, N));
	g.from = g.low_from;
	g.to = g.low_to;
	SUCCEEDS(cuArrayCreate_v2(&g.array_from, &line));
	SUCCEEDS(cuArrayCreate_v2(&g.array_to, &line));
	SUCCEEDS(cuStreamCreate(&g.stream, CU_STREAM_NON_BLOCKING));
}

int main(int argc, char **argv)
{
	char line[128], symbol[100];
	int version, tried = 0;
	void *library;
	FILE *f;

	CHECK(argc == 2);
	machine_prepare("h100", "own");
	set_up();
	library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
	CHECK(library != NULL);
	f = fopen(argv[1], "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f)) {
		if (strncmp(line, "cuMemcpy", 8) != 0)
			continue;
		CHECK(sscanf(line, "%99s %d", symbol, &version) == 2);
		try_symbol(library, symbol, version);
		tried++;
	}
	fclose(f);
	CHECK(tried == (int)(sizeof entries / sizeof entries[0]));
	printf("%d entry points\n", tried);
	return 0;
}
