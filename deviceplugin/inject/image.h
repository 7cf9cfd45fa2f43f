/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_INJECT_IMAGE_H
#define TR_INJECT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "tranche/err.h"

#if defined(__x86_64__)
#define TR_MULTIARCH "x86_64-linux-gnu"
#else /* the hook is built for no third */
#define TR_MULTIARCH "aarch64-linux-gnu"
#endif

/* Shared libraries as bytes. Nothing of them is believed. Pure. */

/* The first bytes of a shared library for this processor? */
bool tr_image_is_ours(const void *bytes, size_t n);

/*
 * Would the loader of a container's glibc take it, one as old as 2.17 too? For this processor, no segment behind the
 * end (else every program dies of SIGBUS), needs nothing but libc's own libraries and no symbol newer than
 * GLIBC_2.17. -EBADMSG with a sentence.
 */
int tr_image_check(const void *bytes, size_t n, struct tr_err *err);

#endif /* TR_INJECT_IMAGE_H */
