/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_ARM_ARM_H
#define TR_ARM_ARM_H

#include <event2/event.h>

#include "deviceplugin/arm/book.h"
#include "deviceplugin/arm/identify.h"
#include "deviceplugin/pods.h"

/*
 * What the agent does for a container: Allocate makes a slice that allows nothing, PreStartContainer
 * finds out whose it is and arms it, and when kubelet and API server agree that the container is gone
 * it is taken away.
 *
 * The steps are ordered so that the agent may be killed between any two: a slice's directory is made
 * before its record, the record says "armed" before page and CDI file do, and goes last. tr_arm_open()
 * makes the rest as the records say.
 *
 * Thread of the loop. Answers come from within calls or later.
 */

/* A pod, as its object says now. POD is valid until the function returns; -ENOENT: there is none. */
typedef void tr_pod_told(void *told_arg, int r, const struct tr_pod *pod,
			 const struct tr_err *err);

enum tr_arm_event {
	TR_ARM_MADE, /* waiting */
	TR_ARM_ARMED, /* and ready; after a restart of the agent too, from within tr_arm_open() */
	TR_ARM_CHANGED, /* other limits */
	TR_ARM_REMOVED, /* about to be freed */
	TR_ARM_REFUSED, /* SENTENCE says why; ALLOC is in no book: its ids, and the names that are known */
	TR_ARM_ODD, /* something that a person should know: SENTENCE */
};

/* The same for the node. */
typedef void tr_node_told(void *told_arg, int r, const struct tr_node *node,
			  const struct tr_err *err);
/* R: 0 or -errno, as tr_kube_annotate() says. */
typedef void tr_pod_written(void *written_arg, int r, const struct tr_err *err);

/* What others do for it. Each gets ARG. */
struct tr_arm_ports {
	/*
	 * The pod SPACE/NAME, told once by TOLD(TOLD_ARG, ...), from within or later, but not after
	 * tr_arm_close(). IS_FRESH: asked of the API server itself, for what is held here did not
	 * fit.
	 */
	void (*pod_of)(const char *space, const char *name, bool is_fresh,
		       tr_pod_told *told, void *told_arg, void *arg);
	/* The same by UID, from what is held here; NULL: a pod with devices in init containers only cannot be
	 * known. */
	void (*pod_with)(const char *uid, tr_pod_told *told, void *told_arg, void *arg);
	/* Sets annotations of a pod (NULL: removes one), if it is still what was read as VERSION
	 * (NULL: however it is). WRITTEN once, as TOLD above. NULL: nothing is ever written. */
	void (*annotate)(const char *space, const char *name, const char *version,
			 const struct tr_named_list *annotations, tr_pod_written *written,
			 void *written_arg, void *arg);
	/* For HAMi's scheduler; NULL: it is not spoken with. This node's object, as it is now, and its
	 * annotations. */
	void (*node_of)(tr_node_told *told, void *told_arg, void *arg);
	void (*annotate_node)(const char *version, const struct tr_named_list *annotations,
			      tr_pod_written *written, void *written_arg, void *arg);
	/* Without CDI. The first pod of this node that is Pending and has HAMi's marks of being
	 * allocated (TR_POD_BIND_TIME; TR_POD_BIND_PHASE allocating or success; TR_POD_NODE this
	 * node); -ENOENT: none. */
	void (*pending_pod)(tr_pod_told *told, void *told_arg, void *arg);
	/* Adds to OUT what a container without CDI needs beside its slice: device nodes. What it
	 * points to is used before the next call. NULL: left to the runtime, which is told the
	 * cards in NVIDIA_VISIBLE_DEVICES. */
	void (*add_nodes)(const struct tr_alloc *alloc, struct tr_injection *out,
			  void *arg);
	/* A pod that may run, other than POD, was decided to have the card (tr_pod_is_on()). NULL: none. */
	bool (*is_promised)(const struct tr_pod *pod, const char *uuid, void *arg);
	/* What the runtime is to give to the container (the CDI file), written or taken away. -errno:
	 * the container is refused with the sentence. Called again for what is there already. */
	int (*inject)(const struct tr_alloc *alloc, const char *slice_dir, void *arg,
		      struct tr_err *err);
	/* What inject was asked for since the last time is there now; not before is a container told
	 * to start. -errno: none of it is relied on. NULL: inject itself is enough. */
	int (*flush)(void *arg, struct tr_err *err);
	void (*eject)(const char *name, void *arg);
	/* Whether it is still there; NULL: not known, so inject is called for each start. */
	bool (*is_injected)(const char *name, void *arg);
	/* Names of what inject left, to take away what no record knows. May be NULL. */
	void (*each_injected)(void (*each)(const char *name, void *each_arg),
			      void *each_arg, void *arg);
	void (*on_event)(enum tr_arm_event event, const struct tr_alloc *alloc,
			 const char *sentence, void *arg); /* may be NULL */
	void *arg;
};

