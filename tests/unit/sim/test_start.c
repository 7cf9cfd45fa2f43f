/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"
#include "rm/inspect.h"
#include "rm/rm.h"

/* How a machine begins and ends, and what it can be told. */

#define MIB    ((uint64_t)1 << 20)
#define RACERS 64
#define RACES  5

struct gate {
	int start[2], ready[2], end[2];
};

static void race(void *arg)
{
	struct gate *g = arg;
	struct rm_phys a;
	char c;

	close(g->start[1]);
	close(g->end[1]);
	MUST(read(g->start[0], &c, 1) ==
	     0); /* the gate opens when its last writer closes */
	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_CONTEXT) == 0);
	MUST(write(g->ready[1], "x", 1) == 1);
	MUST(read(g->end[0], &c, 1) == 0);
}

static void race_once(void)
{
	static struct rm_client clients[RACERS + 8];
	size_t n = RACERS + 8;
	struct gate g;
	pid_t pids[RACERS];
	char c;

	MUST(pipe(g.start) == 0 && pipe(g.ready) == 0 && pipe(g.end) == 0);
	for (int i = 0; i < RACERS; i++)
		pids[i] = start_child(race, &g);
	close(g.start[1]);
	for (int i = 0; i < RACERS; i++)
		MUST(read(g.ready[0], &c, 1) == 1);
	MUST(rm_open() == 0);
	MUST(used_on(0) == RACERS * MIB); /* all met at one machine */
	MUST(rm_clients(clients, &n) == 0 && n == RACERS + 2);
	close(g.end[1]);
	for (int i = 0; i < RACERS; i++)
		join_child(pids[i]);
	MUST(used_on(0) == 0);
	MUST(rm_stop() == 0);
}

static void race_in_child(void *arg)
{
	(void)arg;
	race_once();
}

/* Each race but the first also meets a machine that is just ending. */
static void prove_race(void)
{
	for (int i = 0; i < RACES; i++)
		join_child(start_child(race_in_child, NULL));
}

static int signals_seen;

static void count_signal(int number)
{
	(void)number;
	signals_seen++;
}

static void prove_manners(void)
{
	struct sigaction count = { .sa_handler = count_signal };
	struct pollfd p;
	int fds[2];
	char c;

	MUST(sigaction(SIGCHLD, &count, NULL) == 0);
	MUST(pipe(fds) ==
	     0); /* not close-on-exec: a kernel process that keeps it is seen */
	MUST(rm_open() == 0);
	MUST(signals_seen == 0);
	MUST(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD);
	close(fds[1]);
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	MUST(poll(&p, 1, 2000) == 1 && read(fds[0], &c, 1) == 0);
}

static void use_other_machine(void *arg)
{
	struct rm_phys a, b;
	uint8_t *name = arg;

	MUST(mkdir("other", 0700) == 0);
	setenv("TRANCHE_SIM", realpath("other", NULL), 1);
	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_CONTEXT) == 0);
	MUST(used_on(0) == MIB); /* not 3 */
	MUST(memcmp(rm_machine()->devices[0].uuid, name + 64, 16) != 0);
	MUST(rm_named(name, &b, NULL, &(size_t){ 0 }, NULL) == -ENOENT);
	MUST(rm_stop() == 0);
	while (access("other/socket", F_OK) == 0)
		usleep(1000);
	MUST(unlink("other/lock") == 0 && rmdir("other") == 0);
}

static void prove_two_machines(void)
{
	uint8_t name[64 + 16];
	struct rm_phys a;

	MUST(chdir(getenv("TRANCHE_SIM")) == 0);
	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, 2 * MIB, RM_CONTEXT) == 0);
	MUST(rm_name(a.id, "x", 1, name) == 0);
	memcpy(name + 64, rm_machine()->devices[0].uuid, 16);
	join_child(start_child(use_other_machine, name));
	MUST(used_on(0) == 2 * MIB);
}

static void outlast_lingering(void *arg)
{
	const char *path = arg;

	MUST(rm_open() == 0);
	MUST(access(path, F_OK) == 0);
	usleep(600000); /* three times as long as it lingers, but it has a client */
	MUST(access(path, F_OK) == 0);
}

static void prove_end(void)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/socket", getenv("TRANCHE_SIM"));
	join_child(start_child(outlast_lingering, path));
	MUST(access(path, F_OK) == 0); /* its last client has only just gone */
	for (int tries = 0; tries < 300 && access(path, F_OK) == 0; tries++)
		usleep(10000);
	MUST(access(path, F_OK) != 0);
	MUST(rm_open() == 0); /* and it comes again */
}

static void open_and_ask(void *arg)
{
	(void)arg;
	MUST(rm_open() == 0);
	MUST(used_on(0) == 0);
}

static void prove_stopped(void)
{
	struct rm_memory memory;
	char path[200];

	MUST(rm_open() == 0);
	snprintf(path, sizeof(path), "%s/socket", getenv("TRANCHE_SIM"));
	MUST(rm_stop() == 0);
	while (access(path, F_OK) == 0)
		usleep(1000);
	MUST(rm_memory(0, &memory) == -EIO);
	MUST(rm_open() == 0); /* stays lost: what it had is gone */
	MUST(rm_memory(0, &memory) == -EIO);
	/* what SIGKILL leaves, a socket without a listener, is no obstacle to the next
	 * machine */
	MUST(mknod(path, S_IFSOCK | 0600, 0) == 0);
	join_child(start_child(open_and_ask, NULL));
}

