/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_OBJECT_H
#define TR_KUBE_OBJECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tranche/err.h"

/*
 * What we keep of the API server's objects: the fields that somebody here uses, in one block of memory
 * each. A pod is ten kilobytes there and some hundred bytes here.
 *
 * Made at the door from JSON; read only after. Texts are never NULL where not said otherwise.
 */
struct tr_named {
	const char *name, *value;
};

struct tr_named_list {
	const struct tr_named *at;
	size_t count;
};

/* An amount of a resource. A quantity that is not a whole number of 63 bits, or negative, is_bad. */
struct tr_amount {
	const char *name;
	int64_t value;
	bool is_bad;
};

struct tr_amount_list {
	const struct tr_amount *at;
	size_t count;
};

/* Somebody's annotation that was not kept, for its length. */
struct tr_too_long {
	const char *name;
	size_t length, most;
};

struct tr_object {
	const char *space; /* "" for kinds without */
	const char *name, *uid;
	const char *version; /* resourceVersion: only ever compared for being the same */
	struct tr_named_list annotations, labels;
	const struct tr_too_long *too_long; /* of annotations that are wanted */
	size_t too_long_count;
	/* of the store that holds it */
	struct tr_object *next;
	uint32_t hash, round;
};

/* Which annotations, labels, resources and variables are kept: lists that end with NULL; a name that
 * ends with '*' stands for all that begin so. A NULL list keeps none. */
struct tr_keep {
	const char *const *annotations, *const *labels, *const *resources, *const *env;
	/* Who may make a pod may write a megabyte to it. Of pods, then: annotations and containers of those
	 * only that have a container that asks for this resource (NULL: of all); containers, up to that many
	 * (0: 1024), of those only that have not ended; annotations up to this length, or this one where the pod
	 * has ended (0: of any length), and no longer than a decision on so many devices and containers can be. */
	const char *asks_for;
	size_t annotation_max, ended_annotation_max, containers_max;
};

enum tr_pod_phase {
	TR_POD_PENDING,
	TR_POD_RUNNING,
	TR_POD_SUCCEEDED,
	TR_POD_FAILED,
	TR_POD_UNKNOWN,
};

enum tr_container_kind {
	TR_CONTAINER_INIT,    /* runs before the others, and ends */
	TR_CONTAINER_SIDECAR, /* an init container with restartPolicy Always: stays */
	TR_CONTAINER_APP,
};

struct tr_pod_container {
	const char *name;
	enum tr_container_kind kind;
	struct tr_amount_list limits;
	struct tr_named_list env; /* literal values only */
};

struct tr_pod {
	struct tr_object object; /* first: a store's object is cast to it */
	const char *node;        /* "" while it has none */
	const char *scheduler;
	enum tr_pod_phase phase;
	bool is_deleting;
	size_t asked; /* how many of struct tr_keep's asks_for */
	/* All init containers in order, then the app containers: a container's place here is its
	 * absolute index. */
	const struct tr_pod_container *containers;
	size_t container_count, init_count;
	size_t unread_count; /* it has so many, more than are kept: none is here */
};

struct tr_node {
	struct tr_object object;
	struct tr_amount_list allocatable;
	bool is_ready, is_unschedulable;
};

/* -EBADMSG for what is not such an object: ERR names the field. free() the block. */
int tr_pod_extract(const json_t *json, const struct tr_keep *keep, struct tr_object **out,
		   struct tr_err *err);
int tr_node_extract(const json_t *json, const struct tr_keep *keep, struct tr_object **out,
		    struct tr_err *err);

/* *OUT is the annotation NAME of a pod. -ENOENT, ERR untouched: it has none; -EFBIG: one that was too long to be kept. */
int tr_pod_annotation(const struct tr_pod *pod, const char *name, const char **out,
		      struct tr_err *err);
/* NULL when there is none of that name. */
const char *tr_named_find(const struct tr_named_list *list, const char *name);
const struct tr_amount *tr_amount_find(const struct tr_amount_list *list, const char *name);

#endif /* TR_KUBE_OBJECT_H */