struct tr_arm_options {
	const char *slices_dir;  /* on tmpfs; made when missing */
	const char *records_dir; /* on a disk */
	const char *boot_path;   /* NULL: the kernel's */
	const char *checkpoint;  /* the kubelet's (checkpoint.h); NULL: not looked at */
	const char *node_name;   /* pods of other nodes are refused; NULL: not looked at */
	struct tr_arm_rules rules;
	enum tr_bypass on_bypass;
	bool infers; /* no CDI: whose an Allocate is is inferred, and verified later */
	bool takes_whole_cards; /* by pods that no GPU scheduler decided on; else refused */
	/* What Allocate answers besides the slice's own directories: host paths of the installed
	 * library and preload file (NULL: none), a CDI name for all (NULL: none). */
	const char *hook_path, *preload_path;
	const char *cdi_kind;   /* "tranche.io/gpu": the name is KIND=NAME */
	const char *cdi_common; /* "tranche.io/driver=all" */
	unsigned ask_ms;        /* how long PodResources may take; 0: 10 s */
	struct tr_arm_ports ports;
};

struct tr_arm;

/* Strings outlive it; *OPTIONS need not. Reads all records, completes what was half done, removes what belongs to
 * nobody. PODS may be NULL: nothing new can be armed. -errno when a directory cannot be used. */
int tr_arm_open(struct event_base *base, struct tr_pods *pods,
		const struct tr_arm_options *options, const struct tr_cards *cards,
		struct tr_arm **out, struct tr_err *err);
/* Waits until all records have reached the disk: before an orderly end, which waits too, or to look. */
void tr_arm_settle(struct tr_arm *arm);
/* Calls that wait are refused. Slices and records stay. NULL is fine. */
void tr_arm_close(struct tr_arm *arm);

/* Cards as they are from now on (copied), and the allocations. */
void tr_arm_set_cards(struct tr_arm *arm, const struct tr_cards *cards);
const struct tr_book *tr_arm_book(const struct tr_arm *arm);
/* ROOT/NAME of its slice: ro/policy and rw/state are in it. */
void tr_arm_slice_path(const struct tr_arm *arm, const struct tr_alloc *alloc, char *out,
		       size_t room);
/* While SENTENCE is not "" nothing is allocated or armed anew: Allocate is refused with it. Armed containers go
 * on and restart. Copied. */
void tr_arm_block(struct tr_arm *arm, const char *sentence);
/* Asks inject again for every armed allocation: other driver files, another library. */
void tr_arm_inject_all(struct tr_arm *arm);
/* What has been injected a moment ago is not relied on either: inject is asked at each next start. */
void tr_arm_doubt_injected(struct tr_arm *arm);

/* For struct tr_plugin_actions, whose ARG is the struct tr_arm. */
void tr_arm_allocate(struct tr_rpc_call *call, const struct tr_ids *containers,
		     size_t count, void *arg);
void tr_arm_prestart(struct tr_rpc_call *call, const struct tr_ids *ids, void *arg);

/* What has IDS was refused before it came here: told as TR_ARM_REFUSED. */
void tr_arm_refused(struct tr_arm *arm, const struct tr_ids *ids, const char *sentence);

