/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/kubelet.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/deviceplugin.pb-c.h"
#include "rt/file.h"

#define LOOK_US           400000
#define SECOND_NS         UINT64_C(1000000000)
#define REGISTER_MS       10000 /* the kubelet dials back before it answers */
#define WAIT_FIRST_NS     (SECOND_NS / 20)
#define WAIT_MOST_NS      (5 * SECOND_NS)
#define WITHOUT_STREAM_NS (3 * SECOND_NS)
#define EVENTS            (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF)

static const struct tr_rpc_limits limits = { 65536, 65536, 1u << 20 };

/* A socket, told from another at the same path: inodes are used again, times are not. */
struct identity {
	bool exists;
	dev_t device;
	ino_t inode;
	struct timespec changed;
};

struct tr_kubelet {
	struct tr_rpc *rpc;
	struct tr_plugin *plugin;
	struct tr_kubelet_options options;
	char socket[108];
	struct event *on_look, *on_notify;
	int notify, watch; /* inotify; -1: not watching */

	struct tr_rpc_channel *channel;
	bool is_asking;
	struct identity asked;           /* the kubelet that is asked now */
	struct identity registered;      /* the one that knows us */
	uint64_t not_before_ns, wait_ns; /* back-off */
	uint64_t streamed_ns;            /* last seen with a stream, or registered */
	int told;                        /* the state, -1: none yet */
};

static struct identity identify(const char *path)
{
	struct stat s;

	if (lstat(path, &s) < 0 || !S_ISSOCK(s.st_mode))
		return (struct identity){ .exists = false };
	return (struct identity){ true, s.st_dev, s.st_ino, s.st_ctim };
}

static bool is_same(const struct identity *a, const struct identity *b)
{
	return a->exists == b->exists && a->device == b->device && a->inode == b->inode &&
	       a->changed.tv_sec == b->changed.tv_sec &&
	       a->changed.tv_nsec == b->changed.tv_nsec;
}

static void tell(struct tr_kubelet *k, enum tr_kubelet_state state, const char *sentence)
{
	bool is_news = k->told != (int)state || state == TR_KUBELET_REFUSED;

	k->told = (int)state;
	if (is_news && k->options.on_state)
		k->options.on_state(state, sentence, k->options.arg);
}

static void back_off(struct tr_kubelet *k)
{
	k->not_before_ns = tr_clock_ns() + k->wait_ns;
	k->wait_ns = k->wait_ns * 2 < WAIT_MOST_NS ? k->wait_ns * 2 : WAIT_MOST_NS;
}

static void look_soon(struct tr_kubelet *k)
{
	uint64_t now = tr_clock_ns();
	uint64_t us = k->not_before_ns > now ? (k->not_before_ns - now) / 1000 + 1
					     : LOOK_US;
	struct timeval wait = { .tv_usec = (suseconds_t)(us < LOOK_US ? us : LOOK_US) };

	(void)event_add(k->on_look, &wait);
}

static void on_registered(const struct tr_rpc_end *end, void *arg)
{
	struct tr_kubelet *k = arg;
	char sentence[600];

	k->is_asking = false;
	k->streamed_ns = tr_clock_ns();
	if (end->code == TR_RPC_OK) {
		k->registered = k->asked;
		/* Not reset: who registers and never listens is not asked ever faster. */
		back_off(k);
		tell(k, TR_KUBELET_REGISTERED, "");
	} else {
		back_off(k);
		(void)snprintf(sentence, sizeof(sentence),
			       "the kubelet does not register %s: %s (%d)",
			       k->options.resource, end->sentence, (int)end->code);
		tell(k, TR_KUBELET_REFUSED, sentence);
	}
	look_soon(k);
}

/* A channel of its own each time: an old one may still lead to a kubelet that was replaced. */
static int ask(struct tr_kubelet *k, struct tr_err *err)
{
	const struct tr_plugin_actions *actions = tr_plugin_actions(k->plugin);
	static char version[] = "v1beta1";
	V1beta1__DevicePluginOptions options;
	V1beta1__RegisterRequest request;
	struct tr_rpc_question question = {
		.method = "/v1beta1.Registration/Register",
		.request = &request.base,
		.reply = &v1beta1__empty__descriptor,
		.deadline_ms = REGISTER_MS,
		.on_end = on_registered,
		.arg = k,
	};
	int r;

	tr_rpc_channel_close(k->channel);
	k->channel = NULL;
	r = tr_rpc_channel_open(k->rpc, k->socket, &limits, &k->channel, err);
	if (r < 0)
		return r;
	v1beta1__device_plugin_options__init(&options);
	options.pre_start_required = actions->prestart != NULL;
	options.get_preferred_allocation_available = actions->prefer != NULL;
	v1beta1__register_request__init(&request);
	request.version = version;
	request.endpoint = (char *)(uintptr_t)k->options.endpoint;
	request.resource_name = (char *)(uintptr_t)k->options.resource;
	request.options = &options;
	return tr_rpc_ask(k->channel, &question, NULL, err);
}

