/* SPDX-License-Identifier: Apache-2.0 */
#include "reader.h"

#include "tr_test.h"

#include <ctype.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_listed(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(word, *list) == 0)
			return true;
	return false;
}

static void expect_fields(const json_t *object, const char *const *known)
{
	const char *key;
	json_t *value;

	assert_true(json_is_object(object));
	json_object_foreach ((json_t *)(uintptr_t)object, key, value)
		if (!is_listed(key, known))
			fail_msg("unknown field %s", key);
}

static const char *text_of(const json_t *object, const char *field)
{
	const json_t *value = json_object_get(object, field);

	if (!value)
		return NULL;
	assert_true(json_is_string(value));
	assert_int_equal(strlen(json_string_value(value)), json_string_length(value));
	return json_string_value(value);
}

/* A letter (or, FIRST_DIGIT, a digit) first, a letter or digit last, those and MARKS between. */
static void expect_name(const char *name, size_t n, bool first_digit, const char *marks)
{
	assert_true(n > 0);
	assert_true(isalpha((unsigned char)name[0]) ||
		    (first_digit && isdigit((unsigned char)name[0])));
	assert_true(isalnum((unsigned char)name[n - 1]));
	for (size_t i = 0; i < n; i++)
		assert_true(isalnum((unsigned char)name[i]) || strchr(marks, name[i]));
}

static void expect_path(const char *path)
{
	assert_non_null(path);
	assert_int_equal(path[0], '/');
	assert_null(strstr(path, "/../"));
}

static void expect_mount(const json_t *mount)
{
	static const char *const known[] = { "hostPath", "containerPath", "options", NULL };
	static const char *const options[] = { "ro",    "rw",       "nosuid",
					       "nodev", "noexec",   "bind",
					       "rbind", "rprivate", NULL };
	const json_t *option;
	size_t i;

	expect_fields(mount, known);
	expect_path(text_of(mount, "hostPath"));
	expect_path(text_of(mount, "containerPath"));
	json_array_foreach (json_object_get(mount, "options"), i, option)
		assert_true(is_listed(json_string_value(option), options));
}

static void expect_node(const json_t *node, bool *needs_05)
{
	static const char *const known[] = { "path", "hostPath", NULL };

	expect_fields(node, known);
	expect_path(text_of(node, "path"));
	if (text_of(node, "hostPath")) {
		expect_path(text_of(node, "hostPath"));
		*needs_05 = true;
	}
}

static void expect_edits(const json_t *edits, bool *needs_05)
{
	static const char *const known[] = { "env", "deviceNodes", "mounts", NULL };
	const json_t *item;
	size_t i, all = 0;

	expect_fields(edits, known);
	json_array_foreach (json_object_get(edits, "env"), i, item) {
		const char *equals = strchr(json_string_value(item), '=');

		assert_non_null(equals);
		expect_name(json_string_value(item),
			    (size_t)(equals - json_string_value(item)), false, "_");
		all++;
	}
	json_array_foreach (json_object_get(edits, "deviceNodes"), i, item) {
		expect_node(item, needs_05);
		all++;
	}
	json_array_foreach (json_object_get(edits, "mounts"), i, item) {
		expect_mount(item);
		all++;
	}
	assert_true(all > 0);
}

const char *reader_file(const char *folder)
{
	static char path[512];
	glob_t found;

	(void)snprintf(path, sizeof(path), "%s/tranche-gpu-?.json", folder);
	assert_int_equal(glob(path, 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	(void)snprintf(path, sizeof(path), "%s", found.gl_pathv[0]);
	globfree(&found);
	return path;
}

json_t *reader_edits(const char *path, const char *kind, const char *name, json_t **file)
{
	static const char *const known[] = { "cdiVersion", "kind", "devices", NULL };
	static const char *const of_device[] = { "name", "containerEdits", NULL };
	const char *slash = strchr(kind, '/'), *version;
	json_t *edits = NULL, *device;
	bool needs_05 = false;
	json_error_t why;
	size_t i;

	*file = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
	if (!*file)
		fail_msg("%s: %s", path, why.text);
	expect_fields(*file, known);
	assert_string_equal(text_of(*file, "kind"), kind);
	assert_non_null(slash);
	expect_name(kind, (size_t)(slash - kind), false, "_-.");
	expect_name(slash + 1, strlen(slash + 1), false, "_-");
	json_array_foreach (json_object_get(*file, "devices"), i, device) {
		const char *its = text_of(device, "name");

		expect_fields(device, of_device);
		assert_non_null(its);
		expect_name(its, strlen(its), true, "_-.:");
		needs_05 |= isdigit((unsigned char)its[0]) != 0;
		expect_edits(json_object_get(device, "containerEdits"), &needs_05);
		if (strcmp(its, name) == 0)
			edits = json_object_get(device, "containerEdits");
	}
	version = text_of(*file, "cdiVersion");
	assert_non_null(version);
	if (strcmp(version, "0.5.0") != 0)
		assert_true(!needs_05 && strcmp(version, "0.3.0") == 0);
	assert_non_null(edits);
	return edits;
}

static const json_t *one_of(const json_t *edits, const char *list, const char *field,
			    const char *want)
{
	const json_t *found = NULL, *item;
	size_t i;

	json_array_foreach (json_object_get(edits, list), i, item)
		if (strcmp(text_of(item, field), want) == 0) {
			assert_null(found); /* one thing in one place */
			found = item;
		}
	return found;
}

const char *reader_mount(const json_t *edits, const char *container, const char *option)
{
	const json_t *mount = one_of(edits, "mounts", "containerPath", container), *item;
	size_t i;

	if (!mount)
		return NULL;
	json_array_foreach (json_object_get(mount, "options"), i, item)
		if (strcmp(json_string_value(item), option) == 0)
			return text_of(mount, "hostPath");
	fail_msg("%s is not mounted %s", container, option);
	return NULL;
}

const char *reader_node(const json_t *edits, const char *container)
{
	const json_t *node = one_of(edits, "deviceNodes", "path", container);
	const char *host = node ? text_of(node, "hostPath") : NULL;

	return node ? host ? host : container : NULL;
}

const char *reader_env(const json_t *edits, const char *name)
{
	size_t i, n = strlen(name);
	const json_t *item;

	json_array_foreach (json_object_get(edits, "env"), i, item)
		if (strncmp(json_string_value(item), name, n) == 0 &&
		    json_string_value(item)[n] == '=')
			return json_string_value(item) + n + 1;
	return NULL;
}

size_t reader_count(const json_t *edits, const char *field)
{
	return json_array_size(json_object_get(edits, field));
}
