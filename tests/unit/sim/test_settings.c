/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/settings.h"
#include "rm/fault.h"

static const struct setting_case {
	const char *name, *line;
	int want;
	const char *says; /* a part of the sentence */
} setting_cases[] = {
	{ "gpus: one", "gpus=t4", 0, "" },
	{ "gpus: several models", "gpus=2xh100,a100-40,l4", 0, "" },
	{ "gpus: 64", "gpus=64xb200", 0, "" },
	{ "gpus: 65", "gpus=65xb200", -EINVAL, "65xb200" },
	{ "gpus: 65 in two parts", "gpus=64xb200,t4", -EINVAL, "more than 64" },
	{ "gpus: none", "gpus=", -EINVAL, "not a list" },
	{ "gpus: zero of them", "gpus=0xt4", -EINVAL, "0xt4" },
	{ "gpus: overflow", "gpus=99999999999999999999xt4", -EINVAL, "not a list" },
	{ "gpus: an open end", "gpus=t4,", -EINVAL, "t4," },
	{ "gpus: a count alone", "gpus=2", -EINVAL, "models: h100" },
	{ "gpus: unknown model", "gpus=h1000", -EINVAL, "h1000" },
	{ "driver: oldest", "driver=10.2", 0, "" },
	{ "driver: newest", "driver=13.5", 0, "" },
	{ "driver: too old", "driver=9.2", -EINVAL, "from 10.2 to 13.5" },
	{ "driver: too new", "driver=13.6", -EINVAL, "13.6" },
	{ "driver: no version", "driver=580", -EINVAL, "580" },
	{ "pids: own", "pids=own", 0, "" },
	{ "pids: wrong", "pids=Host", -EINVAL, "host, own, none" },
	{ "newer: 1", "newer=1", 0, "" },
	{ "newer: yes", "newer=yes", -EINVAL, "neither 0 nor 1" },
	{ "split: blanks around", " split = 1 ", 0, "" },
	{ "seed: largest", "seed=18446744073709551615", 0, "" },
	{ "seed: one more", "seed=18446744073709551616", -EINVAL, "2^64" },
	{ "seed: negative", "seed=-1", -EINVAL, "-1" },
	{ "linger: a day", "linger_ms=86400000", 0, "" },
	{ "linger: longer", "linger_ms=86400001", -EINVAL, "86400000" },
	{ "numa: none", "numa=0", 0, "" },
	{ "numa: more than devices can be", "numa=65", -EINVAL, "0 to 64" },
	{ "memory: small", "memory_mib=1024", 0, "" },
	{ "memory: too small", "memory_mib=1023", -EINVAL, "1024" },
	{ "clock: virtual", "clock=virtual", 0, "" },
	{ "clock: neither", "clock=wall", -EINVAL, "neither real nor virtual" },
	{ "quantum: shortest", "quantum_us=10", 0, "" },
	{ "quantum: none", "quantum_us=0", -EINVAL, "from 10 to 10000000" },
	{ "switch: longest", "switch_us=100000", 0, "" },
	{ "switch: longer", "switch_us=100001", -EINVAL, "100000" },
	{ "mps: 1", "mps=1", 0, "" },
	{ "mps: 2", "mps=2", -EINVAL, "neither 0 nor 1" },
	{ "noise: much", "noise_pct=90", 0, "" },
	{ "noise: more than that", "noise_pct=91", -EINVAL, "percent" },
	{ "hold: for nobody", "hold=0", 0, "" },
	{ "hold: for words", "hold=two", -EINVAL, "programs" },
	{ "unknown key", "gpu=t4", -EINVAL, "unknown setting \"gpu\"" },
	{ "no key", "t4", -EINVAL, "not key = value" },
	{ "empty", "", -EINVAL, "not key = value" },
};

static void test_setting(void **state)
{
	const struct setting_case *c = *state;
	const char *const arguments[] = { c->line, NULL };
	static struct sim_settings s;
	int fd = open("/proc/self", O_RDONLY | O_DIRECTORY);

	assert_int_equal(sim_settings_read(&s, "/somewhere", fd, arguments), c->want);
	close(fd);
	if (c->want != 0)
		assert_non_null(strstr(s.why, c->says));
	else
		assert_in_range(s.machine.device_count, 1, RM_DEVICES_MAX);
}

static void test_devices(void **state)
{
	static const char *const arguments[] = { "gpus=2xh100,a100-40", "seed=7", NULL };
	static struct sim_settings a, b;
	const struct rm_device *d = a.machine.devices;
	int fd = open("/proc/self", O_RDONLY | O_DIRECTORY);

	(void)state;
	assert_int_equal(sim_settings_read(&a, "/here", fd, arguments), 0);
	assert_int_equal(sim_settings_read(&b, "/there", fd, arguments), 0);
	close(fd);
	assert_int_equal(a.machine.device_count, 3);
	assert_string_equal(d[1].model, "h100");
	assert_string_equal(d[2].name, "NVIDIA A100-SXM4-40GB");
	assert_int_equal(d[2].pci_id, 0x20b010de);
	assert_int_equal(d[0].numa_node, 0);
	assert_int_equal(d[2].numa_node, 1);
	assert_true(d[0].pci_bus < d[1].pci_bus && d[1].pci_bus < d[2].pci_bus);
	assert_memory_not_equal(d[0].uuid, d[1].uuid, 16);
	/* the seed, not the directory, decides once it is given */
	assert_memory_equal(d[0].uuid, b.machine.devices[0].uuid, 16);
	for (int i = 0; i < 3; i++) {
		assert_true(d[i].reserved_bytes < d[i].total_bytes / 10);
		assert_int_equal(d[i].context_bytes % RM_BLOCK_BYTES, 0);
	}
}

