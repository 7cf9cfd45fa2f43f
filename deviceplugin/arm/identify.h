/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_ARM_IDENTIFY_H
#define TR_ARM_IDENTIFY_H

#include "base/buf.h"
#include "deviceplugin/arm/book.h"
#include "deviceplugin/cards/card.h"
#include "deviceplugin/pods.h"

/*
 * Which container an allocation is for, and what the scheduler decided that it gets. Pure.
 *
 * What is known (observed of the kubelet): it admits pods one at a time, so that a pod's Allocates
 * stand next to each other, in the order of its containers; ids name the pod, not the container, for
 * an init container's ids are given again to containers after it; PodResources tells the ids of
 * sidecars and app containers, never those of init containers that end.
 */

/* The pod whose containers have IDS. *OUT is one of its rows. -EAGAIN: the kubelet does not list
 * them (yet); -EBADMSG: they are of more than one pod. */
int tr_owner_find(const struct tr_pod_list *rows, const struct tr_ids *ids,
		  const struct tr_pod_row **out, struct tr_err *err);

/* How many devices of RESOURCE the container asks for. -EINVAL for an amount that is none. */
int tr_wanted(const struct tr_pod *pod, size_t index, const char *resource, uint32_t *out,
	      struct tr_err *err);

/*
 * The allocations of POD's containers: BY_INDEX has room for pod->container_count and gets NULL for
 * those that ask for none. The newest run of allocations that fits the pod's containers in order,
 * number and, where PodResources tells them, ids; ASKED (or NULL) is the ids of the call, which one
 * of them must have. Those that are armed for another pod fit nowhere.
 * -EAGAIN: there is no such run; ERR names the container that lacks its own.
 */
int tr_identify(const struct tr_book *book, const struct tr_pod_list *rows,
		const struct tr_pod *pod, const char *resource, const struct tr_ids *asked,
		struct tr_alloc **by_index, struct tr_err *err);

/* ---- what a container gets ---- */

struct tr_arm_rules {
	const char *resource, *resource_priority;
	bool is_core_unlimited; /* time is counted and not limited */
	uint32_t default_cores; /* of a container that was given no number; 0: no limit */
	bool is_of_running; /* for containers that are on the cards already: healthy or not */
};

/* One container's share. Release with tr_share_free(). */
struct tr_share {
	struct tr_alloc_part *parts;
	size_t count;
	enum tr_priority priority;
};

/*
 * Reads the scheduler's decision on POD (TR_POD_ALLOCATED) into SHARES, one for each of its
 * containers, and verifies it: the number of devices that each container asks for, cards of this
 * node, each once in a container, healthy, a memory that is not 0, at most 100 percent of time.
 * -ENOENT: nobody has decided on this pod; -EBADMSG, -EINVAL, -EFBIG: what is wrong with the decision.
 */
int tr_decision_read(const struct tr_pod *pod, const struct tr_arm_rules *rules,
		     const struct tr_cards *cards, struct tr_share *shares,
		     struct tr_err *err);
/* Likewise from TEXT, in the same form: for what was granted later (`kube/pod_devices.h`). */
int tr_decision_parse(const char *text, const struct tr_pod *pod,
		      const struct tr_arm_rules *rules, const struct tr_cards *cards,
		      struct tr_share *shares, struct tr_err *err);
void tr_shares_free(struct tr_share *shares, size_t count);

/*
 * A decision for a pod that came past every GPU scheduler: whole cards that nobody has, in the form of
 * TR_POD_ALLOCATED, added to DECISION. IS_PROMISED (or NULL): a card that some pod was decided to have and is not
 * armed on yet. -ENOSPC: too few are free.
 */
typedef bool tr_card_is_promised(const char *uuid, void *arg);
int tr_whole_cards(const struct tr_book *book, const struct tr_cards *cards,
		   const struct tr_pod *pod, const char *resource,
		   tr_card_is_promised *is_promised, void *arg, struct tr_buf *decision,
		   struct tr_err *err);
/* The decision on POD, which may run, has that card, and is of as many devices of RESOURCE as its containers
 * ask for: for IS_PROMISED. */
bool tr_pod_is_on(const struct tr_pod *pod, const char *resource, const char *uuid);

/* ---- room ---- */

/* A container that would be on the cards: an armed allocation, or one that is about to be. */
struct tr_room_row {
	const char *uid;
	enum tr_container_kind kind;
	unsigned index;
	const struct tr_alloc_part *parts;
	size_t part_count;
	const struct tr_alloc *instead; /* which allocation it replaces, or NULL */
};

/*
 * Would the ADDED containers, all of one pod, and what the book has armed take more of a card than it gives: memory,
 * time, or more containers at once than it is split for? A pod takes of a card what its containers
 * can take at any one moment: an init container that ends runs with the sidecars before it only.
 * And, as HAMi's scheduler has it, a container with cores 100 shares no card with another, of its own pod neither, unless
 * more or less than 100 percent of the card's time is given out: not with one that has no limit either.
 * Where all of them replace allocations, and of a card take no more than those: they may, also when it is over-given.
 * -ENOSPC: ERR says which card, what is taken and what was asked for.
 */
int tr_room_check(const struct tr_book *book, const struct tr_cards *cards,
		  const struct tr_room_row *added, size_t count, struct tr_err *err);

/* What the armed allocations take of a card. */
struct tr_room {
	uint64_t bytes;
	uint32_t cores, containers;
	bool is_whole;  /* a container has all of its time, cores 100 */
	bool is_joined; /* and another container of its pod is on the card at that moment */
};
void tr_room_taken(const struct tr_book *book, const char *uuid, struct tr_room *out);

#endif /* TR_ARM_IDENTIFY_H */
