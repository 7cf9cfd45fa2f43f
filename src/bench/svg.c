/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/matrix.h"

/* Two panels over the same axis: asked against got, where every point should lie on the line; and
 * under it the distance from what it should be, in points, where one sees something. Colours and
 * greys that can be read on white and on black. */

#define WIDTH     760
#define LEFT      64
#define PLOT      480 /* a side of the upper panel */
#define TOP       56
#define LOWER     (TOP + PLOT + 56)
#define LOWER_H   150
#define HEIGHT    (LOWER + LOWER_H + 56)
#define LEGEND_X  (LEFT + PLOT + 28)
#define ERROR_MAX 5.0 /* points shown; what is beyond lies on the edge */

static const char *const colours[] = { "#4477aa", "#ee6677", "#228833", "#ccbb44",
				       "#66ccee", "#aa3377", "#999999", "#ee7733",
				       "#009988", "#cc3311", "#8866cc" };
#define COLOURS (sizeof(colours) / sizeof(*colours))

static double x_of(double percent)
{
	return LEFT + percent / 100 * PLOT;
}

static double y_of(double percent)
{
	return TOP + PLOT - percent / 100 * PLOT;
}

static double y_of_error(double points)
{
	double shown = fmax(-ERROR_MAX, fmin(ERROR_MAX, points));

	return LOWER + LOWER_H / 2.0 - shown / ERROR_MAX * (LOWER_H / 2.0);
}

/* A workload's colour is its place among those of the plot; its points stand together. */
static unsigned place_of(const struct tr_point *points, unsigned at)
{
	unsigned place = 0;

	for (unsigned i = 1; i <= at; i++)
		place += points[i].cell.workload != points[i - 1].cell.workload;
	return place;
}

static void draw_head(FILE *out, const char *title, const struct tr_summary *s)
{
	(void)fprintf(out,
		      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
		      "font-family=\"sans-serif\" font-size=\"13\" fill=\"#7a7a7a\">\n",
		      WIDTH, HEIGHT);
	(void)fprintf(
		out,
		"<text x=\"%d\" y=\"24\" font-size=\"17\">%s: share of GPU time, asked "
		"and got</text>\n",
		LEFT, title);
	(void)fprintf(out,
		      "<text x=\"%d\" y=\"43\">%u cells, mean error %.2f points, worst "
		      "%.2f</text>\n",
		      LEFT, s->cells - s->failed, s->mean, s->worst);
}

static void draw_axes(FILE *out)
{
	for (int percent = 0; percent <= 100; percent += 20) {
		(void)fprintf(out,
			      "<path d=\"M%.1f %d V%d M%d %.1f H%d M%.1f %d V%d\" "
			      "stroke=\"#7a7a7a\" stroke-opacity=\".25\"/>\n",
			      x_of(percent), TOP, TOP + PLOT, LEFT, y_of(percent),
			      LEFT + PLOT, x_of(percent), LOWER, LOWER + LOWER_H);
		(void)fprintf(out,
			      "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>"
			      "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d</text>\n",
			      x_of(percent), LOWER + LOWER_H + 18, percent, LEFT - 8,
			      y_of(percent) + 4, percent);
	}
	for (int points = -4; points <= 4; points += 2)
		(void)fprintf(out,
			      "<path d=\"M%d %.1f H%d\" stroke=\"#7a7a7a\" "
			      "stroke-opacity=\"%s\"/><text x=\"%d\" y=\"%.1f\" "
			      "text-anchor=\"end\">%+d</text>\n",
			      LEFT, y_of_error(points), LEFT + PLOT, points ? ".25" : ".8",
			      LEFT - 8, y_of_error(points) + 4, points);
	(void)fprintf(
		out,
		"<path d=\"M%d %d L%d %d\" stroke=\"#7a7a7a\" stroke-opacity=\".8\"/>\n",
		LEFT, TOP + PLOT, LEFT + PLOT, TOP);
	(void)fprintf(out,
		      "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" "
		      "fill-opacity=\".12\"/>\n",
		      LEFT, y_of_error(1), PLOT, y_of_error(-1) - y_of_error(1));
	(void)fprintf(out,
		      "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">asked, %%</text>\n"
		      "<text transform=\"translate(20 %d) rotate(-90)\" "
		      "text-anchor=\"middle\">got, %%</text>\n"
		      "<text transform=\"translate(20 %d) rotate(-90)\" "
		      "text-anchor=\"middle\">error, points</text>\n",
		      LEFT + PLOT / 2, LOWER + LOWER_H + 40, TOP + PLOT / 2,
		      LOWER + LOWER_H / 2);
}

