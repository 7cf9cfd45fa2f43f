/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_AGENT_AGENT_H
#define TR_AGENT_AGENT_H

#include <event2/event.h>

#include "deviceplugin/agent/config.h"
#include "deviceplugin/agent/control.h"
#include "deviceplugin/arm/arm.h"
#include "deviceplugin/cards/nvml.h"
#include "deviceplugin/cards/register.h"
#include "deviceplugin/inject/cdi.h"
#include "deviceplugin/inject/driver.h"
#include "deviceplugin/inject/install.h"
#include "deviceplugin/kubelet.h"
#include "deviceplugin/report/report.h"
#include "kube/watch.h"

/*
 * The running agent: its parts and what they tell each other. Everything in the loop's thread. Each part
 * below is one source; what is NULL has not been started, or cannot be had (yet).
 */

#ifndef TR_VERSION
#define TR_VERSION "unknown"
#endif

#define TR_AGENT_NAME     "tranched"
#define TR_AGENT_INJECTED 256
#define TR_AGENT_REFUSALS 256

#define TR_AGENT_RPCS 4

/* To see whether a file is still the same. */
struct tr_agent_stamp {
	uint64_t dev, inode, bytes, mode, changed_s, changed_ns;
};

struct tr_agent {
	struct tr_config config;
	const struct tr_config_inputs *inputs;
	struct event_base *base;
	struct event *signals[3];
	int locks[2], cdi_lock; /* -1: not taken */
	int status;             /* to exit with */
	uint64_t started_ns;

	/* library.c */
	struct tr_installed installed; /* "": none that is fit to be given */
	char library_trouble[512];     /* why no new container gets it; "" they do */
	struct tr_agent_stamp
		library_stamps[2]; /* of what is installed, as it was found good */
	uint64_t library_again_ns;
	bool is_library_other; /* than what has been injected */
	struct event *library_timer;

	/* files.c */
	struct tr_driver_files driver;
	bool has_driver;
	uint64_t driver_looked_ns;
	char driver_of[32];    /* the last driver that NVML told of */
	char driver_says[512]; /* why it was not found */
	char cdi_says[512]; /* why a CDI file could not be written; "" the last one could */
	uint64_t cdi_tried_ns;

	struct {
		uint64_t serial, at_ns;
	} injected[TR_AGENT_INJECTED]; /* the last ones */
	size_t injected_next;
	struct tr_cdi_batch cdi; /* until tr_agent_flush() */
	bool is_minor_missing; /* a card was not known yet: injected again when cards are told */

	/* slices.c */
	struct tr_rpc *rpc;
	struct tr_pods *pods;
	struct tr_arm *arm;
	char *slices_dir, *records_dir, *checkpoint, *drain_path;
	struct event *sweep_timer;
	bool is_sweep_soon;
	struct tr_pods_waiter *sweeping;

	/* offers.c */
	char *rules; /* by which cards are given out, as text */
	struct tr_nvml_agent *nvml;
	struct event *late_timer;
	struct tr_card_use use[TR_GPUS_MAX];
	unsigned use_count;
	struct tr_agent_heard *heard; /* XIDs */
	bool is_draining, is_preferring, is_numa_told;
	bool is_offering_given; /* ids for no other reason than that containers have them */
	struct tr_plugin *plugin;
	struct tr_kubelet *kubelet;
	enum tr_kubelet_state kubelet_state;
	char kubelet_says[512], plugin_path[128];
	uint64_t registrations, registered_ns; /* the first one */
	struct tr_report_rpc rpcs[TR_AGENT_RPCS];

	/* cluster.c */
	struct tr_kube *kube;
	struct tr_watch *watch;
	struct tr_register *reg;
	struct tr_agent_ask *asks;
	struct tr_keep keep;
	const char *kept_resources[3];
	struct {
		uint64_t pod, reason;  /* hashes */
	} refusals[TR_AGENT_REFUSALS]; /* of grants, as they were told; a ring */
	size_t next_refusal;
	struct event *kube_timer;
	char *selector;
	char kube_says[512];  /* why there is none */
	char watch_says[512]; /* what its watch met with last */

	/* tell.c */
	struct tr_report *report;
	struct event *report_timer;
	char report_says[512]; /* why there is no report although one is wanted */
	struct tr_report_card report_cards[TR_GPUS_MAX];
	struct tr_report_stray strays[TR_GPUS_MAX + 1];
	struct tr_report_view view; /* where there is no report */
	struct tr_control *control;
};

/* ---- library.c ---- */

/*
 * Probes the library and installs it; what is wrong with it is no failure: library_trouble says it, and containers
 * that have been armed restart with the one that was installed before, if that is fit. Tried again every
 * few seconds then. -ENOMEM.
 */
int tr_agent_library_open(struct tr_agent *a, struct tr_err *err);
void tr_agent_library_close(struct tr_agent *a);
/* Before a container is given it: somebody may have changed or removed it, then it is installed again. */
void tr_agent_library_look(struct tr_agent *a);
/* At once, where it was tried in vain. */
void tr_agent_library_renew(struct tr_agent *a);

/* ---- files.c: what containers are given besides their slice and the library ---- */

