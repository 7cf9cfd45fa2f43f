/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "rt/library.h"

int tr_cli_install(int argc, char **argv)
{
	const char *prefix = "/usr/local";
	struct tr_option options[] = { { "prefix", &prefix, NULL } };
	char library[PATH_MAX], dir[PATH_MAX / 2], name[TR_LIBRARY_NAME];
	struct tr_args args;
	struct tr_err err = { 0 };
	int r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), true, &err);

	if (r == 0 && args.rest_count)
		r = tr_fail(&err, EINVAL, "install takes no \"%s\"", args.rest[0]);
	if (r == 0 && (prefix[0] != '/' || strlen(prefix) > sizeof(dir) - 32))
		r = tr_fail(&err, EINVAL, "--prefix \"%s\": an absolute path", prefix);
	if (r < 0)
		return tr_cli_usage(&err, r);
	(void)snprintf(dir, sizeof(dir), "%s/lib/tranche",
		       strcmp(prefix, "/") == 0 ? "" : prefix);
	r = tr_find_part("libvgpu.so", library, sizeof(library), &err);
	if (r == 0)
		r = tr_library_place(dir, library, NULL, name, &err);
	if (r < 0)
		return tr_cli_fail(&err, 1);
	(void)printf("%s/libvgpu.so -> %s\n", dir, name);
	return 0;
}
