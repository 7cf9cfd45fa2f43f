/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_TRACE_H
#define TR_HOOK_TRACE_H

/* A line into the file that TRANCHE_TRACE names; nothing at all without it. At most 256
 * bytes, one write: lines of several processes do not mix. errno survives. Not for hot
 * paths. */
void tr_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif /* TR_HOOK_TRACE_H */
