/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVML's thread against the simulated library, on a machine of its own: test_nvml [SETTING...].
 * Devices fall ill by sim-ctl.
 */
#include "tr_test.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deviceplugin/cards/nvml.h"
#include "keeper/slices.h"
#include "rt/file.h"

#define WAIT_S 30
#define MS     UINT64_C(1000000)

/* Sets of faults are never freed there: a thread may sleep in one. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libnvidia-ml.so";
}

static char machine[64];
static struct event_base *base;

/* ---- the machine --------------------------------------------------------------------- */

static void sim(const char *words)
{
	char command[512];

	(void)snprintf(command, sizeof(command), "%s --dir %s %s", SIM_CTL, machine, words);
	assert_int_equal(system(command), 0);
}

static int start_machine(const char *settings)
{
	char command[512];

	(void)strcpy(machine, "/tmp/tr-cards-XXXXXX");
	if (!mkdtemp(machine))
		return -1;
	(void)snprintf(command, sizeof(command),
		       "%s start %s %s --lifetime-pid %d --own-dir", SIM_CTL, machine,
		       settings, (int)getpid());
	(void)setenv("TRANCHE_SIM", machine, 1);
	return system(command);
}

/* ---- an agent that listens ----------------------------------------------------------- */

struct ear {
	struct tr_nvml_agent *nvml;
	struct tr_cards cards;
	struct tr_card_use use[TR_GPUS_MAX];
	unsigned wrong, calls, uses, use_count, xids, last_xid, ticks;
	char sentence[256];
	bool was_called_after_close;
};

static struct ear ear;

static void on_cards(const struct tr_cards *cards, void *arg)
{
	struct ear *e = arg;

	e->wrong += cards->version <= e->cards.version;
	e->cards = *cards;
	e->calls++;
	e->was_called_after_close |= !e->nvml;
}

static void on_use(const struct tr_card_use *use, unsigned count, void *arg)
{
	struct ear *e = arg;

	memcpy(e->use, use, count * sizeof(*use));
	e->use_count = count;
	e->uses++;
}

static void on_xid(const char *uuid, unsigned xid, void *arg)
{
	struct ear *e = arg;

	e->wrong += strncmp(uuid, "GPU-", 4) != 0;
	e->xids++;
	e->last_xid = xid;
}

static void on_trouble(const char *sentence, void *arg)
{
	struct ear *e = arg;

	(void)snprintf(e->sentence, sizeof(e->sentence), "%s", sentence);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(*(unsigned *)arg)++;
}

static void listen_with(struct tr_nvml_options options)
{
	static const struct tr_card_rules plain = TR_CARD_RULES_DEFAULT;
	struct tr_health_rules health;
	struct tr_err err = { 0 };

	tr_health_rules_init(&health);
	health.fails = 2;
	health.quiet_ns = 300 * MS;
	health.quiet_most_ns = health.grave_ns = 600 * MS;
	ear = (struct ear){ 0 };
	if (!options.library)
		options.library = SIM_NVML;
	if (!options.rules)
		options.rules = &plain;
	options.health = &health;
	options.retry_ms = 1000;
	options.on_cards = on_cards;
	options.on_use = on_use;
	options.on_xid = on_xid;
	options.on_trouble = on_trouble;
	options.arg = &ear;
	if (tr_nvml_open(&ear.nvml, base, &options, &err) < 0)
		fail_msg("%s", err.msg);
}

static void hang_up(void)
{
	assert_int_equal(tr_nvml_close(ear.nvml, 5000), 0);
	ear.nvml = NULL;
	assert_int_equal(ear.wrong, 0);
}

