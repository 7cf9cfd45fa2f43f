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

static void print_change(const struct tr_page *page, const struct tr_state *copy,
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

/* Checks every device first, so that a bad value changes none. */
static int resize(struct tr_page *page, const char *mem, int only,
		  const struct tr_state *copy, struct tr_err *err)
{
	uint64_t bytes[TR_DEVICES_MAX] = { 0 }, old[TR_DEVICES_MAX] = { 0 };
	int r;

	for (unsigned d = 0; d < page->device_count; d++) {
		r = tr_size_parse(mem, page->map->devices[d].total_bytes, &bytes[d], err);
		if (r < 0)
			return r;
	}
	tr_page_begin(page);
	for (unsigned d = 0; d < page->device_count; d++)
		if (only < 0 || (unsigned)only == d)
			old[d] = atomic_exchange(&page->writable->devices[d].limit_bytes,
						 bytes[d]);
	tr_page_end(page);
	for (unsigned d = 0; d < page->device_count; d++)
		if (only < 0 || (unsigned)only == d)
			print_change(page, copy, d, old[d]);
	return 0;
}

int tr_cli_set(int argc, char **argv)
{
	static struct tr_state copy;
	const char *mem = NULL, *device = NULL;
	struct tr_option options[] = { { "mem", &mem, NULL }, { "device", &device, NULL } };
	struct tr_slice_dir dir;
	struct tr_page page = { .lock_fd = -1 };
	struct tr_args args;
	struct tr_err err = { 0 };
	int only = -1,
	    r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), true, &err);

	if (r == 0 && args.rest_count != 1)
		r = tr_fail(&err, EINVAL, "set: which slice? tranche set NAME --mem 6Gi");
	if (r == 0 && !mem)
		r = tr_fail(&err, EINVAL, "set: nothing to change; --mem SIZE");
	if (r == 0)
		r = tr_size_parse(mem, 0, &(uint64_t){ 0 }, &err);
	if (r < 0)
		return tr_cli_usage(&err, r);
	r = tr_slice_find(&dir, args.rest[0], &err);
	if (r == 0)
		r = tr_page_open_writer(&page, dir.policy_path, &err);
	if (r < 0)
		return tr_cli_fail(&err, r == -ENOENT ? TR_EXIT_USAGE : 1);
	if (device)
		r = only = find_row(&page, device, &err);
	if (r >= 0)
		r = tr_state_read(dir.state_path, &copy, &err);
	if (r >= 0)
		r = resize(&page, mem, only, &copy, &err);
	tr_page_close(&page);
	return r < 0 ? tr_cli_fail(&err, r == -EINVAL ? TR_EXIT_USAGE : 1) : 0;
}
