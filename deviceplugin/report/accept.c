/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <strings.h>

#include "deviceplugin/report/metrics.h"

/* One range of an Accept header: "type/sub;name=value;q=0.5". */
struct range {
	const char *type;
	size_t type_n;
	bool is_fit;       /* every parameter is one that a format of ours has */
	unsigned permille; /* of the client's liking */
};

/* "0", "0.5", "1.000"; what is none of them counts as 0. */
static unsigned read_liking(const char *p, size_t n)
{
	unsigned value = 0, weight = 100;

	if (n == 0 || n > 5 || (p[0] != '0' && p[0] != '1') || (n > 1 && p[1] != '.'))
		return 0;
	value = p[0] == '1' ? 1000 : 0;
	for (size_t i = 2; i < n; i++, weight /= 10) {
		if (p[i] < '0' || p[i] > '9')
			return 0;
		value += (unsigned)(p[i] - '0') * weight;
	}
	return value > 1000 ? 1000 : value;
}

static void read_parameter(const char *p, size_t n, struct range *out, const char *versions)
{
	const char *equals = memchr(p, '=', n);
	size_t name_n = equals ? (size_t)(equals - p) : n, value_n = n - name_n;
	char value[16] = ";";

	if (!equals || value_n - 1 >= sizeof(value) - 2)
		return;
	if (name_n == 1 && (p[0] == 'q' || p[0] == 'Q')) {
		out->permille = read_liking(equals + 1, value_n - 1);
		return;
	}
	if (name_n != 7 || strncasecmp(p, "version", 7) != 0)
		return;
	memcpy(value + 1, equals + 1, value_n - 1);
	value[value_n] = ';';
	value[value_n + 1] = '\0';
	out->is_fit = strstr(versions, value) != NULL;
}

static const char *trim(const char *p, size_t *n)
{
	while (*n && (*p == ' ' || *p == '\t')) {
		p++;
		--*n;
	}
	while (*n && (p[*n - 1] == ' ' || p[*n - 1] == '\t'))
		--*n;
	return p;
}

static bool is_type(const struct range *range, const char *type)
{
	return range->type_n == strlen(type) &&
	       strncasecmp(range->type, type, range->type_n) == 0;
}

static void read_range(const char *p, size_t n, struct range *out)
{
	const char *versions;
	size_t piece = 0;

	*out = (struct range){ .is_fit = true, .permille = 1000 };
	for (size_t at = 0; at <= n; at += piece + 1) {
		const char *mark = memchr(p + at, ';', n - at), *text;
		size_t text_n;

		piece = mark ? (size_t)(mark - p) - at : n - at;
		text_n = piece;
		text = trim(p + at, &text_n);
		if (at == 0) {
			out->type = text;
			out->type_n = text_n;
			continue;
		}
		versions = is_type(out, "application/openmetrics-text") ? ";1.0.0;"
									: ";0.0.4;";
		read_parameter(text, text_n, out, versions);
	}
}

enum tr_metrics_format tr_metrics_choose(const char *accept)
{
	unsigned open = 0, text = 0;
	size_t piece;

	for (const char *p = accept; *p; p += piece + (p[piece] == ',')) {
		struct range range;

		piece = strcspn(p, ",");
		read_range(p, piece, &range);
		if (!range.is_fit)
			continue;
		if (is_type(&range, "application/openmetrics-text") &&
		    range.permille > open)
			open = range.permille;
		if ((is_type(&range, "text/plain") || is_type(&range, "text/*") ||
		     is_type(&range, "*/*")) &&
		    range.permille > text)
			text = range.permille;
	}
	return open && open >= text ? TR_METRICS_OPENMETRICS : TR_METRICS_TEXT;
}

const char *tr_metrics_type(enum tr_metrics_format format)
{
	return format == TR_METRICS_OPENMETRICS
		       ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
		       : "text/plain; version=0.0.4; charset=utf-8";
}
