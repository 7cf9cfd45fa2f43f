/* SPDX-License-Identifier: Apache-2.0 */
/*
 * single STAGE BYTES FULL: what single_step kills. Takes FULL bytes and gives them back (0:
 * does not try), which proves that whoever was killed here before left nothing; then, from
 * one signal to one byte written, allocates BYTES and frees them.
 */
#include <cuda.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = argc > 3 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
	void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	volatile unsigned char *stage = map;
	size_t bytes = argc > 3 ? strtoull(argv[2], NULL, 10) : 0;
	size_t full = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	CUcontext ctx;
	CUdeviceptr ptr = 0;

	if (map == MAP_FAILED || cuInit(0) != CUDA_SUCCESS ||
	    cuDevicePrimaryCtxRetain(&ctx, 0) != CUDA_SUCCESS ||
	    cuCtxSetCurrent(ctx) != CUDA_SUCCESS)
		_exit(3);
	if (full &&
	    (cuMemAlloc(&ptr, full) != CUDA_SUCCESS || cuMemFree(ptr) != CUDA_SUCCESS))
		_exit(4);
	if (raise(SIGTRAP) != 0)
		_exit(5);
	if (cuMemAlloc(&ptr, bytes) == CUDA_SUCCESS && cuMemFree(ptr) != CUDA_SUCCESS)
		_exit(6);
	*stage = 1;
	_exit(0);
}
