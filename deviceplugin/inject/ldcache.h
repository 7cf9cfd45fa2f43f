/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_INJECT_LDCACHE_H
#define TR_INJECT_LDCACHE_H

#include <stddef.h>

#include "tranche/err.h"

/*
 * The loader's cache, /etc/ld.so.cache, as glibc 2.2 and later write it ("glibc-ld.so.cache1.1", alone or behind
 * the older format). EACH is told of every library for this processor, in the cache's order, once
 * the whole file was found sound. 0 or -EBADMSG. Pure.
 */
int tr_ldcache_each(const void *bytes, size_t n,
		    void (*each)(const char *name, const char *path, void *arg), void *arg,
		    struct tr_err *err);

#endif /* TR_INJECT_LDCACHE_H */
