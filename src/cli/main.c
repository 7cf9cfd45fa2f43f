/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/keep.h"

#ifndef TR_VERSION
#define TR_VERSION "unknown"
#endif

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
#define TR_COMMAND(name, ...) { #name, tr_cli_##name },
#define TR_OPTION(...)
#define TR_EXAMPLE(...)
#include "cli/commands.def"
#undef TR_COMMAND
#undef TR_OPTION
#undef TR_EXAMPLE
	{ TR_KEEP_COMMAND,
	  tr_cli_keep }, /* what `run` starts beside the program; not for people */
};

static int show_help(int argc, char **argv)
{
	struct tr_err err = { 0 };

	if (argc < 2) {
		tr_help_print(NULL);
		return 0;
	}
	for (size_t i = 0; i + 1 < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0) {
			tr_help_print(argv[1]);
			return 0;
		}
	(void)tr_fail(&err, 22, "\"%s\" is not a command; `tranche --help` lists them",
		      argv[1]);
	return tr_cli_fail(&err, TR_EXIT_USAGE);
}

int main(int argc, char **argv)
{
	struct tr_err err = { 0 };

	if (argc < 2) {
		tr_help_print(NULL);
		return TR_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return show_help(argc - 1, argv + 1);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
		(void)printf("tranche %s\n", TR_VERSION);
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	(void)tr_fail(&err, 22, "\"%s\" is not a command; `tranche --help` lists them",
		      argv[1]);
	return tr_cli_fail(&err, TR_EXIT_USAGE);
}
