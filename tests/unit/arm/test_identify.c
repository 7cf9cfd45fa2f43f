/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scene.h"
#include "tr_test.h"

#define GPU "nvidia.com/gpu"

static struct tr_book book;
static struct tr_alloc *by_index[SCENE_CONTAINERS];
static struct tr_err err;
static const char *const inits[] = { "init-0", "init-1", "init-2" };

static int open_book(void **state)
{
	book = (struct tr_book){ 0 };
	memset(&err, 0, sizeof(err));
	return scene_open(state);
}

static int close_book(void **state)
{
	tr_book_free(&book);
	return scene_close(state);
}

static int allocate(const struct tr_ids *ids, char name[TR_ALLOC_NAME], void *arg)
{
	struct tr_alloc *alloc = tr_alloc_new(&book, ids, 1000);

	(void)arg;
	assert_int_equal(tr_book_add(&book, alloc), 0);
	memcpy(name, alloc->name, TR_ALLOC_NAME);
	return 0;
}

static void admit(struct scene_pod *pod)
{
	assert_int_equal(scene_admit(pod, allocate, NULL), 0);
}

static int identify(struct scene_pod *pod, const struct tr_ids *asked)
{
	return tr_identify(&book, scene_rows(), scene_object(pod), GPU, asked, by_index,
			   &err);
}

/* Every container of POD has just its own. */
static void assert_known(struct scene_pod *pod)
{
	for (size_t i = 0; i < pod->count; i++) {
		struct tr_ids asked = scene_ids(&pod->at[i]);

		if (!pod->at[i].wanted)
			continue;
		assert_int_equal(identify(pod, &asked), 0);
		for (size_t k = 0; k < pod->count; k++)
			if (pod->at[k].wanted)
				assert_string_equal(by_index[k]->name, pod->at[k].alloc);
			else
				assert_null(by_index[k]);
	}
}

static void arm(struct scene_pod *pod)
{
	for (size_t i = 0; i < pod->count; i++) {
		struct tr_alloc *alloc = tr_book_find(&book, pod->at[i].alloc);

		if (!alloc)
			continue;
		alloc->state = TR_ALLOC_ARMED;
		snprintf(alloc->uid, sizeof(alloc->uid), "%s", pod->uid);
		snprintf(alloc->container, sizeof(alloc->container), "%s", pod->at[i].name);
	}
}

static void serials(void **state)
{
	static const char *const texts[] = { "x-1" };
	struct tr_ids ids = { texts, 1 };
	struct tr_alloc *a, *b;
	uint64_t serial;

	(void)state;
	a = tr_alloc_new(&book, &ids, 5000000);
	assert_int_equal(a->serial, 5000000);
	assert_int_equal(a->made_unix_s, 5);
	assert_string_equal(a->name, "s00000000004c4b40");
	assert_int_equal(tr_book_add(&book, a), 0);
	b = tr_alloc_new(&book, &ids, 4000000); /* the clock was set back */
	assert_int_equal(b->serial, 5000001);
	assert_int_equal(tr_book_add(&book, b), 0);
	tr_book_remove(&book, b);
	b = tr_alloc_new(&book, &ids, -1);
	assert_int_equal(b->serial, 5000002); /* never one that was */
	b->serial = 5000000;
	assert_int_equal(tr_book_add(&book, b), -EEXIST);
	tr_alloc_free(b);
	assert_int_equal(tr_alloc_name_parse("s00000000004c4b40", &serial), 0);
	assert_int_equal(serial, 5000000);
	assert_int_equal(tr_alloc_name_parse("s00000000004C4b40", &serial), -EINVAL);
	assert_int_equal(tr_alloc_name_parse("s00000000004c4b4", &serial), -EINVAL);
	assert_int_equal(tr_alloc_name_parse("s0000000000000000", &serial), -EINVAL);
	assert_int_equal(tr_alloc_name_parse("../../../../../etc", &serial), -EINVAL);
}

static void kinds(void **state)
{
	struct scene_pod *pod = scene_three_kinds("p");

	(void)state;
	admit(pod);
	/* As observed: the sidecar and the first app container have the init container's. */
	assert_ptr_equal(pod->at[0].ids[0] == pod->at[1].ids[0] ? pod->at[0].ids[1]
								: pod->at[0].ids[0],
			 pod->at[3].ids[0]);
	assert_known(pod);
}

/* Of two ids the first init container had, the second may have another than the app container. */
static void inits_of_many_counts(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		struct scene_pod *pod = scene_pod_new("p");

		for (unsigned i = 0, n = 1 + scene_random(3); i < n; i++)
			scene_add(pod, inits[i], TR_CONTAINER_INIT, 1 + scene_random(3),
				  100 + i);
		scene_add(pod, "side", TR_CONTAINER_SIDECAR, scene_random(3), 200);
		scene_add(pod, "last", TR_CONTAINER_INIT, scene_random(3), 300);
		scene_add(pod, "app", TR_CONTAINER_APP, 1 + scene_random(2), 400);
		admit(pod);
		assert_known(pod);
		scene_forget(pod);
	}
}

