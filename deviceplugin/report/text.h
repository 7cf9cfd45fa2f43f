/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_TEXT_H
#define TR_REPORT_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the UTF-8 character at P (1 to 4), N of which may be read; 0: there is none. Overlong forms,
 * surrogates and what is beyond U+10FFFF are none. *CODE is the character. Pure. */
unsigned tr_utf8_step(const char *p, size_t n, uint32_t *code);

#define TR_UTF8_MEND "\xef\xbf\xbd" /* U+FFFD, in place of a byte that is none */

#endif /* TR_REPORT_TEXT_H */
