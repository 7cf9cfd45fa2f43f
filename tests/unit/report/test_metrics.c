/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "deviceplugin/report/families.h"
#include "scene.h"

static struct scene scene;
static struct tr_alloc *app;

static int open_scene(void **state)
{
	struct tr_state *use;
	struct tr_policy *page;

	(void)state;
	scene_open(&scene);
	app = scene_add(&scene, 2);
	scene_arm(&scene, app, "shop", "cart-0", "app", UINT64_C(10) << 30);
	use = scene_state(&scene, app);
	use->high_water = 1;
	use->mem[1][0].used_bytes = 3000;
	use->mem[1][0].floor_bytes = 500;
	use->devices[1].peak_bytes = 4000;
	use->devices[1].refused = 2;
	use->refusals[0].at_ns = use->refusals[1].at_ns = 1;
	use->refusals[0].device = use->refusals[1].device = 1;
	use->refusals[0].asked_bytes = 700;
	use->refusals[1].asked_bytes = 70;
	use->refusal_next = 2;
	use->pace[1].gpu_ns = 12345678901;
	use->pace[1].throttled_ns = 7;
	use->pace[1].launches = 11;
	use->pace[1].gate_waits = 5;
	(void)munmap(use, sizeof(*use));
	page = scene_page(&scene, app);
	page->devices[1].nvml_busy_ns = 13000000000;
	page->devices[1].nvml_seen_ns = 1;
	page->devices[1].bypass_seen = 4;
	page->devices[1].priority = TR_PRIORITY_HIGH;
	(void)munmap(page, sizeof(*page));
	return 0;
}

static int close_scene(void **state)
{
	(void)state;
	scene_close(&scene);
	return 0;
}

static const char *own(const char *name)
{
	static char series[256];

	(void)snprintf(series, sizeof(series),
		       "%s{namespace=\"shop\",pod=\"cart-0\",container=\"app\","
		       "vdevice_index=\"1\",device_uuid=\"" SCENE_UUID_1 "\"}",
		       name);
	return series;
}

/* ---- what is said ------------------------------------------------------------------------ */

static void test_values(void **state)
{
	static const struct {
		const char *name, *want;
	} cases[] = {
		{ "tranche_container_memory_limit_bytes", "10737418240" },
		{ "tranche_container_memory_used_bytes", "3500" },
		{ "tranche_container_memory_overhead_bytes", "500" },
		{ "tranche_container_memory_peak_bytes", "4000" },
		{ "tranche_container_allocations_refused_total", "2" },
		{ "tranche_container_refused_bytes_total", "770" },
		{ "tranche_container_time_share_ratio", "0.2" },
		{ "tranche_container_time_share_max_ratio", "1" },
		{ "tranche_container_gpu_seconds_total", "12.345678901" },
		{ "tranche_container_gpu_busy_seconds_total", "13.000000000" },
		{ "tranche_container_throttled_seconds_total", "0.000000007" },
		{ "tranche_container_throttled_launches_total", "5" },
		{ "tranche_container_launches_total", "11" },
		{ "tranche_container_processes", "1" },
		{ "tranche_container_bypass_suspicions_total", "4" },
		{ "tranche_container_priority", "0" },
	};
	char *text = scene_print(&scene, TR_METRICS_TEXT);

	(void)state;
	for (size_t i = 0; i < TR_COUNT(cases); i++) {
		const char *value = scene_value(text, own(cases[i].name));

		if (!value || strcmp(value, cases[i].want) != 0)
			fail_msg("%s is %s", cases[i].name, value ? value : "absent");
	}
	free(text);
}

/* Without a limit it has all that others leave, and nothing of it for sure. */
static void test_no_limit(void **state)
{
	struct tr_policy *page = scene_page(&scene, app);
	struct tr_alloc *other;
	char *text;

	(void)state;
	app->parts[1].cores = 0;
	page->devices[1].rate_q32 = TR_RATE_ALL;
	(void)munmap(page, sizeof(*page));
	text = scene_print(&scene, TR_METRICS_TEXT);
	assert_string_equal(scene_value(text, own("tranche_container_time_share_ratio")),
			    "1");
	free(text);
	other = scene_add(&scene, 2);
	scene_arm(&scene, other, "shop", "cart-1", "app", 1 << 30);
	(void)snprintf(other->uid, sizeof(other->uid), "another");
	text = scene_print(&scene, TR_METRICS_TEXT);
	assert_string_equal(scene_value(text, own("tranche_container_time_share_ratio")),
			    "0");
	assert_string_equal(
		scene_value(text, own("tranche_container_time_share_max_ratio")), "1");
	free(text);
}

