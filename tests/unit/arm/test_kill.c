/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent is killed at any instruction: for the files that it leaves, before any one system call
 * that changes some. Each of them in turn: a child runs from Allocate to the end of two pods and stops
 * dead there; the agent that starts after it must have all that was answered, and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bed.h"
#include "tr_test.h"

static long countdown = -1; /* calls until the end; negative: none */

static void step(void)
{
	/* The thread that waits for the disk changes nothing. */
	if (countdown >= 0 && syscall(SYS_gettid) == getpid() && countdown-- == 0)
		_exit(9);
}

#define WRAP(type, name, params, args)     \
	type __real_##name params;         \
	type __wrap_##name params;         \
	type __wrap_##name params          \
	{                                  \
		step();                    \
		return __real_##name args; \
	}

WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode))
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(int, unlink, (const char *path), (path))
WRAP(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
WRAP(int, rename, (const char *from, const char *to), (from, to))
WRAP(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
WRAP(int, link, (const char *from, const char *to), (from, to))
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
WRAP(ssize_t, write, (int fd, const void *bytes, size_t n), (fd, bytes, n))
WRAP(ssize_t, pwrite, (int fd, const void *bytes, size_t n, off_t at), (fd, bytes, n, at))
WRAP(int, close, (int fd), (fd))

static int answers[2];

static int allocate(const struct tr_ids *ids, char name[TR_ALLOC_NAME], void *arg)
{
	int r = bed_allocate(ids, name, arg);

	/* The answer. */
	if (r == 0 && __real_write(answers[1], name, TR_ALLOC_NAME) != TR_ALLOC_NAME)
		_exit(8);
	return r;
}

static struct scene_pod *kinds(const char *name)
{
	struct scene_pod *pod = scene_pod_new(name);

	scene_add(pod, "init", TR_CONTAINER_INIT, 1, 100);
	scene_add(pod, "a", TR_CONTAINER_APP, 1, 300);
	scene_add(pod, "b", TR_CONTAINER_APP, 2, 400);
	return pod;
}

/* What the child lives through. */
static void live(struct scene_pod *old, struct scene_pod *pod, long steps)
{
	static const char armed[TR_ALLOC_NAME] = "armed";
	const struct tr_pod *pods[1];

	countdown = steps;
	bed_start();
	if (scene_admit(pod, allocate, NULL) < 0 || bed_arm(pod, 1) < 0)
		_exit(7);
	if (__real_write(answers[1], armed, sizeof(armed)) < 0)
		_exit(8);
	scene_forget(old);
	pods[0] = scene_object(pod);
	tr_arm_sweep(bed.arm, scene_rows(), pods, 1, 0);
	tr_arm_sweep(bed.arm, scene_rows(), pods, 1, 10000);
	bed_stop();
	_exit(0);
}

static bool run_child(struct scene_pod *old, struct scene_pod *pod, long steps,
		      bool *is_armed)
{
	char name[TR_ALLOC_NAME];
	int status;
	pid_t child;
	size_t at = 0;

	assert_int_equal(pipe(answers), 0);
	child = fork();
	if (child == 0)
		live(old, pod, steps);
	close(answers[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 9))
		fail_msg("step %ld: status %x", steps, (unsigned)status);
	/* The same choice of ids; then the names that the child was told. */
	assert_int_equal(scene_admit(pod, NULL, NULL), 0);
	*is_armed = false;
	while (read(answers[0], name, sizeof(name)) == (ssize_t)sizeof(name)) {
		if (strcmp(name, "armed") == 0)
			*is_armed = true;
		else
			memcpy(pod->at[at++].alloc, name, TR_ALLOC_NAME);
	}
	close(answers[0]);
	return WEXITSTATUS(status) == 9;
}

static void check_places(void)
{
	const struct tr_book *book = tr_arm_book(bed.arm);
	unsigned armed = 0;

	for (struct tr_alloc *a = book->first; a; a = a->next)
		armed += a->state == TR_ALLOC_ARMED;
	assert_int_equal(bed_count(bed.slices), book->count);
	assert_int_equal(bed_count(bed.records), book->count);
	/* And at most one that a write was cut off at. */
	assert_in_range(bed_count(bed.injected), armed, armed + 1);
}

/* The old pod is whole, or on its way out. */
static void check_old(struct scene_pod *old, bool is_armed)
{
	unsigned there = 0;

	for (size_t i = 0; i < old->count; i++) {
		struct tr_alloc *alloc = bed_alloc(&old->at[i]);

		there += alloc != NULL;
		if (alloc)
			bed_assert_armed(old, i);
	}
	if (!is_armed)
		assert_int_equal(there, old->count);
}

static bool try_step(long steps)
{
	struct scene_pod *old = kinds("old"), *pod = kinds("new");
	bool is_armed, was_killed;
	size_t answered = 0;

	old->at[2].card = 1;
	bed_admit(old);
	assert_int_equal(bed_arm(old, 0), 0);
	bed_stop();
	was_killed = run_child(old, pod, steps, &is_armed);
	bed_start();
	check_places();
	check_old(old, is_armed);
	for (size_t i = 0; i < pod->count; i++) {
		struct tr_ids ids = scene_ids(&pod->at[i]);
		struct tr_alloc *alloc = bed_alloc(&pod->at[i]);

		if (!pod->at[i].alloc[0])
			continue;
		answered++;
		assert_non_null(alloc);
		assert_true(tr_alloc_has_ids(alloc, &ids));
		if (alloc->state == TR_ALLOC_WAITING)
			bed_assert_closed(pod->at[i].alloc);
		else
			bed_assert_armed(pod, i);
	}
	if (answered < pod->count) {
		scene_forget(pod); /* the kubelet refuses it */
	} else {
		assert_int_equal(bed_arm(pod, 2), 0);
		for (size_t i = 0; i < pod->count; i++)
			bed_assert_armed(pod, i);
	}
	/* In the end nothing is left of what has gone. */
	scene_forget(pod);
	scene_forget(old);
	tr_arm_sweep(bed.arm, scene_rows(), NULL, 0, 0);
	tr_arm_sweep(bed.arm, scene_rows(), NULL, 0, 100000);
	assert_int_equal(tr_arm_book(bed.arm)->count, 0);
	assert_int_equal(bed_count(bed.slices), 0);
	assert_int_equal(bed_count(bed.records), 0);
	return was_killed;
}

static void at_any_step(void **state)
{
	long steps = 0;
	bool was_killed;

	do {
		assert_int_equal(bed_open(state), 0);
		was_killed = try_step(steps++);
		assert_int_equal(bed_close(state), 0);
	} while (was_killed);
	/* Three Allocates, three armings, three removals: no less than ten calls each. */
	assert_in_range(steps, 90, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(at_any_step) };

	return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}
