/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "slice/page.h"

static char dir[64], path[96];

static int make_dir(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/dev/shm/tr-page-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/policy", dir);
	return 0;
}

static int drop_dir(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir); /* fails when anything else was left behind */
}

static const struct tr_page_device two_devices[] = {
	{ "GPU-11111111-2222-3333-4444-555555555555", 1000, 10, 4000 },
	{ "GPU-99999999-2222-3333-4444-555555555555", TR_UNLIMITED, 20, 5000 },
};

static struct tr_page_spec good_spec(void)
{
	return (struct tr_page_spec){ "train", "/x/state", 7, true, 2, two_devices };
}

static void test_round_trip(void **state)
{
	struct tr_page_spec spec = good_spec();
	struct tr_page page;
	struct tr_err err = { 0 };
	struct stat st;
	tr_dev dev;

	(void)state;
	assert_int_equal(tr_page_create(path, &spec, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_true((size_t)st.st_blocks * 512 >=
		    sizeof(struct tr_policy)); /* not sparse */
	assert_int_equal(tr_page_open(&page, path, &err), 0);
	assert_int_equal(page.device_count, 2);
	assert_int_equal(page.flags, TR_POLICY_ARMED);
	assert_int_equal(page.serial, 7);
	assert_string_equal(page.name, "train");
	assert_string_equal(page.state_path, "/x/state");
	assert_int_equal(tr_page_find(&page, two_devices[1].uuid, &dev), 0);
	assert_int_equal(dev.at, 1);
	assert_int_equal(page.map->devices[1].limit_bytes, TR_UNLIMITED);
	assert_int_equal(page.map->devices[0].limit_bytes, 1000);
	assert_int_equal(tr_page_find(&page, "GPU-other", &dev), -ENOENT);
	tr_page_close(&page);
}

/* Shares of time: what is not given is all of it, and no ceiling is the guarantee. */
static void test_shares(void **state)
{
	struct tr_page_device devices[3] = { two_devices[0], two_devices[1],
					     two_devices[1] };
	struct tr_page_spec spec = { "train", "/x/state", 7, true, 3, devices };
	struct tr_page page;
	struct tr_err err = { 0 };

	(void)state;
	devices[1].rate_q32 = TR_RATE_ALL / 4;
	devices[2].rate_q32 = TR_RATE_ALL / 4;
	devices[2].rate_max_q32 = TR_RATE_ALL / 2;
	devices[2].priority = TR_PRIORITY_LOW;
	assert_int_equal(tr_page_create(path, &spec, &err), 0);
	assert_int_equal(tr_page_open(&page, path, &err), 0);
	assert_int_equal(page.map->devices[0].rate_q32, TR_RATE_ALL);
	assert_int_equal(page.map->devices[0].rate_max_q32, TR_RATE_ALL);
	assert_int_equal(page.map->devices[0].priority, TR_PRIORITY_NORMAL);
	assert_int_equal(page.map->devices[1].rate_q32, TR_RATE_ALL / 4);
	assert_int_equal(page.map->devices[1].rate_max_q32, TR_RATE_ALL / 4);
	assert_int_equal(page.map->devices[2].rate_max_q32, TR_RATE_ALL / 2);
	assert_int_equal(page.map->devices[2].priority, TR_PRIORITY_LOW);
	tr_page_close(&page);
	assert_int_equal(unlink(path), 0);
	devices[2].rate_max_q32 = TR_RATE_ALL / 8;
	assert_int_equal(tr_page_create(path, &spec, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "out of order"));
	devices[2].rate_max_q32 = TR_RATE_ALL + 1;
	assert_int_equal(tr_page_create(path, &spec, &err), -EINVAL);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_never_replaces(void **state)
{
	struct tr_page_spec spec = good_spec();
	struct tr_err err = { 0 };
	char text[4] = { 0 };
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	(void)state;
	assert_int_equal(write(fd, "abc", 3), 3);
	assert_int_equal(tr_page_create(path, &spec, &err), -EEXIST);
	assert_non_null(strstr(err.msg, path));
	assert_int_equal(pread(fd, text, 3, 0), 3);
	assert_string_equal(text, "abc");
	assert_int_equal(close(fd), 0);
}

static const struct bad_spec {
	const char *name;
	unsigned devices;
	uint64_t serial;
	const char *slice, *says;
} bad_specs[] = {
	{ "create: no devices", 0, 7, "a", "0 devices" },
	{ "create: too many devices", 17, 7, "a", "17 devices" },
	{ "create: no name", 1, 7, "", "slice name" },
	{ "create: serial 0", 1, 0, "a", "serial" },
};

static void test_bad_spec(void **state)
{
	const struct bad_spec *c = *state;
	struct tr_page_spec spec = { c->slice, "/x",       c->serial,
				     false,    c->devices, two_devices };
	struct tr_err err = { 0 };

	assert_int_equal(tr_page_create(path, &spec, &err), -EINVAL);
	assert_non_null(strstr(err.msg, c->says));
	assert_int_equal(access(path, F_OK), -1);
}

static const struct bad_page {
	const char *name;
	off_t at;
	uint32_t word;
	off_t size; /* of the file; 0: as it is */
	int want;
	const char *says;
} bad_pages[] = {
	{ "open: bad magic", 0, 0x12345678, 0, -EBADMSG, "magic 0x12345678" },
	{ "open: newer layout", 4, 2, 0, -EPROTONOSUPPORT, "layout 2, need 1" },
	{ "open: other size", 8, 4096, 0, -EPROTONOSUPPORT, "layout" },
	{ "open: no devices", 24, 0, 0, -EBADMSG, "0 devices" },
	{ "open: 17 devices", 24, 17, 0, -EBADMSG, "17 devices" },
	{ "open: one byte short", 0, TR_POLICY_MAGIC, sizeof(struct tr_policy) - 1,
	  -EBADMSG, "too short" },
	{ "open: empty", 0, TR_POLICY_MAGIC, 1, -EBADMSG, "too short" },
};

static void test_bad_page(void **state)
{
	const struct bad_page *c = *state;
	struct tr_page_spec spec = good_spec();
	struct tr_page page;
	struct tr_err err = { 0 };
	int fd;

	assert_int_equal(tr_page_create(path, &spec, &err), 0);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, &c->word, sizeof(c->word), c->at), sizeof(c->word));
	if (c->size)
		assert_int_equal(ftruncate(fd, c->size), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(tr_page_open(&page, path, &err), c->want);
	assert_int_equal(tr_free_fd(), fd);
	assert_non_null(strstr(err.msg, c->says));
	assert_non_null(strstr(err.msg, path));
}

static void test_not_a_file(void **state)
{
	struct tr_page page;
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(tr_page_open(&page, path, &err), -ENOENT);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(tr_page_open(&page, path, &err), -EBADMSG); /* and does not hang */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(tr_page_open(&page, path, &err), -ELOOP);
}

static void test_one_writer(void **state)
{
	struct tr_page_spec spec = good_spec();
	struct tr_page first, second;
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(tr_page_create(path, &spec, &err), 0);
	assert_int_equal(tr_page_open_writer(&first, path, &err), 0);
	assert_int_equal(tr_page_open_writer(&second, path, &err), -EAGAIN);
	assert_non_null(strstr(err.msg, "another program"));
	/* A writer that dies between begin and end leaves an odd sequence; the next one
	 * mends it. */
	tr_page_begin(&first);
	atomic_store(&first.writable->devices[0].limit_bytes, 5);
	tr_page_close(&first);
	assert_int_equal(tr_page_open_writer(&second, path, &err), 0);
	assert_int_equal(second.map->sequence & 1, 0);
	assert_int_equal(second.map->devices[0].limit_bytes, 5);
	tr_page_close(&second);
}

/* Other rows in place: nothing of the old one is left. */
static void test_refill(void **state)
{
	static const struct tr_page_device was[] = { { "GPU-0", 1, 2, 3 } },
					   two[] = { { "GPU-1", 500, 5, 600 },
						     { "GPU-2", 700, 7, 800 } };
	struct tr_page_spec spec = good_spec(), other = good_spec();
	struct tr_page page;

	(void)state;
	spec.devices = was;
	spec.device_count = 1;
	other.devices = two;
	other.device_count = 2;
	assert_int_equal(tr_page_refill(path, "GPU-0", &other, NULL), -ENOENT);
	assert_int_equal(tr_page_create(path, &spec, NULL), 0);
	assert_int_equal(tr_page_refill(path, "GPU-1", &other, NULL), -EINVAL);
	other.serial = 8;
	assert_int_equal(tr_page_refill(path, "GPU-0", &other, NULL), -EINVAL);
	other.serial = 7;
	other.device_count = 0;
	assert_int_equal(tr_page_refill(path, "GPU-0", &other, NULL), -EINVAL);
	other.device_count = 2;
	assert_int_equal(tr_page_open_writer(&page, path, NULL), 0);
	assert_int_equal(tr_page_refill(path, "GPU-0", &other, NULL), -EAGAIN);
	tr_page_begin(&page); /* and dies in it */
	tr_page_close(&page);
	assert_int_equal(tr_page_refill(path, "GPU-0", &other, NULL), 0);
	assert_int_equal(tr_page_refill(path, "GPU-1", &other, NULL), -EINVAL);
	assert_int_equal(tr_page_open(&page, path, NULL), 0);
	assert_string_equal(page.name, "train");
	assert_int_equal(page.device_count, 2);
	assert_string_equal(page.map->devices[0].uuid, "GPU-1");
	assert_int_equal(page.map->devices[0].limit_bytes, 500);
	assert_int_equal(page.map->devices[1].total_bytes, 800);
	assert_int_equal(page.map->sequence % 2, 0);
	tr_page_close(&page);
}

static void test_uuid_key(void **state)
{
	(void)state;
	assert_true(tr_uuid_key("") != 0);
	assert_true(tr_uuid_key("GPU-a") != tr_uuid_key("GPU-b"));
	assert_true(tr_uuid_key("GPU-a") == tr_uuid_key("GPU-a"));
}

#define FRESH(name, test, arg)                      \
	{                                           \
		name, test, make_dir, drop_dir, arg \
	}

int main(void)
{
	struct CMUnitTest tests[6 + TR_COUNT(bad_specs) + TR_COUNT(bad_pages)] = {
		FRESH("page: what is made is read", test_round_trip, NULL),
		FRESH("page: shares of time", test_shares, NULL),
		FRESH("page: never replaces a file", test_never_replaces, NULL),
		FRESH("page: not a regular file", test_not_a_file, NULL),
		FRESH("page: one writer at a time", test_one_writer, NULL),
		FRESH("page: other rows in place", test_refill, NULL),
		FRESH("page: keys of UUIDs", test_uuid_key, NULL),
	};
	size_t n = 6;

	for (size_t i = 0; i < TR_COUNT(bad_specs); i++)
		tests[n++] = (struct CMUnitTest)FRESH(bad_specs[i].name, test_bad_spec,
						      (void *)(uintptr_t)&bad_specs[i]);
	for (size_t i = 0; i < TR_COUNT(bad_pages); i++)
		tests[n++] = (struct CMUnitTest)FRESH(bad_pages[i].name, test_bad_page,
						      (void *)(uintptr_t)&bad_pages[i]);
	return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}
