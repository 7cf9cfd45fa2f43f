/* SPDX-License-Identifier: Apache-2.0 */
/* Slices that are taken away, and those that get other limits. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bed.h"
#include "deviceplugin/arm/inside.h"
#include "slice/page.h"
#include "slice/seat.h"
#include "tr_test.h"

/* ---- taking away ---- */

static void two_looks(void **state)
{
	struct scene_pod *pod = scene_three_kinds("p"), *stays = scene_pod("q", scene_two);
	struct tr_pod_list empty = { 0 };
	const struct tr_pod *pods[2];

	(void)state;
	bed_admit(pod);
	bed_admit(stays);
	assert_int_equal(bed_arm(pod, 0), 0);
	assert_int_equal(bed_arm(stays, 0), 0);
	pods[0] = scene_object(pod);
	pods[1] = scene_object(stays);
	/* A kubelet that has just started lists nothing. */
	for (int64_t now = 0; now < 100000; now += 3000)
		assert_int_equal(tr_arm_sweep(bed.arm, &empty, pods, 2, now), 0);
	/* An API server that has lost it does not suffice either. */
	for (int64_t now = 0; now < 100000; now += 3000)
		assert_int_equal(tr_arm_sweep(bed.arm, scene_rows(), NULL, 0, now), 0);
	scene_forget(pod);
	assert_int_equal(bed_sweep(200000), 0);
	assert_int_equal(bed_sweep(201000), 0);
	stays->phase = "Running";
	assert_int_equal(bed_sweep(206000), 4);
	assert_int_equal(tr_arm_book(bed.arm)->count, 2);
	assert_int_equal(bed_count(bed.slices), 2);
	assert_int_equal(bed_count(bed.records), 2);
	assert_int_equal(bed_count(bed.injected), 2);
	stays->phase = "Succeeded";
	stays->is_admitted = false;
	bed_sweep(300000);
	assert_int_equal(bed_sweep(306000), 2);
	assert_int_equal(bed.events[TR_ARM_REMOVED], 6);
	assert_int_equal(bed_count(bed.records), 0);
}

/* A disk without room, or what is as good: told once, tried at each look. */
static void no_disk(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);
	char path[200];

	(void)state;
	bed_admit(pod);
	tr_arm_settle(bed.arm);
	snprintf(path, sizeof(path), "%s/%s.json.new", bed.records, pod->at[0].alloc);
	for (unsigned times = 1; times <= 2; times++) {
		assert_int_equal(mkdir(path, 0700), 0);
		assert_int_equal(tr_arm_record(bed.arm, bed_alloc(&pod->at[0]), NULL), 0);
		for (int64_t i = 0; i < 4; i++) {
			tr_arm_settle(bed.arm);
			bed_sweep(1000 + i);
		}
		assert_int_equal(bed.events[TR_ARM_ODD], times);
		assert_non_null(strstr(bed.odd, "records cannot be written"));
		tr_arm_settle(bed.arm);
		assert_int_equal(rmdir(path), 0);
		for (int64_t i = 0; i < 2; i++) {
			bed_sweep(2000 + i);
			tr_arm_settle(bed.arm);
		}
		bed_sweep(2010);
		assert_true(bed_exists("%s/%s.json", bed.records, pod->at[0].alloc));
	}
}

/* Somebody took state_dir away: it is there again, with all that is in the book, whether there is news or not. */
static void records_dir_gone(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two),
			 *news = scene_pod("q", scene_one);
	char command[120];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s/state", bed.dir);
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	for (unsigned times = 0; times < 2; times++) {
		tr_arm_settle(bed.arm);
		assert_int_equal(system(command), 0);
		if (times) {
			bed_admit(news);
			tr_arm_settle(bed.arm);
		}
		for (int64_t i = 0; i < 3; i++) {
			bed_sweep(1000 + i);
			tr_arm_settle(bed.arm);
		}
		assert_int_equal(bed_count(bed.records), 2 + times);
		assert_int_equal(bed.events[TR_ARM_ODD], 1 + times);
	}
	bed_stop();
	bed_start();
	bed_assert_all_armed(pod);
	bed_assert_closed(news->at[0].alloc);
}

