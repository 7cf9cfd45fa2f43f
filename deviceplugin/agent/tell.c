/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/agent/revision.h"
#include "deviceplugin/report/log.h"
#include "rt/bytes.h"
#include "rt/file.h"

#define REPORT_AGAIN_S 10 /* whoever has the address may leave it */

void tr_agent_log_renew(const struct tr_config *config)
{
	tr_log_open((enum tr_log_level)config->log_level,
		    (enum tr_log_format)config->log_format, STDERR_FILENO);
}

/* ---- the log ---- */

/* "GPU-... 4 GiB 30%, GPU-... 4 GiB" */
static void print_parts(const struct tr_alloc *alloc, struct tr_buf *out)
{
	char size[TR_BYTES_TEXT];

	for (size_t i = 0; i < alloc->part_count; i++) {
		const struct tr_alloc_part *part = &alloc->parts[i];

		tr_bytes_print(size, part->limit_bytes);
		tr_buf_print(out, "%s%s %s", i ? ", " : "", part->uuid, size);
		if (part->cores)
			tr_buf_print(out, " %u%%", part->cores);
	}
}

void tr_agent_on_alloc(enum tr_arm_event event, const struct tr_alloc *alloc,
		       const char *sentence, void *arg)
{
	static const struct {
		enum tr_log_level level;
		const char *name;
	} kinds[] = {
		[TR_ARM_MADE] = { TR_LOG_DEBUG, "slice_made" },
		[TR_ARM_ARMED] = { TR_LOG_INFO, "slice_armed" },
		[TR_ARM_CHANGED] = { TR_LOG_INFO, "slice_resized" },
		[TR_ARM_REMOVED] = { TR_LOG_INFO, "slice_removed" },
		[TR_ARM_REFUSED] = { TR_LOG_WARN, "slice_refused" },
		[TR_ARM_ODD] = { TR_LOG_WARN, "slice_odd" },
	};
	bool is_known = alloc && *alloc->pod;
	/* Nobody knows the GPU yet. */
	bool has_ids = alloc && alloc->id_count && !alloc->part_count;
	tr_auto_buf struct tr_buf parts = { 0 };
	char id[TR_DEVICE_ID] = "";

	(void)arg;
	if (is_known)
		print_parts(alloc, &parts);
	if (has_ids) /* the kubelet may send what it likes */
		(void)snprintf(id, sizeof(id), "%s", alloc->ids[0]);
	/* Pairs end at the first key that is NULL: what may be missing is a value. */
	tr_log(kinds[event].level, kinds[event].name, "slice",
	       alloc && *alloc->name ? alloc->name : NULL, "namespace",
	       is_known ? alloc->space : NULL, "pod", is_known ? alloc->pod : NULL,
	       "container", is_known && *alloc->container ? alloc->container : NULL,
	       "devices", parts.p, "device", has_ids ? id : NULL, "device_count",
	       has_ids ? tr_log_u64(alloc->id_count) : NULL, "reason",
	       sentence && *sentence ? sentence : NULL, NULL);
}

/* ---- whether it serves ---- */

void tr_agent_unready(struct tr_agent *a, struct tr_buf *reasons)
{
	const struct tr_cards *cards = tr_nvml_cards(a->nvml);
	unsigned healthy = 0;

	for (unsigned i = 0; i < cards->count; i++)
		healthy += cards->at[i].is_healthy;
	if (*a->library_trouble)
		tr_buf_print(reasons, "library: %s\n", a->library_trouble);
	if (cards->version == 0)
		tr_buf_text(reasons, "gpus: NVML has not answered yet\n");
	else if (cards->count == 0)
		tr_buf_print(reasons, "gpus: %s\n",
			     *cards->reason ? cards->reason : "this node has none");
	else if (!healthy)
		tr_buf_print(reasons, "gpus: none of %u is healthy\n", cards->count);
	tr_agent_files_unready(a, reasons);
	if (!a->kubelet || a->kubelet_state != TR_KUBELET_REGISTERED)
		tr_buf_print(reasons, "kubelet: %s\n",
			     *a->kubelet_says ? a->kubelet_says : "not registered");
	else if (!tr_agent_is_listened_to(a))
		tr_buf_text(reasons,
			    "kubelet: it does not listen to the list of devices\n");
	tr_agent_cluster_unready(a, reasons);
	if (a->is_draining)
		tr_buf_text(reasons, "the node is being drained\n");
}

static void on_ready(struct tr_buf *reasons, void *arg)
{
	tr_agent_unready(arg, reasons);
}

/* That the loop answers is all: no restart mends what a driver does. */
static void on_health(struct tr_buf *reasons, void *arg)
{
	(void)reasons;
	(void)arg;
}

/* ---- the view ---- */

static const struct tr_card_use *use_of(const struct tr_agent *a, const char *uuid)
{
	for (unsigned i = 0; i < a->use_count; i++)
		if (strcmp(a->use[i].uuid, uuid) == 0)
			return &a->use[i];
	return NULL;
}

