/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BASE_BASE64_H
#define TR_BASE_BASE64_H

#include <stddef.h>

/* Decodes standard base64 (RFC 4648 section 4, padded); blanks and line ends are skipped. OUT has
 * room for n / 4 * 3 + 3 bytes. 0 or -EBADMSG. Pure. */
int tr_base64_decode(const char *text, size_t n, void *out, size_t *bytes_out);

#endif /* TR_BASE_BASE64_H */
