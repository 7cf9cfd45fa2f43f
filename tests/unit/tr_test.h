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

#define TR_COUNT(rows) (sizeof(rows) / sizeof(*(rows)))

#endif /* TR_TEST_H */
