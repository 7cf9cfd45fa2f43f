/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_DEVICEPLUGIN_PLUGIN_H
#define TR_DEVICEPLUGIN_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "deviceplugin/devices.h"
#include "rpc/rpc.h"

/*
 * The device plugin v1beta1 as the kubelet calls it, without any knowledge of GPUs: who uses
 * it fills in what Allocate, GetPreferredAllocation and PreStartContainer answer. Every function in the
 * loop's thread.
 */

struct tr_plugin;

struct tr_ids {
	const char *const *ids;
	size_t count;
};

struct tr_preference {
	struct tr_ids available,
		needed; /* the kubelet's available ones include the needed */
	size_t size;    /* how many to choose in all: needed.count ... available.count */
};

#define TR_PLUGIN_CONTAINERS 64 /* of one request; the kubelet sends one */

/*
 * Requests, checked: every id is offered and comes once. What is passed is valid until they return;
 * CALL is to be ended by the answer below its name, or tr_rpc_refuse(), now or later
 * (rpc/rpc.h says what becomes of it when the kubelet goes).
 */
struct tr_plugin_actions {
	void (*allocate)(struct tr_rpc_call *call, const struct tr_ids *containers,
			 size_t count, void *arg);
	void (*prefer)(struct tr_rpc_call *call, const struct tr_preference *containers,
		       size_t count, void *arg); /* NULL: not offered */
	void (*prestart)(struct tr_rpc_call *call, const struct tr_ids *ids,
			 void *arg); /* NULL: not asked for */
	/* A call that the above do not see: METHOD ("Allocate") has IDS (of the container that is wrong; of those that
	 * are available) that are not as they promise. SENTENCE is what the kubelet is told. Optional. */
	void (*refused)(const char *method, const struct tr_ids *ids, const char *sentence,
			void *arg);
	/* Every call but the stream, also those that no action sees: when it is answered, with the
	 * method ("Allocate") and how long after it came. Optional. */
	void (*answered)(const char *method, enum tr_rpc_code code, uint64_t ns, void *arg);
	void *arg;
};

/* Serves at the socket PATH. ACTIONS is copied. Errors as tr_rpc_server_open(). */
int tr_plugin_open(struct tr_rpc *rpc, const char *path,
		   const struct tr_plugin_actions *actions, struct tr_plugin **out,
		   struct tr_err *err);
void tr_plugin_close(struct tr_plugin *plugin); /* as tr_rpc_server_close(); NULL is fine */

/* The devices from now on; streams are told when they differ. Errors as tr_device_set_fill(). */
int tr_plugin_offer(struct tr_plugin *plugin, const struct tr_plugin_device *devices,
		    size_t count, struct tr_err *err);
/* Open ListAndWatch streams: 1 when a kubelet listens. */
unsigned tr_plugin_streams(const struct tr_plugin *plugin);
const struct tr_plugin_actions *tr_plugin_actions(const struct tr_plugin *plugin);
/* As those of the server. */
bool tr_plugin_is_reachable(const struct tr_plugin *plugin);
int tr_plugin_listen(struct tr_plugin *plugin, struct tr_err *err);

/* ---- answers ---- */

struct tr_pair {
	const char *key, *value;
};

struct tr_mount {
	const char *host, *container;
	bool read_only;
};

struct tr_device_node {
	const char *host, *container;
	const char *permissions; /* of "rwm" */
};

struct tr_injection {
	const struct tr_pair *envs, *annotations;
	const struct tr_mount *mounts;
	const struct tr_device_node *nodes;
	const char *const *cdi; /* fully qualified names */
	size_t env_count, annotation_count, mount_count, node_count, cdi_count;
};

/* One INJECTION for each container of the request, in its order. End CALL; errors as
 * tr_rpc_reply(), -ENOMEM (the kubelet is told). */
int tr_plugin_allocated(struct tr_rpc_call *call, const struct tr_injection *injections,
			size_t count);
int tr_plugin_preferred(struct tr_rpc_call *call, const struct tr_ids *choices,
			size_t count);
int tr_plugin_prestarted(struct tr_rpc_call *call);

#endif /* TR_DEVICEPLUGIN_PLUGIN_H */
