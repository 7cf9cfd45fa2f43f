/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CALLS_H
#define CALLS_H

#include "bed.h"
#include "node.h"

/* A plugin over gRPC with a struct tr_arm behind it; PodResources and the API server of the scene. */

#define STARTED (&v1beta1__pre_start_container_response__descriptor)

int call_open_node(void **state);   /* takes whole cards */
int call_open_strict(void **state); /* does not */
int call_open_infers(void **state); /* has no CDI */
int call_close_node(void **state);
void call_offer(void); /* all ids of the scene */

/* Asks Allocate for each of its containers, and looks at the answers. */
void call_admit(struct scene_pod *pod);
extern uint64_t longest_allocate_ns;
void call_start(const struct scene_container *container, struct outcome *out);

/* The API server. */
extern unsigned asked, asked_fresh; /* for pods */
extern int pod_r;                   /* what is told instead of a pod */
extern bool answers_later;          /* never */
extern bool lacks_news;             /* what is known without asking has no decision */
extern unsigned written;            /* pods whose cards were written to them */
extern unsigned unlocked;           /* HAMi's lock was taken off the node */
extern int write_r;
extern char phase[16], left[400], lock[100]; /* HAMi's marks, and its lock on the node */
extern struct scene_pod *stored; /* told of its name when not asked afresh; NULL: none */
extern struct scene_pod *gone;   /* the API server has it no more; NULL: all are there */
extern char checkpoint[100];     /* the kubelet's; written at each call_admit() */
void call_write_checkpoint(void);

#endif /* CALLS_H */
