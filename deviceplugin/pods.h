/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_DEVICEPLUGIN_PODS_H
#define TR_DEVICEPLUGIN_PODS_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/rpc.h"

/*
 * Which container has which of our devices: PodResources v1 of the kubelet. One List is in flight at most; it
 * answers everybody who asked before it was sent (who asks later may need what it does not show yet,
 * and gets the next one). Beyond some hundred Lists a second the kubelet answers ResourceExhausted;
 * that is waited out. Thread of the loop.
 */

#define TR_PODS_SOCKET "/var/lib/kubelet/pod-resources/kubelet.sock"

/* One container that has devices of the resource, in the kubelet's order. */
struct tr_pod_row {
	const char *namespace, *pod, *container;
	const char *const *ids;
	const uint64_t *hashes; /* tr_id_hash() of IDS; NULL: nobody has reckoned them */
	size_t count;
};

/* Ids of one card differ in their last letters only, so that this tells them apart sooner than their text. */
static inline uint64_t tr_id_hash(const char *id)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (; *id; id++)
		hash = (hash ^ (unsigned char)*id) * UINT64_C(0x100000001b3);
	return hash;
}

struct tr_pod_list {
	struct tr_pod_row *rows;
	size_t count;
	const char **ids; /* of all rows */
	uint64_t *hashes;
};

/* From a decoded V1__ListPodResourcesResponse, whose strings the list points to. Several entries of one
 * container become one row. -ENOMEM. */
int tr_pod_list_make(const ProtobufCMessage *response, const char *resource,
		     struct tr_pod_list *out);
void tr_pod_list_free(struct tr_pod_list *list);

struct tr_pods;
struct tr_pods_waiter;

/* Strings outlive it. */
int tr_pods_open(struct tr_rpc *rpc, struct event_base *base, const char *socket,
		 const char *resource, struct tr_pods **out, struct tr_err *err);
/* Nobody who waits is told. Not from a callback of rpc; NULL is fine. */
void tr_pods_close(struct tr_pods *pods);

/*
 * ANSWER comes once, never from within: 0 and the rows, valid until it returns; or -ETIMEDOUT after
 * DEADLINE_MS or when a List has no answer for 5 s, -EIO, -ENOMEM with the sentence. *OUT (may be NULL) is valid until then.
 */
typedef void tr_pods_answer(int r, const struct tr_pod_list *list, const char *sentence,
			    void *arg);
int tr_pods_ask(struct tr_pods *pods, unsigned deadline_ms, tr_pods_answer *answer,
		void *arg, struct tr_pods_waiter **out, struct tr_err *err);
void tr_pods_forget(struct tr_pods_waiter *waiter); /* ANSWER does not come */

#endif /* TR_DEVICEPLUGIN_PODS_H */
