/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "bed.h"
#include "slice/page.h"
#include "slice/seat.h"
#include "tr_test.h"

static void F34_each_its_own(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two);

	(void)state;
	bed_admit(pod);
	bed_assert_closed(pod->at[0].alloc);
	bed_assert_closed(pod->at[1].alloc);
	assert_int_equal(bed.events[TR_ARM_MADE], 2);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_all_armed(pod); /* F34: each its own */
	assert_int_equal(bed.events[TR_ARM_ARMED], 2);
	assert_int_equal(bed_arm(pod, 1), 0);
	assert_int_equal(bed.events[TR_ARM_ARMED], 2);
}

/* Whichever of them starts first. */
static void all_kinds(void **state)
{
	char name[] = "p0";

	(void)state;
	for (size_t first = 0; first < 5; first++) {
		struct scene_pod *pod;

		name[1] = (char)('0' + first);
		pod = scene_three_kinds(name);
		bed_admit(pod);
		if (!pod->at[first].wanted)
			continue;
		assert_int_equal(bed_arm(pod, first), 0);
		bed_assert_all_armed(pod);
	}
}

/* What the pod says later does not count. */
static void armed_once(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);

	(void)state;
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	pod->decision = "GPU-00000002-0000-0000-0000-000000000000,NVIDIA,16000,0:;";
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_armed(pod, 0);
	bed_stop();
	bed_start();
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_armed(pod, 0);
	/* Even when the kubelet has forgotten, and allocates again. */
	pod->at[0].ids[0] = scene.ids[7];
	bed_allocate(&(struct tr_ids){ pod->at[0].ids, 1 }, pod->at[0].alloc, NULL);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_armed(pod, 0);
	bed_sweep(0);
	assert_int_equal(bed_sweep(5000), 1);
	assert_int_equal(tr_arm_book(bed.arm)->count, 1);
}

/* A store that lags behind shows the pod of the same name that was before. */
static void stale_pod(void **state)
{
	struct scene_pod *old = scene_pod("web-0", scene_one), *pod;
	struct tr_ids ids;
	int r;

	(void)state;
	bed_admit(old);
	assert_int_equal(bed_arm(old, 0), 0);
	old->is_admitted = false;
	pod = scene_pod("web-0", (const unsigned[]){ 6000, 0 });
	strcat(pod->uid, "-b");
	bed_admit(pod);
	ids = scene_ids(&pod->at[0]);
	r = tr_arm_pod(bed.arm, scene_rows(), scene_object(old), &ids, false, &bed.err);
	assert_int_equal(r, -ESTALE);
	bed_assert_closed(pod->at[0].alloc);
	old->is_deleting = true;
	r = tr_arm_pod(bed.arm, &scene.rows, scene_object(old), &ids, true, &bed.err);
	assert_int_equal(r, -EAGAIN);
	bed_assert_closed(pod->at[0].alloc);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_armed(pod, 0);
}

/* ---- refusals leave everything closed ---- */

static void refuse(struct scene_pod *pod, int r, const char *sentence)
{
	assert_int_equal(bed_arm(pod, 0), r);
	if (!strstr(bed.err.msg, sentence))
		fail_msg("%s", bed.err.msg);
	for (size_t i = 0; i < pod->count; i++)
		bed_assert_closed(pod->at[i].alloc);
}

static void refusals(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two),
			 *full = scene_pod("q", scene_two);

	(void)state;
	bed_admit(pod);
	bed_admit(full);
	pod->decision = "";
	refuse(pod, -ENOENT, "no GPU scheduler has decided on pod default/p");
	pod->decision = "x";
	refuse(pod, -EBADMSG, "the scheduler's decision on pod default/p");
	pod->decision = NULL;
	scene.cards.at[0].is_healthy = false;
	tr_arm_set_cards(bed.arm, &scene.cards);
	refuse(pod, -EBADMSG, "unhealthy");
	scene.cards.at[0].is_healthy = true;
	scene.cards.count = 0;
	tr_arm_set_cards(bed.arm, &scene.cards);
	scene.cards.count = 2;
	refuse(pod, -EBADMSG, "not on this node");
	tr_arm_set_cards(bed.arm, &scene.cards);
	tr_arm_block(bed.arm, "the library does not load");
	refuse(pod, -EPERM, "the library does not load");
	assert_int_equal(bed_allocate(&(struct tr_ids){ pod->at[0].ids, 1 },
				      full->at[1].alloc, NULL),
			 -EPERM);
	tr_arm_block(bed.arm, "");
	pod->phase = "Failed";
	refuse(pod, -EAGAIN, "is ending");
	pod->phase = "Pending";
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_all_armed(pod);
}

