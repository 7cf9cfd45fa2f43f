/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_H
#define NODE_H

#include <event2/event.h>

#include "deviceplugin/kubelet.h"
#include "deviceplugin/plugin.h"
#include "deviceplugin/pods.h"
#include "proto/deviceplugin.pb-c.h"
#include "proto/podresources.pb-c.h"

/*
 * A node: a directory, a kubelet that does with it what the real one does (empties it, makes its
 * socket, dials who registers, reads ListAndWatch), and a plugin.
 */
struct node {
	struct event_base *base;
	bool is_turning; /* after a test: an assertion left a callback of the loop, which turns no more */
	struct tr_rpc *rpc;
	char dir[48], kubelet_socket[80], plugin_socket[80], pods_socket[80];

	struct tr_plugin *plugin;
	unsigned allocations, prestarts, preferences; /* actions called */
	struct tr_injection injection;                /* what Allocate answers */
	const char *refusal;                          /* of PreStartContainer, or NULL */

	struct tr_kubelet *registration;
	int state;
	unsigned states; /* told */
	char sentence[600];

	/* the kubelet */
	struct tr_rpc_server *kubelet;
	unsigned registered;
	V1beta1__RegisterRequest *request; /* the last one */
	const char *refuses;               /* registration, or NULL */
	bool hangs, never_listens;
	struct tr_rpc_call *hanging;
	struct tr_rpc_channel *dialled;
	struct tr_rpc_ask *listening;
	unsigned lists; /* messages of ListAndWatch */
	size_t devices, healthy, with_numa;
	char first_id[64];

	struct tr_rpc_server *pod_resources;
	unsigned pod_lists, exhausted; /* exhausted: that many Lists are refused first */
	unsigned list_delay_ms;
};

extern struct node node;

/* For what must come, however busy the machine is. */
#define NODE_SOON_MS 30000u

int node_open(void **state); /* in a directory of its own */
void node_open_at(const char *dir);
/* Of a loop that was left in a callback nothing can be closed, which waits for the loop: it stays as it is, and
 * the test has failed. */
int node_close(void **state);
void node_turn(int flags); /* of the loop */
bool node_until(const unsigned *value, unsigned at_least, unsigned ms);
void node_run_ms(unsigned ms);

void node_plugin_start(void);
void node_offer(unsigned healthy, unsigned unhealthy); /* GPU-0-0, GPU-0-1, ... */
void node_kubelet_start(void);                         /* empties the directory */
void node_kubelet_stop(void);
void node_register(void); /* starts the registration */
void node_dial(void);     /* as the kubelet does: a channel to the plugin and its stream */
void node_pods_start(void);

struct outcome {
	unsigned ends;
	enum tr_rpc_code code;
	char sentence[256];
	void (*look)(const ProtobufCMessage *reply); /* at the reply, or NULL */
};
/* Calls METHOD ("Allocate") of the plugin. */
void node_call(const char *method, const ProtobufCMessage *request,
	       const ProtobufCMessageDescriptor *reply, struct outcome *out);

#endif /* NODE_H */
