/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RT_CLEANUP_H
#define TR_RT_CLEANUP_H

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

/* Owners that let go by themselves; moved out of scope only through tr_take_*. errno
 * survives. */
#define tr_cleanup(f) __attribute__((cleanup(f)))
#define tr_autoclose  tr_cleanup(tr_close_at)
#define tr_autounmap  tr_cleanup(tr_unmap_at)

static inline void tr_close_at(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	errno = saved;
}

static inline int tr_take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

struct tr_mapping {
	void *addr; /* NULL: none */
	size_t bytes;
};

static inline void tr_unmap_at(struct tr_mapping *m)
{
	int saved = errno;

	if (m->addr)
		(void)munmap(m->addr, m->bytes);
	m->addr = NULL;
	errno = saved;
}

static inline struct tr_mapping tr_take_mapping(struct tr_mapping *m)
{
	struct tr_mapping taken = *m;

	m->addr = NULL;
	return taken;
}

#endif /* TR_RT_CLEANUP_H */
