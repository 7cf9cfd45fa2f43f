/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/matrix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rt/file.h"

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
		out->values[out->count++] = (unsigned)n;
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
	return tr_fail(err, EINVAL, "--workload \"%s\": names of %s, or fixed:3ms", text,
		       names);
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

		if (n == sizeof(out->workloads) / sizeof(*out->workloads))
			return tr_fail(err, EINVAL, "--workload: too many");
		out->workloads[n] = tr_workload_find(word, &out->rooms[n]);
		if (!out->workloads[n])
			return fail_workload(text, err);
		out->workload_count++;
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

struct walk {
	const struct tr_stage *stage;
	const struct tr_matrix *matrix;
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

static int run_cell(struct walk *w, const struct tr_cell *cell, double reach,
		    struct tr_err *err)
{
	struct tr_result result;

	tr_cell_run(w->stage, cell, reach, &result);
	tr_report_cell(stdout, w->matrix->is_json, cell, &result);
	(void)fflush(stdout);
	sum_up(w, cell, &result);
	return keep(w, cell, &result, err);
}

/* What the tenant can get at all: alone, without a limiter. */
static int find_reach(struct walk *w, struct tr_cell cell, double *out, struct tr_err *err)
{
	struct tr_result result;

	cell.asked = 0;
	cell.neighbours = 0;
	cell.is_quick = true;
	tr_cell_run(w->stage, &cell, 100, &result);
	*out = result.got;
	if (!result.is_measured)
		return tr_fail(err, EIO, "%s without a limiter: %s", cell.workload->name,
			       result.why);
	return 0;
}

/* The cells that share a tenant. */
static int run_tenant(struct walk *w, struct tr_cell cell, struct tr_err *err)
{
	const struct tr_matrix *m = w->matrix;
	double reach = 0;
	int r = find_reach(w, cell, &reach, err);

	for (unsigned q = 0; r == 0 && q < m->quotas.count; q++)
		for (unsigned n = 0; r == 0 && n < m->neighbours.count; n++) {
			cell.asked = m->quotas.values[q];
			cell.neighbours = m->neighbours.values[n];
			r = run_cell(w, &cell, reach, err);
		}
	return r;
}

int tr_matrix_run(const struct tr_stage *stage, const struct tr_matrix *m,
		  struct tr_summary *summary, struct tr_err *err)
{
	struct walk w = { .stage = stage, .matrix = m, .summary = summary };
	struct tr_cell cell = { .seed = m->seed,
				.window_s = m->window_s,
				.is_quick = m->is_quick };
	int r = 0;

	*summary = (struct tr_summary){ 0 };
	tr_report_begin(stdout, m->is_json);
	for (unsigned i = 0; r == 0 && i < m->workload_count; i++)
		for (unsigned p = 0; r == 0 && p < m->processes.count; p++)
			for (unsigned g = 0; r == 0 && g < m->gpus.count; g++) {
				cell.workload = m->workloads[i];
				cell.processes = m->processes.values[p];
				cell.gpus = m->gpus.values[g];
				r = run_tenant(&w, cell, err);
			}
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
