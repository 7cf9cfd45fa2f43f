/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/leases.h"
#include "bench/matrix.h"
#include "cli/cli.h"

#define JOBS_MAX 64

struct bench_options {
	const char *peer, *svg, *quotas, *workloads, *processes, *neighbours, *gpus, *seed,
		*seconds, *noise, *device, *jobs;
	bool is_json, is_quick, is_real_time, is_gpu, is_check, is_check_shares, is_leases,
		is_rate;
};

static int parse_number(const char *name, const char *text, unsigned long long least,
			unsigned long long most, unsigned long long *out,
			struct tr_err *err)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	/* strtoull() would take blanks and signs. */
	if (*text < '0' || *text > '9' || *end || errno || *out < least || *out > most)
		return tr_fail(err, EINVAL, "--%s \"%s\": a number from %llu to %llu", name,
			       text, least, most);
	return 0;
}

static int parse_matrix(struct tr_matrix *m, const struct bench_options *o,
			struct tr_err *err)
{
	unsigned long long seed = 1, seconds = 0, jobs = 1;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	int r = 0;

	*m = (struct tr_matrix){ .is_quick = o->is_quick,
				 .is_json = o->is_json,
				 .is_rate_judged = o->is_rate,
				 .svg_path = o->svg };
	if (o->quotas)
		r = tr_list_parse(&m->quotas, "quota", o->quotas, 1, 100, err);
	if (r == 0 && o->processes)
		r = tr_list_parse(&m->processes, "processes", o->processes, 1, 16, err);
	if (r == 0 && o->neighbours)
		r = tr_list_parse(&m->neighbours, "neighbours", o->neighbours, 0,
				  TR_SCENE_PARTIES - 1, err);
	if (r == 0 && o->gpus)
		r = tr_list_parse(&m->gpus, "gpus", o->gpus, 1, TR_BENCH_DEVICES, err);
	if (r == 0 && o->workloads)
		r = tr_workloads_parse(m, o->workloads, err);
	if (r == 0 && o->seed)
		r = parse_number("seed", o->seed, 0, UINT32_MAX, &seed, err);
	if (r == 0 && o->seconds)
		r = parse_number("seconds", o->seconds, 1, 100000, &seconds, err);
	/* On a virtual clock nobody disturbs another. */
	if (processors > 1 && !o->is_gpu && !o->is_real_time)
		jobs = processors < JOBS_MAX ? (unsigned long long)processors : JOBS_MAX;
	if (r == 0 && o->jobs)
		r = parse_number("jobs", o->jobs, 1, JOBS_MAX, &jobs, err);
	m->jobs = (unsigned)jobs;
	m->seed = seed;
	m->window_s = (unsigned)seconds;
	tr_matrix_fill(m);
	if (r == 0 && !o->is_leases)
		r = tr_matrix_pair(m, stderr, err);
	return r;
}

/* Whole paths: tenants start elsewhere. */
static int set_stage(struct tr_stage *stage, const struct bench_options *o,
		     struct tr_err *err)
{
	static char self[PATH_MAX], sim[PATH_MAX], peer[PATH_MAX];
	unsigned long long noise = 5, device = 0;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int r = 0;

	if (n <= 0)
		return tr_fail_errno(err, "/proc/self/exe");
	*stage = (struct tr_stage){ .tranche = self, .is_real_time = o->is_real_time };
	if (o->peer && !realpath(o->peer, peer))
		return tr_fail(err, EINVAL, "--peer %s: %s", o->peer, strerror(errno));
	stage->peer = o->peer ? peer : NULL;
	if (o->noise)
		r = parse_number("noise", o->noise, 0, 50, &noise, err);
	stage->noise_percent = (unsigned)noise;
	if (r == 0 && o->device && !o->is_gpu)
		r = tr_fail(
			err, EINVAL,
			"--device %s is for --gpu: a simulated machine is made for each "
			"cell",
			o->device);
	if (r == 0 && o->device)
		r = parse_number("device", o->device, 0, TR_DEVICES_MAX - 1, &device, err);
	stage->first_device = (unsigned)device;
	if (r == 0 && !o->is_gpu) {
		r = tr_find_part("sim", sim, sizeof(sim), err);
		stage->sim = sim;
	}
	if (r == 0)
		r = tr_stage_folder(stage, err);
	if (r == 0 && stage->peer)
		r = tr_peer_check(stage, err);
	return r == 0 && o->is_gpu ? tr_scene_calibrate(stage, err) : r;
}