/* An init container and an app container with the very same ids. */
static void same_ids(void **state)
{
	struct scene_pod *pod = scene_pod_new("p");

	(void)state;
	scene_add(pod, "first", TR_CONTAINER_INIT, 1, 100);
	scene_add(pod, "second", TR_CONTAINER_INIT, 1, 200);
	scene_add(pod, "app", TR_CONTAINER_APP, 1, 300);
	admit(pod);
	assert_ptr_equal(pod->at[0].ids[0], pod->at[2].ids[0]);
	assert_known(pod);
}

static void only_init(void **state)
{
	struct scene_pod *pod = scene_pod_new("p"), *other = scene_pod_new("q");

	(void)state;
	scene_add(pod, "init", TR_CONTAINER_INIT, 1, 100);
	scene_add(pod, "app", TR_CONTAINER_APP, 0, 0);
	scene_add(other, "init", TR_CONTAINER_INIT, 1, 200);
	admit(pod);
	admit(other);
	assert_known(pod);
	assert_known(other);
}

/* A pod was admitted, failed and went; the next one got its ids. */
static void orphans(void **state)
{
	struct scene_pod *gone = scene_three_kinds("gone"), *pod;

	(void)state;
	scene_cards(1, 1);
	scene.id_count = 4; /* so that ids come again */
	admit(gone);
	scene_forget(gone);
	pod = scene_three_kinds("p");
	admit(pod);
	assert_known(pod);
	arm(pod);
	scene_forget(pod);
	pod = scene_three_kinds("p"); /* of the same name, too */
	admit(pod);
	assert_known(pod);
}

static void half_of_a_run(void **state)
{
	struct scene_pod *pod = scene_three_kinds("p");
	struct tr_ids asked;

	(void)state;
	admit(pod);
	asked = scene_ids(&pod->at[3]);
	tr_book_remove(&book, tr_book_find(&book, pod->at[0].alloc));
	assert_int_equal(identify(pod, &asked), -EAGAIN);
	assert_string_equal(err.msg,
			    "no allocation of 2 devices is known for container init "
			    "of pod default/p");
}

/* What stands before a pod's own, when its first is lost, is another's. */
static void lost_init(void **state)
{
	struct scene_pod *other = scene_pod("q", (const unsigned[]){ 7, 0 }),
			 *pod = scene_pod_new("p");
	struct tr_ids asked;

	(void)state;
	scene_add(pod, "init", TR_CONTAINER_INIT, 1, 100);
	scene_add(pod, "app", TR_CONTAINER_APP, 1, 200);
	admit(other);
	admit(pod);
	tr_book_remove(&book, tr_book_find(&book, pod->at[0].alloc));
	asked = scene_ids(&pod->at[1]);
	assert_int_equal(identify(pod, &asked), -EAGAIN);
	assert_known(other);
}

/* The kubelet allocates for one container alone when it has lost what it knew of it. */
static void allocated_again(void **state)
{
	struct scene_pod *pod = scene_three_kinds("p"), *other = scene_three_kinds("q");
	char before[TR_ALLOC_NAME];

	(void)state;
	admit(pod);
	admit(other);
	arm(pod);
	memcpy(before, pod->at[3].alloc, TR_ALLOC_NAME);
	pod->at[3].ids[0] = "new-1";
	allocate(&(struct tr_ids){ pod->at[3].ids, 1 }, pod->at[3].alloc, NULL);
	assert_known(pod);
	assert_string_not_equal(before, pod->at[3].alloc);
	assert_known(other);
}

/* A kubelet restarted between a pod's containers goes on with the next one, after other pods. */
static void with_others_between(void **state)
{
	struct scene_pod *gone = scene_pod("gone", (const unsigned[]){ 7, 0 }), *p, *q;
	char late[TR_ALLOC_NAME];
	struct tr_ids asked;

	(void)state;
	scene_cards(1, 1);
	scene.id_count = 2; /* so that ids come again */
	admit(gone);
	scene_forget(gone);
	p = scene_pod_new("p");
	scene_add(p, "init", TR_CONTAINER_INIT, 1, 100);
	scene_add(p, "second", TR_CONTAINER_INIT, 1, 150);
	scene_add(p, "app", TR_CONTAINER_APP, 1, 200);
	admit(p);
	q = scene_pod("q", (const unsigned[]){ 8, 0 });
	admit(q);
	memcpy(late, p->at[2].alloc, TR_ALLOC_NAME);
	tr_book_remove(&book, tr_book_find(&book, late));
	asked = scene_ids(&p->at[2]);
	allocate(&asked, p->at[2].alloc, NULL);
	assert_known(p);
	assert_known(q);
	arm(p);
	assert_known(p);
	/* Its init container's was armed for another: nobody knows what this one was given. */
	snprintf(tr_book_find(&book, p->at[1].alloc)->uid, 8, "other");
	assert_int_equal(identify(p, &asked), -EAGAIN);
}

