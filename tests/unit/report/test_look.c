/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../slice/draw.h"
#include "rt/file.h"
#include "scene.h"

/* What is read of slices whose programs do with their state file as they like. */

static struct scene scene;
static struct tr_alloc *app;

static int open_scene(void **state)
{
	(void)state;
	scene_open(&scene);
	app = scene_add(&scene, 1);
	scene_arm(&scene, app, "shop", "cart-0", "app", 1 << 30);
	return 0;
}

static int close_scene(void **state)
{
	(void)state;
	scene_close(&scene);
	return 0;
}

static const struct tr_report_alloc *take(void)
{
	tr_report_take(&scene.view, &scene.source);
	assert_true(scene.view.alloc_count > 0);
	return scene.view.allocs[0];
}

/* ---- what is lost is not forgotten -------------------------------------------------------- */

static void replace_state(const char *how)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s/rw/state", scene.dir, app->name);
	if (strcmp(how, "short") == 0) {
		assert_int_equal(truncate(path, 5000), 0);
		return;
	}
	assert_int_equal(unlink(path), 0);
	if (strcmp(how, "fifo") == 0)
		assert_int_equal(mkfifo(path, 0666), 0);
	else if (strcmp(how, "link") == 0)
		assert_int_equal(symlink("/etc/passwd", path), 0);
	else if (strcmp(how, "directory") == 0)
		assert_int_equal(mkdir(path, 0777), 0);
}

static void test_unreadable(void **state)
{
	const char *how = *state;
	struct tr_state *use = scene_state(&scene, app);
	const struct tr_report_alloc *row;

	use->high_water = 1;
	use->mem[0][0].used_bytes = 3000;
	use->pace[0].gpu_ns = 77;
	(void)munmap(use, sizeof(*use));
	row = take();
	assert_true(row->is_readable);
	assert_int_equal(row->devices[0].used_bytes, 3000);
	replace_state(how);
	row = take();
	assert_false(row->is_readable);
	assert_int_equal(row->devices[0].limit_bytes, 1 << 30);
	assert_int_equal(row->devices[0].used_bytes, 3000);
	assert_int_equal(row->devices[0].gpu_ns, 77);
}

/* Any bits behind a right head: read, bounded, printed. */
static void test_garbage(void **state)
{
	struct tr_state *use = scene_state(&scene, app);
	size_t head = offsetof(struct tr_state, high_water);

	(void)state;
	draw_from(0x5eed);
	for (unsigned round = 0; round < 30; round++) {
		uint64_t *words = (void *)use;
		char *text;

		for (size_t i = head / 8; i < sizeof(*use) / 8; i++)
			words[i] = draw(4) ? draw(0) : draw(3) - 1;
		text = scene_print(&scene,
				   round % 2 ? TR_METRICS_TEXT : TR_METRICS_OPENMETRICS);
		assert_true(scene.view.allocs[0]->is_readable);
		assert_true(scene.view.allocs[0]->devices[0].busy_percent <= 100);
		assert_null(strstr(text, "nan"));
		free(text);
	}
	(void)munmap(use, sizeof(*use));
}

/* ---- processes ---------------------------------------------------------------------------- */

static void test_processes(void **state)
{
	int first = scene_process(&scene, app, 0), second = scene_process(&scene, app, 5);
	struct tr_state *use = scene_state(&scene, app);
	const struct tr_report_alloc *row;

	(void)state;
	use->mem[0][0].used_bytes = 10;
	use->mem[0][5].used_bytes = 20;
	use->slots[5].pinned_bytes = 4096;
	row = take();
	assert_int_equal(row->process_count, 2);
	assert_int_equal(row->devices[0].processes, 2);
	assert_int_equal(row->devices[0].used_bytes, 30);
	assert_int_equal(row->pinned_bytes, 4096);
	(void)close(second); /* killed: it says nothing, its lock goes */
	row = take();
	assert_int_equal(row->process_count, 1);
	assert_int_equal(row->devices[0].used_bytes, 10);
	assert_int_equal(row->pinned_bytes, 0);
	(void)close(first);
	(void)munmap(use, sizeof(*use));
}

/* ---- time --------------------------------------------------------------------------------- */

static void test_idle(void **state)
{
	int process = scene_process(&scene, app, 0);
	struct tr_state *use = scene_state(&scene, app);
	uint64_t before = tr_clock_ns(), idle;

	(void)state;
	idle = take()->devices[0].idle_ns; /* since it was first seen */
	assert_true(idle <= tr_clock_ns() - before);
	use->usage[0].owner = 1 << 8;
	use->usage[0].seen_ns = before - 5000000000;
	idle = take()->devices[0].idle_ns;
	assert_true(idle >= 5000000000 && idle < 60000000000);
	use->usage[0].seen_ns = UINT64_MAX; /* not yet */
	assert_true(take()->devices[0].idle_ns >= 5000000000);
	/* the process is gone; one that came and went since has launched */
	use->usage[0].owner = 0;
	assert_true(take()->devices[0].idle_ns >= 5000000000);
	use->pace[0].launches++;
	assert_true(take()->devices[0].idle_ns < 5000000000);
	(void)close(process);
	(void)munmap(use, sizeof(*use));
}

