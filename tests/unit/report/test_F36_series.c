/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deviceplugin/pods.h"
#include "deviceplugin/report/families.h"
#include "scene.h"

/* F36: metrics that appear only after the tenant did something. Every series of a container is there from
 * its allocation on, zeros included, and goes with it. */

static struct scene scene;

static int open_scene(void **state)
{
	(void)state;
	scene_open(&scene);
	return 0;
}

static int close_scene(void **state)
{
	(void)state;
	scene_close(&scene);
	return 0;
}

static void name_by_kubelet(const struct tr_alloc *alloc, const char *container)
{
	const char *ids[2] = { 0 };
	struct tr_pod_row row = { .namespace = "shop",
				  .pod = "cart-0",
				  .container = container,
				  .ids = ids,
				  .count = alloc->id_count };
	struct tr_pod_list list = { .rows = &row, .count = 1 };

	for (size_t i = 0; i < alloc->id_count; i++) /* in another order */
		ids[i] = alloc->ids[alloc->id_count - 1 - i];
	tr_report_name(&scene.view, &scene.book, &list);
}

/* Samples of NAME that say that they are of CONTAINER. */
static unsigned count(const char *text, const char *name, const char *container)
{
	char label[64];
	unsigned n = 0;

	(void)snprintf(label, sizeof(label), "=\"%s\"", container);
	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		const char *at = strstr(line, label), *end = strchr(line, '\n');

		n += strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == '{' &&
		     at && at < end;
	}
	return n;
}

/* Every family of containers, in all three sets. */
static void check_all(const char *text, const char *container, unsigned want)
{
	unsigned families = 0;

	for (unsigned i = 0; i < TR_FAMILIES; i++) {
		const struct tr_family *f = &tr_families[i];

		if (!strstr(f->labels, "container") && !strstr(f->labels, "ctrname"))
			continue;
		if (strstr(f->name, "mig_device") || strcmp(f->name, "MigInfo") == 0)
			continue;
		families++;
		if (!strstr(f->labels, "device") && want)
			assert_int_equal(count(text, f->name, container), 1);
		else if (count(text, f->name, container) != want)
			fail_msg("%s of %s: %u", f->name, container,
				 count(text, f->name, container));
	}
	assert_true(families > 30);
}

static void F36_waiting(void **state)
{
	struct tr_alloc *alloc = scene_add(&scene, 2);
	char *text = scene_print(&scene, TR_METRICS_TEXT);

	(void)state;
	/* nobody knows whose it is yet; it is counted */
	check_all(text, "app", 0);
	assert_string_equal(scene_value(text, "tranche_allocations{state=\"waiting\"}"),
			    "1");
	free(text);
	name_by_kubelet(alloc, "app");
	text = scene_print(&scene, TR_METRICS_TEXT);
	check_all(text, "app", 2);
	assert_string_equal(
		scene_value(text, "tranche_container_memory_limit_bytes{namespace=\"shop\","
				  "pod=\"cart-0\",container=\"app\",vdevice_index=\"1\","
				  "device_uuid=\"\"}"),
		"0");
	assert_string_equal(scene_value(text, "tranche_container_armed{namespace=\"shop\","
					      "pod=\"cart-0\",container=\"app\"}"),
			    "0");
	free(text);
}

static void F36_armed(void **state)
{
	struct tr_alloc *alloc = scene_add(&scene, 2);
	char *text;

	(void)state;
	scene_arm(&scene, alloc, "shop", "cart-0", "app", 1 << 20);
	text = scene_print(&scene, TR_METRICS_TEXT);
	check_all(text, "app", 2);
	assert_string_equal(
		scene_value(text, "tranche_container_launches_total{namespace=\"shop\","
				  "pod=\"cart-0\",container=\"app\",vdevice_index=\"1\","
				  "device_uuid=\"" SCENE_UUID_1 "\"}"),
		"0");
	free(text);
	scene_remove(&scene, alloc);
	text = scene_print(&scene, TR_METRICS_TEXT);
	check_all(text, "app", 0);
	free(text);
}

/* A container that broke its state file still has its series. */
static void F36_broken(void **state)
{
	struct tr_alloc *alloc = scene_add(&scene, 1);
	char path[256], *text;

	(void)state;
	scene_arm(&scene, alloc, "shop", "cart-0", "app", 1 << 20);
	(void)snprintf(path, sizeof(path), "%s/%s/rw/state", scene.dir, alloc->name);
	assert_int_equal(truncate(path, 100), 0);
	text = scene_print(&scene, TR_METRICS_TEXT);
	check_all(text, "app", 1);
	free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_scene, close_scene)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(F36_waiting), TEST(F36_armed),
					    TEST(F36_broken) };

	return cmocka_run_group_tests_name("F36", tests, NULL, NULL);
}