/* More devices than a board has slots: further PCI domains, no address twice. */
static void test_most_devices(void **state)
{
	static const char *const arguments[] = { "gpus=64xt4", NULL };
	static struct sim_settings s;
	const struct rm_device *d = s.machine.devices;
	int fd = open("/proc/self", O_RDONLY | O_DIRECTORY);

	(void)state;
	assert_int_equal(sim_settings_read(&s, "/here", fd, arguments), 0);
	close(fd);
	assert_int_equal(s.machine.device_count, RM_DEVICES_MAX);
	for (int i = 1; i < RM_DEVICES_MAX; i++) {
		uint32_t before = d[i - 1].pci_domain << 8 | d[i - 1].pci_bus;

		assert_true(before < (d[i].pci_domain << 8 | d[i].pci_bus));
		assert_int_equal(d[i].minor, i);
	}
	assert_int_equal(d[63].numa_node, 1);
}

static void test_order(void **state)
{
	static const char *const arguments[] = { "driver=12.0", NULL };
	static struct sim_settings s;
	int fd = open("/proc/self", O_RDONLY | O_DIRECTORY);

	(void)state;
	setenv("TRANCHE_SIM_DRIVER", "11.8", 1);
	setenv("TRANCHE_SIM_PIDS", "own", 1);
	assert_int_equal(sim_settings_read(&s, "/here", fd, arguments), 0);
	assert_int_equal(s.machine.driver_version, 12000); /* the command line wins */
	assert_int_equal(s.machine.pid_mode, RM_PIDS_OWN);
	unsetenv("TRANCHE_SIM_DRIVER");
	unsetenv("TRANCHE_SIM_PIDS");
	close(fd);
}

static const struct fault_case {
	const char *name, *text;
	int want;
	uint32_t n;
	struct fault_rule first;
} fault_cases[] = {
	{ "fault: nothing", "", 0, 0, { "" } },
	{ "fault: comments only", "# cuInit=2\n  # more", 0, 0, { "" } },
	{ "fault: call n",
	  "cuMemAlloc_v2:3=2",
	  0,
	  1,
	  { "cuMemAlloc_v2", .call = 3, .code = 2 } },
	{ "fault: call n and on",
	  "cuMemAlloc_v2:3+=2",
	  0,
	  1,
	  { "cuMemAlloc_v2", .call = 3, .is_onwards = true, .code = 2 } },
	{ "fault: everything lost",
	  "*=lost",
	  0,
	  1,
	  { "", .is_prefix = true, .action = FAULT_LOST } },
	{ "fault: prefix",
	  "cuMem*=hang",
	  0,
	  1,
	  { "cuMem", .is_prefix = true, .action = FAULT_HANG } },
	{ "fault: delay",
	  "cuInit=delay:100ms",
	  0,
	  1,
	  { "cuInit", .action = FAULT_DELAY, .delay_ns = 100000000 } },
	{ "fault: several",
	  "cuInit=delay:5us,nvmlInit_v2=999; a=1\nb=2 # c",
	  0,
	  4,
	  { "cuInit", .action = FAULT_DELAY, .delay_ns = 5000 } },
	{ "fault: call 0", "cuInit:0=2", -EINVAL, 0, { "" } },
	{ "fault: no call", "cuInit:=2", -EINVAL, 0, { "" } },
	{ "fault: no action", "cuInit=", -EINVAL, 0, { "" } },
	{ "fault: no name", "=2", -EINVAL, 0, { "" } },
	{ "fault: negative", "cuInit=-1", -EINVAL, 0, { "" } },
	{ "fault: code too large", "cuInit=100000", -EINVAL, 0, { "" } },
	{ "fault: delay without unit", "cuInit=delay:5", -EINVAL, 0, { "" } },
	{ "fault: words behind", "cuInit=2x", -EINVAL, 0, { "" } },
	{ "fault: a good one before a bad one", "cuInit=2 x", -EINVAL, 0, { "" } },
};

static void test_fault(void **state)
{
	const struct fault_case *c = *state;
	static struct fault_rules rules;
	const struct fault_rule *got = &rules.rule[0], *first = &c->first;
	char why[200] = "";

	assert_int_equal(
		rm_faults_parse(&rules, c->text, strlen(c->text), why, sizeof(why)),
		c->want);
	assert_int_equal(rules.n, c->n);
	assert_int_equal(why[0] != '\0', c->want != 0);
	if (c->n == 0)
		return;
	assert_string_equal(got->name, first->name);
	assert_int_equal(got->is_prefix, first->is_prefix);
	assert_int_equal(got->is_onwards, first->is_onwards);
	assert_int_equal(got->call, first->call);
	assert_int_equal(got->action, first->action);
	assert_int_equal(got->code, first->code);
	assert_int_equal(got->delay_ns, first->delay_ns);
}

int main(void)
{
	struct CMUnitTest tests[TR_COUNT(setting_cases) + TR_COUNT(fault_cases) + 2] = {
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_most_devices),
		cmocka_unit_test(test_order),
	};
	size_t n = 2;

	for (size_t i = 0; i < TR_COUNT(setting_cases); i++)
		tests[n++] = (struct CMUnitTest){ setting_cases[i].name, test_setting, NULL,
						  NULL,
						  (void *)(uintptr_t)&setting_cases[i] };
	for (size_t i = 0; i < TR_COUNT(fault_cases); i++)
		tests[n++] = (struct CMUnitTest){ fault_cases[i].name, test_fault, NULL,
						  NULL,
						  (void *)(uintptr_t)&fault_cases[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
