/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/jobs.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rt/file.h"

#define LOOK_NS 2000000u

/* One measurement; the first of each group is what its tenant reaches without a limiter. */
struct slot {
	_Atomic bool is_done;
	struct tr_result result;
};

struct tr_jobs {
	struct tr_jobs_plan plan;
	unsigned total, alive;
	size_t bytes;
	_Atomic unsigned next;
	_Atomic bool is_over;
	struct slot slots[]; /* shared with the jobs */
};

static struct slot *slot_of(struct tr_jobs *j, unsigned group, unsigned which)
{
	return &j->slots[(size_t)group * (j->plan.cells + 1) + which];
}

/* The ORDERth measurement. What the next group reaches comes before a group's cells: so nobody
 * waits for it. */
static void find_task(const struct tr_jobs *j, unsigned order, unsigned *group,
		      unsigned *which)
{
	*group = 0;
	*which = 0;
	if (order == 0)
		return;
	order--;
	*group = order / (j->plan.cells + 1);
	*which = order % (j->plan.cells + 1);
	if (*which == 0 && *group + 1 < j->plan.groups)
		++*group;
	else if (*which == 0) /* there is no next one: its place is nobody's */
		*which = j->plan.cells + 1;
}

static void measure_reach(struct tr_jobs *j, unsigned group, struct tr_result *out)
{
	struct tr_cell cell;

	j->plan.describe(j->plan.arg, group, 0, &cell);
	cell.asked = 0;
	cell.neighbours = 0;
	cell.is_reach = true;
	tr_cell_run(j->plan.stage, &cell, 100, out);
}

/* A tenant that waits for its host lets its neighbours in: beside them it reaches less than alone, and
 * no limiter of its own can mend that. */
static void measure_cell(struct tr_jobs *j, struct tr_cell cell, double reach,
			 struct tr_result *out)
{
	if (cell.neighbours && !cell.workload->is_full) {
		cell.is_open = true;
		tr_cell_run(j->plan.stage, &cell, 100, out);
		if (!out->is_measured)
			return;
		reach = out->got < reach ? out->got : reach;
		cell.is_open = false;
	}
	tr_cell_run(j->plan.stage, &cell, reach, out);
}

static void measure(struct tr_jobs *j, unsigned group, unsigned which)
{
	struct slot *slot = slot_of(j, group, which), *reach = slot_of(j, group, 0);
	struct tr_cell cell;

	if (which == 0) {
		measure_reach(j, group, &slot->result);
	} else {
		while (!atomic_load(&reach->is_done))
			tr_sleep_ns(LOOK_NS);
		j->plan.describe(j->plan.arg, group, which - 1, &cell);
		if (reach->result.is_measured)
			measure_cell(j, cell, reach->result.got, &slot->result);
	}
	atomic_store(&slot->is_done, true);
}

/* A machine with a virtual clock keeps to one processor of those it may use: each job has its own. */
static void keep_to_processor(unsigned job)
{
	cpu_set_t all, one;
	unsigned skip, cpu = 0;

	if (sched_getaffinity(0, sizeof(all), &all) != 0 || CPU_COUNT(&all) == 0)
		return;
	skip = job % (unsigned)CPU_COUNT(&all);
	while (!CPU_ISSET(cpu, &all) || skip-- > 0)
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	(void)sched_setaffinity(0, sizeof(one), &one);
}

static _Noreturn void run_job(struct tr_jobs *j)
{
	unsigned order, group, which;

	if (j->plan.at_once > 1 && j->plan.stage->sim && !j->plan.stage->is_real_time)
		keep_to_processor(j->alive);
	while (!atomic_load(&j->is_over) &&
	       (order = atomic_fetch_add(&j->next, 1)) <= j->total) {
		find_task(j, order, &group, &which);
		if (which <= j->plan.cells)
			measure(j, group, which);
	}
	_exit(0);
}

static int start_job(struct tr_jobs *j, struct tr_err *err)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		return tr_fail_errno(err, "fork");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		run_job(j);
	}
	j->alive++;
	return 0;
}

int tr_jobs_start(struct tr_jobs **out, const struct tr_jobs_plan *plan, struct tr_err *err)
{
	unsigned total = plan->groups * (plan->cells + 1);
	size_t bytes = sizeof(struct tr_jobs) + total * sizeof(struct slot);
	struct tr_jobs *j = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int r = 0;

	if (j == MAP_FAILED)
		return tr_fail_errno(err, "no memory for %u results", total);
	j->plan = *plan;
	j->total = total;
	j->bytes = bytes;
	(void)fflush(NULL);
	for (unsigned i = 0; r == 0 && i < plan->at_once && i < total; i++)
		r = start_job(j, err);
	if (r < 0) {
		tr_jobs_stop(j);
		return r;
	}
	*out = j;
	return 0;
}

/* Those that have ended. */
static void reap(struct tr_jobs *j, int options)
{
	while (j->alive && waitpid(-1, NULL, options) > 0)
		j->alive--;
}

static int await(struct tr_jobs *j, struct slot *slot, struct tr_err *err)
{
	while (!atomic_load(&slot->is_done)) {
		bool had_any = j->alive > 0;

		reap(j, WNOHANG);
		/* one that ended since may have written its last result before */
		if (!had_any && !atomic_load(&slot->is_done))
			return tr_fail(err, EIO, "a process that measures has died");
		tr_sleep_ns(LOOK_NS);
	}
	return 0;
}

int tr_jobs_take(struct tr_jobs *j, unsigned group, unsigned cell, struct tr_result *out,
		 struct tr_err *err)
{
	const struct slot *reach = slot_of(j, group, 0);
	struct slot *slot = slot_of(j, group, cell + 1);
	int r = await(j, slot, err);

	if (r < 0)
		return r;
	if (!reach->result.is_measured) {
		struct tr_cell what;

		j->plan.describe(j->plan.arg, group, cell, &what);
		return tr_fail(err, EIO, "%s without a limiter: %s", what.workload->name,
			       reach->result.why);
	}
	*out = slot->result;
	return 0;
}

void tr_jobs_stop(struct tr_jobs *j)
{
	atomic_store(&j->is_over, true);
	reap(j, 0);
	(void)munmap(j, j->bytes);
}
