/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/launch.h"
#include "rt/cleanup.h"

/* Puts DIRECTORY before what VARIABLE names already. */
static void prepend(const char *variable, const char *directory, char separator)
{
	const char *old = getenv(variable);
	char value[8192];

	if (old && *old)
		(void)snprintf(value, sizeof(value), "%s%c%s", directory, separator, old);
	else
		(void)snprintf(value, sizeof(value), "%s", directory);
	(void)setenv(variable, value, 1);
}

/* Runs a tool of the simulator; its sentence on standard error is the user's answer. */
static int run_tool(const char *sim, const char *const *argv, struct tr_err *err)
{
	char path[PATH_MAX];
	int status;
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s/%s", sim, argv[0]);
	pid = fork();
	if (pid == 0) {
		/* execv() does not write, its type only cannot say so */
		(void)execv(path, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return tr_fail_errno(err, "run %s", path);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return tr_fail(err, EINVAL, "the simulated machine did not start");
	return 0;
}

/* The machine ends with this process, however that ends, and takes its directory along. */
static int start_machine(const char *sim, const char *machine, struct tr_err *err)
{
	char own_pid[16];

	(void)snprintf(own_pid, sizeof(own_pid), "%d", (int)getpid());
	return run_tool(sim,
			(const char *[]){ "sim-ctl", "start", machine, "--lifetime-pid",
					  own_pid, "--own-dir", NULL },
			err);
}

/* The library of that driver: dlsym does not find in it what it lacks. */
static int make_driver(const char *sim, const char *machine, const char *version,
		       struct tr_err *err)
{
	char from[PATH_MAX + 16], to[PATH_MAX];
	int r;

	(void)snprintf(from, sizeof(from), "%s/libcuda.so.1", sim);
	(void)snprintf(to, sizeof(to), "%s/libcuda.so.1", machine);
	r = run_tool(sim, (const char *[]){ "sim-older", from, to, version, NULL }, err);
	if (r == 0)
		prepend("LD_LIBRARY_PATH", machine, ':');
	return r;
}

static void describe_machine(const struct tr_sim_options *options, const char *machine)
{
	(void)setenv("TRANCHE_SIM", machine, 1);
	if (options->gpus)
		(void)setenv("TRANCHE_SIM_GPUS", options->gpus, 1);
	if (options->driver && strcmp(options->driver, "newer") == 0)
		(void)setenv("TRANCHE_SIM_NEWER", "1", 1);
	else if (options->driver)
		(void)setenv("TRANCHE_SIM_DRIVER", options->driver, 1);
	if (options->pids)
		(void)setenv("TRANCHE_SIM_PIDS", options->pids, 1);
}

int tr_sim_enter(const struct tr_sim_options *options, char *machine, size_t room,
		 struct tr_err *err)
{
	char sim[PATH_MAX];
	int r = tr_find_part("sim", sim, sizeof(sim), err);

	if (r < 0)
		return r;
	machine[0] = '\0';
	prepend("LD_LIBRARY_PATH", sim, ':');
	if (!options)
		return 0;
	(void)snprintf(machine, room, "/tmp/tranche-sim.XXXXXX");
	if (!mkdtemp(machine))
		return tr_fail_errno(err, "make %s", machine);
	describe_machine(options, machine);
	r = start_machine(sim, machine, err);
	if (r < 0)
		(void)rmdir(machine);
	else if (options->driver)
		r = make_driver(sim, machine, options->driver, err);
	if (r < 0)
		tr_sim_leave(machine);
	return r;
}

void tr_sim_leave(const char *machine)
{
	char sim[PATH_MAX];

	if (!machine[0] || tr_find_part("sim", sim, sizeof(sim), NULL) < 0)
		return;
	(void)run_tool(sim, (const char *[]){ "sim-ctl", "stop", machine, NULL }, NULL);
}

int tr_cli_sim(int argc, char **argv)
{
	struct tr_sim_options own = { 0 };
	struct tr_option options[] = {
		{ "gpus", &own.gpus, NULL },
		{ "driver", &own.driver, NULL },
		{ "pids", &own.pids, NULL },
	};
	bool is_own;
	struct tr_args args;
	struct tr_err err = { 0 };
	char machine[64];
	sigset_t mask;
	pid_t pid = 0;
	int status, r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), false,
				      &err);

	if (r == 0 && args.rest_count == 0)
		r = tr_fail(&err, EINVAL, "sim: which program? tranche sim -- PROGRAM");
	if (r < 0)
		return tr_cli_usage(&err, r);
	is_own = own.gpus || own.driver || own.pids;
	r = tr_sim_enter(is_own ? &own : NULL, machine, sizeof(machine), &err);
	if (r < 0)
		return tr_cli_fail(&err, r == -EINVAL ? TR_EXIT_USAGE : 1);
	tr_signals_hold(&mask);
	r = tr_launch(&pid, args.rest, &mask, NULL, NULL, &err);
	if (r < 0) {
		tr_sim_leave(machine);
		return tr_launch_failed(&err, r);
	}
	status = tr_launch_wait(pid, NULL, NULL);
	tr_sim_leave(machine);
	return tr_launch_status(status);
}
