/* SPDX-License-Identifier: Apache-2.0 */
#include "bed.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "slice/page.h"
#include "tr_test.h"
#include "tranche/paths.h"

struct bed bed;

bool bed_exists(const char *format, ...)
{
	char path[256];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	return access(path, F_OK) == 0;
}

unsigned bed_count(const char *dir)
{
	DIR *entries;
	unsigned n = 0;

	tr_arm_settle(bed.arm);
	entries = opendir(dir);
	while (entries && readdir(entries))
		n++;
	if (entries)
		closedir(entries);
	return n >= 2 ? n - 2 : 0;
}

/* ---- ports ---- */

/* Whole or not at all, as CDI files are, and not before they are flushed. */
static int inject(const struct tr_alloc *alloc, const char *slice_dir, void *arg,
		  struct tr_err *err)
{
	char next[200];
	FILE *file;

	(void)arg;
	assert_non_null(strstr(slice_dir, alloc->name));
	if (bed.inject_fails) {
		bed.inject_fails--;
		return tr_fail(err, ENOSPC, "no room for the CDI file");
	}
	snprintf(next, sizeof(next), "%s/%s.next", bed.injected, alloc->name);
	file = fopen(next, "w");
	if (!file)
		return tr_fail_errno(err, "%s", next);
	assert_in_range(bed.unflushed_count, 0, 255);
	memcpy(bed.unflushed[bed.unflushed_count++], alloc->name, TR_ALLOC_NAME);
	for (size_t i = 0; i < alloc->part_count; i++)
		fprintf(file, "%s\n", alloc->parts[i].uuid);
	fclose(file);
	return 0;
}

static int flush(void *arg, struct tr_err *err)
{
	char path[160], next[200];
	size_t n = bed.unflushed_count;

	(void)arg;
	bed.flushes++;
	bed.unflushed_count = 0;
	if (bed.flush_fails) {
		bed.flush_fails--;
		return tr_fail(err, ENOSPC, "no room for the CDI files");
	}
	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", bed.injected, bed.unflushed[i]);
		snprintf(next, sizeof(next), "%s.next", path);
		/* Ejected meanwhile, or injected twice. */
		if (rename(next, path) < 0 && errno != ENOENT)
			return tr_fail_errno(err, "%s", path);
	}
	return 0;
}

static void eject(const char *name, void *arg)
{
	char path[160];

	(void)arg;
	snprintf(path, sizeof(path), "%s/%s", bed.injected, name);
	unlink(path);
	strcat(path, ".next");
	unlink(path);
}

static bool is_injected(const char *name, void *arg)
{
	(void)arg;
	return bed_exists("%s/%s", bed.injected, name);
}

static void each_injected(void (*each)(const char *name, void *each_arg), void *each_arg,
			  void *arg)
{
	DIR *entries = opendir(bed.injected);
	struct dirent *entry;

	(void)arg;
	while (entries && (entry = readdir(entries)))
		if (entry->d_name[0] == 's')
			each(entry->d_name, each_arg);
	if (entries)
		closedir(entries);
}

static void on_event(enum tr_arm_event event, const struct tr_alloc *alloc,
		     const char *sentence, void *arg)
{
	(void)alloc;
	(void)arg;
	bed.events[event]++;
	if (sentence[0])
		snprintf(bed.odd, sizeof(bed.odd), "%s", sentence);
}

/* ---- the agent ---- */

