/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_PRINTER_H
#define TR_REPORT_PRINTER_H

#include <stdbool.h>

#include "base/buf.h"
#include "deviceplugin/report/families.h"
#include "deviceplugin/report/metrics.h"

/* Samples as text: what metrics.c says them with. Pure. */

/* A value as it is known, so that bytes and nanoseconds stay exact. */
struct tr_number {
	enum { NONE, WHOLE, SECONDS, THOUSANDTHS, HUNDREDTHS, SHARE, WITHOUT_END } kind;
	uint64_t n;
};

#define COUNT(x)        ((struct tr_number){ WHOLE, (x) })
#define NANO(x)         ((struct tr_number){ SECONDS, (x) })
#define MILLI(x)        ((struct tr_number){ THOUSANDTHS, (x) })
#define PERCENT(x)      ((struct tr_number){ HUNDREDTHS, (x) })
#define Q32(x)          ((struct tr_number){ SHARE, (x) })
#define LIMIT(x)        ((struct tr_number){ (x) == TR_UNLIMITED ? WITHOUT_END : WHOLE, (x) })
#define MAYBE(is, what) ((is) ? (what) : (struct tr_number){ NONE, 0 })

struct tr_printer {
	const struct tr_report_view *view;
	struct tr_buf *out;
	enum tr_metrics_format format;
	bool is_begun; /* the family has its head */
};

/* The labels of F with VALUES in their order, but the zone, which has one value only; then EXTRA, a label
 * as it is to be written, or NULL. Appended with their brackets. */
void tr_print_labels(struct tr_buf *out, const struct tr_family *f,
		     const char *const *values, const char *extra);

/* A sample, unless NUMBER is NONE; before a family's first its head. LABELS as they are to be written. */
void tr_print_sample(struct tr_printer *p, const struct tr_family *f, const char *suffix,
		     const char *labels, size_t labels_n, struct tr_number number);

#endif /* TR_REPORT_PRINTER_H */
