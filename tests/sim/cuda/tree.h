/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_TREE_H
#define SIM_CUDA_TREE_H

/*
 * An ordered set of ranges [key, key + len), and the free ranges of an address space built
 * on it. Balanced by random priorities (a treap), so a million ranges cost some thirty
 * steps. Nothing here locks: the owner does.
 */

#include <stdbool.h>
#include <stdint.h>

struct sim_node {
	struct sim_node *left, *right;
	uint64_t key, len;
	uint64_t longest; /* of the lens in this subtree: finds the first that fits */
	uint32_t priority;
};

void sim_tree_insert(struct sim_node **root, struct sim_node *n, uint64_t key,
		     uint64_t len);
/* Takes out and returns the node with exactly KEY; NULL when there is none. */
struct sim_node *sim_tree_remove(struct sim_node **root, uint64_t key);
/* The node with the greatest key <= KEY; the one with the least key > KEY. */
struct sim_node *sim_tree_below(struct sim_node *root, uint64_t key);
struct sim_node *sim_tree_above(struct sim_node *root, uint64_t key);
/* The node with the least key whose len >= LEN. */
struct sim_node *sim_tree_fit(struct sim_node *root, uint64_t len);
/* Changes key and len of the node with KEY in place; its order must not change. */
void sim_tree_resize(struct sim_node *root, uint64_t key, uint64_t new_key, uint64_t len);

/* Free ranges. fence_shift: neighbours merge only when both lie in the same 1 <<
 * fence_shift bytes (0: always). */
struct sim_gaps {
	struct sim_node *root;
	unsigned fence_shift;
};

/* The lowest address with BYTES free at ALIGN (a power of two), taken; 0 when there is
 * none. */
uint64_t sim_gaps_take(struct sim_gaps *g, uint64_t bytes, uint64_t align);
/* Takes exactly [base, base + bytes): false when not all of it is free. */
bool sim_gaps_take_at(struct sim_gaps *g, uint64_t base, uint64_t bytes);
/* Gives a range (back); the free range it is now part of is told through *whole_.... 0 or
 * -ENOMEM. */
int sim_gaps_give(struct sim_gaps *g, uint64_t base, uint64_t bytes, uint64_t *whole_base,
		  uint64_t *whole_bytes);
/* Forgets every range. */
void sim_gaps_clear(struct sim_gaps *g);

#endif /* SIM_CUDA_TREE_H */
