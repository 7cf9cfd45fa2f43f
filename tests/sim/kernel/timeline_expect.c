/* SPDX-License-Identifier: Apache-2.0 */
#include "timeline.h"

#include "kernel.h"

/*
 * Processes that will take part in the virtual clock: children of those who do, and images that
 * exec brings. The clock waits for them, since their first instant is that of the fork or exec.
 * What never comes must not stop it for ever: one that sleeps or computes for long is no
 * participant. One that waits for a processor is, however long.
 */

#define EXPECT_MAX       64
#define EXPECT_ASLEEP_NS 1000000000u  /* of real time, without a break */
#define EXPECT_NS        10000000000u /* ... in all */
#define EXPECT_CPU_TICKS 100u         /* of its processor's time from here on: 1 s */

static struct expected {
	pid_t pid;
	uint64_t order;
	uint64_t looked_ns; /* of real time */
	uint64_t ticks;     /* of its processor's time, before */
	struct rm_patience patience;
} expected[EXPECT_MAX];
static unsigned expected_count;
static uint64_t last_order;

static struct expected *find(pid_t pid)
{
	for (unsigned i = 0; i < expected_count; i++)
		if (expected[i].pid == pid)
			return &expected[i];
	return NULL;
}

static const struct timeline_client *participant(pid_t pid)
{
	for (uint64_t i = 0; i < timeline->client_count; i++) {
		const struct timeline_client *c = timeline->clients[i];

		if (c && c->took_part && c->host_pid == pid)
			return c;
	}
	return NULL;
}

void timeline_expect(pid_t pid, uint64_t order)
{
	struct expected e = { .pid = pid, .order = order, .looked_ns = timeline_real_ns() };

	if (pid <= 0 || expected_count == EXPECT_MAX || find(pid))
		return;
	/* one that is there already came in its turn */
	for (uint64_t i = 0; e.order == 0 && i < timeline->client_count; i++)
		if (timeline->clients[i] && timeline->clients[i]->host_pid == pid)
			e.order = timeline->clients[i]->order;
	if (e.order == 0)
		e.order = ++last_order;
	/* what an image computed before exec is not the next one's */
	rm_state_of(pid, pid, &e.ticks, NULL);
	expected[expected_count++] = e;
	timeline->v.expected = expected_count;
}

uint64_t timeline_order_of(pid_t pid)
{
	const struct expected *e = find(pid);

	return e ? e->order : ++last_order;
}

bool timeline_is_started_outside(const struct timeline_client *c)
{
	pid_t parent = 0;

	if (find(c->host_pid))
		return false;
	rm_state_of(c->host_pid, c->host_pid, NULL, &parent);
	return !participant(parent);
}

/* Whether E is still waited for. */
static bool is_due(struct expected *e, uint64_t now)
{
	uint64_t ticks = e->ticks;
	char state;

	if (participant(e->pid))
		return false;
	state = rm_state_of(e->pid, e->pid, &ticks, NULL);
	if (state == 'X' || state == 'Z')
		return false;
	rm_patience_look(&e->patience, state, now - e->looked_ns);
	e->looked_ns = now;
	return e->patience.row_ns <= EXPECT_ASLEEP_NS &&
	       e->patience.asleep_ns <= EXPECT_NS && ticks - e->ticks <= EXPECT_CPU_TICKS;
}

bool timeline_is_expecting(void)
{
	uint64_t now = expected_count > 0 ? timeline_real_ns() : 0;
	unsigned kept = 0;

	for (unsigned i = 0; i < expected_count; i++)
		if (is_due(&expected[i], now))
			expected[kept++] = expected[i];
	expected_count = timeline->v.expected = kept;
	return kept > 0;
}
