/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deviceplugin/arm/record.h"
#include "tr_test.h"

#define BOOT "0b9a0ee4-5bd0-4e16-b8ac-8e1b0e9b4f0e"

static struct tr_alloc *make(enum tr_alloc_state state)
{
	static const char *const ids[] = { "GPU-2-1", "GPU-1-7" };
	static const struct tr_alloc_part parts[] = {
		{ .uuid = "GPU-1", .limit_bytes = UINT64_C(3000) << 20, .cores = 30 },
		{ .uuid = "GPU-2", .limit_bytes = INT64_MAX, .cores = 0, .cores_max = 100 },
	};
	struct tr_ids of = { ids, 2 };
	struct tr_book empty = { 0 };
	struct tr_alloc *alloc = tr_alloc_new(&empty, &of, 1790000000000000);

	alloc->state = state;
	if (state == TR_ALLOC_WAITING)
		return alloc;
	strcpy(alloc->space, "default");
	strcpy(alloc->pod, "p");
	strcpy(alloc->uid, "uid-1");
	strcpy(alloc->container, "main");
	alloc->index = 3;
	alloc->kind = TR_CONTAINER_SIDECAR;
	alloc->priority = TR_PRIORITY_HIGH;
	alloc->armed_unix_s = 1790000001;
	alloc->grant_serial = 9;
	tr_alloc_set_parts(alloc, parts, 2);
	return alloc;
}

static void assert_same(const struct tr_alloc *a, const struct tr_alloc *b)
{
	assert_string_equal(a->name, b->name);
	assert_int_equal(a->serial, b->serial);
	assert_int_equal(a->state, b->state);
	assert_int_equal(a->made_unix_s, b->made_unix_s);
	assert_int_equal(a->id_count, b->id_count);
	for (size_t i = 0; i < a->id_count; i++)
		assert_string_equal(a->ids[i], b->ids[i]);
	assert_string_equal(a->space, b->space);
	assert_string_equal(a->pod, b->pod);
	assert_string_equal(a->uid, b->uid);
	assert_string_equal(a->container, b->container);
	assert_int_equal(a->index, b->index);
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->priority, b->priority);
	assert_int_equal(a->armed_unix_s, b->armed_unix_s);
	assert_int_equal(a->grant_serial, b->grant_serial);
	assert_int_equal(a->part_count, b->part_count);
	for (size_t i = 0; i < a->part_count; i++) {
		assert_string_equal(a->parts[i].uuid, b->parts[i].uuid);
		assert_int_equal(a->parts[i].limit_bytes, b->parts[i].limit_bytes);
		assert_int_equal(a->parts[i].cores, b->parts[i].cores);
		assert_int_equal(a->parts[i].cores_max, b->parts[i].cores_max);
	}
}

static void round_trip(void **state)
{
	(void)state;
	for (unsigned s = 0; s < 2; s++) {
		struct tr_alloc *alloc = make((enum tr_alloc_state)s), *back = NULL;
		tr_auto_buf struct tr_buf text = { 0 };
		char boot[TR_BOOT_ID];

		tr_record_print(alloc, BOOT, &text);
		assert_int_equal(tr_record_parse(text.p, text.n, &back, boot, NULL), 0);
		assert_string_equal(boot, BOOT);
		assert_same(alloc, back);
		assert_string_equal(back->ids[0], "GPU-1-7"); /* sorted */
		tr_alloc_free(back);
		tr_alloc_free(alloc);
	}
}

static const char whole[] =
	"{\"version\":1,\"name\":\"s00000000004c4b40\",\"boot\":\"b\",\"state\":\"armed\","
	"\"made\":5,\"ids\":[\"x-1\"],\"owner\":{\"namespace\":\"n\",\"pod\":\"p\",\"uid\":"
	"\"u\","
	"\"container\":\"c\",\"index\":0,\"kind\":\"app\",\"priority\":\"normal\","
	"\"armed\":6,"
	"\"grant\":0,\"devices\":[{\"uuid\":\"GPU-1\",\"limit_bytes\":1,\"cores\":0,"
	"\"cores_max\":0}]}}";

