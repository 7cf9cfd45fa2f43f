/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/* ---- the treap --------------------------------------------------------------------- */

static uint32_t next_priority(void)
{
	/* xorshift: priorities need to be unrelated to keys, not unpredictable */
	static _Thread_local uint32_t x = 0x9e3779b9u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

static void update_longest(struct sim_node *n)
{
	uint64_t m = n->len;

	if (n->left != NULL && n->left->longest > m)
		m = n->left->longest;
	if (n->right != NULL && n->right->longest > m)
		m = n->right->longest;
	n->longest = m;
}

/* Splits T into keys < KEY and keys >= KEY. */
static void split_at(struct sim_node *t, uint64_t key, struct sim_node **lo,
		     struct sim_node **hi)
{
	if (t == NULL) {
		*lo = *hi = NULL;
	} else if (t->key < key) {
		split_at(t->right, key, &t->right, hi);
		*lo = t;
		update_longest(t);
	} else {
		split_at(t->left, key, lo, &t->left);
		*hi = t;
		update_longest(t);
	}
}

static struct sim_node *join(struct sim_node *a, struct sim_node *b)
{
	if (a == NULL)
		return b;
	if (b == NULL)
		return a;
	if (a->priority > b->priority) {
		a->right = join(a->right, b);
		update_longest(a);
		return a;
	}
	b->left = join(a, b->left);
	update_longest(b);
	return b;
}

static void insert_node(struct sim_node **t, struct sim_node *n)
{
	if (*t == NULL || n->priority > (*t)->priority) {
		split_at(*t, n->key, &n->left, &n->right);
		*t = n;
	} else {
		insert_node(n->key < (*t)->key ? &(*t)->left : &(*t)->right, n);
	}
	update_longest(*t);
}

void sim_tree_insert(struct sim_node **root, struct sim_node *n, uint64_t key, uint64_t len)
{
	n->left = n->right = NULL;
	n->key = key;
	n->len = n->longest = len;
	n->priority = next_priority();
	insert_node(root, n);
}

struct sim_node *sim_tree_remove(struct sim_node **t, uint64_t key)
{
	struct sim_node *gone;

	if (*t == NULL)
		return NULL;
	if ((*t)->key == key) {
		gone = *t;
		*t = join(gone->left, gone->right);
		return gone;
	}
	gone = sim_tree_remove(key < (*t)->key ? &(*t)->left : &(*t)->right, key);
	if (gone != NULL)
		update_longest(*t);
	return gone;
}

struct sim_node *sim_tree_below(struct sim_node *t, uint64_t key)
{
	struct sim_node *best = NULL;

	while (t != NULL) {
		if (t->key <= key) {
			best = t;
			t = t->right;
		} else {
			t = t->left;
		}
	}
	return best;
}

struct sim_node *sim_tree_above(struct sim_node *t, uint64_t key)
{
	struct sim_node *best = NULL;

	while (t != NULL) {
		if (t->key > key) {
			best = t;
			t = t->left;
		} else {
			t = t->right;
		}
	}
	return best;
}

struct sim_node *sim_tree_fit(struct sim_node *t, uint64_t len)
{
	while (t != NULL && t->longest >= len) {
		if (t->left != NULL && t->left->longest >= len)
			t = t->left;
		else if (t->len >= len)
			return t;
		else
			t = t->right;
	}
	return NULL;
}

void sim_tree_resize(struct sim_node *t, uint64_t key, uint64_t new_key, uint64_t len)
{
	if (t == NULL)
		return;
	if (t->key == key) {
		t->key = new_key;
		t->len = len;
	} else {
		sim_tree_resize(key < t->key ? t->left : t->right, key, new_key, len);
	}
	update_longest(t);
}

/* ---- free ranges ------------------------------------------------------------------- */

/* Cuts [base, base + bytes) out of the free range N, which holds it. False: no memory for
 * the second remainder, nothing changed. */
static bool cut_out(struct sim_gaps *g, struct sim_node *n, uint64_t base, uint64_t bytes)
{
	uint64_t start = n->key, end = n->key + n->len;
	struct sim_node *rest;

	if (start == base && end == base + bytes) {
		free(sim_tree_remove(&g->root, start));
	} else if (start == base) {
		sim_tree_resize(g->root, start, base + bytes, end - base - bytes);
	} else if (end == base + bytes) {
		sim_tree_resize(g->root, start, start, base - start);
	} else {
		rest = malloc(sizeof(*rest));
		if (rest == NULL)
			return false;
		sim_tree_resize(g->root, start, start, base - start);
		sim_tree_insert(&g->root, rest, base + bytes, end - base - bytes);
	}
	return true;
}

uint64_t sim_gaps_take(struct sim_gaps *g, uint64_t bytes, uint64_t align)
{
	struct sim_node *n = sim_tree_fit(g->root, bytes);
	uint64_t base;

	if (n == NULL)
		return 0;
	base = (n->key + align - 1) & ~(align - 1);
	if (base + bytes > n->key + n->len) {
		n = sim_tree_fit(g->root, bytes + align - 1);
		if (n == NULL)
			return 0;
		base = (n->key + align - 1) & ~(align - 1);
	}
	return cut_out(g, n, base, bytes) ? base : 0;
}

bool sim_gaps_take_at(struct sim_gaps *g, uint64_t base, uint64_t bytes)
{
	struct sim_node *n = sim_tree_below(g->root, base);

	if (n == NULL || base + bytes < base || base + bytes > n->key + n->len)
		return false;
	return cut_out(g, n, base, bytes);
}

static bool may_merge(const struct sim_gaps *g, uint64_t a, uint64_t b)
{
	return g->fence_shift == 0 || a >> g->fence_shift == b >> g->fence_shift;
}

int sim_gaps_give(struct sim_gaps *g, uint64_t base, uint64_t bytes, uint64_t *whole_base,
		  uint64_t *whole_bytes)
{
	struct sim_node *lo = sim_tree_below(g->root, base), *hi, *n;
	uint64_t start = base, end = base + bytes;

	hi = sim_tree_above(g->root, base);
	if (hi != NULL && hi->key == end && may_merge(g, hi->key, base))
		end += hi->len;
	else
		hi = NULL;
	if (lo != NULL && lo->key + lo->len == base && may_merge(g, lo->key, base))
		start = lo->key;
	else
		lo = NULL;

	if (lo != NULL) {
		if (hi != NULL)
			free(sim_tree_remove(&g->root, hi->key));
		sim_tree_resize(g->root, start, start, end - start);
	} else if (hi != NULL) {
		sim_tree_resize(g->root, hi->key, start, end - start);
	} else {
		n = malloc(sizeof(*n));
		if (n == NULL)
			return -ENOMEM;
		sim_tree_insert(&g->root, n, start, end - start);
	}
	if (whole_base != NULL)
		*whole_base = start;
	if (whole_bytes != NULL)
		*whole_bytes = end - start;
	return 0;
}

void sim_gaps_clear(struct sim_gaps *g)
{
	while (g->root != NULL)
		free(sim_tree_remove(&g->root, g->root->key));
}
