/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_ARM_INSIDE_H
#define TR_ARM_INSIDE_H

#include "deviceplugin/arm/arm.h"
#include "deviceplugin/arm/checkpoint.h"
#include "deviceplugin/arm/record.h"
#include "kube/backoff.h"

/* What the sources of struct tr_arm share, and nobody else sees. */

struct start;
struct handover;
struct request;

struct tr_arm {
	struct event_base *base;
	struct tr_pods *pods;
	struct tr_arm_options options;
	struct tr_cards cards;
	struct tr_book book;
	struct tr_records *records;
	struct tr_checkpoint checkpoint;
	struct start *starts, **starts_end; /* under way */
	struct event *on_flush;             /* for those that are armed; NULL: none yet */
	struct event *on_tell;              /* of those that are flushed; NULL: none yet */
	struct event *on_ahead;             /* of those that will start; NULL: none yet */
	bool is_unflushed;         /* something was injected since the last flush */
	struct handover *handover; /* the same, toward HAMi's scheduler; NULL: none */
	struct request *requests, **last_request; /* Allocates that wait for their turn */
	struct event *on_hami;
	struct tr_backoff hami_pause; /* before it is tried again */
	bool is_due;                  /* another turn of it, after this one */
	int told_problem;             /* of the records, at the last look */
	struct tr_arm_counts counts;
	char boot_id[TR_BOOT_ID];
	char blocked[512]; /* why nothing new is given; "": it is */
	bool is_closing;
};

/* The texts of one container's answer to Allocate. */
struct tr_answer {
	char ro[256], rw[256], cdi[128], visible[TR_DEVICES_MAX * 48];
	struct tr_pair env;
	struct tr_mount mounts[4];
	const char *cdi_names[2];
};
void tr_answer_fill(const struct tr_arm *arm, const struct tr_alloc *alloc,
		    struct tr_answer *answer, struct tr_injection *out);
/* For a container with IDS (NULL: there is none). Of its pod ROWS may know, or be NULL. */
void tr_allocate_refuse(struct tr_arm *arm, struct tr_rpc_call *call,
			const struct tr_ids *ids, const struct tr_pod_list *rows, int r,
			const struct tr_err *err);
/* TR_ARM_REFUSED for what has IDS, of the pod that ROWS (or NULL) is of. Not while it closes. */
void tr_arm_tell_refused(struct tr_arm *arm, const struct tr_ids *ids,
			 const struct tr_pod_list *rows, const char *sentence);
/* rows.c: copies. FROM's rows of the pod that OF is of; NULL: all. */
char **tr_texts_copy(const char *const *from, size_t count);
void tr_texts_free(const char *const *texts, size_t count);
void tr_rows_copy(const struct tr_pod_list *from, const struct tr_pod_row *of,
		  struct tr_pod_list *to);
void tr_rows_free(struct tr_pod_list *rows);
typedef bool tr_row_is_kept(const struct tr_pod_row *row, const void *arg);
void tr_rows_keep(struct tr_pod_list *rows, tr_row_is_kept *is_kept, const void *arg);
/* infer.c */
void tr_infer_allocate(struct tr_arm *arm, struct tr_rpc_call *call,
		       const struct tr_ids *containers, size_t count);
void tr_infer_close(struct tr_arm *arm);
/* What was inferred, against what the kubelet knows by now. */
int tr_infer_verify(const struct tr_arm *arm, const struct tr_pod_list *list,
		    const struct tr_ids *ids, const char *owner, struct tr_err *err);

int64_t tr_unix_us(void);
void tr_arm_tell(struct tr_arm *arm, enum tr_arm_event event, const struct tr_alloc *alloc,
		 const char *sentence);
/* Beside the slice now, on the disk soon. */
int tr_arm_record(struct tr_arm *arm, const struct tr_alloc *alloc, struct tr_err *err);
/* Slice and injection of an armed allocation, made or made again. IS_NEW: it was waiting until now. Not done before
 * tr_arm_flush(). */
int tr_arm_ready(struct tr_arm *arm, struct tr_alloc *alloc, bool is_new,
		 struct tr_err *err);
/* All that was injected, and the calls that wait for it are answered; -errno: none of it is ready, and they
 * are refused. */
int tr_arm_flush(struct tr_arm *arm, struct tr_err *err);
/* The same in two: TR_ARM_ARMED is told later, for containers wait for the first and nobody for the second. */
int tr_arm_flush_untold(struct tr_arm *arm, struct tr_err *err);
void tr_arm_tell_all(struct tr_arm *arm);
void tr_arm_starts_flushed(struct tr_arm *arm, int r, const struct tr_err *err);
/* R when it is an error; else flushes: R, or what became of that. */
int tr_arm_flushed(struct tr_arm *arm, int r, struct tr_err *err);
/* recruit.c: tr_arm_pod() without the flush. */
int tr_arm_pod_soon(struct tr_arm *arm, const struct tr_pod_list *rows,
		    const struct tr_pod *pod, const struct tr_ids *asked, bool is_fresh,
		    struct tr_err *err);
/* sweep.c: another was armed for its container; two looks later, and when no process sits in it, it goes. */
void tr_arm_retire(struct tr_arm *arm, struct tr_alloc *alloc);
/* Injection, slice, record, book; in this order. False: some of the slice is left, for the next time. */
bool tr_arm_drop(struct tr_arm *arm, struct tr_alloc *alloc);
/* start.c: something was allocated, and is going to start. */
void tr_arm_expect(struct tr_arm *arm);
void tr_arm_starts_end(struct tr_arm *arm);
/* hami.c: something was allocated or armed. */
void tr_hami_poke(struct tr_arm *arm);
void tr_hami_close(struct tr_arm *arm);
/* The newest allocations, none made before SINCE_UNIX_S, are as all of POD's containers ask for. */
bool tr_hami_is_allocated(const struct tr_book *book, const struct tr_pod *pod,
			  const char *resource, int64_t since_unix_s);
/* recover.c */
int tr_arm_recover(struct tr_arm *arm, struct tr_err *err);

#endif /* TR_ARM_INSIDE_H */