/* A look that disagrees begins anew. */
static void looks_agree(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);

	(void)state;
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	pod->is_admitted = false;
	pod->phase = "Failed";
	assert_int_equal(bed_sweep(0), 0);
	pod->phase = "Running";
	assert_int_equal(bed_sweep(6000), 0);
	pod->phase = "Failed";
	assert_int_equal(bed_sweep(12000), 0);
	assert_int_equal(bed_sweep(16000), 0);
	assert_int_equal(bed_sweep(18000), 1);
}

static void take_seat(struct tr_seat *seat, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s/rw/state", bed.slices, name);
	assert_int_equal(tr_seat_take(seat, path, 0, NULL), 0);
}

static void held(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);
	struct tr_seat seat = { 0 };

	(void)state;
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	take_seat(&seat, pod->at[0].alloc);
	scene_forget(pod);
	for (int64_t now = 0; now < 60000; now += 6000)
		assert_int_equal(bed_sweep(now), 0);
	bed_stop();
	bed_start();
	tr_seat_leave(&seat);
	bed_sweep(70000);
	assert_int_equal(bed_sweep(76000), 1);
}

/* The kubelet has lost what it knew of the pod's first container, gives it ID, and starts it. NAME gets the slice
 * that it had. */
static void allocate_again(struct scene_pod *pod, size_t id, char name[TR_ALLOC_NAME])
{
	memcpy(name, pod->at[0].alloc, TR_ALLOC_NAME);
	pod->at[0].ids[0] = scene.ids[id];
	bed_allocate(&(struct tr_ids){ pod->at[0].ids, 1 }, pod->at[0].alloc, NULL);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_armed(pod, 0);
}

/* Whoever sits in the slice that its container had goes on there, and it is nobody else's. */
static void retired(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 9000, 0 }),
			 *other = scene_pod("q", (const unsigned[]){ 7000, 0 });
	char first[TR_ALLOC_NAME], second[TR_ALLOC_NAME];
	struct tr_seat seat = { 0 };
	struct tr_alloc_part part;

	(void)state;
	bed_admit(pod);
	bed_admit(other);
	assert_int_equal(bed_arm(pod, 0), 0);
	take_seat(&seat, pod->at[0].alloc);
	allocate_again(pod, 7, first);
	allocate_again(pod, 7, second); /* the same ids: the newest one's */
	bed_sweep(0);
	assert_int_equal(bed_sweep(4000), 0);
	assert_int_equal(bed_sweep(5000), 1); /* the second, where nobody is */
	assert_null(tr_book_find(tr_arm_book(bed.arm), second));
	for (int64_t now = 10000; now < 60000; now += 5000)
		assert_int_equal(bed_sweep(now), 0);
	assert_true(bed_exists("%s/%s/rw/state", bed.slices, first));
	/* What its processes have of the card is not there for others. */
	assert_int_equal(bed_arm(other, 0), -ENOSPC);
	bed_stop();
	bed_start();
	assert_int_equal(bed_arm(other, 0), -ENOSPC);
	assert_string_equal(tr_book_of(tr_arm_book(bed.arm), pod->uid, "a")->name,
			    pod->at[0].alloc);
	part = bed_alloc(&pod->at[0])->parts[0];
	assert_int_equal(tr_arm_resize(bed.arm, tr_book_find(tr_arm_book(bed.arm), first),
				       &part, 1, 0, &bed.err),
			 -EINVAL);
	assert_int_equal(bed_sweep(70000), 0);
	tr_seat_leave(&seat);
	assert_int_equal(bed_sweep(76000), 1);
	assert_false(bed_exists("%s/%s", bed.slices, first));
	bed_assert_armed(pod, 0);
	assert_int_equal(bed_arm(other, 0), 0);
}

