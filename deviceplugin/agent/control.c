/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/agent/control.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "kube/fields.h"

struct client {
	struct tr_control *control;
	struct bufferevent *stream;
	struct event *deadline; /* of the request, then of taking the answer */
	bool is_answered;
	struct client *next;
};

struct tr_control {
	struct event_base *base;
	struct event *listening;
	int fd;
	struct sockaddr_un at;
	tr_control_answer *answer;
	void *arg;
	struct client *clients;
	unsigned count;
};

/* ---- one client ---- */

static void client_free(struct client *c)
{
	bufferevent_free(c->stream);
	event_free(c->deadline);
	free(c);
}

static void client_end(struct client *c)
{
	struct client **at = &c->control->clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->control->count--;
	client_free(c);
}

json_t *tr_control_reply(const char *line, size_t n, tr_control_answer *answer, void *arg)
{
	tr_autofree char *text = tr_xstrndup(line, n);
	struct tr_err err = { 0 };
	json_t *request = NULL, *reply = json_object();
	const char *what = NULL;
	int r = strlen(text) == n ? tr_json_parse(text, &request, &err)
				  : tr_fail(&err, EBADMSG, "a NUL in the request");

	if (r == 0)
		what = json_string_value(json_object_get(request, "do"));
	if (r == 0 && !what)
		r = tr_fail(&err, EINVAL, "the request does not say what to do");
	if (r == 0)
		r = answer(what, request, reply, arg, &err);
	json_decref(request);
	if (r < 0) {
		json_object_clear(reply);
		/* A name that was cut within a character is no text. */
		if (json_object_set_new(reply, "error", json_string(err.msg)) < 0)
			json_object_set_new(reply, "error", json_string("refused"));
	}
	json_object_set_new(reply, "ok", json_boolean(r >= 0));
	return reply;
}

static void reply_to(struct client *c, const char *line, size_t n)
{
	json_t *reply = tr_control_reply(line, n, c->control->answer, c->control->arg);
	tr_autofree char *text = json_dumps(reply, JSON_COMPACT);

	json_decref(reply);
	c->is_answered = true;
	bufferevent_disable(c->stream, EV_READ);
	(void)event_add(c->deadline, &(struct timeval){ .tv_sec = TR_CONTROL_WRITE_S });
	if (text)
		(void)bufferevent_write(c->stream, text, strlen(text));
	(void)bufferevent_write(c->stream, "\n", 1);
}

static void on_bytes(struct bufferevent *stream, void *arg)
{
	struct client *c = arg;
	struct evbuffer *in = bufferevent_get_input(stream);
	struct evbuffer_ptr end = evbuffer_search_eol(in, NULL, NULL, EVBUFFER_EOL_LF);

	if (c->is_answered)
		return;
	if (end.pos >= 0)
		reply_to(c, (const char *)evbuffer_pullup(in, end.pos + 1),
			 (size_t)end.pos);
	else if (evbuffer_get_length(in) >= TR_CONTROL_REQUEST)
		client_end(c);
}

/* All of the answer is with the kernel. */
static void on_sent(struct bufferevent *stream, void *arg)
{
	(void)stream;
	if (((struct client *)arg)->is_answered)
		client_end(arg);
}

static void on_end(struct bufferevent *stream, short what, void *arg)
{
	(void)stream;
	(void)what;
	client_end(arg);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	client_end(arg);
}

/* ---- the socket ---- */

static bool may_ask(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static void take_client(struct tr_control *control, int fd)
{
	struct client *c = tr_xcalloc(1, sizeof(*c));

	c->control = control;
	c->deadline = event_new(control->base, -1, 0, on_deadline, c);
	c->stream = bufferevent_socket_new(control->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c->deadline || !c->stream)
		abort(); /* as all of a daemon's memory */
	c->next = control->clients;
	control->clients = c;
	control->count++;
	bufferevent_setcb(c->stream, on_bytes, on_sent, on_end, c);
	bufferevent_setwatermark(c->stream, EV_READ, 0, TR_CONTROL_REQUEST);
	(void)event_add(c->deadline, &(struct timeval){ .tv_sec = TR_CONTROL_READ_S });
	(void)bufferevent_enable(c->stream, EV_READ | EV_WRITE);
}

static void on_client(evutil_socket_t fd, short what, void *arg)
{
	struct tr_control *control = arg;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	if (client < 0)
		return;
	if (control->count < TR_CONTROL_CLIENTS && may_ask(client))
		take_client(control, client);
	else
		(void)close(client);
}

static int listen_at(struct tr_control *control, struct tr_err *err)
{
	mode_t mask = umask(0177); /* nobody else from the first moment on */
	int r;

	(void)unlink(control->at.sun_path);
	r = bind(control->fd, (struct sockaddr *)&control->at, sizeof(control->at));
	(void)umask(mask);
	if (r < 0 || listen(control->fd, SOMAXCONN) < 0)
		return tr_fail_errno(err, "control socket %s", control->at.sun_path);
	return 0;
}

int tr_control_open(struct event_base *base, const char *path, tr_control_answer *answer,
		    void *arg, struct tr_control **out, struct tr_err *err)
{
	struct tr_control *control;
	int r;

	if (strlen(path) >= sizeof(control->at.sun_path))
		return tr_fail(err, EINVAL, "control socket %s: the path is too long",
			       path);
	control = tr_xcalloc(1, sizeof(*control));
	control->base = base;
	control->answer = answer;
	control->arg = arg;
	control->at.sun_family = AF_UNIX;
	memcpy(control->at.sun_path, path, strlen(path));
	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = control->fd < 0 ? tr_fail_errno(err, "control socket")
			    : listen_at(control, err);
	if (r == 0) {
		control->listening = event_new(base, control->fd, EV_READ | EV_PERSIST,
					       on_client, control);
		if (!control->listening || event_add(control->listening, NULL) < 0)
			r = tr_fail(err, ENOMEM, "out of memory");
	}
	if (r < 0) {
		tr_control_close(control);
		return r;
	}
	*out = control;
	return 0;
}

void tr_control_close(struct tr_control *control)
{
	if (!control)
		return;
	for (struct client *c = control->clients, *next; c; c = next) {
		next = c->next;
		client_free(c);
	}
	if (control->listening) {
		event_free(control->listening);
		(void)unlink(control->at.sun_path);
	}
	if (control->fd >= 0)
		(void)close(control->fd);
	free(control);
}