static void test_busy(void **state)
{
	struct tr_policy *page = scene_page(&scene, app);

	(void)state;
	page->devices[0].nvml_seen_ns = 100000000000;
	page->devices[0].nvml_busy_ns = 7;
	assert_int_equal(take()->devices[0].busy_percent, 0);
	page->devices[0].nvml_seen_ns += 4000000000;
	page->devices[0].nvml_busy_ns += 4000000000;
	assert_int_equal(take()->devices[0].busy_percent, 0); /* too short to tell */
	page->devices[0].nvml_seen_ns += 6000000000;
	assert_int_equal(take()->devices[0].busy_percent, 40);
	page->devices[0].nvml_seen_ns += 10000000000;
	page->devices[0].nvml_busy_ns += 90000000000;
	assert_int_equal(take()->devices[0].busy_percent, 100);
	page->devices[0].nvml_busy_ns = 0; /* counted anew */
	assert_int_equal(take()->devices[0].busy_percent, 0);
	(void)munmap(page, sizeof(*page));
}

static void test_leases(void **state)
{
	struct tr_policy *page = scene_page(&scene, app);

	(void)state;
	page->devices[0].lease_until_ns = tr_clock_ns() + 60000000000;
	assert_true(take()->devices[0].is_borrowing);
	page->devices[0].lease_until_ns = 1;
	page->devices[0].block_until_ns = tr_clock_ns() + 60000000000;
	assert_false(take()->devices[0].is_borrowing);
	assert_true(take()->devices[0].is_held_back);
	(void)munmap(page, sizeof(*page));
}

/* ---- refusals ----------------------------------------------------------------------------- */

static unsigned told;
static uint64_t told_bytes;

static void on_refusal(const struct tr_report_alloc *alloc, const char *uuid,
		       uint64_t asked_bytes, uint64_t used_bytes, void *arg)
{
	assert_string_equal(alloc->container, "app");
	assert_string_equal(uuid, SCENE_UUID_0);
	assert_int_equal(used_bytes, 5);
	assert_ptr_equal(arg, &told);
	told++;
	told_bytes += asked_bytes;
}

static void refuse(struct tr_state *use, unsigned times, uint64_t bytes)
{
	for (unsigned i = 0; i < times; i++) {
		struct tr_state_refusal *one = &use->refusals[use->refusal_next % 64];

		one->asked_bytes = bytes;
		one->sum_bytes = 5;
		one->device = 0;
		one->at_ns = tr_clock_ns();
		use->refusal_next++;
	}
}

static void test_refusals(void **state)
{
	struct tr_state *use = scene_state(&scene, app);

	(void)state;
	told = 0;
	told_bytes = 0;
	scene.source.refusal = on_refusal;
	scene.source.refusal_arg = &told;
	refuse(use, 3, 100); /* before the first look, but just now */
	assert_int_equal(take()->devices[0].refused_bytes, 300);
	assert_int_equal(told, 3);
	assert_int_equal(take()->devices[0].refused_bytes, 300); /* each once */
	assert_int_equal(told, 3);
	refuse(use, 2, 50);
	assert_int_equal(take()->devices[0].refused_bytes, 400);
	assert_int_equal(told, 5);
	refuse(use, 1000, 1); /* more than the ring holds */
	assert_int_equal(take()->devices[0].refused_bytes, 464);
	use->refusals[use->refusal_next % 64].device = 99;
	use->refusal_next++;
	assert_int_equal(take()->devices[0].refused_bytes, 464);
	use->refusal_next = 7; /* a number of the container's own */
	(void)take();
	assert_true(told <= 5 + 64 + 64);
	assert_int_equal(told_bytes, take()->devices[0].refused_bytes);
	(void)munmap(use, sizeof(*use));
}

/* What was refused long before the agent started is counted, not told again. */
static void test_old_refusals(void **state)
{
	struct tr_state *use = scene_state(&scene, app);

	(void)state;
	told = 0;
	scene.source.refusal = on_refusal;
	scene.source.refusal_arg = &told;
	refuse(use, 3, 100);
	for (unsigned i = 0; i < 3; i++)
		use->refusals[i].at_ns = 1;
	assert_int_equal(take()->devices[0].refused_bytes, 300);
	assert_int_equal(told, 0);
	(void)munmap(use, sizeof(*use));
}

/* ---- many --------------------------------------------------------------------------------- */

/* 200 slices on a scrape: what the loop does not answer meanwhile. */
static void test_many(void **state)
{
	uint64_t begin, took;
	char pod[32], *text;

	(void)state;
	for (unsigned i = 1; i < 200; i++) {
		struct tr_alloc *alloc = scene_add(&scene, 1 + i % 2);

		(void)snprintf(pod, sizeof(pod), "pod-%u", i);
		scene_arm(&scene, alloc, "shop", pod, "app", 1 << 20);
	}
	free(scene_print(&scene, TR_METRICS_TEXT));
	begin = tr_clock_ns();
	text = scene_print(&scene, TR_METRICS_TEXT);
	took = tr_clock_ns() - begin;
	print_message("%zu bytes in %.1f ms\n", strlen(text), (double)took / 1e6);
	assert_int_equal(scene.view.alloc_count, 200);
	assert_true(strlen(text) > 500000);
	free(text);
	/* in any order, and some */
	for (unsigned i = 0; i < 150; i++)
		scene_remove(&scene, &scene.allocs[(i * 7) % 200]);
	(void)take();
	assert_int_equal(scene.view.alloc_count, 50);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_scene, close_scene)
#define UNREADABLE(how)                                                       \
	{                                                                     \
		"unreadable: " how, test_unreadable, open_scene, close_scene, \
			(void *)(uintptr_t)how                                \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNREADABLE("short"),     UNREADABLE("fifo"),  UNREADABLE("link"),
		UNREADABLE("directory"), UNREADABLE("gone"),  TEST(test_garbage),
		TEST(test_processes),    TEST(test_idle),     TEST(test_busy),
		TEST(test_leases),       TEST(test_refusals), TEST(test_old_refusals),
		TEST(test_many),
	};

	return cmocka_run_group_tests_name("look", tests, NULL, NULL);
}
