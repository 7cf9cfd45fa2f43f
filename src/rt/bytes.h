/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RT_BYTES_H
#define TR_RT_BYTES_H

#include <stdint.h>

/*
 * Amounts of memory as people write them: "4Gi", "1.5g", "3000m", "512 MiB", "1073741824".
 *
 *   digits [ '.' digits ] [ blanks ] [ K | M | G | T ] [ i ] [ B ]      any case
 *
 * Every unit is a power of 1024, with and without the i: that is what HAMi's variables
 * mean. A fraction must come out as whole bytes when rounded down; leading zeros are
 * decimal. Blanks may stand before and after. Nothing else is accepted: no sign, no
 * exponent, no hex.
 *
 * 0, -EINVAL (not such an amount; "", "-1", "10x", "1e9") or -ERANGE (2^64 bytes or more).
 * Pure; touches neither errno nor locale.
 */
int tr_bytes_parse(const char *text, uint64_t *bytes_out);

/* The shortest exact or 2-digit form for people: "1.50 GiB", "512 MiB", "17 B". */
#define TR_BYTES_TEXT 40
void tr_bytes_print(char out[static TR_BYTES_TEXT], uint64_t bytes);

#endif /* TR_RT_BYTES_H */