#define CARD_1                                                                  \
	"{node=\"node-1\",device_index=\"1\",device_uuid=\"" SCENE_UUID_1 "\"," \
	"device_type=\"NVIDIA H100 80GB HBM3\"}"

static void test_cards(void **state)
{
	static const struct {
		const char *series, *want;
	} cases[] = {
		{ "tranche_device_healthy" CARD_1, "0" },
		{ "tranche_device_temperature_celsius" CARD_1, "51" },
		{ "tranche_device_power_watts" CARD_1, "123.456" },
		{ "tranche_device_energy_joules_total" CARD_1, "98765432.109" },
		{ "tranche_device_utilization_ratio" CARD_1, "0.40" },
		{ "tranche_device_memory_utilization_ratio" CARD_1, "0.07" },
		{ "tranche_device_memory_offered_bytes" CARD_1, "85899345920" },
		{ "tranche_device_memory_allocated_bytes" CARD_1, "10737418240" },
		{ "tranche_device_time_allocated_ratio" CARD_1, "0.20" },
		{ "tranche_device_slots" CARD_1, "10" },
		{ "tranche_device_slots_allocated" CARD_1, "1" },
		{ "tranche_device_xids_total{node=\"node-1\",device_index=\"1\",device_"
		  "uuid=\"" SCENE_UUID_1
		  "\",device_type=\"NVIDIA H100 80GB HBM3\",xid=\"79\"}",
		  "1" },
		{ "tranche_rpc_duration_seconds_bucket{method=\"Allocate\",le=\"0.001\"}",
		  "0" },
		{ "tranche_rpc_duration_seconds_bucket{method=\"Allocate\",le=\"0.0025\"}",
		  "1" },
		{ "tranche_rpc_duration_seconds_bucket{method=\"Allocate\",le=\"+Inf\"}",
		  "2" },
		{ "tranche_rpc_duration_seconds_sum{method=\"Allocate\"}", "20.001200000" },
		{ "tranche_rpc_duration_seconds_count{method=\"Allocate\"}", "2" },
	};
	char *text = scene_print(&scene, TR_METRICS_TEXT);

	(void)state;
	for (size_t i = 0; i < TR_COUNT(cases); i++) {
		const char *value = scene_value(text, cases[i].series);

		if (!value || strcmp(value, cases[i].want) != 0)
			fail_msg("%s is %s", cases[i].series, value ? value : "absent");
	}
	free(text);
}

/* What the driver does not tell is not said: no 0 that is none. */
static void test_untold(void **state)
{
	char *text;

	(void)state;
	scene.use[1].has = 0;
	scene.rows[0].use = NULL;
	text = scene_print(&scene, TR_METRICS_TEXT);
	assert_null(strstr(text, "\ntranche_device_temperature"));
	assert_null(strstr(text, "# TYPE tranche_device_power"));
	assert_null(strstr(text, "hami_host_gpu"));
	assert_non_null(strstr(text, "\ntranche_device_healthy{"));
	free(text);
}

/* ---- HAMi's ------------------------------------------------------------------------------ */

#define H_CARD   "zone node device_index device_uuid device_type"
#define H_DEVICE "zone namespace pod container vdevice_index device_uuid"
#define L_CARD   "zone nodeid deviceidx deviceuuid devicetype"
#define L_DEVICE "zone podnamespace podname ctrname vdeviceid deviceuuid"

