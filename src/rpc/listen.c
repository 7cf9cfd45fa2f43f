/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/listen.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rt/cleanup.h"

#define BACKLOG 128
/* How long nobody is accepted when the process has no descriptors left. */
static const struct timeval pause_time = { .tv_usec = 100000 };

/* Root and ourselves: the mode of the socket says so too, but a directory may be shared. */
static bool is_welcome(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

static void on_peer(evutil_socket_t listening, short what, void *arg)
{
	struct tr_listener *l = arg;
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
		    errno == ENOBUFS) {
			(void)event_del(l->on_peer);
			(void)event_add(l->on_pause_end, &pause_time);
		}
		return;
	}
	if (is_welcome(fd))
		l->on_connection(fd, l->arg);
	else
		(void)close(fd);
}

static void on_pause_end(evutil_socket_t fd, short what, void *arg)
{
	struct tr_listener *l = arg;

	(void)fd;
	(void)what;
	if (l->on_peer)
		(void)event_add(l->on_peer, NULL);
}

int tr_listener_init(struct tr_listener *l, struct event_base *base, const char *path,
		     unsigned mode, void (*on_connection)(int fd, void *arg), void *arg,
		     struct tr_err *err)
{
	*l = (struct tr_listener){
		.fd = -1, .mode = mode, .on_connection = on_connection, .arg = arg
	};
	l->address.sun_family = AF_UNIX;
	/* One byte more for the name it is made under. */
	if (strlen(path) + 1 >= sizeof(l->address.sun_path))
		return tr_fail(err, ENAMETOOLONG,
			       "%s is too long for a socket: at most %zu bytes", path,
			       sizeof(l->address.sun_path) - 2);
	memcpy(l->address.sun_path, path, strlen(path) + 1);
	l->on_pause_end = event_new(base, -1, 0, on_pause_end, l);
	return l->on_pause_end ? 0 : tr_fail(err, ENOMEM, "no memory for a listener");
}

/* Whether a process answers at ADDRESS. One that is stuck with a full backlog counts too. */
static bool is_served(const struct sockaddr_un *address)
{
	tr_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
				     0);

	return fd >= 0 && (connect(fd, (const void *)address, sizeof(*address)) == 0 ||
			   errno == EAGAIN);
}

static bool leads_to(const char *path, const struct stat *made)
{
	struct stat now;

	return lstat(path, &now) == 0 && now.st_dev == made->st_dev &&
	       now.st_ino == made->st_ino && S_ISSOCK(now.st_mode);
}

bool tr_listener_is_reachable(const struct tr_listener *l)
{
	return l->fd >= 0 && leads_to(l->address.sun_path, &l->made);
}

static int make_socket(const struct tr_listener *l, struct stat *made, struct tr_err *err)
{
	struct sockaddr_un young = l->address;
	tr_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
				     0);

	young.sun_path[strlen(young.sun_path)] = '~'; /* zeros follow: init saw to it */
	(void)unlink(young.sun_path);
	if (fd < 0 || bind(fd, (const void *)&young, sizeof(young)) < 0)
		return tr_fail_errno(err, "socket %s", young.sun_path);
	if (chmod(young.sun_path, l->mode) < 0 || listen(fd, BACKLOG) < 0 ||
	    lstat(young.sun_path, made) < 0 ||
	    rename(young.sun_path, l->address.sun_path) < 0) {
		int r = tr_fail_errno(err, "socket %s", l->address.sun_path);

		(void)unlink(young.sun_path);
		return r;
	}
	return tr_take_fd(&fd);
}

static void stop(struct tr_listener *l)
{
	if (l->on_peer)
		event_free(l->on_peer);
	l->on_peer = NULL;
	if (l->fd >= 0)
		(void)close(l->fd);
	l->fd = -1;
}

int tr_listener_open(struct tr_listener *l, struct tr_err *err)
{
	struct event *on_new_peer;
	struct stat made;
	int fd;

	if (!tr_listener_is_reachable(l) && is_served(&l->address))
		return tr_fail(err, EADDRINUSE, "another process serves %s",
			       l->address.sun_path);
	fd = make_socket(l, &made, err);
	if (fd < 0)
		return fd;
	on_new_peer = event_new(event_get_base(l->on_pause_end), fd, EV_READ | EV_PERSIST,
				on_peer, l);
	if (!on_new_peer || event_add(on_new_peer, NULL) < 0) {
		if (on_new_peer)
			event_free(on_new_peer);
		(void)close(fd);
		return tr_fail(err, ENOMEM, "no memory for a listener");
	}
	stop(l);
	l->fd = fd;
	l->made = made;
	l->on_peer = on_new_peer;
	return 0;
}

void tr_listener_close(struct tr_listener *l)
{
	if (tr_listener_is_reachable(l))
		(void)unlink(l->address.sun_path);
	stop(l);
	if (l->on_pause_end)
		event_free(l->on_pause_end);
	l->on_pause_end = NULL;
}
