/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/arm/slices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "keeper/slices.h"
#include "rt/cleanup.h"
#include "rt/file.h"
#include "rt/sat.h"
#include "slice/seat.h"
#include "tranche/paths.h"

/* A card that no machine has. */
#define NO_CARD "GPU-00000000-0000-0000-0000-000000000000"

/* ---- the page ---- */

static uint64_t rate_of(uint32_t percent)
{
	return percent && percent < 100 ? tr_sat_part(TR_RATE_ALL, percent, 100)
					: TR_RATE_ALL;
}

static void fill_row(struct tr_page_device *row, const struct tr_alloc *alloc,
		     const struct tr_alloc_part *part, const struct tr_cards *cards,
		     enum tr_bypass on_bypass)
{
	const struct tr_card *card = tr_card_find(cards, part->uuid);
	uint64_t rate = rate_of(part->cores),
		 most = part->cores_max ? rate_of(part->cores_max) : rate;

	*row = (struct tr_page_device){
		.uuid = part->uuid,
		.limit_bytes = part->limit_bytes,
		.context_floor_bytes = tr_context_floor_bytes(card ? card->compute_major
								   : 0),
		.total_bytes = card ? card->total_bytes : 0,
		.rate_q32 = rate,
		.rate_max_q32 = most > rate ? most : rate,
		.priority = alloc->priority,
		.on_bypass = on_bypass,
	};
}

static void fill_rows(struct tr_page_device *rows, const struct tr_alloc *alloc,
		      const struct tr_cards *cards, enum tr_bypass on_bypass,
		      struct tr_page_spec *spec)
{
	*spec = (struct tr_page_spec){ .serial = alloc->serial,
				       .armed = true,
				       .devices = rows };
	if (alloc->state == TR_ALLOC_WAITING) {
		rows[0] = (struct tr_page_device){ .uuid = NO_CARD };
		spec->device_count = 1;
		return;
	}
	for (size_t i = 0; i < alloc->part_count && i < TR_DEVICES_MAX; i++)
		fill_row(&rows[i], alloc, &alloc->parts[i], cards, on_bypass);
	spec->device_count = (unsigned)alloc->part_count;
}

static bool is_same_page(const struct tr_page *page, const struct tr_page_spec *spec)
{
	if (page->serial != spec->serial || page->device_count != spec->device_count ||
	    !(page->flags & TR_POLICY_ARMED) ||
	    strcmp(page->state_path, TR_SLICE_STATE) != 0)
		return false;
	for (unsigned d = 0; d < spec->device_count; d++)
		if (strncmp(page->map->devices[d].uuid, spec->devices[d].uuid,
			    sizeof(page->map->devices[d].uuid)) != 0)
			return false;
	return true;
}

static void set_words(struct tr_page *page, const struct tr_page_spec *spec)
{
	tr_page_begin(page);
	for (unsigned d = 0; d < spec->device_count; d++) {
		struct tr_policy_device *row = &page->writable->devices[d];
		const struct tr_page_device *from = &spec->devices[d];

		atomic_store(&row->limit_bytes, from->limit_bytes);
		/* Lowered: the guarantee first, so that it never stands above its ceiling. */
		if (from->rate_q32 < atomic_load(&row->rate_q32))
			atomic_store(&row->rate_q32, from->rate_q32);
		atomic_store(&row->rate_max_q32, from->rate_max_q32);
		atomic_store(&row->rate_q32, from->rate_q32);
		atomic_store(&row->priority, (uint32_t)from->priority);
		atomic_store(&row->mode, (uint32_t)from->on_bypass);
	}
	tr_page_end(page);
}

/* Made while the driver did not answer yet: what is fixed then was not known. */
static bool is_poorer(const struct tr_page *page, const struct tr_page_spec *spec)
{
	for (unsigned d = 0; d < spec->device_count; d++)
		if (!page->map->devices[d].total_bytes && spec->devices[d].total_bytes)
			return true;
	return false;
}

static int make_page(const struct tr_slice_dir *dir, struct tr_page_spec *spec,
		     struct tr_err *err)
{
	struct tr_page page;

