/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/report/metrics.h"
#include "deviceplugin/report/slices_json.h"
#include "rt/file.h"

/* A page is as old as that at most. Whoever asks more often gets the same bytes again. */
#define FRESH_NS UINT64_C(1000000000)

enum page { PAGE_TEXT, PAGE_OPENMETRICS, PAGE_SLICES, PAGES };

struct tr_report {
	struct tr_report_actions actions;
	struct tr_report_view view;
	struct tr_http *http;
	struct tr_http_route routes[4];
	struct {
		struct tr_http_body *body;
		uint64_t made_ns;
	} pages[PAGES];
};

struct tr_report_view *tr_report_now(struct tr_report *report)
{
	struct tr_report_view *view = &report->view;
	struct tr_report_source source = { 0 };
	const struct tr_http_counts *counts = tr_http_counts(report->http);

	report->actions.fill(view, &source, report->actions.arg);
	tr_report_take(view, &source);
	tr_report_process_read(&view->process);
	tr_log_counts(&view->log);
	memcpy(view->http.answers, counts->answers, sizeof(view->http.answers));
	view->http.put_out = counts->put_out;
	view->http.timed_out = counts->timed_out;
	return view;
}

static struct tr_http_body *page_of(struct tr_report *report, enum page page)
{
	uint64_t now_ns = tr_clock_ns();
	struct tr_buf text = { 0 };
	const struct tr_report_view *view;

	if (report->pages[page].body && now_ns - report->pages[page].made_ns < FRESH_NS)
		return tr_http_body_ref(report->pages[page].body);
	tr_http_body_drop(report->pages[page].body);
	report->pages[page].body = NULL;
	view = tr_report_now(report);
	if (page == PAGE_SLICES)
		tr_slices_json(view, &text);
	else
		tr_metrics_print(view, &text,
				 page == PAGE_OPENMETRICS ? TR_METRICS_OPENMETRICS
							  : TR_METRICS_TEXT);
	report->pages[page].body = tr_http_body_take(&text);
	report->pages[page].made_ns = now_ns;
	return tr_http_body_ref(report->pages[page].body);
}

static void on_metrics(const struct tr_http_request *request, struct tr_http_reply *reply,
		       void *arg)
{
	enum tr_metrics_format format = tr_metrics_choose(request->accept);

	reply->type = tr_metrics_type(format);
	reply->body = page_of(arg, format == TR_METRICS_OPENMETRICS ? PAGE_OPENMETRICS
								    : PAGE_TEXT);
}

static void on_slices(const struct tr_http_request *request, struct tr_http_reply *reply,
		      void *arg)
{
	(void)request;
	reply->type = "application/json";
	reply->body = page_of(arg, PAGE_SLICES);
}

static void say(struct tr_http_reply *reply, void (*ask)(struct tr_buf *, void *),
		void *arg)
{
	struct tr_buf reasons = { 0 };

	ask(&reasons, arg);
	reply->status = reasons.n ? 503 : 200;
	if (!reasons.n)
		tr_buf_text(&reasons, "ok\n");
	reply->body = tr_http_body_take(&reasons);
}

static void on_health(const struct tr_http_request *request, struct tr_http_reply *reply,
		      void *arg)
{
	const struct tr_report *report = arg;

	(void)request;
	say(reply, report->actions.health, report->actions.arg);
}

static void on_ready(const struct tr_http_request *request, struct tr_http_reply *reply,
		     void *arg)
{
	const struct tr_report *report = arg;

	(void)request;
	say(reply, report->actions.ready, report->actions.arg);
}

int tr_report_open(struct event_base *base, const char *address,
		   const struct tr_report_actions *actions, struct tr_report **out,
		   struct tr_err *err)
{
	struct tr_report *report = tr_xcalloc(1, sizeof(*report));
	int r;

	report->actions = *actions;
	report->routes[0] = (struct tr_http_route){ "/metrics", on_metrics, report };
	report->routes[1] = (struct tr_http_route){ "/healthz", on_health, report };
	report->routes[2] = (struct tr_http_route){ "/readyz", on_ready, report };
	report->routes[3] = (struct tr_http_route){ "/debug/slices", on_slices, report };
	r = tr_http_open(base, address, report->routes, 4, &report->http, err);
	if (r < 0)
		free(report);
	else
		*out = report;
	return r;
}

void tr_report_close(struct tr_report *report)
{
	if (!report)
		return;
	tr_http_close(report->http);
	for (unsigned i = 0; i < PAGES; i++)
		tr_http_body_drop(report->pages[i].body);
	tr_report_forget(&report->view);
	free(report);
}

uint16_t tr_report_port(const struct tr_report *report)
{
	return tr_http_port(report->http);
}
