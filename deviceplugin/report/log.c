/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/rfc3339.h"
#include "deviceplugin/report/log_bound.h"
#include "deviceplugin/report/text.h"
#include "rt/file.h"

#define VALUE_MAX 1024 /* of one value, in bytes as it came */
#define TAIL_MAX  96   /* kept free for what is said at the end of a line */
#define WAIT_MS   10

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static const char *const format_names[] = { "logfmt", "json" };

static struct {
	pthread_mutex_t lock;
	enum tr_log_level level;
	enum tr_log_format format;
	int fd;
	bool is_stuck;  /* the last line was lost: nobody reads, do not wait */
	bool is_broken; /* a line was left half written: begin anew */
	struct tr_log_bound bound;
	struct tr_log_counts counts;
} sink = { .lock = PTHREAD_MUTEX_INITIALIZER, .level = TR_LOG_INFO, .fd = STDERR_FILENO };

/* ---- a line --------------------------------------------------------------------------- */

struct line {
	char p[TR_LOG_LINE];
	size_t n, room;
	bool is_full; /* something did not fit */
};

static void put(struct line *line, const char *bytes, size_t n)
{
	if (n > line->room - line->n) {
		line->is_full = true;
		return;
	}
	memcpy(line->p + line->n, bytes, n);
	line->n += n;
}

static void put_text(struct line *line, const char *text)
{
	put(line, text, strlen(text));
}

/* Logfmt and JSON escape alike. What a terminal would obey is escaped too: the controls of both halves
 * of Latin-1, and those that turn the direction of text. */
static void put_escaped(struct line *line, const char *at, unsigned bytes, uint32_t code)
{
	char text[8];

	if (code == '"' || code == '\\')
		(void)snprintf(text, sizeof(text), "\\%c", (char)code);
	else if (code == '\n')
		(void)snprintf(text, sizeof(text), "\\n");
	else if (code == '\t')
		(void)snprintf(text, sizeof(text), "\\t");
	else if (code < 0x20 || (code >= 0x7f && code < 0xa0) ||
		 (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069))
		(void)snprintf(text, sizeof(text), "\\u%04x", (unsigned)(code & 0xffff));
	else {
		put(line, at, bytes);
		return;
	}
	put_text(line, text);
}

static void put_quoted(struct line *line, const char *value, size_t n)
{
	size_t cut = n > VALUE_MAX ? VALUE_MAX : n;

	put_text(line, "\"");
	for (size_t at = 0; at < cut;) {
		uint32_t code = 0;
		unsigned bytes = tr_utf8_step(value + at, n - at, &code);

		if (bytes)
			put_escaped(line, value + at, bytes, code);
		else
			put_text(line, TR_UTF8_MEND);
		at += bytes ? bytes : 1;
	}
	put_text(line, cut < n ? "...\"" : "\"");
}

static bool is_plain(const char *value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (value[i] <= ' ' || value[i] >= 0x7f || value[i] == '"' ||
		    value[i] == '=' || value[i] == '\\')
			return false;
	return n > 0 && n <= VALUE_MAX;
}

static void put_pair(struct line *line, enum tr_log_format format, const char *key,
		     const char *value)
{
	size_t n = strlen(value);

	if (format == TR_LOG_JSON) {
		put_text(line, line->n ? ",\"" : "{\"");
		put_text(line, key);
		put_text(line, "\":");
		put_quoted(line, value, n);
		return;
	}
	put_text(line, line->n ? " " : "");
	put_text(line, key);
	put_text(line, "=");
	if (is_plain(value, n))
		put(line, value, n);
	else
		put_quoted(line, value, n);
}

static void put_number(struct line *line, enum tr_log_format format, const char *key,
		       uint64_t n)
{
	char text[TR_LOG_NUMBER];

	if (n == 0)
		return;
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	put_pair(line, format, key, text);
}

static void make_line(struct line *line, enum tr_log_format format, enum tr_log_level level,
		      const char *event, va_list pairs)
{
	char clock[TR_RFC3339_TEXT];
	struct timespec now = { 0 };
	unsigned left_out = 0;
	const char *key;

	line->room = TR_LOG_LINE - TAIL_MAX;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	tr_rfc3339_print_us(clock, (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	put_pair(line, format, "ts", clock);
	put_pair(line, format, "level", level_names[level]);
	put_pair(line, format, "event", event);
	while ((key = va_arg(pairs, const char *))) {
		const char *value = va_arg(pairs, const char *);
		size_t before = line->n;

		if (!value)
			continue;
		put_pair(line, format, key, value);
		if (line->is_full) { /* no pair is there by half */
			line->n = before;
			line->is_full = false;
			left_out++;
		}
	}
	line->room = TR_LOG_LINE;
	put_number(line, format, "left_out", left_out);
}

/* ---- writing it ----------------------------------------------------------------------- */

/* What names a line: all of it but the time. */
static uint64_t hash_pairs(uint64_t hash, va_list pairs)
{
	const char *text;
	bool is_key = true;

	while ((text = va_arg(pairs, const char *)) || !is_key) {
		for (; text && *text; text++)
			hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
		hash = (hash ^ 0x1ff) * UINT64_C(0x100000001b3);
		is_key = !is_key;
	}
	return hash;
}

static uint64_t hash_event(const char *event)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *event; event++)
		hash = (hash ^ (unsigned char)*event) * UINT64_C(0x100000001b3);
	return hash;
}