static void fill_cards(struct tr_agent *a, struct tr_report_view *view)
{
	const struct tr_cards *cards = tr_nvml_cards(a->nvml);

	for (unsigned i = 0; i < cards->count; i++) {
		struct tr_report_card *card = &a->report_cards[i];
		const char *parent = cards->at[i].parent;

		*card = (struct tr_report_card){ .card = &cards->at[i],
						 .use = use_of(a, cards->at[i].uuid) };
		tr_agent_xids_of(a, *parent ? parent : cards->at[i].uuid, card);
	}
	view->cards = a->report_cards;
	view->card_count = cards->count;
	view->driver = cards->driver;
	view->strays = a->strays;
	view->stray_count = tr_agent_stray_xids(a, a->strays, TR_GPUS_MAX + 1);
}

/* The container's program was told that memory is exhausted: its owner will ask why. */
static void on_refusal(const struct tr_report_alloc *alloc, const char *uuid,
		       uint64_t asked_bytes, uint64_t used_bytes, void *arg)
{
	(void)arg;
	tr_log(TR_LOG_INFO, "memory_refused", "namespace", alloc->space, "pod", alloc->pod,
	       "container", alloc->container, "device", uuid, "asked_bytes",
	       tr_log_u64(asked_bytes), "used_bytes", tr_log_u64(used_bytes), NULL);
}

static void on_fill(struct tr_report_view *view, struct tr_report_source *source, void *arg)
{
	struct tr_agent *a = arg;

	*source = (struct tr_report_source){ .slices_dir = a->slices_dir,
					     .book = tr_arm_book(a->arm),
					     .refusal = on_refusal };

	view->node = a->config.node_name;
	view->version = TR_VERSION;
	view->revision = tr_agent_revision;
	view->build_date = tr_agent_build_date;
	view->with_legacy = a->config.legacy_metrics;
	fill_cards(a, view);
	view->rpcs = a->rpcs;
	view->rpc_count = TR_AGENT_RPCS;
	if (a->kube) {
		const struct tr_kube_counts *counts = tr_kube_counts(a->kube);

		view->api.requests = counts->requests;
		view->api.retries = counts->retries;
		view->api.throttled = counts->throttled;
		view->api.failed = counts->failed;
	}
	view->is_registered = tr_agent_is_listened_to(a);
	view->registrations = a->registrations;
	view->nvml_silent_ns = tr_nvml_age_ms(a->nvml) * 1000000;
	view->keeper_late_ns = tr_nvml_keeper_late_ns(a->nvml);
	view->refused_starts = tr_arm_counts(a->arm)->refused_starts;
}

struct tr_report_view *tr_agent_view(struct tr_agent *a)
{
	struct tr_report_source source;

	if (a->report)
		return tr_report_now(a->report);
	on_fill(&a->view, &source, a);
	tr_report_take(&a->view, &source);
	return &a->view;
}

/* ---- its life ---- */

static int open_report(struct tr_agent *a, struct tr_err *err)
{
	const struct tr_report_actions actions = {
		.fill = on_fill,
		.health = on_health,
		.ready = on_ready,
		.arg = a,
	};

	return tr_report_open(a->base, a->config.metrics_address, &actions, &a->report,
			      err);
}

/* Somebody else has the address, or it is not there yet: containers must start all the same. 0, or -EINVAL:
 * it will never be one. */
static int try_report(struct tr_agent *a, struct tr_err *err)
{
	int r = open_report(a, err);

	if (r == 0) {
		if (*a->report_says)
			tr_log(TR_LOG_INFO, "metrics_served", "address",
			       a->config.metrics_address, NULL);
		*a->report_says = '\0';
	}
	if (r == 0 || r == -EINVAL)
		return r;
	if (strcmp(a->report_says, err->msg) != 0)
		tr_log(TR_LOG_WARN, "no_metrics", "reason", err->msg, NULL);
	(void)snprintf(a->report_says, sizeof(a->report_says), "%s", err->msg);
	(void)event_add(a->report_timer, &(struct timeval){ .tv_sec = REPORT_AGAIN_S });
	return 0;
}

static void on_report_again(evutil_socket_t fd, short what, void *arg)
{
	struct tr_err err = { 0 };

	(void)fd;
	(void)what;
	(void)try_report(arg, &err);
}

int tr_agent_tell_open(struct tr_agent *a, struct tr_err *err)
{
	a->report_timer = evtimer_new(a->base, on_report_again, a);
	if (!a->report_timer)
		return tr_fail(err, ENOMEM, "out of memory");
	if (*a->config.metrics_address && try_report(a, err) < 0)
		return tr_wrap(err, -EINVAL, "metrics_address");
	return tr_control_open(a->base, a->config.control_socket, tr_agent_command, a,
			       &a->control, err);
}

void tr_agent_tell_close(struct tr_agent *a)
{
	tr_control_close(a->control);
	if (a->report_timer)
		event_free(a->report_timer);
	tr_report_close(a->report);
	tr_report_forget(&a->view);
}
