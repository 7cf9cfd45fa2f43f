/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RPC_LISTEN_H
#define TR_RPC_LISTEN_H

#include <event2/event.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tranche/err.h"

/*
 * A listening Unix socket of ours under a name that others may remove or replace. gRPC's own
 * listener can neither make its socket again nor ask who connects, so it is given accepted
 * connections instead. Thread of the loop only.
 */
struct tr_listener {
	int fd; /* -1: none */
	struct event *on_peer, *on_pause_end;
	struct stat made; /* the socket as it was made */
	struct sockaddr_un address;
	unsigned mode;
	void (*on_connection)(int fd, void *arg); /* takes FD */
	void *arg;
};

/* Fills L; listens not yet. -ENAMETOOLONG. */
int tr_listener_init(struct tr_listener *l, struct event_base *base, const char *path,
		     unsigned mode, void (*on_connection)(int fd, void *arg), void *arg,
		     struct tr_err *err);
/* Makes the socket under a name of its own and moves it to PATH in one step; a listener that was
 * open before is closed after. -EADDRINUSE: somebody answers there who is not L. */
int tr_listener_open(struct tr_listener *l, struct tr_err *err);
bool tr_listener_is_reachable(const struct tr_listener *l);
/* Removes the name when it leads to L. Once is enough, more does no harm. */
void tr_listener_close(struct tr_listener *l);

#endif /* TR_RPC_LISTEN_H */