/* Runs the loop until CONDITION. */
#define UNTIL(condition)                                                              \
	do {                                                                          \
		uint64_t begin_ = tr_clock_ns();                                      \
		while (!(condition)) {                                                \
			turn();                                                       \
			if (tr_clock_ns() - begin_ > WAIT_S * 1000 * MS)              \
				fail_msg("never: %s (%s)", #condition, ear.sentence); \
		}                                                                     \
	} while (0)

static void turn(void)
{
	struct timeval wait = { 0, 20000 };

	(void)event_base_loopexit(base, &wait);
	(void)event_base_loop(base, 0);
}

static void run_ms(unsigned ms)
{
	uint64_t begin = tr_clock_ns();

	while (tr_clock_ns() - begin < ms * MS)
		turn();
}

static bool is_healthy(unsigned at)
{
	return ear.cards.at[at].is_healthy;
}

static void wait_for_cards(unsigned count)
{
	UNTIL(ear.cards.count == count && ear.uses > 1 && ear.use_count == count);
}

static int new_loop(void **state)
{
	(void)state;
	base = event_base_new();
	return base ? 0 : -1;
}

static int free_loop(void **state)
{
	(void)state;
	sim("fault --clear");
	sim("device 0 answer=0 mig=0 ecc-uncorrected=0");
	event_base_free(base);
	return 0;
}

/* ---- tests --------------------------------------------------------------------------- */

static void test_what_is_there(void **state)
{
	(void)state;
	sim("device 1 temperature=77 power=123456 ecc-corrected=5");
	listen_with((struct tr_nvml_options){ .with_scores = true });
	assert_int_equal(tr_nvml_cards(ear.nvml)->version, 0);
	wait_for_cards(4);
	for (unsigned i = 0; i < 4; i++) {
		const struct tr_card *card = &ear.cards.at[i];

		assert_int_equal(card->index, i);
		assert_int_equal(card->minor, i);
		assert_int_equal(card->split, 10);
		assert_int_equal(card->give_bytes, card->total_bytes >> 20 << 20);
		assert_true(card->total_bytes > UINT64_C(14) << 30);
		assert_in_range(card->numa, 0, 1);
		assert_true(card->is_healthy);
		assert_string_equal(ear.use[i].uuid, card->uuid);
		assert_true(ear.use[i].has & TR_CARD_HAS_MEMORY);
		assert_true(ear.use[i].has & TR_CARD_HAS_GPU_RATE);
	}
	assert_string_equal(ear.cards.at[0].type, "NVIDIA A100-SXM4-80GB");
	assert_string_equal(ear.cards.at[3].type, "NVIDIA-Tesla T4");
	assert_int_equal(ear.cards.at[0].compute_major, 8);
	assert_true(ear.cards.driver[0] >= '1' && ear.cards.driver[0] <= '9');
	assert_string_equal(ear.cards.reason, "");
	assert_int_equal(ear.use[1].celsius, 77);
	assert_int_equal(ear.use[1].power_mw, 123456);
	assert_true(ear.use[0].has & TR_CARD_HAS_ENERGY);
	assert_int_equal(ear.use[1].ecc_corrected, 5);
	assert_int_not_equal(ear.use[0].celsius, 77);
	/* Three boards with 12 links to switches; the fourth has none. */
	assert_non_null(tr_nvml_scores(ear.nvml));
	assert_non_null(strstr(tr_nvml_scores(ear.nvml), ":12"));
	assert_true(tr_nvml_age_ms(ear.nvml) < 5000);
	hang_up();
	sim("device 1 temperature=0 power=0 ecc-corrected=0");
}

/* F35: a GPU that was found ill stays away until the agent is restarted. Here it comes back when it is well again,
 * whatever it was ill of; test_register.c has what is told of it, slices.F35 the whole of it on a kubelet. */
static void F35_xid(void **state)
{
	(void)state;
	listen_with((struct tr_nvml_options){ 0 });
	wait_for_cards(4);
	sim("device 1 xid=31");
	UNTIL(ear.xids == 1);
	assert_int_equal(ear.last_xid, 31);
	assert_true(is_healthy(1));
	sim("device 1 xid=79");
	UNTIL(!is_healthy(1));
	assert_string_equal(ear.cards.at[1].reason, "XID 79: it has fallen off the bus");
	assert_true(is_healthy(0) && is_healthy(2) && is_healthy(3));
	UNTIL(is_healthy(1));
	assert_string_equal(ear.cards.at[1].reason, "");
	UNTIL(ear.use[1].xids == 2);
	assert_int_equal(ear.use[1].last_xid, 79);
	hang_up();
}

static void F35_lost(void **state)
{
	(void)state;
	listen_with((struct tr_nvml_options){ 0 });
	wait_for_cards(4);
	sim("device 2 answer=15");
	UNTIL(!is_healthy(2));
	assert_string_equal(ear.cards.at[2].reason, "it is lost: device: GPU is lost");
	/* NVML is opened anew meanwhile, and does not list it: it stays, and the others do well. */
	UNTIL(ear.cards.reason[0]);
	assert_int_equal(ear.cards.count, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(is_healthy(i), ear.cards.at[i].index != 2);
	sim("device 2 answer=0");
	UNTIL(ear.cards.reason[0] == '\0' && is_healthy(2) && is_healthy(3));
	assert_int_equal(ear.cards.count, 4);
	assert_int_equal(ear.cards.at[2].index, 2);
	hang_up();
}

static void F35_failing_calls(void **state)
{
	(void)state;
	listen_with((struct tr_nvml_options){ 0 });
	wait_for_cards(4);
	sim("fault nvmlDeviceGetTemperature=999");
	UNTIL(!is_healthy(0) && !is_healthy(1) && !is_healthy(2) && !is_healthy(3));
	assert_non_null(strstr(ear.cards.at[3].reason, "temperature: Unknown Error"));
	sim("fault --clear");
	UNTIL(is_healthy(0) && is_healthy(1) && is_healthy(2) && is_healthy(3));
	/* What a driver lacks is no failure. */
	sim("fault nvmlDeviceGetTemperature=3,nvmlDeviceGetPowerUsage=13,"
	    "nvmlDeviceGetTotalEnergyConsumption=3");
	run_ms(3500);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(is_healthy(i));
		assert_false(ear.use[i].has & TR_CARD_HAS_TEMPERATURE);
		assert_false(ear.use[i].has & TR_CARD_HAS_POWER);
		assert_false(ear.use[i].has & TR_CARD_HAS_ENERGY);
	}
	sim("fault --clear");
	hang_up();
}

static void F35_memory(void **state)
{
	(void)state;
	listen_with((struct tr_nvml_options){ 0 });
	wait_for_cards(4);
	sim("device 0 ecc-uncorrected=1");
	sim("device 1 row-failure=1");
	sim("device 2 recovery=1");
	UNTIL(!is_healthy(0) && !is_healthy(1) && !is_healthy(2));
	UNTIL(is_healthy(0));
	assert_non_null(strstr(ear.cards.at[1].reason, "could not be remapped"));
	assert_non_null(strstr(ear.cards.at[2].reason, "asks for a reset"));
	sim("device 0 ecc-uncorrected=0");
	sim("device 1 row-failure=0");
	sim("device 2 recovery=0");
	UNTIL(is_healthy(1) && is_healthy(2));
	hang_up();
}

static void test_instances(void **state)
{
	(void)state;
	sim("device 0 mig=3");
	listen_with((struct tr_nvml_options){ 0 });
	wait_for_cards(6);
	for (unsigned i = 0; i < 3; i++) {
		const struct tr_card *card = &ear.cards.at[i];

		assert_int_equal(strncmp(card->uuid, "MIG-", 4), 0);
		assert_string_equal(card->parent, ear.cards.at[0].parent);
		assert_string_equal(card->type, "NVIDIA A100-SXM4-80GB MIG 1g.10gb");
		assert_int_equal(card->split, 1);
		assert_int_equal(card->gpu_instance, i + 7);
		assert_int_equal(card->minor, 0);
		assert_true(card->total_bytes < UINT64_C(12) << 30);
	}
	assert_string_equal(ear.cards.at[3].parent, "");
	/* What happens to the GPU happens to each of them. */
	sim("device 0 xid=48");
	UNTIL(!is_healthy(0) && !is_healthy(1) && !is_healthy(2));
	assert_true(is_healthy(3));
	hang_up();
	sim("device 0 mig=0");
}

static void test_one_does_not_answer_at_start(void **state)
{
	(void)state;
	sim("device 0 answer=15");
	listen_with((struct tr_nvml_options){ 0 });
	wait_for_cards(3);
	assert_int_equal(ear.cards.at[0].index, 1);
	assert_string_equal(ear.cards.reason,
			    "1 of 4 GPUs did not answer when they were listed");
	sim("device 0 answer=0");
	UNTIL(ear.cards.count == 4);
	assert_string_equal(ear.cards.reason, "");
	hang_up();
}

static void test_all_are_filtered(void **state)
{
	struct tr_card_rules rules = TR_CARD_RULES_DEFAULT;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		rules.filter.indexes[rules.filter.index_count++] = i;
	listen_with((struct tr_nvml_options){ .rules = &rules });
	UNTIL(ear.calls > 0);
	assert_int_equal(ear.cards.count, 0);
	assert_non_null(strstr(ear.cards.reason, "left out by configuration"));
	hang_up();
}

static void test_no_library_yet(void **state)
{
	char path[96];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/late.so", machine);
	listen_with((struct tr_nvml_options){ .library = path });
	UNTIL(ear.calls > 0);
	assert_int_equal(ear.cards.count, 0);
	assert_non_null(strstr(ear.cards.reason, "no NVIDIA driver on this machine"));
	assert_int_equal(symlink(SIM_NVML, path), 0);
	wait_for_cards(4);
	assert_string_equal(ear.cards.reason, "");
	assert_int_equal(unlink(path), 0);
	hang_up();
}

static void test_driver_goes_and_comes(void **state)
{
	(void)state;
	sim("fault nvmlInit_v2=9");
	listen_with((struct tr_nvml_options){ 0 });
	UNTIL(ear.calls > 0);
	assert_int_equal(ear.cards.count, 0);
	assert_non_null(
		strstr(ear.cards.reason, "does not answer: NVML says Driver Not Loaded"));
	sim("fault --clear");
	wait_for_cards(4);
	/* It goes while there are cards: they stay and are ill. */
	sim("fault nvmlInit_v2=9,nvmlDevice*=1");
	UNTIL(!is_healthy(0) && !is_healthy(3) &&
	      strstr(ear.cards.reason, "Driver Not Loaded"));
	assert_int_equal(ear.cards.count, 4);
	sim("fault --clear");
	UNTIL(is_healthy(0) && is_healthy(3) && !ear.cards.reason[0]);
	hang_up();
}

/* Descriptors of this process below PATH. */
static unsigned open_below(const char *path)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		char link[64], target[300];
		ssize_t got;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%.20s", e->d_name);
		got = readlink(link, target, sizeof(target) - 1);
		if (got > 0 && strncmp(target, path, strlen(path)) == 0)
			n++;
	}
	(void)closedir(dir);
	return n;
}

