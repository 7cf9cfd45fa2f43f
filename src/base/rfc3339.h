/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BASE_RFC3339_H
#define TR_BASE_RFC3339_H

#include <stdint.h>

/*
 * Times as RFC 3339 writes them: "2026-08-21T10:00:00Z", "...T10:00:00.25+02:00". Years 0001 to
 * 9999; a leap second reads as the second after. Upper-case T and Z only. At most nine digits of a
 * fraction count, further ones are checked and dropped.
 *
 * 0 or -EBADMSG. Pure, independent of the process's zone.
 */
int tr_rfc3339_parse(const char *text, int64_t *unix_us_out);

/* Whole seconds: "2026-08-21T10:00:00Z"; microseconds, always six digits, as Kubernetes' MicroTime.
 * Times beyond the years 0001 to 9999 are printed as the nearest one within. */
#define TR_RFC3339_TEXT 32
void tr_rfc3339_print(char out[static TR_RFC3339_TEXT], int64_t unix_s);
void tr_rfc3339_print_us(char out[static TR_RFC3339_TEXT], int64_t unix_us);

/* Days since 1970-01-01 of a day of the proleptic Gregorian calendar, and back. */
int64_t tr_civil_days(int64_t year, unsigned month, unsigned day);
void tr_civil_date(int64_t days, int64_t *year, unsigned *month, unsigned *day);

#endif /* TR_BASE_RFC3339_H */