/* Without anybody in it, its room is there at once. */
static void retired_empty(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 9000, 0 }),
			 *other = scene_pod("q", (const unsigned[]){ 7000, 0 });
	char before[TR_ALLOC_NAME];

	(void)state;
	bed_admit(pod);
	bed_admit(other);
	assert_int_equal(bed_arm(pod, 0), 0);
	allocate_again(pod, 7, before);
	bed_stop();
	bed_start();
	assert_int_equal(tr_arm_book(bed.arm)->count, 3);
	assert_int_equal(bed_arm(other, 0), 0);
	bed_sweep(0);
	assert_int_equal(bed_sweep(5000), 1);
	assert_null(tr_book_find(tr_arm_book(bed.arm), before));
	bed_assert_armed(pod, 0);
}

/* Without a record nobody knows whose it is; but somebody computes under its limits. */
static void held_at_the_start(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);
	const char *name = pod->at[0].alloc;
	struct tr_seat seat = { 0 };
	char path[200];

	(void)state;
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_stop();
	snprintf(path, sizeof(path), "%s/%s.json", bed.records, name);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/%s/record.json", bed.slices, name);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/%s/rw/state", bed.slices, name);
	assert_int_equal(tr_seat_take(&seat, path, 0, NULL), 0);
	bed_start();
	tr_arm_settle(bed.arm);
	assert_true(bed_exists("%s/%s/ro/policy", bed.slices, name));
	bed_stop();
	tr_seat_leave(&seat);
	bed_start();
	tr_arm_settle(bed.arm);
	assert_false(bed_exists("%s/%s", bed.slices, name));
}

/* Its pod has not started yet, or never will. */
static void waiting_ones(void **state)
{
	struct scene_pod *pulls = scene_pod_new("pulls"),
			 *failed = scene_pod("failed", scene_one);
	int64_t now;

	(void)state;
	scene_add(pulls, "init", TR_CONTAINER_INIT, 1, 100); /* listed nowhere */
	bed_admit(pulls);
	bed_admit(failed);
	scene_forget(failed);
	for (now = 0; now < 59000; now += 5000)
		assert_int_equal(bed_sweep(now), 0);
	scene_pod("later", (const unsigned[]){ 1, 2, 3, 0 })->at[0].wanted = 2;
	/* A pod that may own it is there. */
	for (; now < 200000; now += 5000)
		assert_int_equal(bed_sweep(now), 0);
	bed_stop();
	bed_start();
	assert_int_equal(tr_arm_book(bed.arm)->count, 2);
	for (size_t i = 0; i < scene.pod_count; i++)
		scene_forget(&scene.pods[i]);
	bed_sweep(now);
	assert_int_equal(bed_sweep(now + 59000), 0);
	assert_int_equal(bed_sweep(now + 60000), 2);
}

/* A pod that waits for its decision, its image, or for ever has its own by then: it keeps no other's. */
static void served(void **state)
{
	struct scene_pod *stuck = scene_pod_new("stuck"), *failed;
	int64_t now;

	(void)state;
	scene_add(stuck, "init", TR_CONTAINER_INIT, 1, 100);
	scene_add(stuck, "app", TR_CONTAINER_APP, 1, 200);
	bed_admit(stuck);
	for (unsigned i = 0; i < 3; i++) {
		failed = scene_pod("failed", scene_one);
		bed_admit(failed);
		scene_forget(failed);
	}
	for (now = 0; now < 60000; now += 5000)
		assert_int_equal(bed_sweep(now), 0);
	assert_int_equal(bed_sweep(now), 3);
	for (; now < 200000; now += 5000)
		assert_int_equal(bed_sweep(now), 0);
	for (size_t i = 0; i < stuck->count; i++)
		assert_non_null(tr_book_find(tr_arm_book(bed.arm), stuck->at[i].alloc));
}

/* The kubelet gave its ids to another pod. */
static void superseded(void **state)
{
	struct scene_pod *old = scene_pod("web-0", scene_one), *pod;
	char before[TR_ALLOC_NAME];

	(void)state;
	scene.id_count = 1;
	bed_admit(old);
	assert_int_equal(bed_arm(old, 0), 0);
	memcpy(before, old->at[0].alloc, TR_ALLOC_NAME);
	scene_forget(old);
	pod = scene_pod("web-0", (const unsigned[]){ 2000, 0 });
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_armed(pod, 0);
	bed_sweep(0);
	assert_int_equal(bed_sweep(5000), 1);
	assert_null(tr_book_find(tr_arm_book(bed.arm), before));
	bed_assert_armed(pod, 0);
}

