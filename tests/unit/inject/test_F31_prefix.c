/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever folder is chosen for the library, all paths that a container is given fit together. */
#include "tr_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/inject/cdi.h"
#include "deviceplugin/inject/install.h"
#include "reader.h"
#include "rig.h"
#include "tranche/paths.h"

static void try_prefix(const struct rig *rig, const char *prefix)
{
	static struct tr_installed installed;
	struct tr_cdi_slice slice = { .name = "s1" };
	struct tr_err err;
	json_t *file, *edits;
	char *line, *text;

	if (tr_install(prefix, TEST_LIBRARY, NULL, &installed, &err) < 0)
		fail_msg("%s", err.msg);
	assert_memory_equal(installed.hook, prefix, strlen(prefix));
	assert_memory_equal(installed.preload, prefix, strlen(prefix));
	slice.hook_path = installed.hook;
	slice.preload_path = installed.preload;
	assert_int_equal(tr_cdi_write(rig_path(rig, "cdi"), NULL, &slice, NULL), 0);
	edits = reader_edits(reader_file(rig_path(rig, "cdi")), "tranche.io/gpu", "s1",
			     &file);
	/* The container's preload file names the place where the library is mounted. */
	line = rig_read(reader_mount(edits, "/etc/ld.so.preload", "ro"), NULL);
	assert_int_equal(line[strlen(line) - 1], '\n');
	line[strlen(line) - 1] = '\0';
	assert_null(strpbrk(line, " \t:\n"));
	assert_string_equal(reader_mount(edits, line, "ro"), installed.hook);
	assert_int_equal(reader_count(edits, "mounts"), 2);
	free(line);
	json_decref(file);
	/* And no place is written anywhere that nobody chose. */
	text = rig_read(reader_file(rig_path(rig, "cdi")), NULL);
	assert_null(strstr(text, "/usr/local"));
	free(text);
}

static void test_prefixes(void **state)
{
	static const char *const prefixes[] = { "opt/tranche", "var/lib/t r:a\"nche",
						"usr/loc" };
	const struct rig *rig = *state;
	char prefix[128];

	for (size_t i = 0; i < TR_COUNT(prefixes); i++) {
		(void)snprintf(prefix, sizeof(prefix), "%s/%s", rig->folder, prefixes[i]);
		try_prefix(rig, prefix);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_prefixes, rig_make, rig_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
