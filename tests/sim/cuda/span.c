/* SPDX-License-Identifier: Apache-2.0 */
#include "mem.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_node *spans;
static uint64_t last_buffer_id;

void sim_mem_lock(void)
{
	pthread_mutex_lock(&lock);
}

void sim_mem_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

size_t sim_round_up(size_t n, size_t unit)
{
	return n > SIZE_MAX - (unit - 1) ? SIZE_MAX : (n + unit - 1) / unit * unit;
}

static struct sim_span *span_of(struct sim_node *n)
{
	return (struct sim_span *)(void *)n; /* `at` is its first member */
}

struct sim_span *sim_span_add(enum sim_span_kind kind, uint64_t base, size_t bytes)
{
	struct sim_span *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->kind = kind;
	s->buffer_id = ++last_buffer_id;
	s->accessible = true;
	sim_tree_insert(&spans, &s->at, base, bytes);
	return s;
}

void sim_span_drop(struct sim_span *s)
{
	sim_tree_remove(&spans, s->at.key);
	free(s->name);
	free(s);
}

struct sim_span *sim_span_starting(uint64_t p)
{
	struct sim_node *n = sim_tree_below(spans, p);

	return n != NULL && n->key == p ? span_of(n) : NULL;
}

struct sim_span *sim_span_holding(uint64_t p)
{
	struct sim_node *n = sim_tree_below(spans, p);

	return n != NULL && p - n->key < n->len ? span_of(n) : NULL;
}

struct sim_span *sim_span_after(uint64_t p)
{
	struct sim_node *n = sim_tree_above(spans, p);

	return n != NULL ? span_of(n) : NULL;
}

static enum sim_where where_is(const struct sim_span *s)
{
	if (s->kind == SIM_SPAN_MANAGED)
		return SIM_MANAGED;
	if (s->kind == SIM_SPAN_HOST || s->kind == SIM_SPAN_REGISTERED ||
	    s->machine == RM_HOST)
		return SIM_HOST_PINNED;
	return SIM_DEVICE;
}

static void fill_range(const struct sim_span *s, struct sim_range *out)
{
	out->base = s->at.key;
	out->bytes = s->at.len;
	out->where = where_is(s);
	out->machine = s->machine;
	out->ctx_id = s->ctx_id;
	out->buffer_id = s->buffer_id;
	out->mapped = s->accessible;
}

/* Neighbouring mappings of one reservation are one range for copies, as on the device. */
static bool spans_neighbours(const struct sim_span *s, uint64_t p, size_t n)
{
	uint64_t end = p + n;

	while (s->at.key + s->at.len < end) {
		const struct sim_span *next = sim_span_starting(s->at.key + s->at.len);
		struct sim_reservation a, b;

		if (s->kind != SIM_SPAN_MAPPING || next == NULL ||
		    next->kind != SIM_SPAN_MAPPING || next->accessible != s->accessible)
			return false;
		if (!sim_vmm_reservation(s->at.key, &a) ||
		    !sim_vmm_reservation(next->at.key, &b) || a.base != b.base)
			return false;
		s = next;
	}
	return true;
}

bool sim_mem_find(CUdeviceptr p, size_t n, struct sim_range *out)
{
	struct sim_range r = { .where = SIM_UNKNOWN };
	struct sim_reservation hole;
	const struct sim_span *s;
	bool found = false;

	sim_mem_lock();
	s = sim_span_holding(p);
	if (s != NULL) {
		fill_range(s, &r);
		found = p + n >= p && spans_neighbours(s, p, n);
	} else if (sim_vmm_reservation(p, &hole)) {
		r.base = hole.base;
		r.bytes = hole.bytes;
		r.where = SIM_DEVICE;
		found = n <= hole.base + hole.bytes - p;
	} else if (sim_va_is_device(p)) {
		r.where = SIM_DEVICE; /* freed, or never given out */
	}
	sim_mem_unlock();
	if (out != NULL)
		*out = r;
	return found;
}
