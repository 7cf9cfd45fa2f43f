/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <unistd.h>

#include "keeper/sweep.h"
#include "rt/file.h"
#include "rt/sat.h"

/* Time: gamma, bypasses, strangers. */

#define PROCESSES_MAX 1024
#define SECOND_NS     UINT64_C(1000000000)
#define SECOND_US     UINT64_C(1000000)
#define SAMPLE_NS     UINT64_C(166666667) /* the shortest that drivers take */
#define SLEPT_NS      UINT64_C(65000000)  /* looks at 64 sleepers are so far apart */
#define STOPPED_NS    UINT64_C(5000000000)

struct hearing {              /* of one device, one answer */
	uint64_t busy_ns;     /* all people's */
	uint64_t doubt_ns;    /* and by how much that may be wrong */
	uint64_t strange_ns;  /* of people in no armed slice */
	uint64_t nameless_ns; /* and of those whom /proc does not know: anybody's */
	uint64_t charged_ns;  /* by all armed slices */
	uint64_t after_us;    /* samples that ended later */
	bool is_told;         /* NVML answers, on a clock that runs as ours */
};

/* The leases have just seen that it sleeps, and it did when it was last looked at here. */
static bool slept_on(const struct tr_kept_row *row, uint64_t now_ns)
{
	const struct tr_activity *activity = &row->activity;

	return row->looked_ns && tr_sat_sub(now_ns, row->read_ns) < SLEPT_NS &&
	       tr_activity_is_dozing(activity, now_ns) &&
	       activity->charged_ns == row->charged_ns &&
	       activity->launches == row->launches;
}

static bool read_pace(const struct tr_kept *kept, unsigned d, uint64_t now_ns,
		      struct tr_state_pace *out)
{
	const struct tr_kept_row *row = &kept->rows[d];

	if (!slept_on(row, now_ns))
		return tr_kept_read(kept, out, sizeof(*out),
				    offsetof(struct tr_state, pace) + d * sizeof(*out));
	*out = (struct tr_state_pace){
		.charged_ns = row->charged_ns,
		.gpu_ns = row->paid_ns,
		.spanned_ns = row->spanned_ns,
		.launches = row->launches,
		.longest_ns = row->look.longest_ns,
	};
	return true;
}

/* Writes the look at the pacing line; false: no such line. */
static bool begin_look(struct tr_kept *kept, unsigned d, uint64_t now_ns)
{
	struct tr_kept_row *row = &kept->rows[d];
	struct tr_state_pace pace;
	struct tr_look look = { 0 };

	if (!read_pace(kept, d, now_ns, &pace)) {
		row->look = look;
		return false;
	}
	look.wall_ns = tr_sat_sub(now_ns, row->looked_ns);
	look.charged_ns = tr_sat_sub(pace.charged_ns, row->charged_ns);
	look.paid_ns = tr_sat_sub(pace.gpu_ns, row->paid_ns);
	look.spanned_ns = tr_sat_sub(pace.spanned_ns, row->spanned_ns);
	look.longest_ns = pace.longest_ns;
	look.launches = pace.launches - row->launches;
	/* Stopped for long, a first look, a word set back: nothing to compare. */
	look.is_whole = row->looked_ns && look.wall_ns <= STOPPED_NS &&
			pace.charged_ns >= row->charged_ns && pace.gpu_ns >= row->paid_ns &&
			look.charged_ns <= 2 * look.wall_ns * TR_SLOTS_MAX;
	if (row->looked_ns == 0)
		look.charged_ns = look.spanned_ns = 0;
	row->charged_ns = pace.charged_ns;
	row->paid_ns = pace.gpu_ns;
	row->spanned_ns = pace.spanned_ns;
	row->launches = pace.launches;
	row->looked_ns = now_ns;
	row->look = look;
	return true;
}

static void begin_looks(struct tr_fleet *fleet, int gpu, uint64_t now_ns,
			struct hearing *hearing)
{
	for (size_t i = 0; i < fleet->count; i++) {
		struct tr_kept *kept = fleet->slices[i];
		int d = tr_kept_row_of(kept, gpu);

		if (d >= 0 && kept->is_armed && begin_look(kept, (unsigned)d, now_ns))
			hearing->charged_ns = tr_sat_add(hearing->charged_ns,
							 kept->rows[d].look.charged_ns);
	}
}

/* A process that came or went may have worked unseen. Of many slices most sleep: where nothing was
 * done that need not be known yet. */
static void compare_crowds(struct tr_kept *kept, struct tr_kept_row *row)
{
	const struct tr_look *look = &row->look;
	bool is_still = look->is_whole && !look->launches && !look->charged_ns &&
			!look->paid_ns && !look->busy_ns;

	if (is_still && !kept->has_newcomer)
		return;
	tr_kept_refresh(kept);
	row->look.is_whole &= row->crowd == kept->crowd;
	row->crowd = kept->crowd;
}