	if (tr_page_open_writer(&page, dir->policy_path, NULL) == 0) {
		bool is_same = is_same_page(&page, spec);

		if (is_same && is_poorer(&page, spec))
			is_same = tr_slice_is_held(dir);
		if (is_same && spec->devices[0].limit_bytes)
			set_words(&page, spec);
		tr_page_close(&page);
		if (is_same)
			return 0;
	}
	return tr_slice_repage(dir, spec, TR_SLICE_STATE, err);
}

/* ---- the directory ---- */

static int make_dir(const char *root, const char *name, const char *part,
		    struct tr_err *err)
{
	char path[256];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s%s", root, name, part);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return tr_fail_errno(err, "make %s", path);
	if (lstat(path, &st) < 0)
		return tr_fail_errno(err, "%s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return tr_fail(err, EPERM, "%s is not a directory of ours", path);
	/* Whatever our umask is: programs of any user run in it. */
	if ((st.st_mode & 07777) != 0755 && chmod(path, 0755) < 0)
		return tr_fail_errno(err, "%s", path);
	return 0;
}

/* What lies there is the tenant's: looked at, not believed. */
static bool is_state(const char *path, uint64_t serial)
{
	tr_autoclose int fd = tr_regular_open(path, O_RDONLY);
	struct {
		uint32_t magic, abi;
		uint64_t size, serial;
	} head;

	_Static_assert(offsetof(struct tr_state, serial) == 16, "the head of a state file");
	return fd >= 0 && tr_file_size(fd) == (int64_t)sizeof(struct tr_state) &&
	       tr_read_at(fd, &head, sizeof(head), 0) && head.magic == TR_STATE_MAGIC &&
	       head.abi == TR_STATE_ABI && head.serial == serial;
}

static int make_state(const struct tr_slice_dir *dir, uint64_t serial, struct tr_err *err)
{
	char rw[240];

	if (is_state(dir->state_path, serial))
		return 0;
	(void)snprintf(rw, sizeof(rw), "%s/rw", dir->path);
	if (unlink(dir->state_path) < 0 && errno != ENOENT)
		(void)tr_tree_remove(rw, "state");
	return tr_state_create(dir->state_path, serial, 0666, err);
}

int tr_alloc_slice_make(const char *root, const struct tr_alloc *alloc,
			const struct tr_cards *cards, enum tr_bypass on_bypass,
			struct tr_err *err)
{
	struct tr_page_device rows[TR_DEVICES_MAX] = { { 0 } };
	struct tr_page_spec spec;
	struct tr_slice_dir dir;
	int r = 0;

	if (tr_slice_at(&dir, root, alloc->name) < 0)
		return tr_fail(err, ENAMETOOLONG, "%s/%s is too long", root, alloc->name);
	fill_rows(rows, alloc, cards, on_bypass, &spec);
	r = make_dir(root, alloc->name, "", err);
	if (r == 0)
		r = make_dir(root, alloc->name, "/ro", err);
	if (r == 0)
		r = make_dir(root, alloc->name, "/rw", err);
	if (r == 0)
		r = make_state(&dir, alloc->serial, err);
	return r < 0 ? r : make_page(&dir, &spec, err);
}

int tr_alloc_slice_fill(const char *root, const struct tr_alloc *alloc,
			const struct tr_cards *cards, enum tr_bypass on_bypass,
			struct tr_err *err)
{
	struct tr_page_device rows[TR_DEVICES_MAX] = { { 0 } };
	struct tr_page_spec spec;
	struct tr_slice_dir dir;
	int r = tr_slice_at(&dir, root, alloc->name);

	if (r == 0) {
		fill_rows(rows, alloc, cards, on_bypass, &spec);
		r = tr_page_refill(dir.policy_path, NO_CARD, &spec, NULL);
	}
	return r == 0 ? 0 : tr_alloc_slice_make(root, alloc, cards, on_bypass, err);
}

bool tr_alloc_slice_is_held(const char *root, const char *name)
{
	struct tr_slice_dir dir;

	return tr_slice_at(&dir, root, name) == 0 && tr_slice_is_held(&dir);
}

void tr_alloc_slices_each(const char *root, void (*each)(const char *name, void *arg),
			  void *arg)
{
	DIR *entries = opendir(root);
	struct dirent *entry;
	uint64_t serial;

	while (entries && (entry = readdir(entries)))
		if (tr_alloc_name_parse(entry->d_name, &serial) == 0)
			each(entry->d_name, arg);
	if (entries)
		(void)closedir(entries);
}
