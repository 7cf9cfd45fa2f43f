/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_REGISTER_H
#define TR_CARDS_REGISTER_H

#include <event2/event.h>

#include "base/buf.h"
#include "deviceplugin/cards/card.h"
#include "kube/client.h"

/*
 * What the API server knows of this node's cards:
 *   - the register annotation (TR_NODE_REGISTER) and, if given, the pair scores (TR_NODE_SCORES);
 *   - a Lease of the node's name, renewed as a sign of life;
 *   - the node condition GPUUnhealthy, and an event whenever a card changes or two tell different NVLinks;
 *   - if wanted, memory and cores in the node's capacity, for people to read.
 * The node is watched, and each of them is written only when the live object differs. Failures are tried
 * again with growing pauses. Thread of the loop.
 */
struct tr_register;

struct tr_register_options {
	const char *node;
	const char *component;   /* who says it in events: "tranched" */
	const char *lease_space; /* NULL or "": no Lease */
	uint32_t lease_s;        /* it lasts so long, and is renewed at a quarter; 0: 40 */
	bool with_capacity;
	const char *mem_name,
		*cores_name; /* resources of the capacity; NULL: HAMi's names */
	/* A sentence worth a line in the log. Optional. */
	void (*on_trouble)(const char *sentence, void *arg);
	void *arg;
};

/* Texts are copied. Nothing is written before the first tr_register_set(). */
int tr_register_open(struct tr_register **out, struct tr_kube *kube,
		     struct event_base *base, const struct tr_register_options *options,
		     struct tr_err *err);
/* Before the client is closed; not from a callback. What is under way may still arrive. */
void tr_register_close(struct tr_register *reg);

/* The cards from now on, and their scores' text or NULL. */
void tr_register_set(struct tr_register *reg, const struct tr_cards *cards,
		     const char *scores);

struct tr_register_state {
	bool is_registered;    /* the live node says what it should */
	uint64_t writes;       /* of the annotations, since the start */
	uint64_t troubles;     /* failed requests */
	int64_t lease_unix_us; /* last renewed; 0: never */
};
struct tr_register_state tr_register_state(const struct tr_register *reg);

/* The register annotation's text. -EINVAL: a card's name is not UTF-8. Pure. */
int tr_register_print(const struct tr_cards *cards, struct tr_buf *out);
/* Its sentence for the node condition: "7 of 8 GPUs are healthy; GPU-...: ...". */
void tr_register_sentence(const struct tr_cards *cards, char *out, size_t room);

#endif /* TR_CARDS_REGISTER_H */
