/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/view.h"
#include "rt/bytes.h"
#include "rt/sat.h"

/* Any counter, as JSON has it: what a tenant wrote may be beyond. */
static json_t *counter(uint64_t n)
{
	return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

static json_t *time_json(const struct tr_view_time *t)
{
	return json_pack("{s:o, s:o, s:o}", "gpu_ns", counter(t->gpu_ns), "launches",
			 counter(t->launches), "throttled_ns", counter(t->throttled_ns));
}

/* What nobody counts is unknown, not 0. */
static json_t *device_time_json(const struct tr_view_device *d, bool is_armed)
{
	const struct tr_view_share *s = &d->share;
	json_t *out;

	if (!is_armed)
		return json_null();
	out = json_pack("{s:f, s:f, s:s, s:f, s:b, s:b, s:o, s:s, s:o}", "rate",
			tr_cores_tenths(s->rate_q32) / 10.0, "rate_max",
			tr_cores_tenths(s->rate_max_q32) / 10.0, "priority",
			tr_priority_name(s->priority), "gamma", s->gamma, "borrowing",
			s->is_borrowing, "blocked", s->is_blocked, "gate_waits",
			counter(d->gate_waits), "on_bypass", tr_bypass_name(s->on_bypass),
			"bypass_seen", counter(s->bypass_seen));
	(void)json_object_update_new(out, time_json(&d->time));
	return out;
}

static json_t *device_json(const struct tr_view_device *d, bool is_armed)
{
	json_t *seen = d->nvml_seen_ns ? counter(d->nvml_busy_ns) : json_null();

	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:o, s:o}", "uuid",
			 d->uuid, "limit_bytes", (json_int_t)d->limit_bytes, "total_bytes",
			 (json_int_t)d->total_bytes, "used_bytes",
			 (json_int_t)d->use.used_bytes, "overhead_bytes",
			 (json_int_t)d->use.overhead_bytes, "peak_bytes",
			 (json_int_t)d->use.peak_bytes, "refused",
			 (json_int_t)d->use.refused, "processes", (int)d->use.processes,
			 "gpu", device_time_json(d, is_armed), "nvml_busy_ns", seen);
}

/* What a program calls itself need not be UTF-8. */
static json_t *name_json(const char *comm)
{
	json_t *name = json_string(comm);

	return name ? name : json_string("?");
}

/* Sums over the devices; in a process also each device, by its row. */
static json_t *sum_json(const struct tr_view_slice *slice, const struct tr_view_process *p)
{
	struct tr_view_time sum = { 0 };
	json_t *each = json_array(), *out;

	if (!slice->is_armed) {
		json_decref(each);
		return json_null();
	}
	for (unsigned d = 0; d < slice->device_count; d++) {
		const struct tr_view_time *t = p ? &p->time[d] : &slice->devices[d].time;

		tr_view_add_time(&sum, t);
		(void)json_array_append_new(each, time_json(t));
	}
	out = time_json(&sum);
	if (p)
		(void)json_object_set(out, "devices", each);
	json_decref(each);
	return out;
}

static json_t *slice_json(const struct tr_view_slice *slice)
{
	json_t *devices = json_array(), *processes = json_array();

	for (unsigned d = 0; d < slice->device_count; d++)
		(void)json_array_append_new(
			devices, device_json(&slice->devices[d], slice->is_armed));
	for (unsigned p = 0; p < slice->process_count; p++) {
		const struct tr_view_process *process = &slice->processes[p];

		(void)json_array_append_new(processes,
					    json_pack("{s:i, s:o, s:I, s:o}", "pid",
						      (int)process->pid, "name",
						      name_json(process->comm), "bytes",
						      (json_int_t)process->bytes, "gpu",
						      sum_json(slice, process)));
	}
	return json_pack("{s:s, s:b, s:b, s:o, s:o, s:o}", "name", slice->name, "running",
			 slice->is_alive, "armed", slice->is_armed, "gpu",
			 sum_json(slice, NULL), "devices", devices, "processes", processes);
}

static int print_json(const struct tr_view *view)
{
	json_auto_t *all = json_array();

	for (size_t i = 0; i < view->count; i++)
		(void)json_array_append_new(all, slice_json(&view->slices[i]));
	if (json_dumpf(all, stdout, JSON_INDENT(2)) < 0)
		return 1;
	(void)putchar('\n');
	return 0;
}

static void print_row(const struct tr_view_slice *slice, unsigned d)
{
	const struct tr_view_device *device = &slice->devices[d];
	char limit[TR_BYTES_TEXT], used[TR_BYTES_TEXT], peak[TR_BYTES_TEXT];
	char cores[TR_CORES_TEXT] = "-", seconds[32] = "-";

	tr_bytes_print(limit, device->limit_bytes);
	tr_bytes_print(used,
		       tr_sat_add(device->use.used_bytes, device->use.overhead_bytes));
	tr_bytes_print(peak, device->use.peak_bytes);
	if (slice->is_armed) {
		tr_cores_print(cores, device->share.rate_q32, device->share.rate_max_q32);
		(void)snprintf(seconds, sizeof(seconds), "%.1f",
			       (double)device->time.gpu_ns / 1e9);
	}
	(void)printf("%-16s %u %-14.12s %12s %12s %12s %8llu %5u %9s %9s%s\n", slice->name,
		     d, device->uuid, limit, used, peak,
		     (unsigned long long)device->use.refused, device->use.processes, cores,
		     seconds, slice->is_alive ? "" : "  (its `run` is gone)");
}

int tr_cli_ps(int argc, char **argv)
{
	bool is_json = false;
	struct tr_option options[] = { { "json", NULL, &is_json } };
	struct tr_args args;
	struct tr_view view;
	struct tr_err err = { 0 };
	int r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), true, &err);

	if (r == 0 && args.rest_count)
		r = tr_fail(&err, EINVAL, "ps takes no \"%s\"", args.rest[0]);
	if (r < 0)
		return tr_cli_usage(&err, r);
	if (tr_view_take(&view, true) < 0) {
		(void)tr_fail(&err, ENOMEM, "no memory for the list of slices");
		return tr_cli_fail(&err, 1);
	}
	r = 0;
	if (is_json) {
		r = print_json(&view);
	} else {
		(void)printf("%-16s %s %-14s %12s %12s %12s %8s %5s %9s %9s\n", "SLICE",
			     "#", "DEVICE", "LIMIT", "USED", "PEAK", "REFUSED", "PROCS",
			     "CORES", "GPU-S");
		for (size_t i = 0; i < view.count; i++)
			for (unsigned d = 0; d < view.slices[i].device_count; d++)
				print_row(&view.slices[i], d);
	}
	tr_view_free(&view);
	return r;
}
