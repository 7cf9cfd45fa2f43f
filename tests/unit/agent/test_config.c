/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "deviceplugin/agent/config.h"

#define WORDS_MAX 8

/* One start of the program: FILE and HAMI are the contents of the two files. */
struct start {
	const char *words[WORDS_MAX]; /* after the program's name */
	const char *env[WORDS_MAX];
	const char *file, *hami; /* or NULL */
};

struct outcome {
	int r;
	struct tr_config config;
	struct tr_config_start start;
	struct tr_buf notes;
	struct tr_err err;
};

static void write_file(char path[static 32], const char *text)
{
	int fd = mkstemp(path);

	assert_return_code(fd, errno);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void load(const struct start *s, struct outcome *out)
{
	char own[32] = "/tmp/agent-config-XXXXXX", hami[32] = "/tmp/agent-hami-XXXXXX";
	char *argv[WORDS_MAX + 5] = { (char *)(uintptr_t) "tranched" };
	char *env[WORDS_MAX + 1] = { NULL };
	int argc = 1;

	*out = (struct outcome){ 0 };
	for (int i = 0; i < WORDS_MAX && s->words[i]; i++)
		argv[argc++] = (char *)(uintptr_t)s->words[i];
	for (int i = 0; i < WORDS_MAX && s->env[i]; i++)
		env[i] = (char *)(uintptr_t)s->env[i];
	if (s->file) {
		write_file(own, s->file);
		argv[argc++] = (char *)(uintptr_t) "--config";
		argv[argc++] = own;
	}
	if (s->hami) {
		write_file(hami, s->hami);
		argv[argc++] = (char *)(uintptr_t) "--config-file";
		argv[argc++] = hami;
	}
	out->r = tr_config_load(&out->config, &out->start,
				&(struct tr_config_inputs){ argc, argv, env }, &out->notes,
				&out->err);
	unlink(own);
	unlink(hami);
}

static void done(struct outcome *o)
{
	tr_config_free(&o->config);
	tr_buf_free(&o->notes);
}

/* ---- what is wrong ---- */

static const struct refused_case {
	const char *name;
	struct start start;
	const char *says; /* in the sentence */
} refused[] = {
	{ "an unknown key",
	  { .file = "split_count: 2\nsplit_cuont: 3\n" },
	  "line 2: \"split_cuont\" is no setting" },
	{ "a key twice",
	  { .file = "leases: true\nleases: false\n" },
	  "line 2: \"leases\" is given twice" },
	{ "not a mapping", { .file = "- a\n" }, "not a mapping" },
	{ "not YAML", { .file = "a: [\n" }, "line" },
	{ "a text for a number",
	  { .file = "\nsplit_count: \"10\"\n" },
	  "line 2: split_count: a text was given" },
	{ "a fraction for a whole number",
	  { .file = "split_count: 2.5" },
	  "split_count: a number was given" },
	{ "too small",
	  { .file = "split_count: 0" },
	  "split_count: 0 is not between 1 and 255" },
	{ "too large", { .file = "split_count: 256" }, "not between" },
	{ "negative", { .file = "preset_memory_mib: -1" }, "preset_memory_mib: -1 is not" },
	{ "not a number",
	  { .file = "memory_scaling: .nan" },
	  "memory_scaling: a text was given" },
	{ "a list for a text", { .file = "run_dir: [a]" }, "run_dir: a list was given" },
	{ "nothing for a text", { .file = "run_dir:" }, "run_dir: nothing was given" },
	{ "a relative path",
	  { .file = "run_dir: run/tranche" },
	  "run_dir: \"run/tranche\" is no absolute path" },
	{ "an empty path that must be",
	  { .file = "cdi_dir: \"\"" },
	  "cdi_dir: must not be empty" },
	{ "an unknown word",
	  { .file = "on_bypass: guess" },
	  "on_bypass: \"guess\" is not one of tell|lower" },
	{ "yes is no bool",
	  { .file = "leases: yes" },
	  "leases: a text was given, true or false is wanted" },
	{ "a mapping in a list",
	  { .file = "filter_uuids: [{a: 1}]" },
	  "filter_uuids: a mapping stands in its list" },
	{ "an index too large",
	  { .file = "filter_indexes: [5000]" },
	  "\"5000\" is no number up to 1023" },
	{ "a control character",
	  { .file = "node_name: \"a\\nb\"" },
	  "node_name: a control character" },
	{ "a control character beyond ASCII",
	  { .env = { "HOOK_PATH=/a\302\232b" } },
	  "a control character" },
	{ "an end of a line beyond ASCII",
	  { .env = { "HOOK_PATH=/a\342\200\250b" } },
	  "a control character" },
	{ "bytes that are no text",
	  { .env = { "NODE_NAME=a\200b" } },
	  "node_name: not UTF-8" },
	{ "a resource without a domain",
	  { .file = "resource_name: gpu" },
	  "line 1: resource_name: \"gpu\"" },
	{ "no port",
	  { .file = "metrics_address: localhost" },
	  "line 1: metrics_address: \"localhost\"" },
	{ "a port too large", { .file = "metrics_address: ':65536'" }, "is not HOST:PORT" },
	{ "the kubelet's lease",
	  { .file = "lease_namespace: kube-node-lease" },
	  "line 1: lease_namespace: " },
	{ "inferring without the marks",
	  { .file = "identity: infer\nhami_protocol: false\n" },
	  "identity: infer finds a container's pod by HAMi's marks, and hami_protocol is "
	  "false" },
	{ "one folder for two",
	  { .file = "run_dir: /run/tranche\nstate_dir: /run/tranche\n" },
	  "run_dir and state_dir are both /run/tranche: each needs" },
	{ "the same, written otherwise",
	  { .file = "state_dir: //a/./b/.\nlib_dir: /a/b/\n" },
	  "state_dir and lib_dir are both //a/./b/.: each needs" },
	{ "the kubelet's folder",
	  { .file = "run_dir: /var/lib/kubelet/device-plugins/\n" },
	  "run_dir and kubelet_dir are both" },
	{ "no XID",
	  { .file = "split_count: 3\nxid_ignore: [13, abc]" },
	  "line 2: xid_ignore: \"abc\" is no XID" },
	{ "no XID of a variable",
	  { .env = { "DP_ENABLE_HEALTHCHECKS=13,abc" } },
	  "DP_ENABLE_HEALTHCHECKS: xid_watch: \"abc\" is no XID" },
	{ "a blank in the node's name",
	  { .file = "node_name: a b" },
	  "line 1: node_name: \"a b\" is no node's name" },
	{ "a letter no node's name has",
	  { .words = { "--node-name=N" } },
	  "--node-name: node" },
	{ "a node's name that ends badly",
	  { .file = "node_name: a." },
	  "line 1: node_name" },
	{ "a socket's path too long",
	  { .file = "run_dir: "
		    "/rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr"
		    "rrrrrrrrrrrrrrrrrrrrrrrrrrr"
		    "rrrrrrrrrrr" },
	  "control_socket: " },
	{ "a missing file",
	  { .words = { "--config", "/nonexistent/x" } },
	  "/nonexistent/x" },
	{ "two files",
	  { .words = { "--config=/a", "--config=/b" } },
	  "--config is given twice" },
	{ "an unknown flag",
	  { .words = { "--splits", "3" } },
	  "\"--splits\" is no option" },
	{ "an unknown flag at the end",
	  { .words = { "--nosuch" } },
	  "\"--nosuch\" is no option" },
	{ "HAMi's without its value", { .words = { "--v" } }, "--v needs a value" },
	{ "a flag with underscores", { .words = { "--split_count=3" } }, "is no option" },
	{ "a plain word", { .words = { "start" } }, "\"start\" is no option" },
	{ "no value", { .words = { "--split-count" } }, "--split-count needs a value" },
	{ "another flag for a value",
	  { .words = { "--split-count", "--leases" } },
	  "--split-count needs a value" },
	{ "a flag twice",
	  { .words = { "--split-count=1", "--device-split-count=2" } },
	  "given twice" },
	{ "a bad flag",
	  { .words = { "--split-count=x" } },
	  "--split-count: split_count: \"x\" is no whole number" },
	{ "a bad variable",
	  { .env = { "DEVICE_MEMORY_SCALING=inf" } },
	  "DEVICE_MEMORY_SCALING: memory_scaling" },
	{ "a bad value in the file behind a good flag",
	  { .words = { "--split-count=3" }, .file = "split_count: 0" },
	  "line 1: split_count: 0 is not" },
	{ "GDS cannot be had",
	  { .words = { "--gds-enabled" } },
	  "--gds-enabled: \"true\" cannot be done" },
	{ "nor IMEX",
	  { .env = { "IMEX_CHANNEL_IDS=[0]" } },
	  "IMEX_CHANNEL_IDS: \"[0]\" cannot be done" },
	{ "nor Tegra", { .words = { "--device-discovery-strategy=tegra" } }, "NVML only" },
	{ "not registering is no use",
	  { .env = { "KUBELET_SOCKET=/x" } },
	  "KUBELET_SOCKET: \"/x\" is no path" },
	{ "a bad level", { .words = { "--v=many" } }, "--v: \"many\" is no level" },
	{ "HAMi's block is no mapping",
	  { .hami = "nvidia: 3" },
	  "line 1: nvidia: not a mapping" },
	{ "HAMi's key out of range",
	  { .hami = "nvidia:\n  deviceSplitCount: 0\n" },
	  "line 2: nvidia.deviceSplitCount: split_count: 0" },
	{ "HAMi's policy unknown",
	  { .hami = "nvidia: {gpuCorePolicy: maybe}" },
	  "gpuCorePolicy: not one of" },
};

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(refused); i++) {
		struct outcome o;

		load(&refused[i].start, &o);
		if (o.r >= 0 || !strstr(o.err.msg, refused[i].says))
			fail_msg("%s: %d \"%s\"", refused[i].name, o.r, o.err.msg);
		done(&o);
	}
}

