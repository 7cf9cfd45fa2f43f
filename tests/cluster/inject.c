/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inject CDI_DIR PREFIX LIBRARY NAME SLICE_DIR MINOR...: what the agent does before a container starts, on a node of a test: finds
 * the driver, installs and probes the library, writes both CDI files. Prints version and library.
 */
#include <stdio.h>
#include <stdlib.h>

#include "deviceplugin/inject/cdi.h"
#include "deviceplugin/inject/install.h"
#include "deviceplugin/inject/probe.h"

#define MINORS_MAX 64

static int write_files(char **argv, const struct tr_driver_files *driver,
		       const struct tr_installed *installed, int count, struct tr_err *err)
{
	int minors[MINORS_MAX];
	struct tr_cdi_slice slice = { .name = argv[4],
				      .slice_dir = argv[5],
				      .minors = minors,
				      .minor_count = (size_t)count,
				      .hook_path = installed->hook,
				      .preload_path = installed->preload };
	int r;

	for (int i = 0; i < count; i++)
		minors[i] = atoi(argv[6 + i]);
	r = tr_cdi_write_driver(argv[1], driver, err);
	return r < 0 ? r : tr_cdi_write(argv[1], driver, &slice, err);
}

int main(int argc, char **argv)
{
	static struct tr_installed installed;
	struct tr_driver_where where = { 0 };
	struct tr_driver_files driver = { 0 };
	struct tr_err err = { 0 };
	int r, status;

	if (tr_probe_answer(argc, argv, &status))
		return status;
	if (argc < 6 || argc - 6 > MINORS_MAX)
		return 2;
	r = tr_driver_find(&where, &driver, &err);
	if (r == 0)
		r = tr_install(argv[2], argv[3], NULL, &installed, &err);
	if (r == 0)
		r = tr_probe(installed.hook, NULL, NULL, 10000, &err);
	if (r == 0)
		r = write_files(argv, &driver, &installed, argc - 6, &err);
	if (r < 0)
		(void)fprintf(stderr, "%s\n", err.msg);
	else
		(void)printf("%s %s\n", driver.version, installed.hook);
	tr_driver_free(&driver);
	return r < 0 ? 1 : 0;
}
