/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/enter.h"
#include "cli/keep.h"
#include "cli/launch.h"
#include "keeper/slices.h"
#include "rt/bytes.h"
#include "tranche/paths.h"

struct run_options {
	const char *mem, *device, *name, *cores, *cores_max, *priority, *on_bypass;
	bool is_sim, is_quiet;
};

/* What it gets of the time of each of its devices. */
struct share {
	bool armed; /* counted, and limited when less than all */
	uint64_t rate_q32, rate_max_q32;
	enum tr_priority priority;
	enum tr_bypass on_bypass;
};

/* The devices and limits of the new slice. */
struct plan {
	struct tr_page_device rows[TR_DEVICES_MAX];
	unsigned devices[TR_DEVICES_MAX], count;
	struct share share;
	struct tr_gpus gpus;
	char name[64];
};

static void print_too_small(const struct tr_page_device *row)
{
	char limit[TR_BYTES_TEXT], floor[TR_BYTES_TEXT];

	tr_bytes_print(limit, row->limit_bytes);
	tr_bytes_print(floor, row->context_floor_bytes);
	(void)fprintf(
		stderr,
		"tranche: %s is less than one context takes (%s): no program can start\n",
		limit, floor);
}

/* One ceiling and no guarantee is as much guaranteed as the ceiling. */
static int read_share(struct share *share, const struct run_options *o, struct tr_err *err)
{
	const char *cores = o->cores ? o->cores : o->cores_max;
	unsigned tenths = TR_CORES_ALL, max;
	int r = 0;

	if (cores)
		r = tr_cores_parse(o->cores ? "cores" : "cores-max", cores, &tenths, err);
	max = tenths;
	if (r == 0 && o->cores_max)
		r = tr_cores_parse("cores-max", o->cores_max, &max, err);
	if (r == 0 && max < tenths)
		r = tr_fail(err, EINVAL,
			    "--cores-max \"%s\" is less than --cores \"%s\": what may be "
			    "borrowed comes on top of what is guaranteed",
			    o->cores_max, o->cores);
	if (r == 0 && o->priority)
		r = tr_priority_parse(o->priority, &share->priority, err);
	share->armed = cores || o->priority;
	if (r == 0 && o->on_bypass)
		r = tr_bypass_parse(o->on_bypass, &share->on_bypass, err);
	if (r == 0 && o->on_bypass && !share->armed)
		r = tr_fail(err, EINVAL,
			    "--on-bypass is of a slice whose time is counted: "
			    "--cores 100 counts and limits nothing");
	share->rate_q32 = tr_cores_rate(tenths);
	share->rate_max_q32 = tr_cores_rate(max);
	return r;
}

static int make_plan(struct plan *plan, const struct run_options *options,
		     struct tr_err *err)
{
	int r = tr_devices_parse(options->device ? options->device : "0", &plan->gpus,
				 plan->devices, &plan->count, err);

	for (unsigned i = 0; r == 0 && i < plan->count; i++) {
		const struct tr_gpu *gpu = &plan->gpus.gpus[plan->devices[i]];

		plan->rows[i] = (struct tr_page_device){
			.uuid = gpu->uuid,
			.limit_bytes = gpu->total_bytes,
			.total_bytes = gpu->total_bytes,
			.context_floor_bytes = tr_context_floor_bytes(gpu->compute_major),
			.rate_q32 = plan->share.rate_q32,
			.rate_max_q32 = plan->share.rate_max_q32,
			.priority = plan->share.priority,
			.on_bypass = plan->share.on_bypass,
		};
		if (options->mem)
			r = tr_size_parse(options->mem, gpu->total_bytes,
					  &plan->rows[i].limit_bytes, err);
	}
	if (r < 0)
		return r;
	for (unsigned i = 0; i < plan->count; i++)
		if (plan->rows[i].limit_bytes < plan->rows[i].context_floor_bytes)
			print_too_small(&plan->rows[i]);
	if (options->name)
		(void)snprintf(plan->name, sizeof(plan->name), "%s", options->name);
	else
		(void)snprintf(plan->name, sizeof(plan->name), "run-%d", (int)getpid());
	return 0;
}

static int make_slice(struct tr_slice_dir *dir, const struct plan *plan, struct tr_err *err)
{
	struct tr_page_spec spec = { .armed = plan->share.armed,
				     .device_count = plan->count,
				     .devices = plan->rows };

	if (getrandom(&spec.serial, sizeof(spec.serial), 0) != sizeof(spec.serial))
		return tr_fail_errno(err, "getrandom");
	spec.serial |= 1;
	return tr_slice_make(dir, plan->name, &spec, tr_enter_state_path(), err);
}

static void print_time(const char *name, unsigned device,
		       const struct tr_policy_device *row, const struct tr_state_pace *pace)
{
	uint64_t seen = row->bypass_seen;

	(void)fprintf(stderr, "tranche: slice %s on device %u: GPU %.1f s, waited %.1f s\n",
		      name, device, (double)pace->gpu_ns / 1e9,
		      (double)pace->throttled_ns / 1e9);
	if (seen)
		(void)fprintf(stderr,
			      "tranche: slice %s on device %u: the GPU worked for it "
			      "uncounted, seen %llu time%s: something goes around the "
			      "library\n",
			      name, device, (unsigned long long)seen, seen == 1 ? "" : "s");
}

