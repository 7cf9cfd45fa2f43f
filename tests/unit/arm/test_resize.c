/* SPDX-License-Identifier: Apache-2.0 */
/* Other limits where something is in the way: a card that is over-given or ill, a disk that is full. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bed.h"
#include "slice/page.h"
#include "slice/seat.h"
#include "tr_test.h"

#define G0 "GPU-00000001-0000-0000-0000-000000000000"

static int grant(struct scene_pod *pod, unsigned serial, unsigned a, unsigned b)
{
	char text[300], second[100] = "";

	if (pod->count > 1)
		snprintf(second, sizeof(second), G0 ",NVIDIA,%u,0:;", b);
	snprintf(text, sizeof(text), "v1 %s %u " G0 ",NVIDIA,%u,0:;%s", pod->uid, serial, a,
		 second);
	return tr_arm_grant(bed.arm, scene_object(pod), text, &bed.err);
}

static int set(struct scene_pod *pod, unsigned mib, unsigned cores)
{
	struct tr_alloc *alloc = bed_alloc(&pod->at[0]);
	struct tr_alloc_part part = alloc->parts[0];

	part.limit_bytes = (uint64_t)mib << 20;
	part.cores = cores;
	return tr_arm_resize(bed.arm, alloc, &part, 1, 0, &bed.err);
}

static void arm_one(struct scene_pod *pod)
{
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0);
}

static void give_back_on_overgiven(void **state)
{
	struct scene_pod *p = scene_pod("p", (const unsigned[]){ 4000, 3000, 0 }),
			 *q = scene_pod("q", (const unsigned[]){ 7000, 0 });

	(void)state;
	q->at[0].cores = 30;
	arm_one(p);
	arm_one(q);
	/* It gives less from now on. */
	for (unsigned c = 0; c < scene.cards.count; c++) {
		scene.cards.at[c].give_bytes = UINT64_C(5) << 30;
		scene.cards.at[c].give_cores = 20;
	}
	tr_arm_set_cards(bed.arm, &scene.cards);
	assert_int_equal(set(q, 6500, 30), 0);
	assert_int_equal(set(q, 6500, 25), 0);
	q->at[0].mib = 6500;
	q->at[0].cores = 25;
	bed_assert_all_armed(q);
	/* Nobody gets more of anything. */
	assert_int_equal(set(q, 6501, 25), -ENOSPC);
	assert_int_equal(set(q, 100, 26), -ENOSPC);
	/* Within a pod it may go from one container to another. */
	assert_int_equal(grant(p, 1, 3500, 3500), 1);
	assert_int_equal(grant(p, 2, 3400, 3601), -ENOSPC);
	p->at[0].mib = p->at[1].mib = 3500;
	bed_assert_all_armed(p);
	bed_assert_all_armed(q);
}

/* What takes more is looked at as ever. */
static void whole_on_shared(void **state)
{
	struct scene_pod *p = scene_pod("p", (const unsigned[]){ 3000, 0 }),
			 *q = scene_pod("q", (const unsigned[]){ 3000, 0 });

	(void)state;
	p->at[0].cores = 50;
	arm_one(p);
	arm_one(q);
	assert_int_equal(set(p, 3000, 100), -ENOSPC);
	assert_int_equal(set(p, 2000, 50), 0);
}

static void unhealthy(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 4000, 0 });

	(void)state;
	arm_one(pod);
	scene.cards.at[0].is_healthy = false;
	tr_arm_set_cards(bed.arm, &scene.cards);
	assert_int_equal(grant(pod, 1, 1000, 0), 1);
	pod->at[0].mib = 1000;
	bed_assert_all_armed(pod);
	assert_int_equal(set(pod, 900, 0), 0);
}

/* What the runtime gives does not depend on limits: its place may be full. */
static void without_injection(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 4000, 0 });
	char path[160];

	(void)state;
	arm_one(pod);
	snprintf(path, sizeof(path), "%s/%s", bed.injected, pod->at[0].alloc);
	assert_int_equal(unlink(path), 0);
	bed.inject_fails = bed.flush_fails = 100;
	assert_int_equal(grant(pod, 1, 1000, 0), 1);
	assert_int_equal(bed.events[TR_ARM_CHANGED], 1);
	assert_int_equal(bed_alloc(&pod->at[0])->parts[0].limit_bytes, 1000 << 20);
	assert_int_equal(grant(pod, 1, 1000, 0), 0);
}