static void other_node(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);

	(void)state;
	bed_stop();
	bed.options.node_name = "node-2";
	bed_start();
	bed_admit(pod);
	refuse(pod, -EAGAIN, "pod default/p is not bound to this node");
}

/* Whoever scheduled it. */
static void no_room(void **state)
{
	struct scene_pod *a = scene_pod("a", (const unsigned[]){ 9000, 0 }),
			 *b = scene_pod("b", (const unsigned[]){ 4000, 4000, 0 });

	(void)state;
	bed_admit(a);
	bed_admit(b);
	assert_int_equal(bed_arm(a, 0), 0);
	refuse(b, -ENOSPC, "pod default/b: card GPU-00000001-");
	scene_forget(a);
	assert_int_equal(tr_arm_sweep(bed.arm, scene_rows(), NULL, 0, 1000), 0);
	assert_int_equal(tr_arm_sweep(bed.arm, scene_rows(), NULL, 0, 7000), 1);
	assert_int_equal(bed_arm(b, 1), 0);
	bed_assert_all_armed(b);
}

static void never_allocated(void **state)
{
	struct tr_ids ids = { (const char *const[]){ "GPU-x-1" }, 1 };

	(void)state;
	assert_int_equal(tr_arm_rearm(bed.arm, &ids, &bed.err), -ENOENT);
	assert_non_null(strstr(bed.err.msg, "GPU-x-1"));
}

static void bad_requests(void **state)
{
	const char *ids[17];
	struct tr_alloc *alloc;

	(void)state;
	for (int i = 0; i < 17; i++)
		ids[i] = scene.ids[i];
	assert_int_equal(tr_arm_make(bed.arm, &(struct tr_ids){ ids, 0 }, &alloc, &bed.err),
			 -EINVAL);
	assert_int_equal(
		tr_arm_make(bed.arm, &(struct tr_ids){ ids, 17 }, &alloc, &bed.err),
		-EINVAL);
	assert_int_equal(bed_count(bed.slices), 0);
	assert_int_equal(bed_count(bed.records), 0);
}

/* The CDI file cannot be written: refused; asked again, it can. */
static void inject_fails(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two);

	(void)state;
	bed_admit(pod);
	bed.inject_fails = 2;
	assert_int_equal(bed_arm(pod, 0), -ENOSPC);
	assert_non_null(strstr(bed.err.msg, "container a of pod default/p: no room for"));
	assert_int_equal(bed_arm(pod, 0), -ENOSPC);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_armed(pod, 0);
	assert_int_equal(bed_arm(pod, 1), 0);
	bed_assert_armed(pod, 1);
}

/* The tmpfs is full: refused, and nothing is left. */
static void no_space(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);
	struct rlimit all, little;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &all), 0);
	for (unsigned kib = 0; kib < 1000; kib += 40) {
		little = (struct rlimit){ (rlim_t)kib << 10, all.rlim_max };
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
		pod->at[0].ids[0] = scene.ids[0];
		if (bed_allocate(&(struct tr_ids){ pod->at[0].ids, 1 }, pod->at[0].alloc,
				 NULL) == 0)
			break;
		assert_int_equal(tr_arm_book(bed.arm)->count, 0);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
		assert_int_equal(bed_count(bed.slices), 0);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
	assert_in_range(little.rlim_cur, 100 << 10, 900 << 10);
	bed_assert_closed(pod->at[0].alloc);
}

