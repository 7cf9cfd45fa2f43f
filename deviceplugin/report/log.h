/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_LOG_H
#define TR_REPORT_LOG_H

#include <stdbool.h>
#include <stdint.h>

/*
 * One line per event that matters: ts, level and event, then what belongs to it.
 *
 *   ts=2026-08-21T10:00:00.000000Z level=info event=slice_armed pod=shop/cart-0 device=GPU-...
 *
 * Keys and event names are words of the program's ([a-z_]); values are anything: they are escaped, so
 * that no value can begin another line, key or escape sequence of a terminal; bytes that are no UTF-8
 * become U+FFFD. A line is at most TR_LOG_LINE bytes with its end: long values are cut ("..."), and
 * keys that find no room are counted (left_out). It is written at once or not at all: a pipe that is
 * full loses whole lines, counted, after 10 ms of waiting.
 *
 * Bounds: the same event with the same values is written four times in ten seconds, any event 64
 * times a second with bursts of 1024; the next line of either says how many were left out (repeats,
 * dropped). Errors are never dropped for the second.
 *
 * Thread safe.
 */
enum tr_log_level { TR_LOG_ERROR, TR_LOG_WARN, TR_LOG_INFO, TR_LOG_DEBUG };
enum tr_log_format { TR_LOG_LOGFMT, TR_LOG_JSON };

#define TR_LOG_LINE 4096 /* PIPE_BUF: what a pipe takes whole */

/* Lines above LEVEL are not made. Before it is called: info, logfmt, stderr. */
void tr_log_open(enum tr_log_level level, enum tr_log_format format, int fd);

/* Pairs of a key and a value, both text, and a NULL at the end. A pair whose value is NULL is left
 * out. */
void tr_log(enum tr_log_level level, const char *event, ...) __attribute__((sentinel));

/* 0, or -EINVAL: "error", "warn", "info", "debug"; "logfmt", "json". */
int tr_log_level_parse(const char *text, enum tr_log_level *out);
int tr_log_format_parse(const char *text, enum tr_log_format *out);

/* Text of a number, for values: valid to the end of the full expression. */
#define TR_LOG_NUMBER 24
#define tr_log_u64(n) tr_log_number_((char[TR_LOG_NUMBER]){ 0 }, (n), false)
#define tr_log_i64(n) tr_log_number_((char[TR_LOG_NUMBER]){ 0 }, (uint64_t)(n), true)
const char *tr_log_number_(char *room, uint64_t n, bool is_signed);

struct tr_log_counts {
	uint64_t lines[TR_LOG_DEBUG + 1]; /* written, by level */
	uint64_t repeats, dropped; /* left out: the same again; too many of an event */
	uint64_t lost;             /* could not be written */
};
void tr_log_counts(struct tr_log_counts *out);

#endif /* TR_REPORT_LOG_H */