/* Nothing changes where the page cannot be; and it is done when it can, by the same grant. */
static void without_page(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 4000, 0 });
	char ro[160], away[160];
	struct tr_alloc *alloc;

	(void)state;
	arm_one(pod);
	alloc = bed_alloc(&pod->at[0]);
	snprintf(ro, sizeof(ro), "%s/%s/ro", bed.slices, alloc->name);
	snprintf(away, sizeof(away), "%s/away", bed.dir);
	assert_int_equal(rename(ro, away), 0);
	assert_int_equal(symlink("/proc/1/nowhere", ro), 0);
	assert_true(grant(pod, 1, 1000, 0) < 0);
	assert_int_equal(bed.events[TR_ARM_CHANGED], 0);
	assert_int_equal(alloc->parts[0].limit_bytes, UINT64_C(4000) << 20);
	assert_int_equal(unlink(ro), 0);
	assert_int_equal(rename(away, ro), 0);
	bed_stop();
	bed_start();
	bed_assert_all_armed(pod);
	assert_int_equal(grant(pod, 1, 1000, 0), 1);
	assert_int_equal(bed.events[TR_ARM_CHANGED], 1);
	pod->at[0].mib = 1000;
	bed_assert_all_armed(pod);
}

/* ---- who is first ---- */

static char order[4][TR_ALLOC_NAME];
static unsigned ordered;

static void on_event(enum tr_arm_event event, const struct tr_alloc *alloc,
		     const char *sentence, void *arg)
{
	(void)sentence;
	(void)arg;
	if (event == TR_ARM_CHANGED && ordered < 4)
		memcpy(order[ordered++], alloc->name, TR_ALLOC_NAME);
}

static void who_gives_back_first(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 4000, 4000, 0 });

	(void)state;
	bed_stop();
	bed.options.ports.on_event = on_event;
	bed_start();
	arm_one(pod);
	ordered = 0;
	assert_int_equal(grant(pod, 1, 6000, 2000), 1);
	assert_int_equal(grant(pod, 2, 3000, 5000), 1);
	assert_int_equal(ordered, 4);
	assert_string_equal(order[0], pod->at[1].alloc);
	assert_string_equal(order[1], pod->at[0].alloc);
	assert_string_equal(order[2], pod->at[0].alloc);
	assert_string_equal(order[3], pod->at[1].alloc);
}

/* ---- the page of a program that runs ---- */

/* Made before the driver answered; then a program came: it goes on being told in the page that it has mapped. */
static void page_of_held(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 4000, 0 });
	char command[240], path[200], seat_path[200];
	struct tr_cards none = { 0 };
	struct tr_seat seat = { 0 };
	struct tr_page page;

	(void)state;
	arm_one(pod);
	bed_stop();
	snprintf(command, sizeof(command), "rm -rf %s/run %s/*", bed.dir, bed.injected);
	assert_int_equal(system(command), 0);
	assert_int_equal(tr_arm_open(NULL, NULL, &bed.options, &none, &bed.arm, &bed.err),
			 0);
	snprintf(path, sizeof(path), "%s/%s/ro/policy", bed.slices, pod->at[0].alloc);
	snprintf(seat_path, sizeof(seat_path), "%s/%s/rw/state", bed.slices,
		 pod->at[0].alloc);
	assert_int_equal(tr_page_open(&page, path, NULL), 0);
	assert_int_equal(page.map->devices[0].total_bytes, 0);
	assert_int_equal(tr_seat_take(&seat, seat_path, 0, NULL), 0);
	tr_arm_set_cards(bed.arm, &scene.cards);
	assert_int_equal(set(pod, 1000, 0), 0);
	assert_int_equal(page.map->devices[0].limit_bytes, 1000 << 20);
	assert_int_equal(set(pod, 900, 0), 0);
	assert_int_equal(page.map->devices[0].limit_bytes, 900 << 20);
	tr_page_close(&page);
	tr_seat_leave(&seat);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_open, bed_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(give_back_on_overgiven),
		TEST(whole_on_shared),
		TEST(unhealthy),
		TEST(without_injection),
		TEST(without_page),
		TEST(who_gives_back_first),
		TEST(page_of_held),
	};

	return cmocka_run_group_tests_name("resize", tests, NULL, NULL);
}
