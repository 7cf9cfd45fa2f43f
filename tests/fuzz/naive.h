/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUZZ_NAIVE_H
#define FUZZ_NAIVE_H

#include <stdint.h>

/* What an amount means, by schoolbook decimals: the model that the parser is held against.
 * 0, -EINVAL or -ERANGE as tr_bytes_parse(). TEXT of 200 characters at most. */
int naive_amount(const char *text, uint64_t *bytes_out);
/* 12, 12.5, 12.345 percent in thousandths, or -1. */
int64_t naive_percent(const char *text);

#define CHECK(condition)                  \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

#endif /* FUZZ_NAIVE_H */
