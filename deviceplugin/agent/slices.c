/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/inject/cdi.h"
#include "deviceplugin/report/log.h"
#include "rt/file.h"

#define SWEEP_S          5
#define SWEEP_SOON_S     1
#define PODS_DEADLINE_MS 10000

/* ---- what the book tells ---- */

static void keep(struct tr_agent *a, const struct tr_alloc *alloc, bool is_kept)
{
	char path[PATH_MAX];

	if (!a->nvml || !a->config.leases)
		return;
	tr_arm_slice_path(a->arm, alloc, path, sizeof(path));
	if ((is_kept ? tr_nvml_keep(a->nvml, path) : tr_nvml_drop(a->nvml, path)) < 0)
		tr_log(TR_LOG_ERROR, "keeper_not_told", "slice", alloc->name, NULL);
}

static void on_event(enum tr_arm_event event, const struct tr_alloc *alloc,
		     const char *sentence, void *arg)
{
	struct tr_agent *a = arg;

	if (event == TR_ARM_ARMED)
		keep(a, alloc, true);
	else if (event == TR_ARM_REMOVED)
		keep(a, alloc, false);
	else if (event == TR_ARM_MADE)
		tr_agent_sweep_soon(a);
	tr_agent_on_alloc(event, alloc, sentence, a);
}

void tr_agent_slices_keep_all(struct tr_agent *a)
{
	const struct tr_alloc *alloc = NULL;

	while ((alloc = tr_book_next(tr_arm_book(a->arm), alloc)))
		if (alloc->state == TR_ALLOC_ARMED)
			keep(a, alloc, true);
}

/* ---- taking away ---- */

static void again_in(struct tr_agent *a, int seconds)
{
	(void)event_add(a->sweep_timer, &(struct timeval){ .tv_sec = seconds });
}

static void look(struct tr_agent *a, const struct tr_pod_list *rows)
{
	size_t count = 0;
	tr_autofree const struct tr_pod **pods = tr_agent_pods(a, &count);

	if (pods &&
	    tr_arm_sweep(a->arm, rows, pods, count, (int64_t)(tr_clock_ns() / 1000000)) &&
	    a->is_offering_given)
		tr_agent_offer(a);
	/* What waits has its series from now on. */
	tr_report_name(tr_agent_view(a), tr_arm_book(a->arm), rows);
}

static void on_rows(int r, const struct tr_pod_list *rows, const char *sentence, void *arg)
{
	struct tr_agent *a = arg;

	a->sweeping = NULL;
	if (r < 0)
		tr_log(TR_LOG_DEBUG, "pod_resources_silent", "reason", sentence, NULL);
	else
		look(a, rows);
	tr_agent_obey_grants(a);
	again_in(a, SWEEP_S);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct tr_agent *a = arg;
	struct tr_err err = { 0 };

	(void)fd;
	(void)what;
	a->is_sweep_soon = false;
	if (a->sweeping)
		return;
	if (tr_arm_book(a->arm)->count == 0 ||
	    tr_pods_ask(a->pods, PODS_DEADLINE_MS, on_rows, a, &a->sweeping, &err) < 0)
		again_in(a, SWEEP_S);
}

void tr_agent_sweep_soon(struct tr_agent *a)
{
	/* Not put off by whoever comes next: then it would never be where pods come and go all the time. */
	if (!a->sweep_timer || a->sweeping || a->is_sweep_soon)
		return;
	a->is_sweep_soon = true;
	again_in(a, SWEEP_SOON_S);
}

/* ---- its life ---- */

void tr_agent_slices_block(struct tr_agent *a)
{
	char sentence[640] = "";

	if (a->is_draining)
		(void)snprintf(sentence, sizeof(sentence),
			       "node %s is being drained of GPU containers "
			       "(`tranche node drain --off` ends it)",
			       a->config.node_name);
	else if (*a->library_trouble)
		(void)snprintf(
			sentence, sizeof(sentence),
			"the library that holds containers to their slices cannot be "
			"used: %s",
			a->library_trouble);
	tr_arm_block(a->arm, sentence);
}

static struct tr_arm_options options_of(struct tr_agent *a)
{
	const struct tr_config *c = &a->config;
	bool infers = c->identity == TR_IDENTITY_INFER;

	return (struct tr_arm_options){
		.slices_dir = a->slices_dir,
		.records_dir = a->records_dir,
		.node_name = c->node_name,
		.rules = { .resource = c->resource_name,
			   .resource_priority = c->resource_priority,
			   .is_core_unlimited = c->disable_core_limit,
			   .default_cores = c->default_cores },
		.on_bypass = c->on_bypass == TR_BYPASS_WAY_LOWER ? TR_BYPASS_LOWERED
								 : TR_BYPASS_TOLD,
		.takes_whole_cards = c->unscheduled_pods == TR_UNSCHEDULED_WHOLE_CARD,
		.hook_path = a->installed.hook,
		.preload_path = a->installed.preload,
		.checkpoint = a->checkpoint,
		.infers = infers,
		.cdi_kind = infers ? NULL : TR_CDI_KIND,
		.cdi_common = infers ? NULL : TR_CDI_DRIVER_DEVICE,
		.ports = { .pod_of = tr_agent_pod_of,
			   .pod_with = tr_agent_pod_with,
			   .pending_pod = tr_agent_pending_pod,
			   .annotate = tr_agent_annotate,
			   .node_of = c->hami_protocol ? tr_agent_node_of : NULL,
			   .annotate_node = c->hami_protocol ? tr_agent_annotate_node
							     : NULL,
			   .is_promised = tr_agent_is_promised,
			   .inject = tr_agent_inject,
			   .flush = tr_agent_flush,
			   .eject = tr_agent_eject,
			   .is_injected = tr_agent_is_injected,
			   .each_injected = tr_agent_each_injected,
			   .on_event = on_event,
			   .arg = a },
	};
}

int tr_agent_slices_open(struct tr_agent *a, struct tr_err *err)
{
	static const struct tr_cards none;
	const struct tr_config *c = &a->config;
	struct tr_arm_options options;
	int r = tr_rpc_open(a->base, &a->rpc, err);

	a->slices_dir = tr_xprintf("%s/slices", c->run_dir);
	a->records_dir = tr_xprintf("%s/records", c->state_dir);
	a->checkpoint = tr_xprintf("%s/kubelet_internal_checkpoint", c->kubelet_dir);
	if (r == 0)
		r = tr_pods_open(a->rpc, a->base, c->pod_resources_socket, c->resource_name,
				 &a->pods, err);
	options = options_of(a);
	if (r == 0)
		r = tr_arm_open(a->base, a->pods, &options, &none, &a->arm, err);
	if (r < 0)
		return r;
	a->sweep_timer = evtimer_new(a->base, on_sweep, a);
	if (!a->sweep_timer)
		return tr_fail(err, ENOMEM, "out of memory");
	again_in(a, SWEEP_S);
	return 0;
}

void tr_agent_slices_close(struct tr_agent *a)
{
	if (a->sweep_timer)
		event_free(a->sweep_timer);
	if (a->sweeping)
		tr_pods_forget(a->sweeping);
	tr_arm_close(a->arm);
	tr_pods_close(a->pods);
	tr_rpc_close(a->rpc);
	free(a->slices_dir);
	free(a->records_dir);
	free(a->checkpoint);
}