/* The driver did not answer when the agent started; it does when the container does. */
static void cards_come_later(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);
	struct tr_cards none = { 0 };
	char command[240], path[200];
	struct tr_page page;

	(void)state;
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_stop();
	snprintf(command, sizeof(command), "rm -rf %s/run %s/*", bed.dir, bed.injected);
	assert_int_equal(system(command), 0);
	assert_int_equal(tr_arm_open(NULL, NULL, &bed.options, &none, &bed.arm, &bed.err),
			 0);
	snprintf(path, sizeof(path), "%s/%s/ro/policy", bed.slices, pod->at[0].alloc);
	assert_int_equal(tr_page_open(&page, path, NULL), 0);
	assert_int_equal(page.map->devices[0].total_bytes, 0);
	tr_page_close(&page);
	tr_arm_set_cards(bed.arm, &scene.cards);
	assert_int_equal(bed_arm(pod, 0), 0);
	assert_int_equal(tr_page_open(&page, path, NULL), 0);
	assert_int_equal(page.map->devices[0].total_bytes, scene.cards.at[0].total_bytes);
	tr_page_close(&page);
	bed_assert_armed(pod, 0);
}

/* ---- starts of the agent ---- */

static void restarts(void **state)
{
	struct scene_pod *armed = scene_three_kinds("p"),
			 *waiting = scene_pod("q", scene_two);

	(void)state;
	bed_admit(armed);
	bed_admit(waiting);
	assert_int_equal(bed_arm(armed, 3), 0);
	bed_stop();
	bed_start();
	assert_int_equal(bed.events[TR_ARM_ARMED], 4);
	bed_assert_all_armed(armed);
	bed_assert_closed(waiting->at[0].alloc);
	assert_int_equal(bed_arm(waiting, 1), 0);
	bed_assert_all_armed(waiting);
}

static void put_boot(const char *text)
{
	FILE *file = fopen(bed.boot, "w");

	fputs(text, file);
	fclose(file);
}

/* tmpfs and /var/run are empty, the kubelet starts the same containers without Allocate. */
static void reboots(void **state)
{
	struct scene_pod *armed = scene_three_kinds("p"),
			 *waiting = scene_pod("q", scene_two);
	char command[240];

	(void)state;
	bed_admit(armed);
	bed_admit(waiting);
	assert_int_equal(bed_arm(armed, 3), 0);
	bed_stop();
	snprintf(command, sizeof(command), "rm -rf %s/run %s/*", bed.dir, bed.injected);
	assert_int_equal(system(command), 0);
	put_boot("boot-2");
	bed_start();
	bed_assert_all_armed(armed);
	assert_int_equal(bed_arm(armed, 0), 0);
	bed_assert_closed(waiting->at[1].alloc);
	assert_int_equal(bed_arm(waiting, 0), 0);
	bed_assert_all_armed(waiting);
}

/* What nobody's record knows goes; what another version wrote stays. */
static void leftovers(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);
	char path[200];
	FILE *file;

	(void)state;
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_stop();
	snprintf(path, sizeof(path), "%s/s00000000000000aa", bed.slices);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/s00000000000000bb", bed.slices);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/s00000000000000cc", bed.injected);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(rmdir(path), 0);
	file = fopen(path, "w");
	fclose(file);
	snprintf(path, sizeof(path), "%s/s00000000000000bb.json", bed.records);
	file = fopen(path, "w");
	fputs("{\"version\":2,\"other\":true}", file);
	fclose(file);
	snprintf(path, sizeof(path), "%s/s00000000000000dd.json", bed.records);
	file = fopen(path, "w");
	fputs("{", file);
	fclose(file);
	bed_start();
	assert_int_equal(bed.events[TR_ARM_ODD], 2);
	tr_arm_settle(bed.arm);
	assert_false(bed_exists("%s/s00000000000000aa", bed.slices));
	assert_true(bed_exists("%s/s00000000000000bb", bed.slices));
	assert_true(bed_exists("%s/s00000000000000bb.json", bed.records));
	assert_false(bed_exists("%s/s00000000000000cc", bed.injected));
	assert_false(bed_exists("%s/s00000000000000dd.json", bed.records));
	bed_assert_armed(pod, 0);
}