/* ---- what is noted ---- */

static const struct noted_case {
	struct start start;
	const char *note; /* NULL: none */
} noted[] = {
	{ { .file = "run_dir: /a/.b\nstate_dir: /a/b\nlib_dir: /a\ncdi_dir: /a/b/c\n" },
	  NULL },
	{ { .file = "identity: cdi\nhami_protocol: false\n" }, NULL },
	{ { .words = { "--fail-on-init-error=false" } },
	  "--fail-on-init-error means nothing here" },
	{ { .env = { "DEVICE_LIST_STRATEGY=envvar" } },
	  "DEVICE_LIST_STRATEGY means nothing here" },
	{ { .env = { "DEVICE_LIST_STRATEGY=cdi-cri" } }, NULL },
	{ { .env = { "GDS_ENABLED=false", "PASS_DEVICE_SPECS=0", "IMEX_CHANNEL_IDS=" } },
	  NULL },
	{ { .words = { "--pass-device-specs" } }, "--pass-device-specs means nothing" },
	{ { .hami = "nvidia:\n  newKey: 1\n" }, "line 2: nvidia.newKey is not known here" },
	{ { .hami = "cambricon: {a: 1}\n" }, "has no block nvidia" },
	{ { .hami = "nvidia: {libCudaLogLevel: '1', migProfileAllowlist: []}\nvnpus: "
		    "[]\n" },
	  NULL },
	{ { .hami = "version: v1\nsharing: {timeSlicing: {}}\nnvidia: {}\n" },
	  "line 2: sharing means nothing" },
};