/* One line per device that was used; the first one always. */
static void print_end(const struct tr_slice_dir *dir, const struct plan *plan)
{
	static struct tr_state copy;
	struct tr_page page;

	if (tr_page_open(&page, dir->policy_path, NULL) < 0)
		return;
	if (tr_state_read(dir->state_path, &copy, NULL) == 0)
		for (unsigned d = 0; d < plan->count; d++) {
			char peak[TR_BYTES_TEXT], limit[TR_BYTES_TEXT];
			struct tr_slice_use use;

			tr_slice_use(page.map, &copy, d, &use);
			if (d && !use.peak_bytes && !use.refused && !copy.pace[d].launches)
				continue;
			tr_bytes_print(peak, use.peak_bytes);
			tr_bytes_print(limit, page.map->devices[d].limit_bytes);
			(void)fprintf(stderr,
				      "tranche: slice %s on device %u: peak %s of %s, "
				      "%llu allocation%s refused\n",
				      page.name, plan->devices[d], peak, limit,
				      (unsigned long long)use.refused,
				      use.refused == 1 ? "" : "s");
			if (plan->share.armed)
				print_time(page.name, plan->devices[d],
					   &page.map->devices[d], &copy.pace[d]);
		}
	tr_page_close(&page);
}

/* From the slice to the end of the program; the slice is gone after it. */
static int run_in_slice(struct tr_slice_dir *dir, const struct plan *plan, char **argv,
			const struct run_options *options, struct tr_keep *keep,
			const sigset_t *mask)
{
	struct tr_enter enter = { .dir = dir, .is_sim = options->is_sim };
	struct tr_err err = { 0 };
	int status, r;
	pid_t pid = 0;

	for (unsigned i = 0; i < plan->count; i++)
		enter.uuids[i] = plan->rows[i].uuid;
	enter.uuid_count = plan->count < plan->gpus.count ? plan->count : 0;
	r = tr_enter_prepare(&enter, &err);
	if (r == 0) {
		tr_keep_slice(keep, dir);
		r = tr_launch(&pid, argv, mask, tr_enter_slice, &enter, &err);
	}
	if (r < 0) {
		tr_slice_remove(dir);
		return tr_launch_failed(&err, r);
	}
	status = tr_launch_wait(pid, tr_keep_tend, keep);
	if (!options->is_quiet)
		print_end(dir, plan);
	if (!tr_slice_end(dir) && !options->is_quiet)
		(void)fprintf(stderr,
			      "tranche: programs still run in slice %s; its limit holds\n",
			      plan->name);
	return tr_launch_status(status);
}

/* Wrong values, and only they, are status 2; whatever failed, nothing stays behind. */
static int fail_start(const struct tr_err *err, int r)
{
	return tr_cli_fail(err, r == -EINVAL || r == -EEXIST ? TR_EXIT_USAGE : 1);
}

int tr_cli_run(int argc, char **argv)
{
	static struct plan plan;
	struct run_options o = { 0 };
	struct tr_option options[] = {
		{ "mem", &o.mem, NULL },
		{ "device", &o.device, NULL },
		{ "name", &o.name, NULL },
		{ "sim", NULL, &o.is_sim },
		{ "quiet", NULL, &o.is_quiet },
		{ "cores", &o.cores, NULL },
		{ "cores-max", &o.cores_max, NULL },
		{ "priority", &o.priority, NULL },
		{ "on-bypass", &o.on_bypass, NULL },
	};
	struct tr_slice_dir dir = { .alive_fd = -1 };
	struct tr_keep keep;
	struct tr_args args;
	struct tr_err err = { 0 };
	char machine[64];
	sigset_t mask;
	int r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), false, &err);

	if (r == 0 && args.rest_count == 0)
		r = tr_fail(&err, EINVAL,
			    "run: which program? tranche run --mem 4Gi -- PROGRAM");
	if (r == 0 && o.name)
		r = tr_slice_name_check(o.name, &err);
	if (r == 0 && o.mem) /* before anything is started: against no device yet */
		r = tr_size_parse(o.mem, 0, &(uint64_t){ 0 }, &err);
	if (r == 0)
		r = read_share(&plan.share, &o, &err);
	if (r < 0)
		return tr_cli_usage(&err, r);
	if (o.is_sim)
		r = tr_sim_enter(NULL, machine, sizeof(machine), &err);
	if (r == 0)
		r = tr_enter_check(&err);
	tr_signals_hold(&mask);
	if (r == 0)
		r = tr_keep_start(&keep, &plan.gpus, &err);
	if (r < 0)
		return fail_start(&err, r);
	r = make_plan(&plan, &o, &err);
	if (r == 0)
		r = make_slice(&dir, &plan, &err);
	for (unsigned i = 0; r == 0 && !o.is_quiet && i < plan.count; i++)
		tr_promises_tell(plan.rows[i].uuid, plan.devices[i]);
	if (r == 0)
		r = run_in_slice(&dir, &plan, args.rest, &o, &keep, &mask);
	else
		r = fail_start(&err, r);
	tr_keep_stop(&keep);
	return r;
}