void tr_agent_files_close(struct tr_agent *a);
/* Looks for the driver's files again, and has all CDI files made anew when they differ. */
void tr_agent_files_renew(struct tr_agent *a);
/* Appends a line for what keeps containers from getting their files. Looks again, now and then. */
void tr_agent_files_unready(struct tr_agent *a, struct tr_buf *reasons);
/* For struct tr_arm_ports. */
int tr_agent_inject(const struct tr_alloc *alloc, const char *slice_dir, void *arg,
		    struct tr_err *err);
int tr_agent_flush(void *arg, struct tr_err *err);
bool tr_agent_is_injected(const char *name, void *arg);
void tr_agent_eject(const char *name, void *arg);
void tr_agent_each_injected(void (*each)(const char *name, void *each_arg), void *each_arg,
			    void *arg);

/* ---- slices.c: the book, and who is told of its changes ---- */

int tr_agent_slices_open(struct tr_agent *a, struct tr_err *err);
void tr_agent_slices_close(struct tr_agent *a);
/* Nothing new while draining, or while there is no library to give. */
void tr_agent_slices_block(struct tr_agent *a);
/* The keeper, which came after the book, is told of all of it. */
void tr_agent_slices_keep_all(struct tr_agent *a);
/* A look for allocations that are gone, soon. */
void tr_agent_sweep_soon(struct tr_agent *a);

/* ---- offers.c: cards, and what the kubelet is offered of them ---- */

int tr_agent_offers_open(struct tr_agent *a, struct tr_err *err);
void tr_agent_offers_close(struct tr_agent *a);
/* NOTES gets a line if node_config says something else by now: it needs a restart. */
void tr_agent_offers_renew(const struct tr_agent *a, struct tr_buf *notes);
/* After cards, draining or the book have changed. */
void tr_agent_offer(struct tr_agent *a);
/* A kubelet knows us and reads our list. When it dies its stream ends at once, and so does this; that it is
 * registered with again takes longer (kubelet.h). */
bool tr_agent_is_listened_to(const struct tr_agent *a);
/* Points CARD to the XIDs that were heard of the device. */
void tr_agent_xids_of(const struct tr_agent *a, const char *uuid,
		      struct tr_report_card *card);
/* Those of no card; how many of OUT were filled. */
size_t tr_agent_stray_xids(const struct tr_agent *a, struct tr_report_stray *out,
			   size_t room);
/* Kept over restarts of the agent. */
int tr_agent_drain(struct tr_agent *a, bool is_draining, struct tr_err *err);

/* ---- cluster.c: the API server ---- */

/* Without one the agent goes on: kube_says why. */
void tr_agent_cluster_open(struct tr_agent *a);
void tr_agent_cluster_close(struct tr_agent *a);
/* Appends a line when it has been away for some seconds. */
void tr_agent_cluster_unready(const struct tr_agent *a, struct tr_buf *reasons);
/* As the watch has it, or NULL. */
const struct tr_pod *tr_agent_find_pod(const struct tr_agent *a, const char *space,
				       const char *name);
void tr_agent_obey_grants(struct tr_agent *a);
/* All pods of this node, in step with the API server: *COUNT of them, in memory that is the caller's. NULL:
 * they are not known now. */
const struct tr_pod **tr_agent_pods(struct tr_agent *a, size_t *count);

/* ---- asks.c: for struct tr_arm_ports ---- */

void tr_agent_pod_of(const char *space, const char *name, bool is_fresh, tr_pod_told *told,
		     void *told_arg, void *arg);
void tr_agent_pod_with(const char *uid, tr_pod_told *told, void *told_arg, void *arg);
void tr_agent_pending_pod(tr_pod_told *told, void *told_arg, void *arg);
void tr_agent_node_of(tr_node_told *told, void *told_arg, void *arg);
bool tr_agent_is_promised(const struct tr_pod *pod, const char *uuid, void *arg);
void tr_agent_annotate(const char *space, const char *name, const char *version,
		       const struct tr_named_list *annotations, tr_pod_written *written,
		       void *written_arg, void *arg);
void tr_agent_annotate_node(const char *version, const struct tr_named_list *annotations,
			    tr_pod_written *written, void *written_arg, void *arg);
/* Nobody is told any more. */
void tr_agent_forget_asks(struct tr_agent *a);

/* ---- tell.c, commands.c: what is told ---- */

int tr_agent_tell_open(struct tr_agent *a, struct tr_err *err);
void tr_agent_tell_close(struct tr_agent *a);
void tr_agent_log_renew(const struct tr_config *config);
/* For struct tr_arm_ports. */
void tr_agent_on_alloc(enum tr_arm_event event, const struct tr_alloc *alloc,
		       const char *sentence, void *arg);
/* The numbers as they are now; valid until the loop goes on. */
struct tr_report_view *tr_agent_view(struct tr_agent *a);
/* What keeps the agent from serving; "" nothing does. One line each. */
void tr_agent_unready(struct tr_agent *a, struct tr_buf *reasons);
int tr_agent_command(const char *what, const json_t *request, json_t *reply, void *arg,
		     struct tr_err *err);

/* ---- agent.c ---- */

/* Runs until it is told to end. The exit status. Takes over what is in CONFIG. */
int tr_agent_run(struct tr_config *config, const struct tr_config_inputs *inputs);

#endif /* TR_AGENT_AGENT_H */
