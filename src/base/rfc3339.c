/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rfc3339.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#define DAY_S    INT64_C(86400)
#define HOUR_S   INT64_C(3600)
#define MINUTE_S INT64_C(60)
#define MIN_S    INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define MAX_S    INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define SECOND   INT64_C(1000000)

/* Both count in eras of 400 years that begin on a 1st of March, so that the leap day is last. */
int64_t tr_civil_days(int64_t year, unsigned month, unsigned day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t of_era = y - era * 400;
	int64_t of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

void tr_civil_date(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;

	*day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
	*month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
	*year = yoe + era * 400 + (*month <= 2);
}

/* Exactly DIGITS digits, or -1. */
static int take_number(const char **at, int digits)
{
	int value = 0;

	for (int i = 0; i < digits; i++, (*at)++) {
		if (**at < '0' || **at > '9')
			return -1;
		value = value * 10 + (**at - '0');
	}
	return value;
}

static bool take_char(const char **at, char c)
{
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

static unsigned month_days(int year, int month)
{
	static const unsigned days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return month == 2 && leap ? 29 : days[month - 1];
}

static int take_fraction(const char **at, int64_t *us)
{
	int64_t unit = SECOND;

	*us = 0;
	if (!take_char(at, '.'))
		return 0;
	if (**at < '0' || **at > '9')
		return -EBADMSG;
	for (; **at >= '0' && **at <= '9'; (*at)++) {
		unit /= 10;
		*us += unit * (**at - '0');
	}
	return 0;
}

static int take_zone(const char **at, int64_t *offset_s)
{
	int sign, hours, minutes;

	*offset_s = 0;
	if (take_char(at, 'Z'))
		return 0;
	if (**at != '+' && **at != '-')
		return -EBADMSG;
	sign = *(*at)++ == '+' ? 1 : -1;
	hours = take_number(at, 2);
	if (hours < 0 || hours > 23 || !take_char(at, ':'))
		return -EBADMSG;
	minutes = take_number(at, 2);
	if (minutes < 0 || minutes > 59)
		return -EBADMSG;
	*offset_s = sign * (hours * HOUR_S + minutes * MINUTE_S);
	return 0;
}

int tr_rfc3339_parse(const char *text, int64_t *unix_us_out)
{
	static const struct {
		int digits, min, max;
		char after;
	} parts[] = { { 4, 1, 9999, '-' }, { 2, 1, 12, '-' }, { 2, 1, 31, 'T' },
		      { 2, 0, 23, ':' },   { 2, 0, 59, ':' }, { 2, 0, 60, 0 } };
	const char *at = text;
	int v[6];
	int64_t us, offset_s, s;

	for (int i = 0; i < 6; i++) {
		v[i] = take_number(&at, parts[i].digits);
		if (v[i] < parts[i].min || v[i] > parts[i].max)
			return -EBADMSG;
		if (parts[i].after && !take_char(&at, parts[i].after))
			return -EBADMSG;
	}
	if ((unsigned)v[2] > month_days(v[0], v[1]))
		return -EBADMSG;
	if (take_fraction(&at, &us) < 0 || take_zone(&at, &offset_s) < 0 || *at)
		return -EBADMSG;
	s = tr_civil_days(v[0], (unsigned)v[1], (unsigned)v[2]) * DAY_S + v[3] * HOUR_S +
	    v[4] * MINUTE_S + v[5] - offset_s;
	*unix_us_out = s * SECOND + us;
	return 0;
}

static void print(char *out, int64_t s, int64_t us, bool with_us)
{
	int64_t days, of_day, year;
	unsigned month, day;
	char fraction[24] = "";

	s = s < MIN_S ? MIN_S : s > MAX_S ? MAX_S : s;
	days = s / DAY_S;
	of_day = s % DAY_S;
	if (of_day < 0) {
		of_day += DAY_S;
		days--;
	}
	tr_civil_date(days, &year, &month, &day);
	if (with_us)
		(void)snprintf(fraction, sizeof(fraction), ".%06u", (unsigned)us);
	(void)snprintf(out, TR_RFC3339_TEXT, "%04u-%02u-%02uT%02u:%02u:%02u%.8sZ",
		       (unsigned)year, month, day, (unsigned)(of_day / 3600),
		       (unsigned)(of_day / 60 % 60), (unsigned)(of_day % 60), fraction);
}

void tr_rfc3339_print(char out[static TR_RFC3339_TEXT], int64_t unix_s)
{
	print(out, unix_s, 0, false);
}

void tr_rfc3339_print_us(char out[static TR_RFC3339_TEXT], int64_t unix_us)
{
	int64_t us = unix_us % SECOND, s = unix_us / SECOND;

	if (us < 0) {
		us += SECOND;
		s--;
	}
	print(out, s, us, true);
}