static int run_leases(const struct tr_stage *stage, const struct tr_matrix *matrix,
		      bool is_check)
{
	struct tr_leases leases = { matrix->seed, matrix->is_json, matrix->is_quick };
	struct tr_leases_sum sum = { 0 };

	tr_leases_run(stage, &leases, &sum);
	(void)fprintf(matrix->is_json ? stderr : stdout,
		      "%u numbers, %u beyond their bounds, %u scenes not measured\n",
		      sum.rows, sum.missed, sum.failed);
	return is_check && (sum.missed || sum.failed) ? 1 : 0;
}

static int check_words(const struct tr_args *args, struct tr_err *err)
{
	if (args->rest_count == 0)
		return tr_fail(err, EINVAL, "bench: what? tranche bench limiter");
	if (strcmp(args->rest[0], "limiter") != 0)
		return tr_fail(err, EINVAL, "bench: \"%s\"? tranche bench limiter",
			       args->rest[0]);
	if (args->rest_count > 1)
		return tr_fail(err, EINVAL, "bench limiter: \"%s\" is too much",
			       args->rest[1]);
	return 0;
}

int tr_cli_bench(int argc, char **argv)
{
	static struct tr_matrix matrix;
	struct bench_options o = { 0 };
	struct tr_option options[] = {
		{ "peer", &o.peer, NULL },
		{ "svg", &o.svg, NULL },
		{ "quota", &o.quotas, NULL },
		{ "workload", &o.workloads, NULL },
		{ "processes", &o.processes, NULL },
		{ "neighbours", &o.neighbours, NULL },
		{ "gpus", &o.gpus, NULL },
		{ "seed", &o.seed, NULL },
		{ "seconds", &o.seconds, NULL },
		{ "noise", &o.noise, NULL },
		{ "device", &o.device, NULL },
		{ "jobs", &o.jobs, NULL },
		{ "json", NULL, &o.is_json },
		{ "quick", NULL, &o.is_quick },
		{ "real-time", NULL, &o.is_real_time },
		{ "gpu", NULL, &o.is_gpu },
		{ "check", NULL, &o.is_check },
		{ "check-shares", NULL, &o.is_check_shares },
		{ "leases", NULL, &o.is_leases },
		{ "rate", NULL, &o.is_rate },
	};
	struct tr_summary summary = { 0 };
	struct tr_stage stage = { 0 };
	struct tr_args args;
	struct tr_err err = { 0 };
	int r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), true, &err);

	if (r == 0)
		r = check_words(&args, &err);
	if (r == 0)
		r = parse_matrix(&matrix, &o, &err);
	if (r < 0)
		return tr_cli_usage(&err, r);
	if (o.svg)
		r = tr_svg_check(o.svg, &err);
	if (r == 0)
		r = set_stage(&stage, &o, &err);
	if (r == 0 && o.is_leases)
		return run_leases(&stage, &matrix, o.is_check);
	if (r == 0)
		r = tr_matrix_run(&stage, &matrix, &summary, &err);
	if (r < 0)
		return tr_cli_fail(&err, r == -EINVAL ? TR_EXIT_USAGE : 1);
	/* JSON lines are for programs: their sum goes to people. */
	tr_report_end(o.is_json ? stderr : stdout, &summary);
	if (o.is_check && !tr_summary_is_good(&summary, !stage.peer))
		return 1;
	return o.is_check_shares && !tr_summary_is_good(&summary, false) ? 1 : 0;
}
