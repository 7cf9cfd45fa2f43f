/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

#define TENTHS_PER_PERCENT 10u

int tr_cores_parse(const char *option, const char *text, unsigned *tenths,
		   struct tr_err *err)
{
	unsigned n = 0;
	const char *at = text;

	for (; *at >= '0' && *at <= '9' && n <= TR_CORES_ALL; at++)
		n = n * 10 + (unsigned)(*at - '0') * TENTHS_PER_PERCENT;
	if (at != text && at[0] == '.' && at[1] >= '0' && at[1] <= '9') {
		n += (unsigned)(at[1] - '0');
		at += 2;
	}
	if (*at == '%' && at != text)
		at++;
	if (at == text || *at || n < TENTHS_PER_PERCENT || n > TR_CORES_ALL)
		return tr_fail(
			err, EINVAL,
			"--%s \"%s\": a share of the GPU's time is 1 to 100 percent, "
			"in steps of 0.1",
			option, text);
	*tenths = n;
	return 0;
}

uint64_t tr_cores_rate(unsigned tenths)
{
	return ((uint64_t)tenths * TR_RATE_ALL + TR_CORES_ALL / 2) / TR_CORES_ALL;
}

unsigned tr_cores_tenths(uint64_t rate_q32)
{
	if (rate_q32 == 0 || rate_q32 >= TR_RATE_ALL)
		return TR_CORES_ALL;
	return (unsigned)((rate_q32 * TR_CORES_ALL + TR_RATE_ALL / 2) / TR_RATE_ALL);
}

static int print_percent(char *out, size_t room, unsigned tenths)
{
	unsigned whole = tenths / TENTHS_PER_PERCENT, rest = tenths % TENTHS_PER_PERCENT;

	return rest ? snprintf(out, room, "%u.%u", whole, rest)
		    : snprintf(out, room, "%u", whole);
}

void tr_cores_print(char out[TR_CORES_TEXT], uint64_t rate_q32, uint64_t rate_max_q32)
{
	unsigned tenths = tr_cores_tenths(rate_q32),
		 max = rate_max_q32 ? tr_cores_tenths(rate_max_q32) : tenths;
	int n = print_percent(out, TR_CORES_TEXT, tenths);

	if (n < 0 || max <= tenths)
		return;
	out[n++] = '-';
	(void)print_percent(out + n, TR_CORES_TEXT - (size_t)n, max);
}

/* By enum tr_priority. */
static const char *const priorities[] = { "normal", "high", "low" };

const char *tr_priority_name(uint32_t priority)
{
	/* Every reader takes an unknown one for normal. */
	return priorities[priority < TR_COUNT(priorities) ? priority : 0];
}

int tr_priority_parse(const char *text, enum tr_priority *out, struct tr_err *err)
{
	for (unsigned i = 0; i < TR_COUNT(priorities); i++)
		if (strcmp(text, priorities[i]) == 0) {
			*out = (enum tr_priority)i;
			return 0;
		}
	if (strcmp(text, "0") == 0)
		*out = TR_PRIORITY_HIGH;
	else if (strcmp(text, "1") == 0)
		*out = TR_PRIORITY_NORMAL;
	else
		return tr_fail(err, EINVAL, "--priority \"%s\" is not high, normal or low",
			       text);
	return 0;
}

const char *tr_bypass_name(uint32_t mode)
{
	return mode == TR_BYPASS_LOWERED ? "lower" : "tell";
}

int tr_bypass_parse(const char *text, enum tr_bypass *out, struct tr_err *err)
{
	for (unsigned i = TR_BYPASS_TOLD; i <= TR_BYPASS_LOWERED; i++)
		if (strcmp(text, tr_bypass_name(i)) == 0) {
			*out = (enum tr_bypass)i;
			return 0;
		}
	return tr_fail(err, EINVAL, "--on-bypass \"%s\" is not tell or lower", text);
}
