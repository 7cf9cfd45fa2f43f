/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_ARM_BOOK_H
#define TR_ARM_BOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "deviceplugin/plugin.h"
#include "kube/object.h"
#include "tranche/policy.h"

/*
 * The book: every allocation that the kubelet made and nobody has taken back yet. An allocation is one
 * container's answer of Allocate. Pure data, one thread.
 */

enum tr_alloc_state {
	TR_ALLOC_WAITING, /* its page allows nothing: nobody knows whose it is */
	TR_ALLOC_ARMED,
};

struct tr_alloc_part { /* one card's share */
	char uuid[48];
	uint64_t limit_bytes;
	uint32_t cores, cores_max; /* percent; 0: no limit, cores_max 0: as cores */
};

#define TR_ALLOC_NAME 24

struct tr_alloc {
	/* What every search looks at stands together: hundreds are searched for each call. */
	uint64_t serial; /* microseconds since 1970 when it was made, or more: grows */
	struct tr_alloc *next;
	struct tr_alloc *next_alike; /* older, of those with this hash, or nearly */
	uint64_t ids_hash;           /* tr_ids_hash(), which tells most others apart */
	char name[TR_ALLOC_NAME];    /* "s" and the serial in 16 hex digits */
	enum tr_alloc_state state;
	char **ids; /* the kubelet's; sorted */
	size_t id_count;
	/* From here on only of armed ones; "" and 0 before. */
	char space[64], pod[254], uid[64], container[64];
	unsigned index; /* absolute: init containers first */
	enum tr_container_kind kind;
	enum tr_priority priority;
	struct tr_alloc_part *parts;
	size_t part_count;
	uint64_t grant_serial; /* of the last grant obeyed; 0: none */
	int64_t made_unix_s, armed_unix_s;
	/* When slice and injection were last seen to be there, in ms of a clock that is not set; 0: not
	 * since the start. Not recorded. */
	int64_t ready_ms;
	bool is_unflushed; /* injected, but not flushed yet. Not recorded. */
	/* Since the start: it was flushed, and that it is armed was told. Not recorded. */
	bool is_flushed, is_told;
	/* Another was armed for its container since: it is nobody's any more, and waits to be taken away.
	 * IS_HELD: of such a one: a process sat in it when that was last looked at. Not recorded: the
	 * others tell. */
	bool is_retired, is_held;
	bool is_claimed; /* by a pod that waits, at the last look. Not recorded. */
	struct {
		unsigned looks; /* that agreed that it is gone */
		int64_t first_ms;
	} gone;
};

#define TR_BOOK_PLACES 256

struct tr_book {
	struct tr_alloc *first;                 /* by serial */
	struct tr_alloc *alike[TR_BOOK_PLACES]; /* by ids_hash; the newest first */
	size_t count;
	uint64_t last_serial; /* ever seen */
};

void tr_book_free(struct tr_book *book);

/* A new allocation, waiting, with copies of IDS; its serial is above all that BOOK has seen. Not in
 * the book yet. */
struct tr_alloc *tr_alloc_new(const struct tr_book *book, const struct tr_ids *ids,
			      int64_t unix_us);
void tr_alloc_free(struct tr_alloc *alloc);
void tr_alloc_name(char out[static TR_ALLOC_NAME], uint64_t serial);
/* The serial of a name, or -EINVAL. */
int tr_alloc_name_parse(const char *name, uint64_t *serial);
/* Takes over TEXTS' copies: ids sorted. */
void tr_alloc_set_ids(struct tr_alloc *alloc, const char *const *ids, size_t count);
void tr_alloc_set_parts(struct tr_alloc *alloc, const struct tr_alloc_part *parts,
			size_t count);

/* Takes ALLOC over. -EEXIST: its serial is there. */
int tr_book_add(struct tr_book *book, struct tr_alloc *alloc);
void tr_book_remove(struct tr_book *book, struct tr_alloc *alloc); /* and frees it */

/* In the order of their serials. NULL: the first; returns NULL after the last. */
struct tr_alloc *tr_book_next(const struct tr_book *book, const struct tr_alloc *after);
struct tr_alloc *tr_book_find(const struct tr_book *book, const char *name);
/* The one that is armed for that container, or NULL. */
struct tr_alloc *tr_book_of(const struct tr_book *book, const char *uid,
			    const char *container);

/* The same for every order of IDS. */
uint64_t tr_ids_hash(const struct tr_ids *ids);
bool tr_alloc_has_id(const struct tr_alloc *alloc, const char *id);
/* IDS in any order, each once. */
bool tr_alloc_has_ids(const struct tr_alloc *alloc, const struct tr_ids *ids);
bool tr_alloc_shares_ids(const struct tr_alloc *alloc, const struct tr_ids *ids);

/* The newest allocation with just these ids that is not retired, or NULL: what a PreStartContainer is about when it is
 * armed. Older ones are of the same pod, or of pods that are gone. */
struct tr_alloc *tr_book_newest(const struct tr_book *book, const struct tr_ids *ids);

#endif /* TR_ARM_BOOK_H */
