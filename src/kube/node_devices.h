/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_NODE_DEVICES_H
#define TR_KUBE_NODE_DEVICES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "tranche/err.h"

/*
 * A node's devices as its agent registers them (TR_NODE_REGISTER): a JSON array with an object each.
 * What is zero, empty or false is left out, as HAMi does.
 *
 * Read strictly: numbers are whole and within their range, no device twice; keys that are not known
 * are ignored. Plain data, pure functions.
 */
#define TR_NODE_DEVICES_MAX 1024u
#define TR_MIG_PROFILES_MAX 64u
#define TR_MIG_PLACES_MAX   64u

struct tr_mig_place {
	uint32_t start, size; /* memory slices */
};

struct tr_mig_profile {
	const char *name; /* "2g.10gb" */
	uint32_t mem_mib, cores, slices;
	const struct tr_mig_place *places;
	size_t place_count;
};

struct tr_node_device {
	const char *id;          /* "GPU-..." */
	const char *type;        /* "NVIDIA H100 80GB HBM3"; "" when it is not given */
	const char *mode;        /* "hami-core", "mig", ...; "" */
	uint32_t index;          /* NVML's */
	uint32_t count;          /* how many may share it */
	uint32_t mem_mib, cores; /* to give out, scaled; cores in percent */
	int32_t numa;            /* 0 when it is not known */
	bool is_healthy;
	const struct tr_mig_profile *profiles;
	size_t profile_count;
};

struct tr_node_devices {
	struct tr_node_device *at;
	size_t count;
	/* private: what the texts and arrays lie in */
	json_t *json;
	void *block;
};

/* -EBADMSG with the device and field. */
int tr_node_devices_parse(struct tr_node_devices *out, const char *text,
			  struct tr_err *err);
/* HAMi's older form, still written by other vendors' plugins:
 * "ID,COUNT,MIB,PERCENT,TYPE,NUMA,HEALTHY[,INDEX,MODE]:" for each. */
int tr_node_devices_parse_legacy(struct tr_node_devices *out, const char *text,
				 struct tr_err *err);
void tr_node_devices_free(struct tr_node_devices *d);

/* Adds the annotation to OUT, sorted by index and id: the same devices are always the same text.
 * -EINVAL for a text that is not UTF-8. */
int tr_node_devices_print(const struct tr_node_device *at, size_t count,
			  struct tr_buf *out);

/*
 * How well pairs of a node's devices are linked (TR_NODE_SCORES); higher is better:
 *   [{"uuid": FROM, "score": {TO: N, ...}}, ...]
 */
struct tr_pair_score {
	const char *from, *to;
	int32_t score;
};

struct tr_pair_scores {
	struct tr_pair_score *at;
	size_t count;
	json_t *json; /* private */
};

int tr_pair_scores_parse(struct tr_pair_scores *out, const char *text, struct tr_err *err);
/* In the order given; rows of one `from` stand together. */
int tr_pair_scores_print(const struct tr_pair_score *at, size_t count, struct tr_buf *out);
void tr_pair_scores_free(struct tr_pair_scores *s);

#endif /* TR_KUBE_NODE_DEVICES_H */