/* The same without a call: what the handlers do. DONE comes once, from within or later: 0, or -errno
 * with the sentence. */
typedef void tr_armed(void *done_arg, int r, const struct tr_err *err);
int tr_arm_make(struct tr_arm *arm, const struct tr_ids *ids, struct tr_alloc **out,
		struct tr_err *err);
void tr_arm_start(struct tr_arm *arm, const struct tr_ids *ids, tr_armed *done,
		  void *done_arg);
/* A tr_armed that answers the PreStartContainer which is its ARG: unavailable where asking again helps. */
void tr_arm_answer(void *arg, int r, const struct tr_err *err);

/* Its two steps. A container that starts again: 1 when what has IDS is armed, its slice and injection
 * made again where they are missing; 0 when it is nobody's yet; -ENOENT: never allocated here. */
int tr_arm_rearm(struct tr_arm *arm, const struct tr_ids *ids, struct tr_err *err);
/*
 * Arms every container of POD that asks for devices and is not armed yet. ROWS has the kubelet's rows of the
 * pod; ASKED (or NULL) ids that one of its containers must have. IS_FRESH: POD is as the API server
 * says now, not as it was a while ago. Nothing is armed when it is refused, but for -ENOSPC and the like of
 * a disk in the middle of it.
 */
int tr_arm_pod(struct tr_arm *arm, const struct tr_pod_list *rows, const struct tr_pod *pod,
	       const struct tr_ids *asked, bool is_fresh, struct tr_err *err);

/*
 * Without CDI, what Allocate does: arms the next container of POD that has nothing yet, whose number of devices
 * must be that of IDS. Errors as tr_arm_pod(); nothing is left then.
 */
int tr_arm_infer(struct tr_arm *arm, const struct tr_pod *pod, const struct tr_ids *ids,
		 struct tr_alloc **out, struct tr_err *err);

/*
 * Other limits for a running container: the record, then its page, which its programs obey at once.
 * PARTS are of the same cards in the same order. GRANT_SERIAL above the last one, or 0: by root's hand.
 * -ESTALE: an older grant; -ENOSPC: the card has no room for it; -EINVAL.
 */
int tr_arm_resize(struct tr_arm *arm, struct tr_alloc *alloc,
		  const struct tr_alloc_part *parts, size_t count, uint64_t grant_serial,
		  struct tr_err *err);
/* A pod's TR_POD_GRANTED, as it stands on its object: obeyed for each of its containers that is armed,
 * when it is this pod's and newer. Its sizes are checked together; when they do not fit nothing is done. 1:
 * something changed; 0; -errno. */
int tr_arm_grant(struct tr_arm *arm, const struct tr_pod *pod, const char *text,
		 struct tr_err *err);

/* Toward HAMi's scheduler: when the pod that its lock on this node names has all its allocations, says so on
 * the pod and takes the lock away; likewise when that pod has failed before. Done by itself after Allocates and
 * armings; to be called when a pod has failed. */
void tr_arm_handover(struct tr_arm *arm);

/* ---- taking away ---- */

/*
 * One look at who is there: ROWS of the kubelet, and PODS, all of this node that the API server has,
 * known to be in step with it at about the same time. Not to be called while either is not known. An
 * allocation goes when two looks agree that nobody has it, some seconds apart (a minute for one that was never
 * armed), and no process sits in it: so a kubelet that has just restarted and lists nothing takes
 * nothing away. One whose container was armed anew is nobody's at every look. NOW_MS: of a clock that is
 * not set. Returns how many went.
 */
size_t tr_arm_sweep(struct tr_arm *arm, const struct tr_pod_list *rows,
		    const struct tr_pod *const *pods, size_t pod_count, int64_t now_ms);

/* Counters, since it was opened. */
struct tr_arm_counts {
	uint64_t made, armed, rearmed, refused_starts, resized, removed;
};
const struct tr_arm_counts *tr_arm_counts(const struct tr_arm *arm);

#endif /* TR_ARM_ARM_H */
