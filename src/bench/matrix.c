/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/matrix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/jobs.h"

static void add_once(struct tr_list *list, unsigned n)
{
	for (unsigned i = 0; i < list->count; i++)
		if (list->values[i] == n)
			return;
	list->values[list->count++] = n;
}

int tr_list_parse(struct tr_list *out, const char *name, const char *text, unsigned least,
		  unsigned most, struct tr_err *err)
{
	const char *at = text;

	out->count = 0;
	for (;;) {
		char *end;
		unsigned long n = strtoul(at, &end, 10);

		if (end == at || (*end && *end != ',') || n < least || n > most)
			return tr_fail(err, EINVAL,
				       "--%s \"%s\": numbers from %u to %u with commas",
				       name, text, least, most);
		if (out->count == TR_MATRIX_LIST)
			return tr_fail(err, EINVAL, "--%s: at most %u values", name,
				       TR_MATRIX_LIST);
		add_once(out, (unsigned)n);
		if (!*end)
			return 0;
		at = end + 1;
	}
}

static int fail_workload(const char *text, struct tr_err *err)
{
	char names[256] = "";
	size_t n = 0;

	for (unsigned i = 0; i < tr_workload_count; i++)
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i ? ", " : "",
				      tr_workloads[i].name);
	return tr_fail(err, EINVAL,
		       "--workload \"%s\": names of %s, fixed:3ms or varied:3ms", text,
		       names);
}

static bool has_workload(const struct tr_matrix *m, const char *name)
{
	for (unsigned i = 0; i < m->workload_count; i++)
		if (strcmp(m->workloads[i]->name, name) == 0)
			return true;
	return false;
}

int tr_workloads_parse(struct tr_matrix *out, const char *text, struct tr_err *err)
{
	char *rest = out->words;
	size_t length = strlen(text);

	if (length >= sizeof(out->words))
		return tr_fail(err, EINVAL, "--workload: too many");
	memcpy(out->words, text, length + 1);
	out->workload_count = 0;
	for (char *word = strsep(&rest, ","); word; word = strsep(&rest, ",")) {
		unsigned n = out->workload_count;

		if (n == TR_MATRIX_WORKLOADS)
			return tr_fail(err, EINVAL, "--workload: too many");
		out->workloads[n] = tr_workload_find(word, &out->rooms[n]);
		if (!out->workloads[n])
			return fail_workload(text, err);
		out->workload_count += !has_workload(out, out->workloads[n]->name);
	}
	return 0;
}

static void fill(struct tr_list *list, const unsigned *values, unsigned count)
{
	if (list->count)
		return;
	memcpy(list->values, values, count * sizeof(*values));
	list->count = count;
}

void tr_matrix_fill(struct tr_matrix *m)
{
	static const unsigned quotas[] = { 5, 10, 20, 33, 50, 80, 95 };
	static const unsigned few[] = { 10, 50, 80 }, ones[] = { 1 },
			      processes[] = { 1, 2, 8 }, neighbours[] = { 0, 1, 3 };

	if (m->is_quick)
		fill(&m->quotas, few, 3);
	else
		fill(&m->quotas, quotas, 7);
	fill(&m->processes, m->is_quick ? ones : processes, m->is_quick ? 1 : 3);
	fill(&m->neighbours, neighbours, m->is_quick ? 2 : 3);
	fill(&m->gpus, ones, 1);
	if (m->workload_count)
		return;
	for (unsigned i = 0; i < tr_workload_count; i++)
		m->workloads[m->workload_count++] = &tr_workloads[i];
}

static void name_gap(char out[static 128], const struct tr_pair *gap)
{
	(void)snprintf(out, 128,
		       "--quota %u with --neighbours %u: %u %% is left for them, less than "
		       "1 %% for each",
		       gap->asked, gap->neighbours, 100 - gap->asked);
}

int tr_matrix_pair(struct tr_matrix *m, FILE *notes, struct tr_err *err)
{
	unsigned cells = m->quotas.count * m->neighbours.count, gap_count = 0;
	struct tr_pair gaps[TR_MATRIX_LIST * TR_MATRIX_LIST];
	char gap[128];

	m->pair_count = 0;
	for (unsigned i = 0; i < cells; i++) {
		struct tr_pair pair = { m->quotas.values[i / m->neighbours.count],
					m->neighbours.values[i % m->neighbours.count] };

		if (100 - pair.asked >= pair.neighbours)
			m->pairs[m->pair_count++] = pair;
		else
			gaps[gap_count++] = pair;
	}
	for (unsigned i = 0; i < gap_count; i++) {
		name_gap(gap, &gaps[i]);
		if (m->pair_count == 0)
			return tr_fail(err, EINVAL, "%s", gap);
		(void)fprintf(notes, "tranche: %s; left out\n", gap);
	}
	return 0;
}