static void test_keep_and_drop(void **state)
{
	struct tr_slice_dir dir;
	struct tr_page_device device = { .limit_bytes = UINT64_C(1) << 30 };
	struct tr_page_spec spec = { .serial = 1, .device_count = 1, .devices = &device };
	char name[40];
	unsigned before;

	(void)state;
	listen_with((struct tr_nvml_options){ 0 });
	wait_for_cards(4);
	(void)snprintf(name, sizeof(name), "cards-test-%d", (int)getpid());
	device.uuid = ear.cards.at[0].uuid;
	assert_int_equal(tr_slice_make(&dir, name, &spec, NULL, NULL), 0);
	before = open_below(dir.path);
	assert_int_equal(tr_nvml_keep(ear.nvml, dir.path), 0);
	UNTIL(open_below(dir.path) > before);
	/* Across a new start of NVML. */
	sim("device 3 answer=15");
	UNTIL(ear.cards.reason[0]);
	assert_true(open_below(dir.path) > before);
	sim("device 3 answer=0");
	UNTIL(!ear.cards.reason[0]);
	assert_true(open_below(dir.path) > before);
	assert_int_equal(tr_nvml_drop(ear.nvml, dir.path), 0);
	UNTIL(open_below(dir.path) == before);
	/* One that is not there is said, and harms nobody. */
	assert_int_equal(tr_nvml_keep(ear.nvml, "/nonexistent/slice"), 0);
	UNTIL(strstr(ear.sentence, "/nonexistent/slice"));
	assert_int_equal(tr_nvml_drop(ear.nvml, "/nonexistent/other"), 0);
	assert_int_equal(tr_nvml_keep(ear.nvml, ""), -EINVAL);
	hang_up();
	tr_slice_remove(&dir);
}

