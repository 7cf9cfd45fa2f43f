/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * An exported descriptor is one end of a socket pair; the other end stays here. When the
 * first is closed everywhere, in descriptor tables and in messages under way, the kernel
 * proper hangs up on the second. A socket's cookie tells which one a client shows.
 */
#define BUCKETS 1024u

struct sim_export {
	int source; /* SOURCE_EXPORT, must be first */
	int fd;
	uint64_t cookie; /* of the end that was given away */
	struct sim_phys *phys;
	struct sim_export *hash_next;
};

static struct sim_export *hash[BUCKETS];
static uint32_t count;

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) == 0 ? cookie : 0;
}

int sim_export_make(struct sim_phys *phys, int *fd_out)
{
	struct sim_export *export;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
		return -errno;
	export = calloc(1, sizeof(*export));
	if (!export)
		abort();
	export->source = SOURCE_EXPORT;
	export->fd = fds[1];
	export->cookie = cookie_of(fds[0]);
	export->phys = phys;
	r = sim_watch_fd(fds[1], export, 0);
	if (r != 0) {
		close(fds[0]);
		close(fds[1]);
		free(export);
		return r;
	}
	export->hash_next = hash[export->cookie % BUCKETS];
	hash[export->cookie % BUCKETS] = export;
	count++;
	sim_memory_export(phys);
	*fd_out = fds[0];
	return 0;
}

struct sim_phys *sim_export_find(int fd)
{
	uint64_t cookie = cookie_of(fd);
	struct sim_export *export = hash[cookie % BUCKETS];

	while (export && export->cookie != cookie)
		export = export->hash_next;
	return export && cookie ? export->phys : NULL;
}

void sim_export_hung_up(struct sim_export *export)
{
	struct sim_export **at = &hash[export->cookie % BUCKETS];

	while (*at != export)
		at = &(*at)->hash_next;
	*at = export->hash_next;
	count--;
	close(export->fd);
	sim_memory_unexport(export->phys);
	free(export);
}

uint32_t sim_export_count(void)
{
	return count;
}