/* What is put in place of what in `whole`, and what is said. */
static const struct bad {
	const char *from, *to;
	int r;
	const char *sentence;
} bads[] = {
	{ "\"version\":1", "\"version\":2", -EPROTONOSUPPORT, "version 2" },
	{ "\"version\":1", "\"version\":0", -EBADMSG, "version" },
	{ "\"version\":1,", "", -EBADMSG, "without a version" },
	{ "\"made\":5", "\"made\":5,\"made\":6", -EBADMSG, "not a JSON object" },
	{ "\"made\":5", "\"made\":5,\"more\":6", -EBADMSG, "\"more\" is no key" },
	{ "\"made\":5", "\"made\":-5", -EBADMSG, "made" },
	{ "\"made\":5", "\"made\":1e9", -EBADMSG, "made" },
	{ "s00000000004c4b40", "s00000000004c4b4", -EBADMSG, "not the name" },
	{ "s00000000004c4b40", "../../../etc/pass", -EBADMSG, "not the name" },
	{ "\"state\":\"armed\"", "\"state\":\"waiting\"", -EBADMSG, "has an owner" },
	{ "\"state\":\"armed\"", "\"state\":\"ARMED\"", -EBADMSG, "state" },
	{ "\"owner\"", "\"owner_\"", -EBADMSG, "no key" },
	{ "[\"x-1\"]", "[]", -EBADMSG, "no ids" },
	{ "[\"x-1\"]", "[\"x-1\",\"x-1\"]", -EBADMSG, "twice" },
	{ "[\"x-1\"]", "[7]", -EBADMSG, "id 0" },
	{ "[\"x-1\"]", "[\"\"]", -EBADMSG, "id 0" },
	{ "\"x-1\"", "\"0123456789012345678901234567890123456789012345678901234567890123\"",
	  -EBADMSG, "id 0" },
	{ "\"uid\":\"u\"", "\"uid\":\"\"", -EBADMSG, "uid" },
	{ "\"uid\":\"u\"", "\"uid\":\"a b\"", -EBADMSG, "uid is not printable" },
	{ "\"uid\":\"u\",", "", -EBADMSG, "uid" },
	{ "\"kind\":\"app\"", "\"kind\":\"apps\"", -EBADMSG, "kind" },
	{ "\"index\":0", "\"index\":1025", -EBADMSG, "index" },
	{ "\"limit_bytes\":1", "\"limit_bytes\":0", -EBADMSG, "limit_bytes" },
	{ "\"limit_bytes\":1", "\"limit_bytes\":9223372036854775808", -EBADMSG, "" },
	{ "\"cores\":0", "\"cores\":101", -EBADMSG, "cores" },
	{ "\"cores\":0", "\"corse\":1", -EBADMSG, "no key" },
	{ "[{\"uuid\"", "[5,{\"uuid\"", -EBADMSG, "not an object" },
	{ "\"cores_max\":0}]", "\"cores_max\":0},{\"uuid\":\"GPU-1\",\"limit_bytes\":1}]",
	  -EBADMSG, "twice" },
	{ "}]}}", "}]}}x", -EBADMSG, "not a JSON object" },
	{ "}]}}", "}]}", -EBADMSG, "not a JSON object" },
};

static void refuse(void **state)
{
	const struct bad *bad = *state;
	const char *at = strstr(whole, bad->from);
	char text[2048], boot[TR_BOOT_ID];
	struct tr_alloc *alloc = NULL;
	struct tr_err err = { 0 };

	assert_int_equal(tr_record_parse(whole, strlen(whole), &alloc, boot, &err), 0);
	tr_alloc_free(alloc);
	assert_non_null(at);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - whole), whole, bad->to,
		 at + strlen(bad->from));
	assert_int_equal(tr_record_parse(text, strlen(text), &alloc, boot, &err), bad->r);
	if (!strstr(err.msg, bad->sentence))
		fail_msg("%s: %s", bad->to, err.msg);
}

/* ---- files ---- */

static char dir[64];
static struct tr_records *records;

static void open_again(void)
{
	char sub[80];

	snprintf(sub, sizeof(sub), "%s/a/b", dir);
	assert_int_equal(tr_records_open(sub, &records, NULL), 0);
}

static int open_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/records-XXXXXX");
	assert_non_null(mkdtemp(dir));
	open_again();
	return 0;
}

