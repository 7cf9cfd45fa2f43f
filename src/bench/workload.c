/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/workload.h"

#include <stdlib.h>
#include <string.h>

const struct tr_workload tr_workloads[] = {
#define TR_WORKLOAD(name, kind, kernel_ns, submission_ns, full, what) \
	{ name, TR_WORKLOAD_##kind, kernel_ns, submission_ns, full, what },
#include "bench/workloads.def"
#undef TR_WORKLOAD
};
const unsigned tr_workload_count = sizeof(tr_workloads) / sizeof(*tr_workloads);

static const struct {
	const char *prefix;
	enum tr_workload_kind kind;
	bool is_full;
} shapes[] = {
	{ "fixed:", TR_WORKLOAD_FIXED, true },
	{ "steady:", TR_WORKLOAD_STEADY, false },
	{ "requests:", TR_WORKLOAD_REQUESTS, false },
	{ "pulsed:", TR_WORKLOAD_PULSED, false },
	{ "varied:", TR_WORKLOAD_VARIED, true },
};

/* "200us", "5ms", "1s"; 0: none of them, or more than a minute. */
static uint64_t parse_ns(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	uint64_t unit = strcmp(end, "us") == 0   ? 1000
			: strcmp(end, "ms") == 0 ? 1000000
			: strcmp(end, "s") == 0  ? 1000000000
						 : 0;

	return end == text || n > 60000000 || n * unit > UINT64_C(60000000000) ? 0
									       : n * unit;
}

const struct tr_workload *tr_workload_find(const char *name, struct tr_workload *room)
{
	for (unsigned i = 0; i < tr_workload_count; i++)
		if (strcmp(name, tr_workloads[i].name) == 0)
			return &tr_workloads[i];
	for (unsigned i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		size_t n = strlen(shapes[i].prefix);
		uint64_t ns = strncmp(name, shapes[i].prefix, n) ? 0 : parse_ns(name + n);

		if (!ns)
			continue;
		*room = (struct tr_workload){ name, shapes[i].kind,    ns,
					      ns,   shapes[i].is_full, "" };
		return room;
	}
	return NULL;
}