struct walk {
	struct tr_matrix *matrix;
	struct tr_summary *summary;
	struct tr_point *points;
	unsigned count, room;
	double error_sum;
};

static int keep(struct walk *w, const struct tr_cell *cell, const struct tr_result *result,
		struct tr_err *err)
{
	if (w->count == w->room) {
		unsigned room = w->room ? 2 * w->room : 64;
		void *grown = realloc(w->points, room * sizeof(*w->points));

		if (!grown)
			return tr_fail(err, ENOMEM, "no memory for the results");
		w->points = grown;
		w->room = room;
	}
	w->points[w->count++] = (struct tr_point){ *cell, *result };
	return 0;
}

static void name_cell(char out[static 96], const struct tr_cell *cell)
{
	(void)snprintf(out, 96, "%.32s at %u %%, %u process%s, %u neighbour%s, %u GPU%s",
		       cell->workload->name, cell->asked, cell->processes,
		       cell->processes == 1 ? "" : "es", cell->neighbours,
		       cell->neighbours == 1 ? "" : "s", cell->gpus,
		       cell->gpus == 1 ? "" : "s");
}

static void sum_up(struct walk *w, const struct tr_cell *cell,
		   const struct tr_result *result)
{
	struct tr_summary *s = w->summary;
	double stall = result->stall_ms / result->stall_allowed_ms;

	s->cells++;
	if (!result->is_measured) {
		s->failed++;
		return;
	}
	w->error_sum += result->error;
	s->mean = w->error_sum / (s->cells - s->failed);
	s->over += result->error > result->allowed;
	if (result->error >= s->worst) {
		s->worst = result->error;
		s->worst_allowed = result->allowed;
		name_cell(s->worst_name, cell);
	}
	if (result->window_off < 0)
		return;
	if (result->window_off >= s->window_off) {
		s->window_off = result->window_off;
		name_cell(s->window_name, cell);
	}
	if (stall >= s->stall_over) {
		s->stall_over = stall;
		name_cell(s->stall_name, cell);
	}
}

/* Groups are tenants: a workload, a number of processes, one of devices. */
static void describe(void *arg, unsigned group, unsigned index, struct tr_cell *out)
{
	const struct tr_matrix *m = arg;
	unsigned gpus = m->gpus.count;

	*out = (struct tr_cell){
		.workload = m->workloads[group / gpus / m->processes.count],
		.processes = m->processes.values[group / gpus % m->processes.count],
		.gpus = m->gpus.values[group % gpus],
		.asked = m->pairs[index].asked,
		.neighbours = m->pairs[index].neighbours,
		.seed = m->seed,
		.window_s = m->window_s,
		.is_rate_judged = m->is_rate_judged,
	};
}

static int take_cell(struct walk *w, struct tr_jobs *jobs, unsigned group, unsigned index,
		     struct tr_err *err)
{
	struct tr_matrix *m = w->matrix;
	struct tr_result result;
	struct tr_cell cell;
	int r = tr_jobs_take(jobs, group, index, &result, err);

	if (r < 0)
		return r;
	describe(m, group, index, &cell);
	tr_report_cell(stdout, m->is_json, &cell, &result);
	(void)fflush(stdout);
	sum_up(w, &cell, &result);
	return keep(w, &cell, &result, err);
}

int tr_matrix_run(const struct tr_stage *stage, struct tr_matrix *m,
		  struct tr_summary *summary, struct tr_err *err)
{
	struct walk w = { .matrix = m, .summary = summary };
	struct tr_jobs_plan plan = { .stage = stage,
				     .groups = m->workload_count * m->processes.count *
					       m->gpus.count,
				     .cells = m->pair_count,
				     .at_once = m->jobs,
				     .describe = describe,
				     .arg = m };
	struct tr_jobs *jobs;
	int r;

	*summary = (struct tr_summary){ 0 };
	tr_report_begin(stdout, m->is_json);
	r = tr_jobs_start(&jobs, &plan, err);
	if (r < 0)
		return r;
	for (unsigned g = 0; r == 0 && g < plan.groups; g++)
		for (unsigned c = 0; r == 0 && c < plan.cells; c++)
			r = take_cell(&w, jobs, g, c, err);
	tr_jobs_stop(jobs);
	if (r == 0 && m->svg_path)
		r = tr_svg_write(m->svg_path,
				 stage->peer ? strrchr(stage->peer, '/') + 1 : "Tranche",
				 w.points, w.count, summary, err);
	free(w.points);
	return r;
}

bool tr_summary_is_good(const struct tr_summary *s, bool by_second)
{
	if (s->cells == 0 || s->failed || s->mean > 1 || s->over)
		return false;
	return !by_second || (s->window_off <= 5 && s->stall_over <= 1);
}