static int close_dir(void **state)
{
	char command[100];

	(void)state;
	tr_records_close(records);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static unsigned met, failed;
static struct tr_alloc *last;

static void each(const char *name, int r, struct tr_alloc *alloc, const char *boot_id,
		 const struct tr_err *err, void *arg)
{
	(void)name;
	(void)arg;
	(void)err;
	met++;
	failed += r < 0;
	if (r == 0)
		assert_string_equal(boot_id, BOOT);
	tr_alloc_free(last);
	last = alloc;
}

static void put(const char *name, const char *text)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof(path), "%s/a/b/%s", dir, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void write_later(const struct tr_alloc *alloc)
{
	tr_auto_buf struct tr_buf text = { 0 };

	tr_record_print(alloc, BOOT, &text);
	tr_records_write(records, alloc->name, &text);
}

static int put_beside(const struct tr_alloc *alloc, struct tr_err *err)
{
	tr_auto_buf struct tr_buf text = { 0 };

	tr_record_print(alloc, BOOT, &text);
	return tr_record_put(dir, alloc->name, &text, err);
}

static void files(void **state)
{
	struct tr_alloc *alloc = make(TR_ALLOC_WAITING);
	char path[160];
	struct stat st;

	(void)state;
	write_later(alloc);
	tr_records_settle(records);
	snprintf(path, sizeof(path), "%s/a/b/%s.json", dir, alloc->name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	snprintf(path, sizeof(path), "%s/a/b", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	put("s0000000000000001.json", "");
	put("s0000000000000002.json", whole); /* of another name */
	put("s0000000000000003.json.new", "{");
	put("note", "not ours");
	met = failed = 0;
	assert_int_equal(tr_records_each(records, each, NULL, NULL), 0);
	assert_int_equal(met, 3);
	assert_int_equal(failed, 2);
	snprintf(path, sizeof(path), "%s/a/b/s0000000000000003.json.new", dir);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/a/b/note", dir);
	assert_int_equal(access(path, F_OK), 0);
	tr_records_remove(records, alloc->name);
	tr_records_remove(records, alloc->name);
	tr_records_settle(records);
	met = 0;
	assert_int_equal(tr_records_each(records, each, NULL, NULL), 0);
	assert_int_equal(met, 2);
	assert_int_equal(tr_records_problem(records), 0);
	tr_alloc_free(last);
	last = NULL;
	tr_alloc_free(alloc);
}

/* In order, the last one stands; and closing waits for it. */
static void many_writes(void **state)
{
	struct tr_alloc *alloc = make(TR_ALLOC_ARMED);

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		alloc->grant_serial = i;
		write_later(alloc);
		if (i % 7 == 0)
			tr_records_remove(records, alloc->name);
	}
	tr_records_close(records);
	open_again();
	met = failed = 0;
	assert_int_equal(tr_records_each(records, each, NULL, NULL), 0);
	assert_int_equal(met, 1);
	assert_int_equal(failed, 0);
	assert_int_equal(last->grant_serial, 2999);
	tr_alloc_free(last);
	last = NULL;
	tr_alloc_free(alloc);
}

static void no_room(void **state)
{
	struct tr_alloc *alloc = make(TR_ALLOC_ARMED);
	struct tr_err err = { 0 };
	struct tr_records *other = NULL;
	char path[160];

	(void)state;
	/* The name of the next write is taken by a directory: as good as no room. */
	snprintf(path, sizeof(path), "%s/a/b/%s.json.new", dir, alloc->name);
	assert_int_equal(mkdir(path, 0700), 0);
	write_later(alloc);
	tr_records_settle(records);
	assert_int_equal(tr_records_problem(records), -EISDIR);
	assert_int_equal(tr_records_problem(records), 0);
	put("file", "");
	snprintf(path, sizeof(path), "%s/a/b/file/x", dir);
	assert_int_equal(tr_records_open(path, &other, &err), -ENOTDIR);
	tr_alloc_free(alloc);
}

static void beside_slice(void **state)
{
	struct tr_alloc *alloc = make(TR_ALLOC_ARMED), *back = NULL;
	struct tr_err err = { 0 };
	char path[160], boot[TR_BOOT_ID];

	(void)state;
	assert_int_equal(put_beside(alloc, &err), -ENOENT);
	snprintf(path, sizeof(path), "%s/%s", dir, alloc->name);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(tr_record_get(dir, alloc->name, &back, boot, &err), -ENOENT);
	assert_int_equal(put_beside(alloc, &err), 0);
	alloc->grant_serial = 77;
	assert_int_equal(put_beside(alloc, &err), 0);
	assert_int_equal(tr_record_get(dir, alloc->name, &back, boot, &err), 0);
	assert_same(alloc, back);
	tr_alloc_free(back);
	tr_alloc_free(alloc);
}

static void boot_id(void **state)
{
	char id[TR_BOOT_ID];

	(void)state;
	assert_int_equal(tr_boot_id(id, NULL, NULL), 0);
	assert_int_equal(strlen(id), 36);
	assert_int_equal(tr_boot_id(id, "/proc/self/nothing", NULL), -ENOENT);
}

int main(void)
{
	struct CMUnitTest tests[60] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(boot_id),
		cmocka_unit_test_setup_teardown(files, open_dir, close_dir),
		cmocka_unit_test_setup_teardown(many_writes, open_dir, close_dir),
		cmocka_unit_test_setup_teardown(no_room, open_dir, close_dir),
		cmocka_unit_test_setup_teardown(beside_slice, open_dir, close_dir),
	};
	size_t n = 6;

	for (size_t i = 0; i < TR_COUNT(bads); i++)
		tests[n++] =
			(struct CMUnitTest){ .name = bads[i].to,
					     .test_func = refuse,
					     .initial_state = (void *)(uintptr_t)&bads[i] };
	return _cmocka_run_group_tests("record", tests, n, NULL, NULL);
}
