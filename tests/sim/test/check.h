/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_TEST_CHECK_H
#define SIM_TEST_CHECK_H

/* A failed claim ends the program with the line and what was claimed. */

#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>

static inline void check_true(int good, const char *what, const char *file, int line)
{
	if (good)
		return;
	fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
	exit(1);
}

static inline void check_result(CUresult got, CUresult want, const char *what,
				const char *file, int line)
{
	if (got == want)
		return;
	fprintf(stderr, "%s:%d: %s answered %d, not %d\n", file, line, what, (int)got,
		(int)want);
	exit(1);
}

#define CHECK(what)         check_true(!!(what), #what, __FILE__, __LINE__)
#define ANSWERS(want, call) check_result((call), (want), #call, __FILE__, __LINE__)
#define SUCCEEDS(call)      ANSWERS(CUDA_SUCCESS, call)

#endif /* SIM_TEST_CHECK_H */