/* Its sandbox may die: the init container runs again, with what it had. */
static void init_runs_again(void **state)
{
	struct scene_pod *pod = scene_pod_new("p"),
			 *next = scene_pod("q", (const unsigned[]){ 9000, 0 });
	struct tr_room taken;

	(void)state;
	scene_add(pod, "init", TR_CONTAINER_INIT, 1, 16000);
	scene_add(pod, "app", TR_CONTAINER_APP, 1, 4000);
	bed_admit(pod);
	bed_admit(next);
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_sweep(0);
	assert_int_equal(bed_arm(next, 0), -ENOSPC);
	pod->phase = "Running";
	bed_sweep(1000);
	assert_int_equal(bed_arm(next, 0), -ENOSPC);
	assert_int_equal(bed_arm(pod, 0), 0);
	tr_room_taken(tr_arm_book(bed.arm), scene_uuid(0), &taken);
	assert_int_equal(taken.bytes, UINT64_C(16000) << 20);
	scene_forget(pod);
	bed_sweep(2000);
	bed_sweep(8000);
	assert_int_equal(bed_arm(next, 0), 0);
}

/* ---- other limits ---- */

static void resize(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two);
	struct tr_alloc_part part;
	struct tr_alloc *alloc;

	(void)state;
	bed_admit(pod);
	alloc = bed_alloc(&pod->at[0]);
	assert_int_equal(tr_arm_resize(bed.arm, alloc, &part, 1, 0, &bed.err), -EINVAL);
	assert_int_equal(bed_arm(pod, 0), 0);
	part = alloc->parts[0];
	part.limit_bytes = UINT64_C(1000) << 20;
	part.cores = 20;
	assert_int_equal(tr_arm_resize(bed.arm, alloc, &part, 1, 7, &bed.err), 0);
	assert_int_equal(bed.events[TR_ARM_CHANGED], 1);
	pod->at[0].mib = 1000;
	pod->at[0].cores = 20;
	bed_assert_all_armed(pod);
	bed_stop();
	bed_start();
	bed_assert_all_armed(pod);
	alloc = bed_alloc(&pod->at[0]);
	assert_int_equal(alloc->grant_serial, 7);
	part.limit_bytes = UINT64_C(12000) << 20;
	assert_int_equal(tr_arm_resize(bed.arm, alloc, &part, 1, 8, &bed.err), -ENOSPC);
	part.limit_bytes = UINT64_C(11000) << 20;
	assert_int_equal(tr_arm_resize(bed.arm, alloc, &part, 1, 7, &bed.err), -ESTALE);
	assert_int_equal(tr_arm_resize(bed.arm, alloc, &part, 1, 0, &bed.err), 0);
	strcpy(part.uuid, scene_uuid(1));
	assert_int_equal(tr_arm_resize(bed.arm, alloc, &part, 1, 0, &bed.err), -EINVAL);
	assert_int_equal(tr_arm_resize(bed.arm, alloc, &part, 0, 0, &bed.err), -EINVAL);
	pod->at[0].mib = 11000;
	bed_assert_all_armed(pod);
}

/* A running program sees it in the page that it has mapped. */
static void resize_is_seen(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_one);
	struct tr_alloc_part part;
	struct tr_page page;
	char path[200];

	(void)state;
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
	snprintf(path, sizeof(path), "%s/%s/ro/policy", bed.slices, pod->at[0].alloc);
	assert_int_equal(tr_page_open(&page, path, NULL), 0);
	part = bed_alloc(&pod->at[0])->parts[0];
	part.limit_bytes = 5 << 20;
	assert_int_equal(
		tr_arm_resize(bed.arm, bed_alloc(&pod->at[0]), &part, 1, 0, &bed.err), 0);
	assert_int_equal(page.map->devices[0].limit_bytes, 5 << 20);
	bed_stop();
	bed_start(); /* the page is the same one */
	part.limit_bytes = 6 << 20;
	assert_int_equal(
		tr_arm_resize(bed.arm, bed_alloc(&pod->at[0]), &part, 1, 0, &bed.err), 0);
	assert_int_equal(page.map->devices[0].limit_bytes, 6 << 20);
	tr_page_close(&page);
}

