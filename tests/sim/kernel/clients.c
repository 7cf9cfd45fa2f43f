/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* A descriptor for the death of a client's process. */
struct sim_watch {
	int source; /* SOURCE_WATCH, must be first */
	int fd;
	struct sim_client *client;
};

static struct sim_client *first, *buried;
static uint32_t count;
static uint64_t next_serial = 1;

struct sim_client *sim_clients_first(void)
{
	return first;
}

uint32_t sim_clients_count(void)
{
	return count;
}

/*
 * A process that forked may leave copies of its connection behind, so the hang-up alone
 * does not tell its death. The pidfd does, across pid namespaces where the kernel hands one
 * out with the connection (Linux 6.5).
 */
static void watch_death(struct sim_client *client)
{
	socklen_t n = sizeof(int);
	int fd = -1;

	if (getsockopt(client->fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &n) != 0)
		fd = client->host_pid > 0
			     ? (int)syscall(SYS_pidfd_open, client->host_pid, 0)
			     : -1;
	if (fd < 0)
		return;
	client->watch = calloc(1, sizeof(*client->watch));
	if (!client->watch)
		abort();
	client->watch->source = SOURCE_WATCH;
	client->watch->fd = fd;
	client->watch->client = client;
	sim_watch_fd(fd, client->watch, EPOLLIN);
}

static void accept_one(int fd)
{
	struct sim_client *client;
	struct ucred peer;
	socklen_t n = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0) {
		close(fd);
		return;
	}
	client = calloc(1, sizeof(*client));
	if (!client)
		abort();
	client->source = SOURCE_CLIENT;
	client->fd = fd;
	client->table_fd = -1;
	client->host_pid = peer.pid;
	client->uid = peer.uid;
	client->serial = next_serial++;
	if (sim_watch_fd(fd, client, EPOLLIN) != 0) {
		close(fd);
		free(client);
		return;
	}
	watch_death(client);
	/* newest last, so that lists come in order of arrival */
	if (!first) {
		first = client;
		client->prev = client;
	} else {
		client->prev = first->prev;
		first->prev->next = client;
		first->prev = client;
	}
	count++;
}

void sim_clients_accept(int listen_fd)
{
	int fd;

	while ((fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		accept_one(fd);
}

/* first->prev is the last one; nobody else's prev is circular. */
static void unlink_client(struct sim_client *client)
{
	struct sim_client *last = first->prev;

	if (client == first)
		first = client->next;
	else
		client->prev->next = client->next;
	if (client == last)
		last = client == first ? NULL : client->prev;
	else
		client->next->prev = client->prev;
	if (first)
		first->prev = last;
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

void sim_client_drop(struct sim_client *client)
{
	if (client->is_gone)
		return;
	client->is_gone = true;
	unlink_client(client);
	count--;
	sim_memory_drop_client(client);
	sim_time_drop_client(client, client->watch && !is_readable(client->watch->fd));
	close(client->fd);
	if (client->table_fd >= 0)
		close(client->table_fd);
	if (client->watch)
		close(client->watch->fd);
	client->next = buried;
	buried = client;
}

void sim_watch_ended(struct sim_watch *watch)
{
	sim_client_drop(watch->client);
}

void sim_clients_bury(void)
{
	while (buried) {
		struct sim_client *client = buried;

		buried = client->next;
		free(client->watch);
		free(client);
	}
}

int sim_clients_greet(struct sim_client *client, const struct wire_hello *hello)
{
	struct sim_client *next;

	if (hello->version != WIRE_VERSION)
		return -EPROTO;
	if (client->is_greeted)
		return -EINVAL;
	client->is_greeted = true;
	client->own_pid = hello->own_pid;
	memcpy(client->image, hello->image, sizeof(client->image));
	memcpy(client->name, hello->name, sizeof(client->name) - 1);
	/* the same process after exec(): what it had before is gone, whoever keeps a copy
	 * of the old connection */
	for (struct sim_client *other = first; other; other = next) {
		next = other->next;
		if (other != client && other->is_greeted && other->host_pid > 0 &&
		    other->host_pid == client->host_pid &&
		    memcmp(other->image, client->image, sizeof(client->image)) != 0)
			sim_client_drop(other);
	}
	return 0;
}
