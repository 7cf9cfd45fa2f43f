/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_DEVICEPLUGIN_KUBELET_H
#define TR_DEVICEPLUGIN_KUBELET_H

#include "deviceplugin/plugin.h"

/*
 * Registration: keeps a plugin known to whichever kubelet owns the directory. A kubelet that starts
 * empties the directory and makes kubelet.sock anew; so inotify watches it, and a look twice a
 * second finds what inotify cannot tell (the directory itself replaced). The plugin's own socket is made
 * again when it is gone, then it registers. It also registers again when no ListAndWatch stream
 * has been open for some seconds: a kubelet that lost us without a restart.
 * Thread of the loop.
 */

#define TR_KUBELET_DIR "/var/lib/kubelet/device-plugins"

enum tr_kubelet_state {
	TR_KUBELET_ABSENT, /* no kubelet.sock */
	TR_KUBELET_REGISTERED,
	TR_KUBELET_REFUSED,   /* or unreachable; tried again */
	TR_KUBELET_NO_SOCKET, /* our own cannot be made; tried again */
};

struct tr_kubelet_options {
	const char *dir;      /* kubelet.sock is there, and the plugin's socket */
	const char *endpoint; /* the socket's name in it */
	const char *resource; /* "nvidia.com/gpu" */
	/* When it changes, and at each refusal; SENTENCE is "" for those that need none. */
	void (*on_state)(enum tr_kubelet_state state, const char *sentence, void *arg);
	void *arg;
};

struct tr_kubelet;

/* Strings and PLUGIN outlive it. Starts with the loop, not before. */
int tr_kubelet_open(struct tr_rpc *rpc, struct event_base *base, struct tr_plugin *plugin,
		    const struct tr_kubelet_options *options, struct tr_kubelet **out,
		    struct tr_err *err);
void tr_kubelet_close(struct tr_kubelet *kubelet); /* not from a callback; NULL is fine */

#endif /* TR_DEVICEPLUGIN_KUBELET_H */
