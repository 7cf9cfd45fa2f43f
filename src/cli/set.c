/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "keeper/slices.h"
#include "rt/bytes.h"
#include "rt/sat.h"

/* The row of the page that TEXT names: its number in ps, or a UUID or the beginning of one.
 */
static int find_row(const struct tr_page *page, const char *text, struct tr_err *err)
{
	int found = -1;

	if (text[0] >= '0' && text[0] <= '9' && text[1] == '\0') {
		if ((unsigned)(text[0] - '0') < page->device_count)
			return text[0] - '0';
		return tr_fail(err, EINVAL, "--device %s: the slice has rows 0 to %u", text,
			       page->device_count - 1);
	}
	for (unsigned d = 0; strlen(text) > 4 && d < page->device_count; d++)
		if (strncmp(page->map->devices[d].uuid, text, strlen(text)) == 0)
			found = found < 0 ? (int)d : -2;
	if (found < 0)
		return tr_fail(err, EINVAL,
			       "--device \"%s\" names no one device of the slice", text);
	return found;
}

/* What was asked for; NULL and 0: that stays as it is. */
struct change {
	const char *mem, *cores, *cores_max, *priority, *on_bypass, *device;
	unsigned tenths, max_tenths;
	enum tr_priority to;
	enum tr_bypass bypass;
	int only; /* the row, or -1: all */
};

/* The words of one row, before and after. */
struct words {
	uint64_t limit_bytes, rate_q32, rate_max_q32;
	uint32_t priority, mode;
};

static struct words read_row(const struct tr_page *page, unsigned d)
{
	const struct tr_policy_device *row = &page->map->devices[d];
	uint64_t rate = row->rate_q32 ? row->rate_q32 : TR_RATE_ALL;

	return (struct words){ row->limit_bytes, rate,
			       row->rate_max_q32 ? row->rate_max_q32 : rate, row->priority,
			       row->mode };
}

static void write_row(struct tr_page *page, unsigned d, const struct words *words)
{
	struct tr_policy_device *row = &page->writable->devices[d];

	atomic_store(&row->limit_bytes, words->limit_bytes);
	atomic_store(&row->rate_q32, words->rate_q32);
	atomic_store(&row->rate_max_q32, words->rate_max_q32);
	atomic_store(&row->priority, words->priority);
	atomic_store(&row->mode, words->mode);
}

static void print_memory(const struct tr_page *page, const struct tr_state *copy,
			 unsigned d, uint64_t old_bytes)
{
	char old[TR_BYTES_TEXT], new[TR_BYTES_TEXT], used[TR_BYTES_TEXT];
	uint64_t limit = page->map->devices[d].limit_bytes;
	struct tr_slice_use use;
	uint64_t now;

	tr_slice_use(page->map, copy, d, &use);
	now = tr_sat_add(use.used_bytes, use.overhead_bytes);
	tr_bytes_print(old, old_bytes);
	tr_bytes_print(new, limit);
	tr_bytes_print(used, now);
	(void)printf("%s: %s -> %s on %s, %s in use%s\n", page->name, old, new,
		     page->map->devices[d].uuid, used,
		     now > limit ? ": new allocations wait until it has fallen" : "");
}

static void print_change(const struct tr_page *page, const struct change *change,
			 unsigned d, const struct words *old, const struct tr_state *copy)
{
	const struct words now = read_row(page, d);
	char before[TR_CORES_TEXT], after[TR_CORES_TEXT];

	if (change->mem)
		print_memory(page, copy, d, old->limit_bytes);
	tr_cores_print(before, old->rate_q32, old->rate_max_q32);
	tr_cores_print(after, now.rate_q32, now.rate_max_q32);
	if (change->cores || change->cores_max)
		(void)printf("%s: cores %s -> %s on %s\n", page->name, before, after,
			     page->map->devices[d].uuid);
	if (change->priority)
		(void)printf("%s: priority %s -> %s on %s\n", page->name,
			     tr_priority_name(old->priority),
			     tr_priority_name(now.priority), page->map->devices[d].uuid);
	if (change->on_bypass)
		(void)printf("%s: on bypass %s -> %s on %s\n", page->name,
			     tr_bypass_name(old->mode), tr_bypass_name(now.mode),
			     page->map->devices[d].uuid);
}

/* The share of time after CHANGE. A ceiling that was no more than the guarantee goes with it. */
static int change_share(struct words *words, const struct change *change,
			struct tr_err *err)
{
	bool is_flat = words->rate_max_q32 <= words->rate_q32;

	if (change->cores) {
		words->rate_q32 = tr_cores_rate(change->tenths);
		if (is_flat)
			words->rate_max_q32 = words->rate_q32;
	}
	if (change->cores_max)
		words->rate_max_q32 = tr_cores_rate(change->max_tenths);
	if (words->rate_max_q32 >= words->rate_q32)
		return 0;
	if (change->cores_max)
		return tr_fail(
			err, EINVAL,
			"--cores-max \"%s\" is less than the %g%% that are guaranteed",
			change->cores_max, tr_cores_tenths(words->rate_q32) / 10.0);
	if (words->rate_q32 < TR_RATE_ALL)
		return tr_fail(err, EINVAL,
			       "--cores \"%s\" is more than the slice's ceiling of %g%%: "
			       "--cores-max raises it",
			       change->cores, tr_cores_tenths(words->rate_max_q32) / 10.0);
	words->rate_max_q32 = TR_RATE_ALL; /* all of it is no limit */
	return 0;
}

