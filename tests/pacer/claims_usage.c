/* SPDX-License-Identifier: Apache-2.0 */
#include "slice/parts.h"
#include "stage.h"

/*
 * F20: what the state file says was used, by process and device, held against the machine's own books:
 * GPU time within 2 percent (4 where processes take turns), launches to the last one, throttled time by what the program saw.
 */
static const struct tr_state_usage *row_of(const struct tenant *t, int pid, unsigned device)
{
	for (unsigned s = 0; s < TR_SLOTS_MAX; s++) {
		if (atomic_load(&t->state->slots[s].pid) != pid)
			continue;
		for (unsigned i = 0; i < TR_USAGE_WINDOW; i++) {
			const struct tr_state_usage *row =
				&t->state->usage[(tr_usage_first(s) + i) % TR_USAGE_ROWS];

			if (atomic_load(&row->owner) == ((s + 1) << 8 | device))
				return row;
		}
	}
	FAIL("no usage row of process %d on device %u", pid, device);
	exit(1);
}

struct counts {
	uint64_t busy[PAGE_WORKERS], gpu[PAGE_WORKERS], launched[PAGE_WORKERS],
		counted[PAGE_WORKERS], throttled[PAGE_WORKERS];
	uint64_t all_busy, all_gpu, all_throttled, sum_ns;
};

/* Row I is of worker I, which uses DEVICE(i) alone or shares it with the slice's other processes. */
static void count(const struct tenant *t, unsigned devices, struct counts *out)
{
	*out = (struct counts){ 0 };
	for (unsigned i = 0; i < t->workers; i++) {
		const struct page_worker *w = &t->page->workers[i];
		unsigned device = devices > 1 ? i % devices : 0;
		int pid = atomic_load(&w->pid);
		const struct tr_state_usage *row = row_of(t, pid, device);
		struct tenant one = { .page = t->page, .workers = 1 };
		struct page page = { 0 };

		atomic_store(&page.workers[0].pid, pid);
		one.page = &page;
		out->busy[i] = stage_busy(&one, device);
		out->gpu[i] = tr_parts_gpu_ns(&t->state->pace[device], row);
		out->launched[i] = atomic_load(&w->device_launches[device]);
		out->counted[i] = atomic_load(&row->launches);
		out->throttled[i] = atomic_load(&row->throttled_ns);
		out->all_busy += out->busy[i];
		out->sum_ns += atomic_load(&w->sum_ns);
	}
	for (unsigned d = 0; d < devices; d++) {
		out->all_gpu += atomic_load(&t->state->pace[d].gpu_ns);
		out->all_throttled += atomic_load(&t->state->pace[d].throttled_ns);
	}
}

#define BOOKS(part, of, percent)                                                      \
	do {                                                                          \
		double part_ = (double)(part), of_ = (double)(of);                    \
		if (part_ < of_ * (1 - (percent) / 100.0) ||                          \
		    part_ > of_ * (1 + (percent) / 100.0))                            \
			FAIL("%s says %.3f ms, the machine %.3f", #part, part_ / 1e6, \
			     of_ / 1e6);                                              \
	} while (0)

#define RUN_NS (20 * S)
/* What a process may be off where several share the GPU's turns: 2 points, or 5 percent of it. */
static double off_of(uint64_t busy_ns)
{
	double points = 0.02 * (double)RUN_NS, part = 0.05 * (double)busy_ns;

	return points > part ? points : part;
}

/* All parts together are what the slice used. */
static void check_sum(const struct tenant *t, const struct counts *c)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < t->workers; i++)
		sum += c->gpu[i];
	NEAR((double)sum, (double)c->all_gpu, 1000);
}

