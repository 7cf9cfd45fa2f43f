/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_TEST_H
#define TR_TEST_H

/* cmocka wants these before it, in this order. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include <unistd.h>

/* The lowest number that no descriptor has: the same as before when none was left open. */
static inline int tr_free_fd(void)
{
	int fd = dup(STDIN_FILENO);

	assert_return_code(fd, 0);
	assert_int_equal(close(fd), 0);
	return fd;
}

#define TR_COUNT(rows) (sizeof(rows) / sizeof(*(rows)))

#endif /* TR_TEST_H */