/* A tenant's own doings in the part that it can write. */
static void tenants_files(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);
	char command[600];

	(void)state;
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_stop();
	snprintf(command, sizeof(command),
		 "cd %s/%s/rw && rm state && mkdir -p state/a && ln -s /etc link && "
		 "mkfifo fifo && d=.; for i in $(seq 60); do d=$d/d; done; mkdir -p $d && "
		 "touch $d/f && touch %s/keep && ln -s %s/keep other",
		 bed.slices, pod->at[0].alloc, bed.dir, bed.dir);
	assert_int_equal(system(command), 0);
	bed_start();
	bed_assert_armed(pod, 0);
	scene_forget(pod);
	tr_arm_sweep(bed.arm, scene_rows(), NULL, 0, 1000);
	assert_int_equal(tr_arm_sweep(bed.arm, scene_rows(), NULL, 0, 7000), 1);
	assert_int_equal(bed_count(bed.slices), 0);
	assert_true(bed_exists("%s/keep", bed.dir));
	assert_true(bed_exists("/etc/passwd"));
}

/* ---- whatever comes and goes ---- */

static void check_everything(void)
{
	unsigned allocs = 0;

	for (size_t p = 0; p < scene.pod_count; p++)
		for (size_t c = 0; scene.pods[p].is_admitted && c < scene.pods[p].count;
		     c++) {
			struct scene_container *container = &scene.pods[p].at[c];
			struct tr_alloc *alloc;

			if (!container->wanted)
				continue;
			alloc = bed_alloc(container);
			assert_non_null(alloc);
			allocs++;
			if (alloc->state == TR_ALLOC_ARMED)
				bed_assert_armed(&scene.pods[p], c);
			else
				bed_assert_closed(container->alloc);
		}
	assert_true(tr_arm_book(bed.arm)->count >= allocs);
	assert_int_equal(bed_count(bed.slices), tr_arm_book(bed.arm)->count);
	assert_int_equal(bed_count(bed.records), tr_arm_book(bed.arm)->count);
}

static void come_and_go(void **state)
{
	int64_t now = 0;

	(void)state;
	scene_cards(2, UINT64_C(1) << 40);
	scene.id_count = 100;
	tr_arm_set_cards(bed.arm, &scene.cards);
	for (unsigned round = 0; round < 600; round++) {
		struct scene_pod *pod =
			scene.pod_count
				? &scene.pods[scene_random((unsigned)scene.pod_count)]
				: NULL;
		unsigned what = scene_random(8);
		char name[16];

		if (what == 0) {
			bed_stop();
			bed_start();
		} else if (what == 1) {
			bed_sweep(now += 10000);
		} else if (what <= 3 && pod && pod->is_admitted) {
			size_t at = scene_random((unsigned)pod->count);

			if (pod->at[at].wanted) {
				assert_int_equal(bed_arm(pod, at), 0);
				bed_assert_all_armed(pod);
			}
		} else if (what == 4 && pod && pod->is_admitted) {
			scene_forget(pod);
		} else if (scene.pod_count < 12 || (pod && !pod->name[0])) {
			snprintf(name, sizeof(name), "pod-%u", round);
			pod = scene_pod_new(name);
			for (unsigned i = scene_random(3); i--;)
				scene_add(pod, i ? "i1" : "i0",
					  scene_random(2) ? TR_CONTAINER_INIT
							  : TR_CONTAINER_SIDECAR,
					  scene_random(3), 1 + scene_random(900));
			scene_add(pod, "a", TR_CONTAINER_APP, 1 + scene_random(2),
				  1 + scene_random(900));
			scene_add(pod, "b", TR_CONTAINER_APP, scene_random(3),
				  1 + scene_random(900))
				->card = scene_random(2);
			bed_admit(pod);
		}
		check_everything();
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_open, bed_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(F34_each_its_own), TEST(all_kinds),       TEST(armed_once),
		TEST(stale_pod),        TEST(refusals),        TEST(other_node),
		TEST(no_room),          TEST(never_allocated), TEST(bad_requests),
		TEST(inject_fails),     TEST(no_space),        TEST(cards_come_later),
		TEST(restarts),         TEST(reboots),         TEST(leftovers),
		TEST(tenants_files),    TEST(come_and_go),
	};

	return cmocka_run_group_tests_name("arm", tests, NULL, NULL);
}