static void usage(const struct play *play, unsigned devices, bool is_limited, double off)
{
	struct tenant *t = stage_start(play);
	struct counts from, to;

	stage_warm();
	/* Quiet, so that what is counted and what has run are the same work. */
	atomic_store(&t->page->is_paused, 1);
	stage_sleep(S);
	count(t, devices, &from);
	stage_forget(t);
	from.sum_ns = 0;
	atomic_store(&t->page->is_paused, 0);
	stage_sleep(RUN_NS);
	atomic_store(&t->page->is_paused, 1);
	stage_sleep(2 * S);
	count(t, devices, &to);
	for (unsigned i = 0; i < t->workers; i++) {
		(void)printf("process %u: %.3f s of GPU counted, %.3f by the machine; %llu "
			     "launches of %llu; throttled %.3f s\n",
			     i, (double)(to.gpu[i] - from.gpu[i]) / 1e9,
			     (double)(to.busy[i] - from.busy[i]) / 1e9,
			     (unsigned long long)(to.counted[i] - from.counted[i]),
			     (unsigned long long)(to.launched[i] - from.launched[i]),
			     (double)(to.throttled[i] - from.throttled[i]) / 1e9);
		if (play->processes > 1)
			NEAR((double)(to.gpu[i] - from.gpu[i]),
			     (double)(to.busy[i] - from.busy[i]),
			     off_of(to.busy[i] - from.busy[i]));
		else
			BOOKS(to.gpu[i] - from.gpu[i], to.busy[i] - from.busy[i], off);
		/* what the fast way has not told yet is told later */
		CHECK(to.launched[i] - from.launched[i] > 100);
		NEAR((double)(to.counted[i] - from.counted[i]),
		     (double)(to.launched[i] - from.launched[i]), 64);
	}
	BOOKS(to.all_gpu - from.all_gpu, to.all_busy - from.all_busy, off);
	if (play->processes > 1)
		check_sum(t, &to);
	if (!is_limited)
		CHECK(to.all_throttled == from.all_throttled);
	else if (to.sum_ns > S) /* below, calls that did not wait */
		BOOKS(to.all_throttled - from.all_throttled, to.sum_ns, 5);
}

void claim_F20_no_limit(void)
{
	usage(&(struct play){ "--cores 100", "mixed 3000" }, 1, false, 2);
}

void claim_F20_with_limit(void)
{
	usage(&(struct play){ "--cores 30", "kernels 500" }, 1, true, 2);
}

void claim_F20_graphs(void)
{
	usage(&(struct play){ "--cores 100", "graphs 100 20" }, 1, false, 2);
}

/* What a thread was given and could not use, as its context was set again, is no launch. */
void claim_F20_current(void)
{
	usage(&(struct play){ "--cores 100", "current 200" }, 1, false, 2);
}

void claim_F20_idle_between(void)
{
	usage(&(struct play){ "--cores 100", "bursts 300 40" }, 1, false, 2);
}

void claim_F20_processes(void)
{
	usage(&(struct play){ "--cores 60", "kernels 800", .processes = 3 }, 1, true, 2);
}

void claim_F20_processes_without_limit(void)
{
	usage(&(struct play){ "--cores 100", "kernels 800", .processes = 3 }, 1, false,
	      TURNS);
}

void claim_F20_devices(void)
{
	usage(&(struct play){ "--cores 100 --device 0,1", "kernels 1000 2", .threads = 2 },
	      2, false, 2);
}

/* In an armed slice without a limit, beside another: what the neighbour had is not counted. */
void claim_F20_beside(void)
{
	(void)stage_start(&(struct play){ "--cores 100", "kernels 2000" });
	usage(&(struct play){ "--cores 100", "kernels 500" }, 1, false, TURNS);
}

/* A gate may stand for ten seconds: whoever looks meanwhile sees the time that is waited. */
void claim_F20_while_waiting(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 5", "kernels 400000" });
	unsigned seen = 0;

	stage_sleep(20 * S);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t before_ns = atomic_load(&t->state->pace[0].throttled_ns);

		stage_sleep(S);
		seen += atomic_load(&t->state->pace[0].throttled_ns) - before_ns > S / 2;
	}
	(void)printf("%u of 20 seconds told as waited\n", seen);
	CHECK(seen >= 15);
}

/* Of several processes each has its own part: alike, with short and long kernels, with much and little to
 * do, and short bursts beside long kernels. */
#define EACH(name, options, is_limited, words, n)                                        \
	void claim_F20_each_##name(void)                                                 \
	{                                                                                \
		usage(&(struct play){ options, words, .processes = (n) }, 1, is_limited, \
		      TURNS);                                                            \
	}
#define EACH_OF(work, words)                                 \
	EACH(work##_2, "--cores 100", false, words, 2)       \
	EACH(work##_4, "--cores 100", false, words, 4)       \
	EACH(work##_8, "--cores 100", false, words, 8)       \
	EACH(work##_2_limited, "--cores 50", true, words, 2) \
	EACH(work##_4_limited, "--cores 50", true, words, 4) \
	EACH(work##_8_limited, "--cores 50", true, words, 8)
EACH_OF(like, "kernels 2000")
EACH_OF(lengths, "lengths 200")
EACH_OF(demand, "demand 500 4")
EACH_OF(served, "served 500")