/* Checks every device first, so that a bad value changes none. */
static int apply(struct tr_page *page, const struct change *change,
		 const struct tr_state *copy, struct tr_err *err)
{
	struct words old[TR_DEVICES_MAX] = { 0 }, new[TR_DEVICES_MAX] = { 0 };
	int r = 0;

	for (unsigned d = 0; d < page->device_count; d++) {
		old[d] = new[d] = read_row(page, d);
		if (change->only >= 0 && (unsigned)change->only != d)
			continue;
		if (change->mem)
			r = tr_size_parse(change->mem, page->map->devices[d].total_bytes,
					  &new[d].limit_bytes, err);
		if (r == 0)
			r = change_share(&new[d], change, err);
		if (r < 0)
			return r;
		if (change->priority)
			new[d].priority = (uint32_t)change->to;
		if (change->on_bypass)
			new[d].mode = (uint32_t)change->bypass;
	}
	tr_page_begin(page);
	for (unsigned d = 0; d < page->device_count; d++)
		if (change->only < 0 || (unsigned)change->only == d)
			write_row(page, d, &new[d]);
	tr_page_end(page);
	for (unsigned d = 0; d < page->device_count; d++)
		if (change->only < 0 || (unsigned)change->only == d)
			print_change(page, change, d, &old[d], copy);
	return 0;
}

static int check_values(struct change *c, struct tr_err *err)
{
	int r = 0;

	if (!c->mem && !c->cores && !c->cores_max && !c->priority && !c->on_bypass)
		return tr_fail(err, EINVAL,
			       "set: nothing to change; --mem SIZE, --cores PERCENT, "
			       "--cores-max PERCENT, --priority LEVEL or --on-bypass WHAT");
	if (c->mem)
		r = tr_size_parse(c->mem, 0, &(uint64_t){ 0 }, err);
	if (r == 0 && c->cores)
		r = tr_cores_parse("cores", c->cores, &c->tenths, err);
	if (r == 0 && c->cores_max)
		r = tr_cores_parse("cores-max", c->cores_max, &c->max_tenths, err);
	if (r == 0 && c->priority)
		r = tr_priority_parse(c->priority, &c->to, err);
	if (r == 0 && c->on_bypass)
		r = tr_bypass_parse(c->on_bypass, &c->bypass, err);
	return r;
}

/* Programs of a slice that is not armed hold the driver's own launches: nothing would count. */
static int check_armed(const struct tr_page *page, const struct change *c,
		       struct tr_err *err)
{
	const char *option = c->cores       ? "--cores"
			     : c->cores_max ? "--cores-max"
			     : c->priority  ? "--priority"
			     : c->on_bypass ? "--on-bypass"
					    : NULL;

	if ((page->flags & TR_POLICY_ARMED) || !option)
		return 0;
	return tr_fail(
		err, EINVAL,
		"%s: slice %s was started without a share of time, and its programs run "
		"unpaced; start it with `tranche run --cores 100` to change it later",
		option, page->name);
}

int tr_cli_set(int argc, char **argv)
{
	static struct tr_state copy;
	struct change c = { .only = -1 };
	struct tr_option options[] = {
		{ "mem", &c.mem, NULL },
		{ "cores", &c.cores, NULL },
		{ "cores-max", &c.cores_max, NULL },
		{ "priority", &c.priority, NULL },
		{ "on-bypass", &c.on_bypass, NULL },
		{ "device", &c.device, NULL },
	};
	struct tr_slice_dir dir;
	struct tr_page page = { .lock_fd = -1 };
	struct tr_args args;
	struct tr_err err = { 0 };
	int r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), true, &err);

	if (r == 0 && args.rest_count != 1)
		r = tr_fail(&err, EINVAL, "set: which slice? tranche set NAME --mem 6Gi");
	if (r == 0)
		r = check_values(&c, &err);
	if (r < 0)
		return tr_cli_usage(&err, r);
	r = tr_slice_find(&dir, args.rest[0], &err);
	if (r == 0)
		r = tr_page_open_writer(&page, dir.policy_path, &err);
	if (r < 0)
		return tr_cli_fail(&err, r == -ENOENT ? TR_EXIT_USAGE : 1);
	r = check_armed(&page, &c, &err);
	if (r == 0 && c.device)
		r = c.only = find_row(&page, c.device, &err);
	if (r >= 0)
		r = tr_state_read(dir.state_path, &copy, &err);
	if (r >= 0)
		r = apply(&page, &c, &copy, &err);
	for (unsigned d = 0; r == 0 && (c.mem || c.cores) && d < page.device_count; d++)
		if (c.only < 0 || (unsigned)c.only == d)
			tr_promises_tell(page.map->devices[d].uuid, d);
	tr_page_close(&page);
	return r < 0 ? tr_cli_fail(&err, r == -EINVAL ? TR_EXIT_USAGE : 1) : 0;
}