/* Its monitor's names and labels, as its dashboards and its users' queries have them. */
static const struct {
	const char *name, *labels;
	bool is_old;
} hami[] = {
	{ "hami_host_gpu_memory_used_bytes", H_CARD, false },
	{ "hami_host_gpu_utilization_ratio", H_CARD, false },
	{ "hami_host_gpu_memory_controller_utilization_ratio", H_CARD, false },
	{ "hami_vgpu_memory_used_bytes", H_DEVICE, false },
	{ "hami_vgpu_memory_limit_bytes", H_DEVICE, false },
	{ "hami_container_device_memory_bytes", H_DEVICE, false },
	{ "hami_vgpu_memory_context_bytes", H_DEVICE, false },
	{ "hami_vgpu_memory_module_bytes", H_DEVICE, false },
	{ "hami_vgpu_memory_buffer_bytes", H_DEVICE, false },
	{ "hami_container_device_utilization_ratio", H_DEVICE, false },
	{ "hami_container_last_kernel_elapsed_seconds", H_DEVICE, false },
	{ "hami_mig_device_info",
	  H_DEVICE " mig_uuid profile gpu_instance_id compute_instance_id", false },
	{ "hami_build_info", "version revision build_date go_version compiler platform",
	  false },
	{ "HostGPUMemoryUsage", L_CARD, true },
	{ "HostCoreUtilization", L_CARD, true },
	{ "vGPU_device_memory_usage_in_bytes", L_DEVICE, true },
	{ "vGPU_device_memory_limit_in_bytes", L_DEVICE, true },
	{ "Device_utilization_desc_of_container", L_DEVICE, true },
	{ "Device_last_kernel_of_container", L_DEVICE, true },
	{ "Device_memory_desc_of_container", L_DEVICE " context module data offset", true },
	{ "MigInfo", L_DEVICE " instanceid", true },
};

/* The names of the labels of the first sample of NAME. */
static const char *labels_of(const char *text, const char *name)
{
	static char labels[256];
	char begin[128];
	const char *at;
	bool is_in = false;
	size_t n = 0;

	(void)snprintf(begin, sizeof(begin), "\n%s{", name);
	at = strstr(text, begin);
	if (!at)
		return "";
	for (at += strlen(begin); *at != '}' && n < sizeof(labels) - 1; at++) {
		if (*at == '"')
			is_in = !is_in;
		else if (!is_in && *at != '=')
			labels[n++] = *at == ',' ? ' ' : *at;
	}
	labels[n] = '\0';
	return labels;
}

/* Whichever instance it was: of its GPU, once, and under the GPU's own names. */
static void test_xids_of_instances(void **state)
{
	const char *name = "tranche_device_xids_total{node=\"node-1\",device_index=\"1\","
			   "device_uuid=\"GPU-0\",device_type=\"NVIDIA H100\",xid=\"79\"}";
	char *text;

	(void)state;
	for (unsigned i = 0; i < SCENE_CARDS; i++) {
		(void)strcpy(scene.cards[i].parent, "GPU-0");
		(void)strcpy(scene.cards[i].type, "NVIDIA H100 MIG 1g.10gb");
		scene.cards[i].index = 1;
		scene.rows[i].xids = scene.rows[1].xids;
		scene.rows[i].xid_count = scene.rows[1].xid_count;
	}
	text = scene_print(&scene, TR_METRICS_TEXT);
	assert_string_equal(scene_value(text, name), "1");
	assert_null(strstr(strstr(text, "xid=\"79\"") + 1, "xid=\"79\""));
	free(text);
}

/* The driver did not say whose it was. */
static void test_xids_of_nobody(void **state)
{
	static const struct tr_report_xid xids[] = { { 45, 2 }, { 79, 7 } };
	const struct tr_report_stray stray = { "", xids, 2 };
	char *text;

	(void)state;
	scene.view.strays = &stray;
	scene.view.stray_count = 1;
	text = scene_print(&scene, TR_METRICS_TEXT);
	assert_string_equal(scene_value(text, "tranche_device_xids_total{node=\"node-1\","
					      "device_index=\"\",device_uuid=\"\","
					      "device_type=\"\",xid=\"79\"}"),
			    "7");
	free(text);
}

static void test_hami(void **state)
{
	char *text;

	(void)state;
	/* the container's second card is a MIG instance */
	(void)snprintf(scene.cards[1].parent, sizeof(scene.cards[1].parent), SCENE_UUID_0);
	for (unsigned with = 0; with < 2; with++) {
		scene.view.with_legacy = with;
		text = scene_print(&scene, TR_METRICS_TEXT);
		for (size_t i = 0; i < TR_COUNT(hami); i++)
			assert_string_equal(labels_of(text, hami[i].name),
					    hami[i].is_old && !with ? "" : hami[i].labels);
		free(text);
	}
}

/* ---- form -------------------------------------------------------------------------------- */

static void test_escapes(void **state)
{
	char *text;

	(void)state;
	/* the agent checks names; what it does not is still one label */
	(void)snprintf(app->container, sizeof(app->container), "a\"b\\c\nd\xff}");
	scene.view.node = "";
	text = scene_print(&scene, TR_METRICS_TEXT);
	assert_non_null(strstr(text, ",container=\"a\\\"b\\\\c\\nd\xef\xbf\xbd}\","));
	assert_null(strstr(text, "\nd"));
	free(text);
}

