/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HOOK_CHECK_H
#define TESTS_HOOK_CHECK_H

#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>

/* One claim a program: the first that does not hold ends it. */
#define CHECK(condition)                                                           \
	do {                                                                       \
		if (!(condition)) {                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, \
				#condition);                                       \
			exit(1);                                                   \
		}                                                                  \
	} while (0)
#define CHECK_RESULT(call, want)                                                           \
	do {                                                                               \
		long got_ = (long)(call), want_ = (long)(want);                            \
		if (got_ != want_) {                                                       \
			fprintf(stderr, "%s:%d: %s is %ld, not %ld\n", __FILE__, __LINE__, \
				#call, got_, want_);                                       \
			exit(1);                                                           \
		}                                                                          \
	} while (0)
#define OK(call) CHECK_RESULT(call, 0)
#define SKIP(reason)                             \
	do {                                     \
		printf("skipped: %s\n", reason); \
		exit(77);                        \
	} while (0)

#define MIB ((size_t)1 << 20)

/* Device 0 with its primary context current. */
static inline CUcontext check_context(void)
{
	CUcontext ctx = NULL;
	CUdevice dev;

	OK(cuInit(0));
	OK(cuDeviceGet(&dev, 0));
	OK(cuDevicePrimaryCtxRetain(&ctx, dev));
	OK(cuCtxSetCurrent(ctx));
	return ctx;
}

static inline size_t check_free(void)
{
	size_t free_bytes = 0, total_bytes = 0;

	OK(cuMemGetInfo(&free_bytes, &total_bytes));
	return free_bytes;
}

#endif /* TESTS_HOOK_CHECK_H */
