/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/split.h"

#include <errno.h>
#include <string.h>

enum state {
	BEFORE, /* the first byte of a stream's object, or of the list */
	MEMBER, /* a key of the list, or its end */
	KEY,
	COLON,
	VALUE,
	SCALAR, /* a number or a word of the list's own that is passed over */
	ITEMS,
	INSIDE, /* an object, array or text: until it ends */
	DONE,
};

/* Kept of what is too large, to say which object it was. */
#define TOO_LARGE_HEAD 512u

void tr_split_init(struct tr_split *s, bool is_list, size_t piece_max,
		   int (*take)(void *, enum tr_split_piece, const char *, size_t),
		   void *arg)
{
	*s = (struct tr_split){
		.is_list = is_list, .piece_max = piece_max, .take = take, .arg = arg
	};
}

void tr_split_free(struct tr_split *s)
{
	tr_buf_free(&s->piece);
}

bool tr_split_is_whole(const struct tr_split *s)
{
	return s->state == (s->is_list ? DONE : BEFORE);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Enters the value that begins with C, one of { [ " */
static void enter(struct tr_split *s, char c, bool is_kept, enum tr_split_piece what)
{
	s->after = s->state == VALUE ? MEMBER : s->state;
	s->state = INSIDE;
	s->in_text = c == '"';
	s->depth = c == '"' ? 0 : 1;
	s->is_escaped = s->is_too_large = false;
	s->is_kept = is_kept;
	s->what = what;
	tr_buf_clear(&s->piece);
	if (is_kept)
		tr_buf_add(&s->piece, &c, 1);
}

static int begin_value(struct tr_split *s, char c)
{
	if (c == '{' && strcmp(s->key, "metadata") == 0)
		enter(s, c, true, TR_SPLIT_METADATA);
	else if (c == '[' && strcmp(s->key, "items") == 0)
		s->state = ITEMS;
	else if (c == '{' || c == '[' || c == '"')
		enter(s, c, false, TR_SPLIT_METADATA);
	else if (c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z'))
		s->state = SCALAR;
	else
		return -EBADMSG;
	return 0;
}

static int end_member(struct tr_split *s, char c)
{
	if (c == ',')
		s->state = MEMBER;
	else if (c == '}')
		s->state = DONE;
	else if (c == '"')
		s->state = KEY;
	else
		return -EBADMSG;
	s->key_bytes = 0;
	return 0;
}

/* One byte outside of the values that INSIDE runs through. */
static int step(struct tr_split *s, char c)
{
	if (is_blank(c) && s->state != KEY) {
		if (s->state == SCALAR)
			s->state = MEMBER;
		return 0;
	}
	switch (s->state) {
	case BEFORE:
		if (c != '{')
			return -EBADMSG;
		if (s->is_list)
			s->state = MEMBER;
		else
			enter(s, c, true, TR_SPLIT_EVENT);
		return 0;
	case MEMBER:
		return end_member(s, c);
	case KEY:
		if (c == '"')
			s->state = COLON;
		else if (s->key_bytes + 1 < sizeof(s->key))
			s->key[s->key_bytes++] = c;
		else
			s->key_bytes =
				0; /* longer than any that matters: its end is as good */
		s->key[s->key_bytes] = '\0';
		return 0;
	case COLON:
		s->state = VALUE;
		return c == ':' ? 0 : -EBADMSG;
	case VALUE:
		return begin_value(s, c);
	case SCALAR:
		return c == ',' || c == '}' ? end_member(s, c) : 0;
	case ITEMS:
		if (c == '{')
			enter(s, c, true, TR_SPLIT_ITEM);
		else if (c == ']')
			s->state = MEMBER;
		else if (c != ',')
			return -EBADMSG;
		return 0;
	default: /* after the end */
		return -EBADMSG;
	}
}

/* How many of N bytes belong to the value, which ends with them when *IS_OVER. */
static size_t run_inside(struct tr_split *s, const char *bytes, size_t n, bool *is_over)
{
	for (size_t i = 0; i < n; i++) {
		char c = bytes[i];

		if (s->in_text) {
			if (s->is_escaped)
				s->is_escaped = false;
			else if (c == '\\')
				s->is_escaped = true;
			else if (c == '"')
				s->in_text = false;
		} else if (c == '"') {
			s->in_text = true;
		} else if (c == '{' || c == '[') {
			s->depth++;
		} else if (c == '}' || c == ']') {
			s->depth--;
		}
		if (!s->in_text && s->depth == 0) {
			*is_over = true;
			return i + 1;
		}
	}
	return n;
}

static void keep(struct tr_split *s, const char *bytes, size_t n)
{
	if (!s->is_kept || s->is_too_large)
		return;
	if (n <= s->piece_max - s->piece.n) {
		tr_buf_add(&s->piece, bytes, n);
		return;
	}
	s->is_too_large = true;
	if (s->piece.n < TOO_LARGE_HEAD)
		tr_buf_add(&s->piece, bytes,
			   n < TOO_LARGE_HEAD - s->piece.n ? n
							   : TOO_LARGE_HEAD - s->piece.n);
	s->piece.n = s->piece.n < TOO_LARGE_HEAD ? s->piece.n : TOO_LARGE_HEAD;
	s->piece.p[s->piece.n] = '\0';
}

static int end_value(struct tr_split *s)
{
	int r = 0;

	s->state = s->after;
	if (s->is_kept)
		r = s->take(s->arg, s->is_too_large ? TR_SPLIT_TOO_LARGE : s->what,
			    s->piece.p, s->piece.n);
	/* One huge object must not stay in memory for the sake of the small ones that follow. */
	if (s->piece.room > (size_t)256 << 10)
		tr_buf_free(&s->piece);
	return r;
}

int tr_split_feed(struct tr_split *s, const char *bytes, size_t n)
{
	int r = 0;

	while (n && r == 0) {
		bool is_over = false;
		size_t taken = 1;

		if (s->state != INSIDE) {
			r = step(s, *bytes);
		} else {
			taken = run_inside(s, bytes, n, &is_over);
			keep(s, bytes, taken);
		}
		bytes += taken;
		n -= taken;
		if (is_over)
			r = end_value(s);
	}
	return r;
}