static void put(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

int bed_open(void **state)
{
	scene_open(state);
	bed = (struct bed){ .dir = "/dev/shm/arm-XXXXXX" };
	assert_non_null(mkdtemp(bed.dir));
	snprintf(bed.slices, sizeof(bed.slices), "%s/run/slices", bed.dir);
	snprintf(bed.records, sizeof(bed.records), "%s/state/records", bed.dir);
	snprintf(bed.injected, sizeof(bed.injected), "%s/cdi", bed.dir);
	snprintf(bed.boot, sizeof(bed.boot), "%s/boot", bed.dir);
	assert_int_equal(mkdir(bed.injected, 0755), 0);
	put(bed.boot, "boot-1\n");
	bed.options = (struct tr_arm_options){
		.slices_dir = bed.slices,
		.records_dir = bed.records,
		.boot_path = bed.boot,
		.node_name = "node-1",
		.rules = { .resource = "nvidia.com/gpu",
			   .resource_priority = "nvidia.com/priority" },
		.hook_path = "/lib/hook",
		.preload_path = "/lib/preload",
		.cdi_kind = "tranche.io/gpu",
		.cdi_common = "tranche.io/driver=all",
		.ports = { .inject = inject,
			   .flush = flush,
			   .eject = eject,
			   .is_injected = is_injected,
			   .each_injected = each_injected,
			   .on_event = on_event },
	};
	bed_start();
	return 0;
}

int bed_try_start(void)
{
	memset(bed.events, 0, sizeof(bed.events));
	return tr_arm_open(bed.base, NULL, &bed.options, &scene.cards, &bed.arm, &bed.err);
}

void bed_start(void)
{
	int r = bed_try_start();

	if (r < 0)
		fail_msg("%s", bed.err.msg);
}

void bed_stop(void)
{
	tr_arm_close(bed.arm);
	bed.arm = NULL;
}

int bed_close(void **state)
{
	char command[100];

	bed_stop();
	snprintf(command, sizeof(command), "rm -rf %s", bed.dir);
	return system(command) || scene_close(state);
}

int bed_allocate(const struct tr_ids *ids, char name[TR_ALLOC_NAME], void *arg)
{
	struct tr_alloc *alloc;
	int r = tr_arm_make(bed.arm, ids, &alloc, &bed.err);

	(void)arg;
	if (r == 0)
		memcpy(name, alloc->name, TR_ALLOC_NAME);
	return r;
}

void bed_admit(struct scene_pod *pod)
{
	assert_int_equal(scene_admit(pod, bed_allocate, NULL), 0);
}

int bed_arm(struct scene_pod *pod, size_t at)
{
	struct tr_ids ids = scene_ids(&pod->at[at]);
	const struct tr_pod_row *row;
	int r = tr_arm_rearm(bed.arm, &ids, &bed.err);

	if (r != 0)
		return r < 0 ? r : 0;
	r = tr_owner_find(scene_rows(), &ids, &row, &bed.err);
	if (r == 0)
		r = tr_arm_pod(bed.arm, &scene.rows, scene_object(pod), &ids, false,
			       &bed.err);
	if (r == -ESTALE)
		r = tr_arm_pod(bed.arm, &scene.rows, scene_object(pod), &ids, true,
			       &bed.err);
	return r;
}

struct tr_alloc *bed_alloc(const struct scene_container *container)
{
	return tr_book_find(tr_arm_book(bed.arm), container->alloc);
}

size_t bed_sweep(int64_t now_ms)
{
	const struct tr_pod *pods[SCENE_PODS];
	size_t n = 0;

	for (size_t i = 0; i < scene.pod_count; i++)
		if (scene.pods[i].name[0])
			pods[n++] = scene_object(&scene.pods[i]);
	return tr_arm_sweep(bed.arm, scene_rows(), pods, n, now_ms);
}

/* ---- what is on disk ---- */

static void open_page(struct tr_page *page, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s/ro/policy", bed.slices, name);
	if (tr_page_open(page, path, &bed.err) < 0)
		fail_msg("%s", bed.err.msg);
	assert_string_equal(page->name, name);
	assert_string_equal(page->state_path, TR_SLICE_STATE);
	assert_true(page->flags & TR_POLICY_ARMED);
	assert_true(bed_exists("%s/%s/rw/state", bed.slices, name));
}

void bed_assert_all_armed(struct scene_pod *pod)
{
	for (size_t i = 0; i < pod->count; i++)
		if (pod->at[i].wanted)
			bed_assert_armed(pod, i);
}

void bed_assert_closed(const char *name)
{
	struct tr_page page;

	open_page(&page, name);
	assert_int_equal(page.device_count, 1);
	assert_int_equal(page.map->devices[0].limit_bytes, 0);
	for (unsigned c = 0; c < scene.cards.count; c++)
		assert_string_not_equal(page.map->devices[0].uuid, scene_uuid(c));
	assert_false(bed_exists("%s/%s", bed.injected, name));
	tr_page_close(&page);
}

static void assert_injected(const char *name, const char *text)
{
	char path[160], got[1024] = "";
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", bed.injected, name);
	file = fopen(path, "r");
	assert_non_null(file);
	got[fread(got, 1, sizeof(got) - 1, file)] = '\0';
	fclose(file);
	assert_string_equal(got, text);
}

void bed_assert_armed(struct scene_pod *pod, size_t at)
{
	const struct scene_container *c = &pod->at[at];
	char uuids[1024] = "";
	struct tr_page page;
	struct tr_alloc *alloc = bed_alloc(c);

	assert_non_null(alloc);
	assert_string_equal(alloc->uid, pod->uid);
	assert_string_equal(alloc->container, c->name);
	assert_int_equal(alloc->index, at);
	open_page(&page, c->alloc);
	assert_int_equal(page.device_count, c->wanted);
	for (unsigned d = 0; d < c->wanted; d++) {
		const struct tr_policy_device *row = &page.map->devices[d];
		uint64_t rate = c->cores ? TR_RATE_ALL * c->cores / 100 : TR_RATE_ALL;

		assert_string_equal(row->uuid,
				    scene_uuid((c->card + d) % scene.cards.count));
		assert_int_equal(row->limit_bytes, (uint64_t)c->mib << 20);
		assert_int_equal(row->rate_q32, rate);
		assert_int_equal(row->rate_max_q32, rate);
		strcat(strcat(uuids, row->uuid), "\n");
	}
	assert_injected(c->alloc, uuids);
	tr_page_close(&page);
}