static void hear_person(struct tr_crowd *crowd, const struct tr_gpu_sample *rows,
			size_t count, int gpu, uint64_t now_ns, struct hearing *hearing)
{
	struct tr_person *person = tr_crowd_find(crowd, rows->pid, gpu, now_ns);
	struct tr_look theirs = { 0 }, *look;

	if (!person)
		return;
	tr_samples_feed(&person->samples, rows, count, hearing->after_us, &theirs);
	hearing->busy_ns = tr_sat_add(hearing->busy_ns, theirs.busy_ns);
	hearing->doubt_ns = tr_doubt_and(hearing->doubt_ns, theirs.doubt_ns);
	if (person->kept && person->kept->is_ours)
		(void)atomic_fetch_add(
			&person->kept->page.writable->devices[person->row].nvml_busy_ns,
			theirs.busy_ns);
	if (person->kept && person->kept->is_armed) {
		look = &person->kept->rows[person->row].look;
		look->busy_ns = tr_sat_add(look->busy_ns, theirs.busy_ns);
		look->doubt_ns = tr_doubt_and(look->doubt_ns, theirs.doubt_ns);
		look->samples += theirs.samples;
	} else if (person->is_named) {
		hearing->strange_ns += theirs.busy_ns;
	} else {
		hearing->nameless_ns += theirs.busy_ns;
	}
}

/* Somebody without a row did nothing that NVML would have told: less than half a percent. Where one
 * submission is more than that it did nothing. */
static void doubt_the_silent(struct tr_crowd *crowd, int gpu, uint64_t end_us,
			     struct hearing *hearing)
{
	for (size_t i = 0; i < crowd->count; i++) {
		struct tr_person *person = &crowd->people[i];
		struct tr_look theirs = { 0 };

		struct tr_look *look;

		if (person->gpu != gpu || !person->kept || !person->kept->is_armed)
			continue;
		look = &person->kept->rows[person->row].look;
		tr_samples_silent(&person->samples, hearing->after_us, end_us, &theirs);
		if (look->launches == 0 ||
		    look->charged_ns / look->launches > theirs.doubt_ns)
			continue;
		hearing->doubt_ns = tr_sat_add(hearing->doubt_ns, theirs.doubt_ns);
		look->doubt_ns = tr_sat_add(look->doubt_ns, theirs.doubt_ns);
	}
}

static int by_person(const void *a, const void *b)
{
	const struct tr_gpu_sample *left = a, *right = b;

	return (left->pid > right->pid) - (left->pid < right->pid);
}

static void hear_people(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
			struct tr_gpu_sample *rows, size_t count, uint64_t now_ns,
			struct hearing *hearing)
{
	qsort(rows, count, sizeof(*rows), by_person);
	for (size_t i = 0; i < count; i++)
		(void)tr_crowd_find(crowd, rows[i].pid, gpu, now_ns);
	tr_crowd_resolve(crowd, fleet, gpu, now_ns);
	for (size_t i = 0, next; i < count; i = next) {
		for (next = i + 1; next < count && rows[next].pid == rows[i].pid;)
			next++;
		hear_person(crowd, &rows[i], next - i, gpu, now_ns, hearing);
	}
}

static uint64_t newest(const struct tr_gpu_sample *rows, size_t count)
{
	uint64_t end_us = 0;

	for (size_t i = 0; i < count; i++)
		if (rows[i].end_us > end_us)
			end_us = rows[i].end_us;
	return end_us;
}

/* NVML's clock was set, or this is the first time: from here on, and nothing of before. */
static void rebase(struct tr_crowd *crowd, int gpu, struct tr_swept *swept, uint64_t end_us)
{
	swept->base_us = end_us;
	for (size_t i = 0; i < crowd->count; i++)
		if (crowd->people[i].gpu == gpu)
			crowd->people[i].samples = (struct tr_samples){ .last_us = end_us };
}

/* ---- judging ------------------------------------------------------------------------- */

/* Of a second and not of a sample: what was busy is charged a little later. */
static void watch_row(struct tr_kept_row *row, struct tr_policy_device *page_row)
{
	tr_look_add(&row->second, &row->look);
	if (row->second.wall_ns < SECOND_NS)
		return;
	if (tr_watch_feed(&row->watch, &row->second))
		(void)atomic_fetch_add(&page_row->bypass_seen, 1);
	row->second = (struct tr_look){ 0 };
}

static void judge_row(struct tr_kept *kept, unsigned d)
{
	struct tr_policy_device *page_row = &kept->page.writable->devices[d];
	struct tr_kept_row *row = &kept->rows[d];
	uint64_t gamma_q16 = tr_gamma_feed(&row->gamma, &row->look);

	watch_row(row, page_row);
	if (page_row->mode == TR_BYPASS_LOWERED)
		gamma_q16 = tr_watch_lowered_q16(&row->watch, gamma_q16);
	atomic_store(&page_row->sharers, row->gamma.is_shared ? row->gamma.sharers : 0);
	atomic_store(&page_row->is_varied, row->gamma.is_varied);
	if (page_row->gamma_q16 != gamma_q16)
		atomic_store(&page_row->gamma_q16, gamma_q16);
}