#define G0 "GPU-00000001-0000-0000-0000-000000000000"

static int grant(struct scene_pod *pod, const char *uid, unsigned serial, unsigned a,
		 unsigned b)
{
	char text[300];

	snprintf(text, sizeof(text), "v1 %s %u " G0 ",NVIDIA,%u,0:;" G0 ",NVIDIA,%u,10:;",
		 uid, serial, a, b);
	return tr_arm_grant(bed.arm, scene_object(pod), text, &bed.err);
}

static void grants(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two);
	struct tr_alloc_part part;

	(void)state;
	bed_admit(pod);
	assert_int_equal(grant(pod, pod->uid, 1, 4000, 4000), 0); /* of nobody yet */
	assert_int_equal(bed_arm(pod, 0), 0);
	assert_int_equal(grant(pod, pod->uid, 5, 4000, 4000), 1);
	pod->at[0].mib = pod->at[1].mib = 4000;
	pod->at[1].cores = 10;
	bed_assert_all_armed(pod);
	assert_int_equal(grant(pod, pod->uid, 5, 1, 1), 0); /* the same one */
	assert_int_equal(grant(pod, pod->uid, 4, 1, 1), 0); /* an old one */
	assert_int_equal(grant(pod, "another", 6, 1, 1), -EBADMSG);
	assert_int_equal(grant(pod, pod->uid, 6, 16000, 16000), -ENOSPC);
	bed_assert_all_armed(pod);
	/* One that says what is so already counts, also after root has set something else, and a restart. */
	assert_int_equal(grant(pod, pod->uid, 8, 4000, 4000), 0);
	part = bed_alloc(&pod->at[0])->parts[0];
	part.limit_bytes = UINT64_C(5000) << 20;
	pod->at[0].mib = 5000;
	assert_int_equal(
		tr_arm_resize(bed.arm, bed_alloc(&pod->at[0]), &part, 1, 0, &bed.err), 0);
	bed_stop();
	bed_start();
	for (unsigned serial = 6; serial <= 8; serial++)
		assert_int_equal(grant(pod, pod->uid, serial, 1, 1), 0);
	bed_assert_all_armed(pod);
	assert_int_equal(tr_arm_grant(bed.arm, scene_object(pod), "v2 x", &bed.err),
			 -EPROTONOSUPPORT);
}

/* One container gets what the other gives back, whichever of them comes first. */
static void grants_swap(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 8000, 8000, 0 }),
			 *other = scene_pod("q", (const unsigned[]){ 300, 0 });

	(void)state;
	bed_admit(pod);
	bed_admit(other);
	assert_int_equal(bed_arm(pod, 0), 0);
	assert_int_equal(bed_arm(other, 0), 0);
	pod->at[1].cores = 10;
	assert_int_equal(grant(pod, pod->uid, 1, 14000, 2000), 1);
	pod->at[0].mib = 14000;
	pod->at[1].mib = 2000;
	bed_assert_all_armed(pod);
	assert_int_equal(grant(pod, pod->uid, 2, 2000, 14000), 1);
	pod->at[0].mib = 2000;
	pod->at[1].mib = 14000;
	bed_assert_all_armed(pod);
	/* All of it or nothing. */
	assert_int_equal(grant(pod, pod->uid, 3, 1000, 15200), -ENOSPC);
	assert_non_null(strstr(bed.err.msg, "no room for 15.82 GiB of one pod: 300 MiB of "
					    "16 GiB are taken by others"));
	bed_assert_all_armed(pod);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_open, bed_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(two_looks),
		TEST(no_disk),
		TEST(looks_agree),
		TEST(held),
		TEST(held_at_the_start),
		TEST(waiting_ones),
		TEST(served),
		TEST(superseded),
		TEST(init_runs_again),
		TEST(resize),
		TEST(resize_is_seen),
		TEST(grants),
		TEST(retired),
		TEST(retired_empty),
		TEST(grants_swap),
		TEST(records_dir_gone),
	};

	return cmocka_run_group_tests_name("sweep", tests, NULL, NULL);
}