/* Whether the kubelet that is there has to be told of us. */
static bool is_due(struct tr_kubelet *k, const struct identity *now)
{
	uint64_t time = tr_clock_ns();

	if (!is_same(now, &k->registered) && !is_same(now, &k->asked)) {
		k->asked = *now;
		k->wait_ns = WAIT_FIRST_NS; /* somebody new */
		k->not_before_ns = 0;
	}
	if (tr_plugin_streams(k->plugin)) {
		k->streamed_ns = time;
		k->wait_ns = WAIT_FIRST_NS;
	}
	if (is_same(now, &k->registered) && time - k->streamed_ns < WITHOUT_STREAM_NS)
		return false;
	return time >= k->not_before_ns;
}

static void watch_dir(struct tr_kubelet *k)
{
	/* Also when it is watched: the same number comes back unless it is another directory. */
	k->watch = inotify_add_watch(k->notify, k->options.dir, EVENTS | IN_ONLYDIR);
}

static void look(struct tr_kubelet *k)
{
	struct identity now = identify(k->socket);
	struct tr_err err = { 0 };
	int r = 0;

	watch_dir(k);
	if (!tr_plugin_is_reachable(k->plugin)) {
		r = tr_plugin_listen(k->plugin, &err);
		if (r < 0) {
			tell(k, TR_KUBELET_NO_SOCKET, err.msg);
			return;
		}
		/* Whoever removed it was a kubelet that started, most likely. */
		k->registered = (struct identity){ .exists = false };
	}
	if (!now.exists) {
		k->registered = now;
		tell(k, TR_KUBELET_ABSENT, "");
		return;
	}
	if (k->is_asking && !is_same(&now, &k->asked)) {
		tr_rpc_channel_close(k->channel); /* nobody will answer */
		k->channel = NULL;
		k->is_asking = false;
	}
	if (k->is_asking || !is_due(k, &now))
		return;
	k->asked = now;
	k->is_asking = true;
	r = ask(k, &err);
	if (r < 0) {
		k->is_asking = false;
		back_off(k);
		tell(k, TR_KUBELET_REFUSED, err.msg);
	}
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	look(arg);
	look_soon(arg);
}

static void on_notify(evutil_socket_t fd, short what, void *arg)
{
	char events[4096];

	(void)what;
	while (read(fd, events, sizeof(events)) > 0) {
	}
	look(arg);
	look_soon(arg);
}

static int start(struct tr_kubelet *k, struct event_base *base, struct tr_err *err)
{
	static const struct timeval now;

	k->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (k->notify < 0)
		return tr_fail_errno(err, "inotify");
	k->on_look = event_new(base, -1, 0, on_look, k);
	k->on_notify = event_new(base, k->notify, EV_READ | EV_PERSIST, on_notify, k);
	if (!k->on_look || !k->on_notify || event_add(k->on_notify, NULL) < 0 ||
	    event_add(k->on_look, &now) < 0)
		return tr_fail(err, ENOMEM, "no memory to watch %s", k->options.dir);
	return 0;
}

int tr_kubelet_open(struct tr_rpc *rpc, struct event_base *base, struct tr_plugin *plugin,
		    const struct tr_kubelet_options *options, struct tr_kubelet **out,
		    struct tr_err *err)
{
	struct tr_kubelet *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return tr_fail(err, ENOMEM, "no memory to register");
	*k = (struct tr_kubelet){ .rpc = rpc,
				  .plugin = plugin,
				  .options = *options,
				  .notify = -1,
				  .watch = -1,
				  .wait_ns = WAIT_FIRST_NS,
				  .told = -1 };
	r = snprintf(k->socket, sizeof(k->socket), "%s/kubelet.sock", options->dir);
	if (r < 0 || (size_t)r >= sizeof(k->socket))
		r = tr_fail(err, ENAMETOOLONG, "%s is too long for a socket", options->dir);
	else
		r = start(k, base, err);
	if (r < 0) {
		tr_kubelet_close(k);
		return r;
	}
	*out = k;
	return 0;
}

void tr_kubelet_close(struct tr_kubelet *k)
{
	if (!k)
		return;
	tr_rpc_channel_close(k->channel);
	if (k->on_look)
		event_free(k->on_look);
	if (k->on_notify)
		event_free(k->on_notify);
	if (k->notify >= 0)
		(void)close(k->notify);
	free(k);
}