static void test_noted(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(noted); i++) {
		struct outcome o;

		load(&noted[i].start, &o);
		if (o.r < 0)
			fail_msg("row %zu: %s", i, o.err.msg);
		if (noted[i].note ? !o.notes.p || !strstr(o.notes.p, noted[i].note)
				  : o.notes.n != 0)
			fail_msg("row %zu: %s", i, o.notes.p ? o.notes.p : "no note");
		done(&o);
	}
}

/* ---- what comes out ---- */

static void test_defaults(void **state)
{
	char host[256] = "";
	struct outcome o;

	(void)state;
	load(&(struct start){ .file = "" }, &o);
	assert_int_equal(o.r, 0);
	gethostname(host, sizeof(host) - 1);
	assert_int_equal(strcasecmp(o.config.node_name, host), 0);
	assert_string_equal(o.config.resource_name, "nvidia.com/gpu");
	assert_int_equal(o.config.split_count, 10);
	assert_float_equal(o.config.memory_scaling, 1, 0);
	assert_true(o.config.leases);
	assert_int_equal(o.config.log_level, 2);
	assert_string_equal(o.config.control_socket, "/run/tranche/node/control");
	assert_string_equal(o.config.driver_root_seen, "/");
	assert_int_equal(o.config.filter_uuids.count, 0);
	done(&o);
}

/* One setting in five places: the nearest wins. */
static void test_order(void **state)
{
	struct start s = { .words = { "--split-count", "2" },
			   .env = { "DEVICE_SPLIT_COUNT=3" },
			   .file = "split_count: 4",
			   .hami = "nvidia: {deviceSplitCount: 5}" };
	const unsigned want[] = { 2, 3, 4, 5, 10 };
	struct outcome o;

	(void)state;
	for (size_t i = 0; i < TR_COUNT(want); i++) {
		load(&s, &o);
		assert_int_equal(o.r, 0);
		assert_int_equal(o.config.split_count, want[i]);
		done(&o);
		if (i == 0)
			s.words[0] = NULL;
		if (i == 1)
			s.env[0] = NULL;
		if (i == 2)
			s.file = NULL;
		if (i == 3)
			s.hami = NULL;
	}
}

