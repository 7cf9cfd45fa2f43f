/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "rm/inspect.h"

static char dir[64];
static pid_t owner;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void end_machine(void)
{
	if (getpid() != owner) /* a child that left by exit() */
		return;
	if (rm_is_open())
		rm_stop();
	nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

void machine_prepare(const char *gpus, const char *pids)
{
	const char *base = getenv("TMPDIR");

	owner = getpid();
	snprintf(dir, sizeof(dir), "%.40s/sim-nvml-XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(dir)) {
		perror(dir);
		exit(1);
	}
	atexit(end_machine);
	setenv("TRANCHE_SIM", dir, 1);
	setenv("TRANCHE_SIM_GPUS", gpus, 1);
	setenv("TRANCHE_SIM_PIDS", pids, 1);
	setenv("TRANCHE_SIM_LINGER_MS", "500", 1);
}
