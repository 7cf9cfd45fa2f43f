/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BASE_SLURP_H
#define TR_BASE_SLURP_H

#include <stddef.h>

#include "tranche/err.h"

/* All bytes of the regular file PATH (links are followed), with a NUL after them that *N does not
 * count. -EFBIG when there are more than MAX; -EBADMSG when it is no regular file. free() it. */
int tr_slurp(const char *path, size_t max, char **out, size_t *n, struct tr_err *err);

#endif /* TR_BASE_SLURP_H */
