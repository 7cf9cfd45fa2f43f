/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deviceplugin/inject/ldcache.h"
#include "rig.h"

struct list {
	char *text;
	size_t n, room, count;
};

static void on_library(const char *name, const char *path, void *arg)
{
	struct list *list = arg;
	size_t more = strlen(name) + strlen(path) + 8;

	if (list->n + more > list->room) {
		list->room = 2 * (list->n + more);
		list->text = realloc(list->text, list->room);
		assert_non_null(list->text);
	}
	list->n += (size_t)sprintf(list->text + list->n, "%s => %s\n", name, path);
	list->count++;
}

#if defined(__x86_64__)
#define OURS "libc6,x86-64"
#else
#define OURS "libc6,AArch64"
#endif

/* What the program that wrote a cache says is in it must be what we read. */
static void compare(const char *cache)
{
	char command[512];
	struct list want = { 0 }, got = { 0 };
	char name[256], kind[64], path[512], line[1024];
	size_t n;
	char *bytes = rig_read(cache, &n);
	FILE *said;

	(void)snprintf(command, sizeof(command), "/sbin/ldconfig -C %s -p", cache);
	said = popen(command, "re");
	assert_non_null(said);
	while (fgets(line, sizeof(line), said))
		if (sscanf(line, " %255s (%63[^)]) => %511s", name, kind, path) == 3 &&
		    strcmp(kind, OURS) == 0)
			on_library(name, path, &want);
	(void)pclose(said);
	assert_int_equal(tr_ldcache_each(bytes, n, on_library, &got, NULL), 0);
	assert_true(want.count > 10);
	assert_string_equal(got.text, want.text);
	free(bytes);
	free(want.text);
	free(got.text);
}

static void test_own_cache(void **state)
{
	(void)state;
	if (access("/etc/ld.so.cache", R_OK) < 0 || access("/sbin/ldconfig", X_OK) < 0)
		skip();
	compare("/etc/ld.so.cache");
}

static void test_formats_of_ldconfig(void **state)
{
	static const char *const formats[] = { "new", "compat" };
	const struct rig *rig = *state;
	char command[1024];

	if (access("/sbin/ldconfig", X_OK) < 0)
		skip();
	rig_text(rig, "conf", "/usr/lib/x86_64-linux-gnu\n/usr/lib/aarch64-linux-gnu\n");
	for (size_t i = 0; i < TR_COUNT(formats); i++) {
		(void)snprintf(command, sizeof(command),
			       "/sbin/ldconfig -X -c %s -f %s -C %s 2>/dev/null",
			       formats[i], rig_path(rig, "conf"), rig_path(rig, "cache"));
		assert_int_equal(system(command), 0);
		compare(rig_path(rig, "cache"));
	}
}

static const struct rig_entry entries[] = {
	{ RIG_KIND, "libcuda.so.1", "/usr/lib64/libcuda.so.1", 0 },
	{ RIG_KIND, "libcuda.so.1", "/usr/lib64/glibc-hwcaps/v3/libcuda.so.1", 1ull << 62 },
	{ 0x0003, "libcuda.so.1", "/usr/lib/libcuda.so.1", 0 }, /* 32 bits */
	{ RIG_KIND, "libnvidia-ml.so.1", "/usr/lib64/libnvidia-ml.so.1", 0 },
};

static void test_whose(void **state)
{
	unsigned char cache[4096];
	size_t n = rig_cache(cache, entries, TR_COUNT(entries));
	struct list got = { 0 };

	(void)state;
	assert_int_equal(tr_ldcache_each(cache, n, on_library, &got, NULL), 0);
	assert_string_equal(got.text,
			    "libcuda.so.1 => /usr/lib64/libcuda.so.1\n"
			    "libnvidia-ml.so.1 => /usr/lib64/libnvidia-ml.so.1\n");
	free(got.text);
}

static int read_it(const unsigned char *cache, size_t n)
{
	struct list got = { 0 };
	/* Exactly as long, so that a sanitizer sees a step too far. */
	unsigned char *exact = malloc(n ? n : 1);
	int r;

	assert_non_null(exact);
	memcpy(exact, cache, n);
	r = tr_ldcache_each(exact, n, on_library, &got, NULL);
	free(exact);
	free(got.text);
	return r == 0 ? (int)got.count : r;
}

static void test_cut_short(void **state)
{
	unsigned char cache[4096];
	size_t n = rig_cache(cache, entries, TR_COUNT(entries));

	(void)state;
	assert_int_equal(read_it(cache, n), 2);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(read_it(cache, i), -EBADMSG);
}

static void test_broken(void **state)
{
	static const struct {
		size_t at;
		uint32_t word;
	} breaks[] = {
		{ 0, 0 },
		{ 16, 0x32312e31 },
		{ 20, 0xffffffff },
		{ 20, 5 },
		{ 24, 0xffffffff },
		{ 24, 4000 },
		{ 28, 3 },
		{ 48 + 4, 0 },
		{ 48 + 4, 47 },
		{ 48 + 8, 3900 },
		{ 48 + 8, 0xfffffff0 },
		{ 48 + 8, 48 + 4 * 24 },
		{ 48 + 24 + 4, 10 },
	};
	unsigned char cache[4096];

	(void)state;
	for (size_t i = 0; i < TR_COUNT(breaks); i++) {
		size_t n = rig_cache(cache, entries, TR_COUNT(entries));

		memcpy(cache + breaks[i].at, &breaks[i].word, 4);
		if (read_it(cache, n) != -EBADMSG)
			fail_msg("%u at %zu passed", breaks[i].word, breaks[i].at);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_cache),
		cmocka_unit_test_setup_teardown(test_formats_of_ldconfig, rig_make,
						rig_remove),
		cmocka_unit_test(test_whose),
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
