/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tenant puts where its state file was is never opened: opening a device node has effects of its own.
 * A fifo stands for all of them; the kernel tells of every opening of it.
 */
#include "../tr_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper/fleet.h"
#include "keeper/slices.h"
#include "slice/seat.h"
#include "tranche/paths.h"

#define UUID "GPU-11111111-2222-3333-4444-555555555555"

static struct tr_slice_dir slice;
static char root[64];
static int told = -1;

static int start(void **state)
{
	const struct tr_page_device device = { .uuid = UUID, .limit_bytes = TR_UNLIMITED };
	struct tr_page_spec spec = { .serial = 1, .device_count = 1, .devices = &device };

	(void)state;
	(void)snprintf(root, sizeof(root), "/dev/shm/tr-hostile-XXXXXX");
	if (!mkdtemp(root) || setenv(TR_ENV_SLICES, root, 1) < 0 ||
	    tr_slice_make(&slice, "s", &spec, NULL, NULL) < 0 ||
	    unlink(slice.state_path) < 0)
		return -1;
	told = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return told < 0;
}

static int end(void **state)
{
	(void)state;
	(void)close(told);
	tr_slice_remove(&slice);
	return rmdir(root);
}

static bool is_opened(void)
{
	struct inotify_event event[8];
	ssize_t n = read(told, event, sizeof(event));

	for (size_t i = 0; n > 0 && i < (size_t)n / sizeof(*event); i++)
		if (event[i].mask & IN_OPEN)
			return true;
	return false;
}

static void look_everywhere(void)
{
	static struct tr_state copy;
	static const struct tr_gpus gpus = { .count = 1, .gpus = { { .uuid = UUID } } };
	struct tr_fleet fleet;
	struct tr_err err = { 0 };

	tr_fleet_open(&fleet, &gpus);
	assert_false(tr_slice_is_held(&slice));
	assert_int_equal(tr_state_read(slice.state_path, &copy, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "not a regular file"));
	assert_true(tr_fleet_add(&fleet, &slice, &err) < 0);
	tr_fleet_close(&fleet);
}

static void test_a_fifo_is_left_unopened(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(slice.state_path, 0666), 0);
	assert_true(inotify_add_watch(told, slice.state_path, IN_OPEN) >= 0);
	look_everywhere();
	assert_false(is_opened());
	(void)unlink(slice.state_path);
}

static void test_nothing_is_opened_through_a_link(void **state)
{
	char other[160];

	(void)state;
	(void)snprintf(other, sizeof(other), "%s/other", root);
	assert_int_equal(tr_state_create(other, 1, 0600, NULL), 0);
	assert_int_equal(symlink(other, slice.state_path), 0);
	assert_true(inotify_add_watch(told, other, IN_OPEN) >= 0);
	look_everywhere();
	assert_false(is_opened());
	(void)unlink(slice.state_path);
	(void)unlink(other);
}

static void test_its_own_file_is_read(void **state)
{
	static struct tr_state copy;

	(void)state;
	assert_int_equal(tr_state_create(slice.state_path, 1, 0600, NULL), 0);
	assert_int_equal(tr_state_read(slice.state_path, &copy, NULL), 0);
	assert_int_equal(copy.serial, 1);
	(void)unlink(slice.state_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_fifo_is_left_unopened),
		cmocka_unit_test(test_nothing_is_opened_through_a_link),
		cmocka_unit_test(test_its_own_file_is_read),
	};

	return cmocka_run_group_tests(tests, start, end);
}
