/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/printer.h"

#include <stdio.h>
#include <string.h>

#include "deviceplugin/report/text.h"

#define NUMBER_TEXT 40

static void print_parts(char out[static NUMBER_TEXT], uint64_t n, uint64_t of, int digits)
{
	(void)snprintf(out, NUMBER_TEXT, "%llu.%0*llu", (unsigned long long)(n / of),
		       digits, (unsigned long long)(n % of));
}

static void print_number(char out[static NUMBER_TEXT], struct tr_number number)
{
	switch (number.kind) {
	case NONE:
	case WITHOUT_END:
		(void)snprintf(out, NUMBER_TEXT, "+Inf");
		return;
	case WHOLE:
		(void)snprintf(out, NUMBER_TEXT, "%llu", (unsigned long long)number.n);
		return;
	case SECONDS:
		print_parts(out, number.n, 1000000000, 9);
		return;
	case THOUSANDTHS:
		print_parts(out, number.n, 1000, 3);
		return;
	case HUNDREDTHS:
		print_parts(out, number.n, 100, 2);
		return;
	case SHARE:
		(void)snprintf(out, NUMBER_TEXT, "%.6g", (double)number.n / 4294967296.0);
		return;
	}
}

/* ---- words ------------------------------------------------------------------------------ */

static const char *const type_names[] = { "gauge", "counter", "info", "histogram" };

/* Escaped as both formats want it in labels, and OpenMetrics in help. */
static void add_escaped(struct tr_buf *out, const char *text, bool with_quotes)
{
	size_t n = strlen(text), from = 0, at = 0;

	while (at < n) {
		uint32_t code = 0;
		unsigned bytes = tr_utf8_step(text + at, n - at, &code);
		const char *as = bytes == 0                   ? TR_UTF8_MEND
				 : code == '\\'               ? "\\\\"
				 : code == '\n'               ? "\\n"
				 : code == '"' && with_quotes ? "\\\""
							      : NULL;

		if (as) {
			tr_buf_add(out, text + from, at - from);
			tr_buf_text(out, as);
			from = at + (bytes ? bytes : 1);
		}
		at += bytes ? bytes : 1;
	}
	tr_buf_add(out, text + from, n - from);
}

/* OpenMetrics names the family without what its samples end with. */
static size_t family_length(const struct tr_printer *p, const struct tr_family *f)
{
	static const char *const ends[] = { [TR_FAMILY_COUNTER] = "_total",
					    [TR_FAMILY_INFO] = "_info",
					    [TR_FAMILY_HISTOGRAM] = NULL };
	const char *end = ends[f->type];

	return strlen(f->name) -
	       (p->format == TR_METRICS_OPENMETRICS && end ? strlen(end) : 0);
}

static void add_meta(struct tr_printer *p, const struct tr_family *f, const char *what)
{
	tr_buf_text(p->out, what);
	tr_buf_add(p->out, f->name, family_length(p, f));
	tr_buf_text(p->out, " ");
}

static void begin_family(struct tr_printer *p, const struct tr_family *f)
{
	bool is_open = p->format == TR_METRICS_OPENMETRICS;

	p->is_begun = true;
	add_meta(p, f, "# HELP ");
	add_escaped(p->out, f->help, is_open);
	add_meta(p, f, "\n# TYPE ");
	/* The older format has no info. */
	tr_buf_text(p->out,
		    f->type == TR_FAMILY_INFO && !is_open ? "gauge" : type_names[f->type]);
	if (is_open && f->unit[0]) {
		add_meta(p, f, "\n# UNIT ");
		tr_buf_text(p->out, f->unit);
	}
	tr_buf_text(p->out, "\n");
}

void tr_print_labels(struct tr_buf *out, const struct tr_family *f,
		     const char *const *values, const char *extra)
{
	const char *name = f->labels;
	char between = '{';

	while (*name) {
		size_t n = strcspn(name, ",");
		bool is_zone = n == 4 && memcmp(name, "zone", 4) == 0;

		tr_buf_add(out, &between, 1);
		tr_buf_add(out, name, n);
		tr_buf_text(out, "=\"");
		add_escaped(out, is_zone ? "vGPU" : *values++, true);
		tr_buf_text(out, "\"");
		between = ',';
		name += n + (name[n] == ',');
	}
	if (extra) {
		tr_buf_add(out, &between, 1);
		tr_buf_text(out, extra);
		between = ',';
	}
	if (between == ',')
		tr_buf_text(out, "}");
}

void tr_print_sample(struct tr_printer *p, const struct tr_family *f, const char *suffix,
		     const char *labels, size_t labels_n, struct tr_number number)
{
	char text[NUMBER_TEXT];

	if (number.kind == NONE)
		return;
	if (!p->is_begun)
		begin_family(p, f);
	tr_buf_text(p->out, f->name);
	tr_buf_text(p->out, suffix);
	tr_buf_add(p->out, labels, labels_n);
	print_number(text, number);
	tr_buf_text(p->out, " ");
	tr_buf_text(p->out, text);
	tr_buf_text(p->out, "\n");
}