static void test_hang(void **state)
{
	struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, &ear.ticks);
	const struct timeval every = { 0, 10000 };

	(void)state;
	listen_with((struct tr_nvml_options){ .hang_ms = 900 });
	wait_for_cards(4);
	UNTIL(tr_nvml_keeper_late_ns(ear.nvml) > 0);
	sim("fault nvmlDeviceGetPowerUsage=hang");
	(void)event_add(tick, &every);
	UNTIL(!is_healthy(0) && !is_healthy(1) && !is_healthy(2) && !is_healthy(3));
	assert_string_equal(ear.cards.at[0].reason, "NVML does not answer");
	assert_true(tr_nvml_age_ms(ear.nvml) >= 800);
	/* Its turn is due 200 ms after the one before, at most, and does not come. */
	assert_true(tr_nvml_keeper_late_ns(ear.nvml) >= 600 * MS);
	/* The loop went on all the time, and orders do not wait. */
	assert_true(ear.ticks > 20);
	assert_int_equal(tr_nvml_keep(ear.nvml, "/nonexistent/slice"), 0);
	sim("fault --clear");
	UNTIL(tr_nvml_age_ms(ear.nvml) < 500 &&
	      tr_nvml_keeper_late_ns(ear.nvml) < 500 * MS && is_healthy(0) &&
	      is_healthy(1) && is_healthy(2) && is_healthy(3));
	hang_up();
	event_free(tick);
}

