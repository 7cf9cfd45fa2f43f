/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_REPORT_H
#define TR_REPORT_REPORT_H

#include <event2/event.h>
#include <stdint.h>

#include "base/buf.h"
#include "deviceplugin/report/http.h"
#include "deviceplugin/report/view.h"

/*
 * The pages of the agent: /metrics, /healthz, /readyz, /debug/slices on one port. Who opens it keeps
 * the numbers; a page is made when it is asked for, and no more than once a second, however often it is
 * asked for. All in the loop's thread.
 */
struct tr_report;

struct tr_report_actions {
	/* Fills in what the agent knows: all of VIEW but its allocations, log, http and process; and where
	 * the allocations are read. */
	void (*fill)(struct tr_report_view *view, struct tr_report_source *source,
		     void *arg);
	/* Appends one line for each reason why the agent should be started anew, or why it offers nothing
	 * (yet); nothing: it is alive, it is ready. */
	void (*health)(struct tr_buf *reasons, void *arg);
	void (*ready)(struct tr_buf *reasons, void *arg);
	void *arg;
};

/* Errors as tr_http_open(). ACTIONS is copied. */
int tr_report_open(struct event_base *base, const char *address,
		   const struct tr_report_actions *actions, struct tr_report **out,
		   struct tr_err *err);
void tr_report_close(struct tr_report *report); /* NULL is fine */
uint16_t tr_report_port(const struct tr_report *report);
/* The view, brought up to now: for the control socket, and once in a while so that refusals are seen
 * when nobody asks for metrics. Valid until the loop goes on. */
struct tr_report_view *tr_report_now(struct tr_report *report);

#endif /* TR_REPORT_REPORT_H */