static void not_listed(void **state)
{
	struct scene_pod *pod = scene_three_kinds("p");
	struct tr_pod_list empty = { 0 };
	const struct tr_pod_row *row;
	struct tr_ids asked;

	(void)state;
	admit(pod);
	asked = scene_ids(&pod->at[3]);
	assert_int_equal(tr_owner_find(&empty, &asked, &row, &err), -EAGAIN);
	assert_non_null(strstr(err.msg, pod->at[3].ids[0]));
	assert_int_equal(tr_owner_find(scene_rows(), &asked, &row, &err), 0);
	assert_string_equal(row->pod, "p");
	asked = scene_ids(&pod->at[0]); /* the init container's are others' by now */
	assert_int_equal(tr_owner_find(scene_rows(), &asked, &row, &err), 0);
	assert_string_equal(row->pod, "p");
	assert_int_equal(
		tr_identify(&book, &empty, scene_object(pod), GPU, &asked, by_index, &err),
		-EAGAIN);
	assert_string_equal(err.msg,
			    "the kubelet lists no devices of container side of pod "
			    "default/p yet");
}

static void of_two_pods(void **state)
{
	struct scene_pod *p = scene_three_kinds("p"), *q = scene_three_kinds("q");
	const char *both[2];
	struct tr_ids asked = { both, 2 };
	const struct tr_pod_row *row;

	(void)state;
	admit(p);
	admit(q);
	both[0] = p->at[3].ids[0];
	both[1] = q->at[3].ids[0];
	assert_int_equal(tr_owner_find(scene_rows(), &asked, &row, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "default/p and default/q"));
}

static void other_counts(void **state)
{
	struct scene_pod *pod = scene_three_kinds("p");
	struct tr_ids asked;

	(void)state;
	admit(pod);
	asked = scene_ids(&pod->at[3]);
	scene_rows();
	pod->at[4].wanted = 2; /* the object says so, not the kubelet */
	assert_int_equal(tr_identify(&book, &scene.rows, scene_object(pod), GPU, &asked,
				     by_index, &err),
			 -EBADMSG);
	assert_string_equal(err.msg,
			    "container b of pod default/p asks for 2 devices and the "
			    "kubelet gave it 1");
}

static void none_asked(void **state)
{
	struct scene_pod *pod = scene_pod_new("p");

	(void)state;
	scene_add(pod, "a", TR_CONTAINER_APP, 0, 0);
	assert_int_equal(identify(pod, NULL), -EBADMSG);
	assert_string_equal(err.msg, "pod default/p asks for no nvidia.com/gpu");
	pod->at[0].wanted = 17;
	assert_int_equal(identify(pod, NULL), -EINVAL);
}

/* Another pod's armed allocations fit nowhere, whatever ids it claims. */
static void of_another(void **state)
{
	struct scene_pod *p = scene_pod("p", (const unsigned[]){ 1, 0 }), *q;
	struct tr_ids asked;

	(void)state;
	admit(p);
	arm(p);
	q = scene_pod("q", (const unsigned[]){ 2, 0 });
	q->is_admitted = true;
	q->at[0].ids[0] = p->at[0].ids[0];
	asked = scene_ids(&q->at[0]);
	assert_int_equal(identify(q, &asked), -EAGAIN);
}

/* F33: whatever comes and goes, in whichever order containers start. */
static void F33_many(void **state)
{
	unsigned pods = 0;

	(void)state;
	scene_cards(1, 1);
	scene.id_count = 120;
	for (unsigned round = 0; round < 3000; round++) {
		struct scene_pod *pod;
		char name[32];

		if (scene.pod_count && scene_random(3) == 0) {
			pod = &scene.pods[scene_random((unsigned)scene.pod_count)];
			if (pod->is_admitted && scene_random(2)) {
				assert_known(pod);
				arm(pod);
			} else if (pod->is_admitted) {
				scene_forget(pod);
				pods--;
			}
			continue;
		}
		if (pods >= 10)
			continue;
		snprintf(name, sizeof(name), "pod-%u", scene_random(20));
		for (size_t i = 0; i < scene.pod_count; i++)
			if (strcmp(scene.pods[i].name, name) == 0)
				name[0] = '\0';
		if (!name[0])
			continue;
		pod = scene_pod_new(name);
		for (unsigned i = scene_random(3); i--;)
			scene_add(pod, i ? "i1" : "i0",
				  scene_random(2) ? TR_CONTAINER_INIT
						  : TR_CONTAINER_SIDECAR,
				  scene_random(3), 1);
		scene_add(pod, "a", TR_CONTAINER_APP, 1 + scene_random(3), 1);
		scene_add(pod, "b", TR_CONTAINER_APP, scene_random(3), 1);
		admit(pod);
		pods++;
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_book, close_book)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(serials),         TEST(kinds),
		TEST(same_ids),        TEST(inits_of_many_counts),
		TEST(only_init),       TEST(orphans),
		TEST(half_of_a_run),   TEST(lost_init),
		TEST(allocated_again), TEST(with_others_between),
		TEST(not_listed),      TEST(of_two_pods),
		TEST(other_counts),    TEST(none_asked),
		TEST(of_another),      TEST(F33_many),
	};

	return cmocka_run_group_tests_name("identify", tests, NULL, NULL);
}
