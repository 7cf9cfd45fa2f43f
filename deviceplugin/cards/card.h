/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_CARD_H
#define TR_CARDS_CARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu/gpu.h"
#include "tranche/err.h"

/*
 * The cards of this node as the agent gives them out: physical GPUs, and of a GPU in MIG mode its
 * instances, each as a whole card that is not shared. Plain data, pure functions.
 */

struct tr_card {
	char uuid[48];        /* "GPU-...", "MIG-..." */
	char type[80];        /* as registered: the model's name, with "NVIDIA" in front */
	unsigned index;       /* NVML's; of an instance its GPU's */
	int minor;            /* /dev/nvidiaN; -1: not known */
	uint64_t total_bytes; /* real; 0: not known */
	uint64_t give_bytes;  /* to give out: scaled, whole MiB */
	unsigned give_cores;  /* percent, scaled */
	unsigned split;       /* ids offered */
	int numa;             /* -1: not known */
	int compute_major;
	char mode[16];                           /* "hami-core" */
	char parent[48];                         /* of an instance: its GPU; else "" */
	unsigned gpu_instance, compute_instance; /* of an instance: NVML's ids */
	bool is_healthy;
	char reason[160]; /* why not; "" when healthy */
};

struct tr_cards {
	struct tr_card at[TR_GPUS_MAX];
	unsigned count;
	char driver[32];
	char reason[256]; /* why there is none, or fewer than there should be; else "" */
	char odd_links
		[200]; /* a pair whose ends tell different NVLinks (scores.h); "" none, or nobody looked */
	uint64_t version; /* grows at each change; from 1 on */
};

/* NULL: no such card. */
const struct tr_card *tr_card_find(const struct tr_cards *cards, const char *uuid);

/* What a card does now, as of the last second. */
enum tr_card_has {
	TR_CARD_HAS_MEMORY = 1,
	TR_CARD_HAS_GPU_RATE = 2,
	TR_CARD_HAS_MEMORY_RATE = 4,
	TR_CARD_HAS_TEMPERATURE = 8,
	TR_CARD_HAS_POWER = 16,
	TR_CARD_HAS_ECC = 32,
	TR_CARD_HAS_ENERGY = 64,
};

struct tr_card_use {
	char uuid[48];
	unsigned has;         /* which of these the driver tells: enum tr_card_has */
	uint64_t used_bytes;  /* by all processes, ours or not */
	unsigned gpu_percent; /* of time in which a kernel ran */
	unsigned memory_percent;
	unsigned celsius;
	unsigned power_mw;
	/* Since the driver was loaded: */
	uint64_t energy_mj, ecc_corrected, ecc_uncorrected;
	uint64_t xids;     /* heard since the agent started */
	unsigned last_xid; /* 0: none yet */
};

/* ---- how they are given out ---- */

#define TR_FILTER_MAX 128

/* Cards that are left to others. A card is when its GPU's uuid or index is listed, or its own uuid. */
struct tr_card_filter {
	char uuids[TR_FILTER_MAX][48];
	unsigned indexes[TR_FILTER_MAX];
	size_t uuid_count, index_count;
};

struct tr_card_rules {
	unsigned split;        /* containers that may share a card: 1 ... 255 */
	double memory_scaling; /* > 1: more is given out than there is */
	double core_scaling;   /* 1.0: 100 percent */
	uint64_t
		preconfigured_bytes; /* of cards that do not tell theirs; 0: those are left out */
	char mode[16];               /* "hami-core" */
	bool is_numa_told;           /* to the kubelet */
	struct tr_card_filter filter;
};

#define TR_CARD_RULES_DEFAULT                                            \
	{                                                                \
		.split = 10, .memory_scaling = 1.0, .core_scaling = 1.0, \
		.mode = "hami-core"                                      \
	}

/* 0, or -EINVAL with the rule that is out of its range. */
int tr_card_rules_check(const struct tr_card_rules *rules, struct tr_err *err);

/* "GPU-..." or "MIG-...", or an index, added to the filter. -EINVAL, -ENOSPC. */
int tr_card_filter_add(struct tr_card_filter *filter, const char *text, struct tr_err *err);

/* What the driver tells of a card, before the rules. */
struct tr_card_facts {
	const char *uuid, *name; /* as NVML calls it */
	const char *parent;      /* "" for a GPU */
	unsigned index, gpu_instance, compute_instance;
	int minor, numa, compute_major;
	uint64_t total_bytes; /* 0: not told */
};

/* Adds the card as RULES give it out, healthy. 1: added; 0: filtered out, or there is no room or
 * nothing to give (OUT->reason says so). */
int tr_cards_add(struct tr_cards *out, const struct tr_card_facts *facts,
		 const struct tr_card_rules *rules);

#endif /* TR_CARDS_CARD_H */