/* Points of one asked share stand side by side, by workload. Hollow: it cannot reach its share. */
static void draw_points(FILE *out, const struct tr_point *points, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct tr_point *p = &points[i];
		unsigned place = place_of(points, i);
		const char *colour = colours[place % COLOURS];
		double x = x_of(p->cell.asked) + ((double)(place % COLOURS) - 5) * 1.6;
		bool is_short = p->result.reach < p->cell.asked;

		if (!p->result.is_measured)
			continue;
		(void)fprintf(out,
			      "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\" fill=\"%s\" "
			      "stroke=\"%s\" fill-opacity=\".7\"/><circle cx=\"%.1f\" "
			      "cy=\"%.1f\" r=\"2.6\" fill=\"%s\" fill-opacity=\".7\"/>\n",
			      x, y_of(p->result.got), is_short ? "none" : colour, colour, x,
			      y_of_error(p->result.got - p->result.target), colour);
	}
}

static void draw_legend(FILE *out, const struct tr_point *points, unsigned count)
{
	bool any_short = false;
	int y = TOP + 16;

	for (unsigned i = 0; i < count; i++) {
		any_short |= points[i].result.reach < points[i].cell.asked;
		if (i && points[i].cell.workload == points[i - 1].cell.workload)
			continue;
		(void)fprintf(out,
			      "<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"%s\"/><text "
			      "x=\"%d\" y=\"%d\">%s</text>\n",
			      LEGEND_X, y - 4, colours[place_of(points, i) % COLOURS],
			      LEGEND_X + 12, y, points[i].cell.workload->name);
		y += 20;
	}
	if (any_short)
		(void)fprintf(out,
			      "<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"none\" "
			      "stroke=\"#7a7a7a\"/><text x=\"%d\" y=\"%d\">cannot use "
			      "its</text><text x=\"%d\" y=\"%d\">share even alone</text>\n",
			      LEGEND_X, y + 6, LEGEND_X + 12, y + 10, LEGEND_X + 12,
			      y + 26);
}

int tr_svg_check(const char *path, struct tr_err *err)
{
	struct stat st;
	bool is_link = lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
	bool exists = stat(path, &st) == 0, failed;
	int fd;

	if (!*path)
		return tr_fail(err, EINVAL, "--svg \"\": the name of a file");
	/* A pipe or a device is not opened to try it: somebody would see that. */
	if (exists && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		failed = access(path, W_OK) < 0;
	} else {
		fd = open(path, O_WRONLY | O_CLOEXEC | (exists ? 0 : O_CREAT), 0666);
		failed = fd < 0;
		if (fd >= 0)
			(void)close(fd);
		if (fd >= 0 && !exists && !is_link)
			(void)unlink(path);
	}
	if (failed)
		return tr_fail(err, EINVAL, "--svg %s: %s", path, strerror(errno));
	return 0;
}

int tr_svg_write(const char *path, const char *title, const struct tr_point *points,
		 unsigned count, const struct tr_summary *summary, struct tr_err *err)
{
	FILE *out = fopen(path, "we");
	bool failed;

	if (!out)
		return tr_fail_errno(err, "--svg %s", path);
	draw_head(out, title, summary);
	draw_axes(out);
	draw_points(out, points, count);
	draw_legend(out, points, count);
	(void)fprintf(out, "</svg>\n");
	failed = ferror(out);
	if (fclose(out) != 0 || failed)
		return tr_fail_errno(err, "--svg %s", path);
	return 0;
}
