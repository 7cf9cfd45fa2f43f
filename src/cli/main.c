/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/worker.h"
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
	/* Not for people: what `run` starts beside the program, and what `bench` runs in slices. */
	{ TR_KEEP_COMMAND, tr_cli_keep },
	{ TR_TENANT_COMMAND, tr_bench_tenant },
};

#define HIDDEN 2 /* commands at the end of the table */

static int show_help(int argc, char **argv)
{
	struct tr_err err = { 0 };

	if (argc < 2) {
		tr_help_print(NULL);
		return 0;
	}
	for (size_t i = 0; i + HIDDEN < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0) {
			tr_help_print(argv[1]);
			return 0;
		}
	(void)tr_fail(&err, 22, "\"%s\" is not a command; `tranche --help` lists them",
		      argv[1]);
	return tr_cli_fail(&err, TR_EXIT_USAGE);
}

/* A closed standard stream would be the number of the next file we open. The program to run finds
 * it closed as it was. What is written to a closed output is lost: it fails, as on a full disk. */
static void hold_streams(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		/* The lowest number that is free is this one. */
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY | O_CLOEXEC
							  : O_RDWR | O_CLOEXEC) != fd)
			return;
}

/* What could not be written was not said. */
static int flush(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	perror("tranche: standard output");
	return status ? status : 1;
}

int main(int argc, char **argv)
{
	struct tr_err err = { 0 };

	hold_streams();

	if (argc < 2) {
		tr_help_print(NULL);
		return TR_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return flush(show_help(argc - 1, argv + 1));
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
		(void)printf("tranche %s\n", TR_VERSION);
		return flush(0);
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return flush(commands[i].run(argc - 1, argv + 1));
	(void)tr_fail(&err, 22, "\"%s\" is not a command; `tranche --help` lists them",
		      argv[1]);
	return tr_cli_fail(&err, TR_EXIT_USAGE);
}
