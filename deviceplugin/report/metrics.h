/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_METRICS_H
#define TR_REPORT_METRICS_H

#include "base/buf.h"
#include "deviceplugin/report/view.h"

/*
 * The numbers of a view as Prometheus reads them. The families are rows of families.def, from which
 * docs/metrics.md is made too. Pure.
 */
enum tr_metrics_format {
	TR_METRICS_TEXT,        /* Prometheus text 0.0.4 */
	TR_METRICS_OPENMETRICS, /* OpenMetrics 1.0 */
};

/* Appends all families that have something to say, in the table's order. No two samples have the same name
 * and labels, as long as of rows that are shown no two are of one container. */
void tr_metrics_print(const struct tr_report_view *view, struct tr_buf *out,
		      enum tr_metrics_format format);

/* What a client would rather have; ACCEPT is its header ("" when it sent none). */
enum tr_metrics_format tr_metrics_choose(const char *accept);
/* Content-Type of FORMAT. */
const char *tr_metrics_type(enum tr_metrics_format format);

#endif /* TR_REPORT_METRICS_H */