/* A pipe that has room takes up to PIPE_BUF bytes at once. */
static bool has_room(void)
{
	struct pollfd out = { sink.fd, POLLOUT, 0 };

	return poll(&out, 1, sink.is_stuck ? 0 : WAIT_MS) == 1 && (out.revents & POLLOUT);
}

static bool write_line(const struct line *line)
{
	static const char end = '\n';
	size_t done = 0;
	ssize_t n;

	if (!has_room())
		return false;
	if (sink.is_broken && write(sink.fd, &end, 1) != 1)
		return false;
	sink.is_broken = false;
	while (done < line->n) {
		n = write(sink.fd, line->p + done, line->n - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	sink.is_broken = done > 0 && done < line->n; /* a full disk */
	return done == line->n;
}

static void finish_and_write(struct line *line, enum tr_log_level level, uint64_t repeats,
			     uint64_t dropped)
{
	put_number(line, sink.format, "repeats", repeats);
	put_number(line, sink.format, "dropped", dropped);
	put_text(line, sink.format == TR_LOG_JSON ? "}\n" : "\n");
	sink.is_stuck = !write_line(line);
	if (sink.is_stuck)
		sink.counts.lost++;
	else
		sink.counts.lines[level]++;
}

void tr_log(enum tr_log_level level, const char *event, ...)
{
	uint64_t repeats, dropped, id = hash_event(event), same;
	enum tr_log_verdict verdict;
	struct line line = { 0 };
	va_list pairs;
	int saved = errno;

	va_start(pairs, event);
	same = hash_pairs(id + (uint64_t)level, pairs);
	va_end(pairs);
	(void)pthread_mutex_lock(&sink.lock);
	if (level <= sink.level) {
		verdict = tr_log_admit(&sink.bound, same, id, level == TR_LOG_ERROR,
				       tr_clock_ns(), &repeats, &dropped);
		sink.counts.repeats += verdict == TR_LOG_REPEAT;
		sink.counts.dropped += verdict == TR_LOG_DROP;
		if (verdict == TR_LOG_WRITE) {
			va_start(pairs, event);
			make_line(&line, sink.format, level, event, pairs);
			va_end(pairs);
			finish_and_write(&line, level, repeats, dropped);
		}
	}
	(void)pthread_mutex_unlock(&sink.lock);
	errno = saved;
}

/* ---- the rest -------------------------------------------------------------------------- */

void tr_log_open(enum tr_log_level level, enum tr_log_format format, int fd)
{
	(void)pthread_mutex_lock(&sink.lock);
	sink.level = level;
	sink.format = format;
	sink.fd = fd;
	sink.is_stuck = sink.is_broken = false;
	sink.bound = (struct tr_log_bound){ 0 };
	sink.counts = (struct tr_log_counts){ 0 };
	(void)pthread_mutex_unlock(&sink.lock);
}

void tr_log_counts(struct tr_log_counts *out)
{
	(void)pthread_mutex_lock(&sink.lock);
	*out = sink.counts;
	(void)pthread_mutex_unlock(&sink.lock);
}

static int find_name(const char *const *names, size_t count, const char *text)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], text) == 0)
			return (int)i;
	return -EINVAL;
}

int tr_log_level_parse(const char *text, enum tr_log_level *out)
{
	int i = find_name(level_names, sizeof(level_names) / sizeof(*level_names), text);

	if (i >= 0)
		*out = (enum tr_log_level)i;
	return i < 0 ? i : 0;
}

int tr_log_format_parse(const char *text, enum tr_log_format *out)
{
	int i = find_name(format_names, sizeof(format_names) / sizeof(*format_names), text);

	if (i >= 0)
		*out = (enum tr_log_format)i;
	return i < 0 ? i : 0;
}

const char *tr_log_number_(char *room, uint64_t n, bool is_signed)
{
	if (is_signed)
		(void)snprintf(room, TR_LOG_NUMBER, "%lld", (long long)n);
	else
		(void)snprintf(room, TR_LOG_NUMBER, "%llu", (unsigned long long)n);
	return room;
}
