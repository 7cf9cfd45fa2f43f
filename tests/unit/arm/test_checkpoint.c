/* SPDX-License-Identifier: Apache-2.0 */
/* The kubelet's checkpoint as a file: what was read of it counts until it may be another. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tr_test.h"
#include "deviceplugin/arm/checkpoint.h"
#include "rt/file.h"

static const char *const ids[] = { "x" };
static const struct tr_ids x = { ids, 1 };
static char path[64];

#define FILE_OF(entries) "{\"Data\":{\"PodDeviceEntries\":[" entries "]}}"
#define ENTRY(uid)                                        \
	"{\"PodUID\":\"" uid "\",\"ResourceName\":\"r\"," \
	"\"DeviceIDs\":{\"-1\":[\"x\"]}}"

/* In place of the one before, as the kubelet does it. */
static void put(const char *text)
{
	char next[80];
	FILE *file;

	snprintf(next, sizeof(next), "%s.new", path);
	file = fopen(next, "w");
	fputs(text, file);
	fclose(file);
	assert_int_equal(rename(next, path), 0);
}

static void assert_owner(struct tr_checkpoint *checkpoint, uint64_t since_ns,
			 const char *uid)
{
	char owner[TR_POD_UID];

	assert_int_equal(tr_checkpoint_read(checkpoint, path, "r", since_ns, NULL), 0);
	assert_int_equal(tr_checkpoint_owner(checkpoint, &x, owner, NULL), 0);
	assert_string_equal(owner, uid);
}

static void read_when_it_may_be_another(void **state)
{
	struct tr_checkpoint checkpoint = { 0 };
	uint64_t before_ns = tr_clock_ns();

	(void)state;
	put(FILE_OF(ENTRY("a")));
	assert_owner(&checkpoint, before_ns, "a");
	/* For a call that came before it was read it is new enough; for a later one it is not. */
	put(FILE_OF(ENTRY("b")));
	assert_owner(&checkpoint, before_ns, "a");
	assert_owner(&checkpoint, tr_clock_ns(), "b");
	/* One that has been the same for a while is not read again. */
	usleep(150000);
	assert_owner(&checkpoint, tr_clock_ns(), "b");
	assert_true(checkpoint.is_settled);
	snprintf(checkpoint.rows[0].uid, TR_POD_UID, "kept");
	assert_owner(&checkpoint, tr_clock_ns(), "kept");
	put(FILE_OF(ENTRY("c")));
	assert_owner(&checkpoint, tr_clock_ns(), "c");
	unlink(path);
	assert_int_equal(tr_checkpoint_read(&checkpoint, path, "r", tr_clock_ns(), NULL),
			 -ENOENT);
	assert_int_equal(checkpoint.count, 0);
	tr_checkpoint_free(&checkpoint);
}

static void two_pods_have_it(void **state)
{
	static const char text[] = FILE_OF(ENTRY("a") "," ENTRY("b") "," ENTRY("b"));
	struct tr_checkpoint checkpoint = { 0 };
	char owner[TR_POD_UID];

	(void)state;
	assert_int_equal(
		tr_checkpoint_parse(&checkpoint, text, sizeof(text) - 1, "r", NULL), 0);
	assert_int_equal(tr_checkpoint_owner(&checkpoint, &x, owner, NULL), -EBADMSG);
	tr_checkpoint_free(&checkpoint);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_when_it_may_be_another),
		cmocka_unit_test(two_pods_have_it),
	};

	snprintf(path, sizeof(path), "/tmp/tr-checkpoint-%d", (int)getpid());
	return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
