/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_TEST_TRUTH_H
#define SIM_TEST_TRUTH_H

/* The machine's books about this process: what it holds by kind, what it has listed. */

#include <string.h>
#include <unistd.h>

#include "check.h"
#include "rm/inspect.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

struct truth {
	uint64_t
		held; /* physical bytes of the kind on the device, all connections of PID */
	uint64_t listed; /* bytes in the list of live objects */
	unsigned objects;
};

struct truth_query {
	struct truth t;
	enum rm_kind kind;
	uint32_t device;
};

static inline void truth_see(const struct rm_live *object, void *arg)
{
	struct truth_query *q = arg;

	if (object->kind != q->kind || object->device != q->device)
		return;
	q->t.listed += object->bytes;
	q->t.objects++;
}

static inline struct truth truth_of(int pid, enum rm_kind kind, uint32_t device)
{
	static struct rm_client rows[64];
	struct truth_query q = { .kind = kind, .device = device };
	size_t n = 64;

	CHECK(rm_open() ==
	      0); /* the test looks at the machine through a connection of its own */
	CHECK(rm_clients(rows, &n) == 0);
	for (size_t i = 0; i < n; i++) {
		if (rows[i].own_pid != pid)
			continue;
		q.t.held += rows[i].bytes[device][kind];
		if (rows[i].has_objects)
			CHECK(rm_live_each(rows[i].serial, truth_see, &q) == 0);
	}
	return q.t;
}

static inline void truth_check(enum rm_kind kind, uint64_t held, uint64_t listed,
			       unsigned objects, int line)
{
	struct truth t = truth_of(getpid(), kind, 0);

	if (t.held == held && t.listed == listed && t.objects == objects)
		return;
	fprintf(stderr, "line %d: %s: holds %llu, lists %llu in %u; not %llu, %llu in %u\n",
		line, rm_kind_name(kind), (unsigned long long)t.held,
		(unsigned long long)t.listed, t.objects, (unsigned long long)held,
		(unsigned long long)listed, objects);
	exit(1);
}
/* What this process holds and lists on device 0. */
#define TRUTH(kind, held, listed, objects) \
	truth_check(kind, held, listed, objects, __LINE__)

#endif /* SIM_TEST_TRUTH_H */
