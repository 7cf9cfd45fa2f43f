/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BASE_MEM_H
#define TR_BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

/* For daemons: memory that is there, or the process ends (restarting is the recovery). Nothing that
 * lives in a stranger's process may use these. */
void *tr_xmalloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *tr_xcalloc(size_t n, size_t bytes) __attribute__((malloc, returns_nonnull));
void *tr_xrealloc(void *old, size_t bytes) __attribute__((returns_nonnull));
char *tr_xstrdup(const char *text) __attribute__((malloc, returns_nonnull));
char *tr_xstrndup(const char *text, size_t n) __attribute__((malloc, returns_nonnull));
char *tr_xprintf(const char *format, ...)
	__attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

#define tr_autofree __attribute__((cleanup(tr_free_at)))

static inline void tr_free_at(void *at)
{
	free(*(void **)at);
}

/* Moves a pointer out of its owner. */
#define tr_take_ptr(owner)                        \
	__extension__({                           \
		__typeof__(owner) taken_ = owner; \
		owner = NULL;                     \
		taken_;                           \
	})

#endif /* TR_BASE_MEM_H */
