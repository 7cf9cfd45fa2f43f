/* SPDX-License-Identifier: Apache-2.0 */
/* A driver whose cuGetProcAddress gives other pointers than dlsym: they work all the same.
 */
#include <dlfcn.h>

#include "check.h"

int main(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	CUresult (*init)(unsigned int);
	CUresult (*count)(int *);
	void *p = NULL;
	int n = 0;

	CHECK(library);
	SUCCEEDS(cuGetProcAddress_v2("cuInit", &p, 2000, 0, NULL));
	CHECK(p && p != dlsym(library, "cuInit"));
	init = (CUresult(*)(unsigned int))p;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, init(1));
	SUCCEEDS(init(0));
	SUCCEEDS(cuGetProcAddress_v2("cuDeviceGetCount", &p, 2000, 0, NULL));
	CHECK(p && p != dlsym(library, "cuDeviceGetCount"));
	count = (CUresult(*)(int *))p;
	SUCCEEDS(count(&n));
	CHECK(n == 1);
	return 0;
}
