/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <string.h>

#include "bench/matrix.h"

void tr_report_begin(FILE *out, bool is_json)
{
	if (!is_json)
		(void)fprintf(out, "%-12s %4s %5s %5s %6s %8s %7s %6s  %-8s %8s %7s\n",
			      "workload", "proc", "neigh", "gpus", "asked", "got", "reach",
			      "error", "1 s off", "stall", "window");
}

static void set_real(json_t *object, const char *key, double value)
{
	/* thousandths, so that the line stays readable */
	double rounded = (double)(long long)(value * 1000 + (value < 0 ? -0.5 : 0.5)) /
			 1000;

	(void)json_object_set_new(object, key, json_real(rounded));
}

static json_t *reals(const double *values, unsigned count)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++)
		(void)json_array_append_new(
			list,
			json_real((double)(long long)(values[i] * 1000 + 0.5) / 1000));
	return list;
}

static void set_rate(json_t *object, const char *key, const struct tr_rate_judged *rate)
{
	json_t *judged = rate->allowed_ms > 0 ? json_object() : NULL;

	if (!judged)
		return;
	set_real(judged, "ms", rate->ms);
	set_real(judged, "allowed_ms", rate->allowed_ms);
	set_real(judged, "from_s", rate->from_s);
	set_real(judged, "over_s", rate->over_s);
	(void)json_object_set_new(object, key, judged);
}

static void set_measured(json_t *object, const struct tr_cell *cell,
			 const struct tr_result *r)
{
	set_real(object, "got", r->got);
	set_real(object, "target", r->target);
	set_real(object, "error", r->error);
	set_real(object, "allowed", r->allowed);
	(void)json_object_set_new(object, "got_by_device",
				  reals(r->got_device, cell->gpus));
	(void)json_object_set_new(object, "neighbours_got",
				  reals(r->neighbours_got, cell->neighbours));
	if (r->window_off >= 0) {
		set_real(object, "worst_1s_off", r->window_off);
		set_real(object, "stall_ms", r->stall_ms);
		set_real(object, "stall_allowed_ms", r->stall_allowed_ms);
	}
	set_rate(object, "beyond_rate", &r->rate_warm);
	set_rate(object, "beyond_rate_first", &r->rate_first);
	set_real(object, "window_s", r->window_s);
}

static void print_json(FILE *out, const struct tr_cell *cell, const struct tr_result *r)
{
	json_t *object = json_pack("{s:s, s:i, s:i, s:i, s:i, s:I}", "workload",
				   cell->workload->name, "processes", (int)cell->processes,
				   "neighbours", (int)cell->neighbours, "gpus",
				   (int)cell->gpus, "asked", (int)cell->asked, "seed",
				   (json_int_t)cell->seed);

	set_real(object, "reach", r->reach);
	if (r->is_measured)
		set_measured(object, cell, r);
	else
		(void)json_object_set_new(object, "failed", json_string(r->why));
	set_real(object, "real_s", r->real_s);
	(void)json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(9));
	(void)fputc('\n', out);
	json_decref(object);
}

static void print_rate(FILE *out, const char *what, const struct tr_rate_judged *rate)
{
	if (rate->allowed_ms > 0)
		(void)fprintf(out, "  %s %.0f of %.0f ms%s", what, rate->ms,
			      rate->allowed_ms, rate->ms > rate->allowed_ms ? "!" : "");
}

void tr_report_cell(FILE *out, bool is_json, const struct tr_cell *cell,
		    const struct tr_result *r)
{
	if (is_json) {
		print_json(out, cell, r);
		return;
	}
	(void)fprintf(out, "%-12.32s %4u %5u %5u %4u %% ", cell->workload->name,
		      cell->processes, cell->neighbours, cell->gpus, cell->asked);
	if (!r->is_measured) {
		(void)fprintf(out, "not measured: %s\n", r->why);
		return;
	}
	(void)fprintf(out, "%6.2f %% %5.1f %% %6.2f%s", r->got, r->reach, r->error,
		      r->error > r->allowed ? "!" : " ");
	if (r->window_off >= 0)
		(void)fprintf(out, " %6.2f%s %6.0f ms%s", r->window_off,
			      r->window_off > 5 ? " !" : "  ", r->stall_ms,
			      r->stall_ms > r->stall_allowed_ms ? "!" : " ");
	else
		(void)fprintf(out, " %8s %10s", "", "");
	(void)fprintf(out, " %5.0f s", r->window_s);
	print_rate(out, "beyond", &r->rate_warm);
	print_rate(out, "first", &r->rate_first);
	(void)fputc('\n', out);
}

void tr_report_end(FILE *out, const struct tr_summary *s)
{
	if (s->cells > s->failed)
		(void)fprintf(
			out,
			"%u cells: mean error %.2f points, worst %.2f (%s), %u beyond "
			"what is allowed\n",
			s->cells, s->mean, s->worst, s->worst_name, s->over);
	if (s->window_name[0])
		(void)fprintf(
			out,
			"worst window of 1 s: %.2f points off (%s); longest stall: %.0f "
			"%% of what is allowed (%s)\n",
			s->window_off, s->window_name, 100 * s->stall_over, s->stall_name);
	if (s->failed)
		(void)fprintf(out, "%u cells could not be measured\n", s->failed);
}
