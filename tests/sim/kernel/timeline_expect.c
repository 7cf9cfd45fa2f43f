/* SPDX-License-Identifier: Apache-2.0 */
#include "timeline.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"

/*
 * Processes that will take part in the virtual clock: children of those who do, and images that
 * exec brings. The clock waits for them, since their first instant is that of the fork or exec.
 * What never comes must not stop it for ever: one that sleeps, computes or stays away for long is
 * no participant.
 */

#define EXPECT_MAX       64
#define EXPECT_ASLEEP_NS 1000000000u  /* of real time, without a break */
#define EXPECT_NS        10000000000u /* ... on a machine with no processor to spare */
#define EXPECT_CPU_TICKS 100u         /* of its processor's time: 1 s */

static struct expected {
	pid_t pid;
	uint64_t order;
	uint64_t since_ns, awake_ns; /* of real time; when it was last seen not asleep */
} expected[EXPECT_MAX];
static unsigned expected_count;
static uint64_t last_order;

char timeline_state_of(pid_t pid, int tid, uint64_t *cpu_ticks, pid_t *parent)
{
	char path[64], text[512], state = 'X', *end;
	unsigned long user = 0, system = 0;
	int ppid = 0, fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 'X';
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 'X';
	text[n] = '\0';
	/* the name may hold anything: what follows its last bracket is numbers */
	end = strrchr(text, ')');
	if (!end || sscanf(end, ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
			   &state, &ppid, &user, &system) < 4)
		return 'X';
	if (cpu_ticks)
		*cpu_ticks = user + system;
	if (parent)
		*parent = ppid;
	return state;
}

bool timeline_is_asleep(char state)
{
	return state == 'S' || state == 'T' || state == 't';
}

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
	uint64_t now = timeline_real_ns();

	if (pid <= 0 || expected_count == EXPECT_MAX || find(pid))
		return;
	/* one that is there already came in its turn */
	for (uint64_t i = 0; order == 0 && i < timeline->client_count; i++)
		if (timeline->clients[i] && timeline->clients[i]->host_pid == pid)
			order = timeline->clients[i]->order;
	expected[expected_count++] = (struct expected){ pid, order ? order : ++last_order,
							now, now };
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
	timeline_state_of(c->host_pid, c->host_pid, NULL, &parent);
	return !participant(parent);
}

/* Whether E is still waited for. */
static bool is_due(struct expected *e, uint64_t now)
{
	uint64_t ticks = 0;
	char state;

	if (participant(e->pid) || now - e->since_ns > EXPECT_NS)
		return false;
	state = timeline_state_of(e->pid, e->pid, &ticks, NULL);
	if (state == 'X' || state == 'Z')
		return false;
	if (!timeline_is_asleep(state))
		e->awake_ns = now;
	return now - e->awake_ns <= EXPECT_ASLEEP_NS && ticks <= EXPECT_CPU_TICKS;
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