static void judge_rows(struct tr_fleet *fleet, int gpu, unsigned people,
		       const struct hearing *hearing)
{
	uint32_t pid = (uint32_t)getpid();
	uint64_t seen_ns = tr_clock_ns();

	for (size_t i = 0; i < fleet->count; i++) {
		struct tr_kept *kept = fleet->slices[i];
		int d = tr_kept_row_of(kept, gpu);
		struct tr_look *look;

		if (d < 0 || !kept->is_ours)
			continue;
		look = &kept->rows[d].look;
		compare_crowds(kept, &kept->rows[d]);
		/* Busy time of a process without a name may be this slice's own. */
		if (!hearing->is_told || hearing->nameless_ns)
			look->is_whole = false;
		look->sharers = people;
		look->others_ns = tr_sat_sub(hearing->busy_ns, look->busy_ns);
		look->others_doubt_ns = tr_doubt_without(hearing->doubt_ns, look->doubt_ns);
		if (hearing->is_told)
			atomic_store(&kept->page.writable->devices[d].nvml_seen_ns,
				     seen_ns);
		if (kept->is_armed)
			judge_row(kept, (unsigned)d);
		atomic_store(&kept->page.writable->keeper_seen_ns, seen_ns);
		atomic_store(&kept->page.writable->keeper_pid, pid);
	}
}

static void judge_strangers(struct tr_swept *swept, const struct hearing *hearing,
			    uint64_t now_ns)
{
	uint64_t wall_ns = tr_sat_sub(now_ns, swept->second.since_ns);

	swept->second.strange_ns += hearing->strange_ns;
	swept->second.nameless_ns += hearing->nameless_ns;
	swept->second.charged_ns += hearing->charged_ns;
	if (wall_ns < SECOND_NS)
		return;
	swept->is_foreign_busy = hearing->is_told &&
				 (swept->second.strange_ns > wall_ns / 100 ||
				  tr_sat_sub(swept->second.nameless_ns,
					     swept->second.charged_ns) > wall_ns / 10);
	swept->second.strange_ns = swept->second.nameless_ns = swept->second.charged_ns = 0;
	swept->second.since_ns = now_ns;
}

/* ---- asking -------------------------------------------------------------------------- */

uint64_t tr_sweep_pause_ns(const struct tr_swept *swept)
{
	return swept->people > 1 ? SAMPLE_NS : SECOND_NS;
}

/* A clock that was set back, or has run away from ours. */
static bool is_strange(const struct tr_swept *swept, uint64_t end_us, uint64_t now_ns)
{
	uint64_t wall_us = tr_sat_sub(now_ns, swept->told_ns) / 1000;

	return swept->base_us == 0 || tr_sat_add(end_us, SECOND_US) < swept->base_us ||
	       tr_sat_sub(end_us, swept->base_us) > tr_sat_add(wall_us, 3 * SECOND_US);
}

int tr_sweep_time(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
		  struct tr_swept *swept, struct tr_err *err)
{
	static struct tr_gpu_sample rows[PROCESSES_MAX];
	struct hearing hearing = { .after_us = swept->base_us };
	uint64_t now_ns = tr_clock_ns(), end_us;
	size_t count = PROCESSES_MAX;
	int r;

	swept->asked_ns = now_ns;
	/* Silent for long: its clock may have been set back. */
	if (tr_sat_sub(now_ns, swept->told_ns) > STOPPED_NS)
		hearing.after_us = 0;
	r = tr_gpu_utilization(fleet->gpus->gpus[gpu].uuid, hearing.after_us, rows, &count,
			       err);
	end_us = r < 0 ? 0 : newest(rows, count);
	hearing.is_told = r == 0 && swept->base_us;
	if (r == 0 && count && is_strange(swept, end_us, now_ns)) {
		rebase(crowd, gpu, swept, end_us);
		hearing.is_told = false;
		count = 0;
	} else if (r == 0 && end_us <= swept->base_us &&
		   tr_sat_sub(now_ns, swept->heard_ns) < SECOND_NS) {
		return 0; /* no sample has ended since */
	}
	if (end_us)
		swept->told_ns = now_ns;
	begin_looks(fleet, gpu, now_ns, &hearing);
	if (r == 0)
		hear_people(fleet, crowd, gpu, rows, count, now_ns, &hearing);
	if (r == 0 && hearing.is_told)
		doubt_the_silent(crowd, gpu, end_us, &hearing);
	if (end_us > swept->base_us)
		swept->base_us = end_us;
	swept->heard_ns = now_ns;
	judge_rows(fleet, gpu, swept->people, &hearing);
	judge_strangers(swept, &hearing, now_ns);
	return r;
}