static void test_values(void **state)
{
	struct outcome o;

	(void)state;
	load(
		&(struct start){
			.words = { "--leases=false", "--capacity-mock", "--v", "5" },
			.env = { "HOOK_PATH=/opt", "DP_DISABLE_HEALTHCHECKS=xids, 48",
				 "KUBELET_SOCKET=/k/kubelet.sock", "NODE_NAME=n1" },
			.file = "filter_uuids: [GPU-a, GPU-b]\nfilter_indexes: [0, 7]\n"
				"memory_scaling: 2\non_bypass: lower\nxid_watch: 13\n"
				"driver_root: /driver/\nmetrics_address: ''\n",
			.hami = "nvidia: {gpuCorePolicy: disable, "
				"preConfiguredDeviceMemory: 7}" },
		&o);
	assert_string_equal(o.err.msg, "");
	assert_int_equal(o.r, 0);
	assert_false(o.config.leases);
	assert_true(o.config.capacity_mock);
	assert_int_equal(o.config.log_level, 3);
	assert_string_equal(o.config.lib_dir, "/opt/tranche");
	assert_string_equal(o.config.xid_ignore.at[0], "all");
	assert_string_equal(o.config.xid_ignore.at[1], "48");
	assert_string_equal(o.config.kubelet_dir, "/k");
	assert_string_equal(o.config.node_name, "n1");
	assert_string_equal(o.config.filter_uuids.at[1], "GPU-b");
	assert_int_equal(o.config.filter_indexes.at[1], 7);
	assert_float_equal(o.config.memory_scaling, 2, 0);
	assert_int_equal(o.config.on_bypass, TR_BYPASS_WAY_LOWER);
	assert_string_equal(o.config.xid_watch.at[0], "13");
	assert_string_equal(o.config.driver_root, "/driver");
	assert_string_equal(o.config.dev_root, "/driver");
	assert_string_equal(o.config.metrics_address, "");
	assert_true(o.config.disable_core_limit);
	assert_int_equal(o.config.preset_memory_mib, 7);
	done(&o);
}

static void test_modes(void **state)
{
	struct outcome o;

	(void)state;
	load(&(struct start){ .words = { "--help" } }, &o);
	assert_true(o.r == 0 && o.start.is_help);
	done(&o);
	load(&(struct start){ .words = { "version" } }, &o);
	assert_true(o.r == 0 && o.start.is_version);
	done(&o);
	load(&(struct start){ .words = { "--check" }, .file = "leases: 3" }, &o);
	assert_true(o.r == -EINVAL && o.start.is_check);
	done(&o);
}

/* What is printed is a file that gives the same settings. */
static void test_print(void **state)
{
	tr_auto_buf struct tr_buf first = { 0 }, second = { 0 };
	struct outcome o;

	(void)state;
	load(&(struct start){ .file = "filter_uuids: ['a\"b\\c']\nmemory_scaling: 1.25\n"
				      "filter_indexes: [1]\nlog_format: json\n" },
	     &o);
	assert_int_equal(o.r, 0);
	tr_config_print(&o.config, &first);
	done(&o);
	load(&(struct start){ .file = first.p }, &o);
	assert_string_equal(o.err.msg, "");
	tr_config_print(&o.config, &second);
	assert_string_equal(first.p, second.p);
	assert_string_equal(o.config.filter_uuids.at[0], "a\"b\\c");
	done(&o);
}

static void test_renew(void **state)
{
	tr_auto_buf struct tr_buf notes = { 0 };
	struct outcome a, b;

	(void)state;
	load(&(struct start){ .file = "log_level: debug\n" }, &a);
	load(&(struct start){ .file = "split_count: 3\nlegacy_metrics: true\n" }, &b);
	tr_config_renew(&a.config, &b.config, &notes);
	assert_string_equal(notes.p, "split_count has changed: that needs a restart\n");
	assert_int_equal(a.config.split_count, 10);
	assert_int_equal(a.config.log_level, 2);
	assert_true(a.config.legacy_metrics);
	done(&a);
	done(&b);
}

static void test_texts(void **state)
{
	tr_auto_buf struct tr_buf help = { 0 }, reference = { 0 };

	(void)state;
	tr_config_print_help(&help);
	tr_config_print_reference(&reference);
#define TR_GROUP(heading)
#define TR_KEY(kind, name, ...) assert_non_null(strstr(reference.p, "| `" #name "` |"));
#include "deviceplugin/agent/config.def"
#undef TR_KEY
#undef TR_GROUP
	assert_non_null(strstr(help.p, "--pod-resources-socket (path, default /var/lib"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),  cmocka_unit_test(test_noted),
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_order),
		cmocka_unit_test(test_values),   cmocka_unit_test(test_modes),
		cmocka_unit_test(test_print),    cmocka_unit_test(test_renew),
		cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