/* One head for each family, before its samples; all families of the table are there. */
static void check_heads(const char *text, bool is_open)
{
	unsigned types = 0, helps = 0;

	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		types += strncmp(line, "# TYPE ", 7) == 0;
		helps += strncmp(line, "# HELP ", 7) == 0;
	}
	assert_int_equal(types, TR_FAMILIES - 2); /* but the two of MIG instances */
	assert_int_equal(helps, TR_FAMILIES - 2);
	assert_true((strstr(text, "# UNIT ") != NULL) == is_open);
	assert_true((strstr(text, "# EOF\n") != NULL) == is_open);
}

static void test_form(void **state)
{
	char *text = scene_print(&scene, TR_METRICS_TEXT), *open;

	(void)state;
	check_heads(text, false);
	assert_non_null(strstr(text, "# TYPE tranche_container_launches_total counter\n"));
	assert_non_null(strstr(text, "# TYPE tranche_build_info gauge\n"));
	assert_non_null(strstr(text, "le=\"1\"} "));
	free(text);
	open = scene_print(&scene, TR_METRICS_OPENMETRICS);
	check_heads(open, true);
	assert_non_null(strstr(open, "# TYPE tranche_container_launches counter\n"));
	assert_non_null(strstr(open, "\ntranche_container_launches_total{"));
	assert_non_null(strstr(open, "# TYPE tranche_build info\n"));
	assert_non_null(strstr(open, "# UNIT tranche_container_gpu_seconds seconds\n"));
	assert_non_null(strstr(open, "le=\"1.0\"} "));
	assert_string_equal(open + strlen(open) - 6, "# EOF\n");
	free(open);
}

/* The table keeps to the conventions that no printer can mend. */
static void test_table(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TR_FAMILIES; i++) {
		const struct tr_family *f = &tr_families[i];
		size_t n = strlen(f->name), unit = strlen(f->unit);
		bool is_total = n > 6 && strcmp(f->name + n - 6, "_total") == 0;

		assert_true(f->help[0] && f->help[strlen(f->help) - 1] == '.');
		assert_int_equal(is_total, f->type == TR_FAMILY_COUNTER);
		n -= is_total ? 6 : 0;
		if (unit && strncmp(f->name + n - unit, f->unit, unit) != 0)
			fail_msg("%s does not end with %s", f->name, f->unit);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(f->name, tr_families[k].name);
	}
}

/* A pod of the same name made anew, and a slice that is not swept yet: no series twice. */
static void test_twice(void **state)
{
	struct tr_alloc *again = scene_add(&scene, 2);
	unsigned n = 0;
	char *text;

	(void)state;
	scene_arm(&scene, again, "shop", "cart-0", "app", 1);
	text = scene_print(&scene, TR_METRICS_TEXT);
	assert_string_equal(scene_value(text, own("tranche_container_memory_limit_bytes")),
			    "1");
	for (const char *at = text;
	     (at = strstr(at, own("tranche_container_launches_total"))); at++)
		n++;
	assert_int_equal(n, 1);
	/* but it takes room on the card */
	assert_string_equal(scene_value(text, "tranche_device_slots_allocated" CARD_1),
			    "2");
	free(text);
}

/* An init container that ends and the others of its pod take turns. */
static void test_turns(void **state)
{
	struct tr_alloc *init = scene_add(&scene, 2), *after = scene_add(&scene, 2);
	char *text;

	(void)state;
	scene_arm(&scene, init, "shop", "load-0", "init", UINT64_C(12) << 30);
	scene_arm(&scene, after, "shop", "load-0", "app", UINT64_C(4) << 30);
	init->kind = TR_CONTAINER_INIT;
	strcpy(init->uid, "2");
	strcpy(after->uid, "2");
	text = scene_print(&scene, TR_METRICS_TEXT);
	assert_string_equal(
		scene_value(text, "tranche_device_memory_allocated_bytes" CARD_1),
		"23622320128");
	assert_string_equal(scene_value(text, "tranche_device_slots_allocated" CARD_1),
			    "2");
	free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_scene, close_scene)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_values),
		TEST(test_no_limit),
		TEST(test_cards),
		TEST(test_untold),
		TEST(test_xids_of_instances),
		TEST(test_xids_of_nobody),
		TEST(test_hami),
		TEST(test_escapes),
		TEST(test_form),
		TEST(test_table),
		TEST(test_twice),
		TEST(test_turns),
	};

	return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