/* Ends although NVML never answers; what it left behind does not call back. */
static void test_close_while_it_hangs(void **state)
{
	uint64_t begin;

	(void)state;
	listen_with((struct tr_nvml_options){ 0 });
	wait_for_cards(4);
	sim("fault nvmlDeviceGetPowerUsage=hang");
	run_ms(1500);
	begin = tr_clock_ns();
	assert_int_equal(tr_nvml_close(ear.nvml, 200), -EBUSY);
	assert_in_range((tr_clock_ns() - begin) / MS, 150, 2000);
	ear.nvml = NULL;
	sim("fault --clear");
	run_ms(1000);
	assert_false(ear.was_called_after_close);
}

/* A library with ten functions: cards all the same, and health as far as it can be seen. */
static void test_bare_library(void **state)
{
	(void)state;
	listen_with((struct tr_nvml_options){ .library = BARE_NVML, .with_scores = true });
	wait_for_cards(4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(ear.cards.at[i].minor, -1);
		assert_int_equal(ear.use[i].has, TR_CARD_HAS_MEMORY);
		assert_true(is_healthy(i));
	}
	assert_null(tr_nvml_scores(ear.nvml));
	assert_non_null(strstr(ear.sentence, "how near"));
	sim("device 1 answer=15");
	UNTIL(!is_healthy(1));
	sim("device 1 answer=0");
	UNTIL(is_healthy(1));
	hang_up();
}

/* A driver of years ago: what it lacks is not told, the rest is as ever. */
static void test_older_driver(void **state)
{
	(void)state;
	listen_with((struct tr_nvml_options){ .with_scores = true });
	wait_for_cards(2);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(is_healthy(i));
		assert_true(ear.use[i].has & TR_CARD_HAS_MEMORY);
		assert_true(ear.use[i].has & TR_CARD_HAS_TEMPERATURE);
	}
	run_ms(2500);
	assert_true(is_healthy(0) && is_healthy(1));
	assert_string_equal(ear.sentence, "");
	hang_up();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest older[] = { cmocka_unit_test_setup_teardown(
		test_older_driver, new_loop, free_loop) };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_there, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(F35_xid, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(F35_lost, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(F35_failing_calls, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(F35_memory, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(test_instances, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(test_one_does_not_answer_at_start, new_loop,
						free_loop),
		cmocka_unit_test_setup_teardown(test_all_are_filtered, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(test_no_library_yet, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(test_driver_goes_and_comes, new_loop,
						free_loop),
		cmocka_unit_test_setup_teardown(test_keep_and_drop, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(test_bare_library, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(test_hang, new_loop, free_loop),
		cmocka_unit_test_setup_teardown(test_close_while_it_hangs, new_loop,
						free_loop),
	};
	bool is_older = argc > 1 && strcmp(argv[1], "older") == 0;
	int failed;

	/* Stays loaded, so that what is its own can be told from what is ours. */
	(void)dlopen(SIM_NVML, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (start_machine(is_older ? "gpus=2xt4 driver=10.2" : "gpus=3xa100-80,t4 numa=2"))
		return 1;
	failed = is_older ? cmocka_run_group_tests_name("older driver", older, NULL, NULL)
			  : cmocka_run_group_tests_name("nvml", tests, NULL, NULL);
	return failed;
}
