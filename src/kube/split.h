/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_SPLIT_H
#define TR_KUBE_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/*
 * Cuts a long reply into the objects it is made of while it arrives, so that never more than one of
 * them is in memory: the items and the metadata of a list, or the events of a watch. What a piece
 * holds is not looked at; the JSON parser does that. Pieces longer than the maximum are passed over,
 * not kept. Bytes may be fed in any portions.
 */
enum tr_split_piece {
	TR_SPLIT_EVENT,    /* an object of a stream */
	TR_SPLIT_ITEM,     /* an element of "items" */
	TR_SPLIT_METADATA, /* the list's own */
	TR_SPLIT_TOO_LARGE, /* one of these that is longer than the maximum: its first bytes */
};

struct tr_split {
	bool is_list;
	size_t piece_max;
	/* Not 0: tr_split_feed() returns it at once. BYTES are followed by a NUL. */
	int (*take)(void *arg, enum tr_split_piece what, const char *bytes, size_t n);
	void *arg;
	/* private */
	int state, after; /* `after`: the state that follows a value */
	unsigned depth;
	bool in_text, is_escaped, is_kept, is_too_large;
	enum tr_split_piece what;
	char key[12];
	unsigned key_bytes;
	struct tr_buf piece;
};

void tr_split_init(struct tr_split *s, bool is_list, size_t piece_max,
		   int (*take)(void *, enum tr_split_piece, const char *, size_t),
		   void *arg);
/* 0, -EBADMSG (not such a reply), or what `take` returned. After an error: only tr_split_free(). */
int tr_split_feed(struct tr_split *s, const char *bytes, size_t n);
/* True between two objects of a stream, and after the end of a list. */
bool tr_split_is_whole(const struct tr_split *s);
void tr_split_free(struct tr_split *s);

#endif /* TR_KUBE_SPLIT_H */