static void prove_bad_gpus(void)
{
	MUST(rm_open() == -EINVAL);
	MUST(strstr(rm_reason(), "TRANCHE_SIM_GPUS") && strstr(rm_reason(), "65xh100"));
	MUST(!rm_is_open());
}

static void prove_bad_file(void)
{
	write_machine_file("settings", "# fine\ndriver = 12.4\npids = all\n");
	MUST(rm_open() == -EINVAL);
	MUST(strstr(rm_reason(), "settings:3") && strstr(rm_reason(), "\"all\""));
	write_machine_file("settings", "driver = 12.4\npids = none\n");
	MUST(rm_open() == 0);
	MUST(rm_machine()->driver_version == 12040);
	MUST(rm_machine()->pid_mode == RM_PIDS_NONE);
	MUST(unlinkat(open(getenv("TRANCHE_SIM"), O_RDONLY), "settings", 0) == 0);
}

static void prove_bad_directory(void)
{
	setenv("TRANCHE_SIM", "relative/path", 1);
	MUST(rm_open() == -EINVAL);
	setenv("TRANCHE_SIM", "/nowhere/at/all", 1);
	MUST(rm_open() == -ENODEV);
	MUST(strstr(rm_reason(), "/nowhere/at/all"));
}

static void prove_environment_faults(void)
{
	setenv("TRANCHE_SIM_FAULT", "cuMemAlloc_v2:2=2 cuMemF*:3+=7", 1);
	MUST(rm_open() == 0);
	MUST(rm_fault("cuMemAlloc_v2") == -1);
	MUST(rm_fault("cuMemAlloc_v2") == 2);
	MUST(rm_fault("cuMemAlloc_v2") == -1);
	MUST(rm_fault("cuMemFree_v2") == -1 && rm_fault("cuMemFreeAsync") == -1);
	MUST(rm_fault("cuMemFree_v2") == 7 && rm_fault("cuMemFree_v2") == 7);
	MUST(rm_fault("cuMemAlloc") == -1);
}

static void prove_live_faults(void)
{
	MUST(rm_open() == 0);
	MUST(rm_fault("cuLaunchKernel") == -1);
	write_machine_file("faults", "# an edit while it runs\ncuLaunchKernel=700\n");
	used_on(0); /* an answer of the machine: it has seen the edit */
	MUST(rm_fault("cuLaunchKernel") == 700);
	write_machine_file("faults", "cuLaunchKernel=seven");
	used_on(0);
	MUST(rm_fault("cuLaunchKernel") == -1); /* a mistake counts as no fault at all */
	write_machine_file("faults", "cuLaunchKernel=lost");
	used_on(0);
	MUST(rm_fault("cuLaunchKernel") == 999);
	write_machine_file("faults", "");
	used_on(0);
	MUST(rm_fault("cuCtxSynchronize") == 999); /* what is lost stays lost */
	MUST(rm_fault("nvmlDeviceGetMemoryInfo") == 15);
	MUST(rm_fault("cuGetErrorString") == -1);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void hang(void *arg)
{
	(void)arg;
	rm_open();
	rm_fault("cuCtxSynchronize");
}

static void prove_slow_faults(void)
{
	double before = seconds();
	pid_t pid;

	setenv("TRANCHE_SIM_FAULT", "cuInit=delay:50ms,cuCtxSynchronize=hang", 1);
	MUST(rm_fault("cuInit") == -1); /* before there is a machine */
	MUST(seconds() - before >= 0.05);
	pid = start_child(hang, NULL);
	usleep(300000);
	MUST(waitpid(pid, NULL, WNOHANG) == 0);
	MUST(rm_open() == 0);
	write_machine_file("faults", "cuInit=0\n"); /* an edit lets it go on */
	join_child(pid);
}

int main(void)
{
	static struct claim claims[] = {
		{ "start: 64 at once make one machine", prove_race },
		{ "start: no child, no signal, no descriptor of the stranger",
		  prove_manners },
		{ "start: two machines do not see each other", prove_two_machines },
		{ "end: some time after the last client", prove_end },
		{ "end: whose machine is stopped has lost its device", prove_stopped },
		{ "settings: a wrong variable, with the sentence", prove_bad_gpus,
		  "65xh100" },
		{ "settings: a wrong line of the file", prove_bad_file },
		{ "settings: a directory that cannot be", prove_bad_directory },
		{ "faults: by the environment", prove_environment_faults },
		{ "faults: edited while it runs", prove_live_faults },
		{ "faults: delay and hang", prove_slow_faults },
	};
	struct CMUnitTest tests[TR_COUNT(claims)];

	for (size_t i = 0; i < TR_COUNT(claims); i++)
		tests[i] = (struct CMUnitTest){ .name = claims[i].name,
						.test_func = run_claim,
						.initial_state = &claims[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
