/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_ARM_SLICES_H
#define TR_ARM_SLICES_H

#include "deviceplugin/arm/book.h"
#include "deviceplugin/cards/card.h"
#include "tranche/err.h"

/*
 * The directory of an allocation, ROOT/NAME: ro/policy, rw/state. ro is mounted read-only into the
 * container, rw is its to write: whatever a tenant leaves there is not trusted.
 */

/*
 * Makes it what ALLOC says, whatever is there of it: nothing, a part, all. A waiting one has a page
 * of no card at all, with a limit of nothing: the library refuses whoever comes. An armed one's
 * page appears in one step in place of that, or, where it is there already, is changed word by word, so
 * that programs which run in it obey. CARDS tell what the rows need to know beside the limits; one
 * that is missing there counts as unknown. -errno, with what is there still closed.
 */
int tr_alloc_slice_make(const char *root, const struct tr_alloc *alloc,
			const struct tr_cards *cards, enum tr_bypass on_bypass,
			struct tr_err *err);

/* The same for one that tr_alloc_slice_make() made waiting and that no container has had yet, quicker:
 * only its page is looked at and filled, in place. */
int tr_alloc_slice_fill(const char *root, const struct tr_alloc *alloc,
			const struct tr_cards *cards, enum tr_bypass on_bypass,
			struct tr_err *err);

/* A process sits in it. */
bool tr_alloc_slice_is_held(const char *root, const char *name);

/* Removes ROOT/NAME with all that is in it, following no link. 0; -EAGAIN: there is more than one call
 * removes; -errno. */
int tr_tree_remove(const char *root, const char *name);

/* Of all entries of ROOT that are named like an allocation. */
void tr_alloc_slices_each(const char *root, void (*each)(const char *name, void *arg),
			  void *arg);

#endif /* TR_ARM_SLICES_H */
