/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/enter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "rt/cleanup.h"
#include "tranche/paths.h"

#define SIM_DIR "/run/tranche-sim" /* where the simulator looks without its variable */

/* May this process make a mount namespace? Tried once, in a child that goes away. */
static bool can_mount(void)
{
	static int answer = -1;
	int status = 1;
	pid_t pid;

	if (answer >= 0)
		return answer;
	answer = 0;
	pid = geteuid() == 0 ? fork() : -1;
	if (pid == 0)
		_exit(unshare(CLONE_NEWNS) < 0 ||
		      mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0);
	if (pid > 0 && waitpid(pid, &status, 0) == pid)
		answer = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	return answer;
}

const char *tr_enter_state_path(void)
{
	return can_mount() ? TR_SLICE_STATE : NULL;
}

/* The lines a program's loader shall see: ours, then what the host had. */
static int write_preload(const char *path, const char *library, struct tr_err *err)
{
	FILE *out = fopen(path, "we");
	FILE *old = fopen(TR_PRELOAD_FILE, "re");
	char line[512];
	bool failed;

	if (!out) {
		if (old)
			(void)fclose(old);
		return tr_fail_errno(err, "write %s", path);
	}
	(void)fprintf(out, "%s\n", library);
	while (old && fgets(line, sizeof(line), old))
		(void)fputs(line, out);
	if (old)
		(void)fclose(old);
	failed = ferror(out);
	if (fclose(out) != 0 || failed)
		return tr_fail_errno(err, "write %s", path);
	return 0;
}

/* A loader cache in which the simulated driver comes first, for programs without the
 * variable. */
static int write_loader_cache(const char *dir, const char *sim, struct tr_err *err)
{
	char conf[256], cache[256];
	FILE *out;
	int status = 1;
	pid_t pid;

	(void)snprintf(conf, sizeof(conf), "%s/ro/ld.so.conf", dir);
	(void)snprintf(cache, sizeof(cache), "%s/ro/ld.so.cache", dir);
	out = fopen(conf, "we");
	if (!out)
		return tr_fail_errno(err, "write %s", conf);
	(void)fprintf(out, "%s\ninclude /etc/ld.so.conf\n", sim);
	if (fclose(out) != 0)
		return tr_fail_errno(err, "write %s", conf);
	pid = fork();
	if (pid == 0) {
		(void)execl("/sbin/ldconfig", "ldconfig", "-X", "-C", cache, "-f", conf,
			    (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
	(void)unlink(conf);
	if (status != 0)
		return tr_fail(err, EIO, "ldconfig could not write %s", cache);
	return 0;
}

/* Points of the host that mounts of our namespace lie over. They stay, empty. */
static int make_mount_points(bool is_sim, struct tr_err *err)
{
	static const char *const dirs[] = { "/run/tranche", TR_SLICE_DIR,
					    TR_SLICE_DIR "/ro", TR_SLICE_DIR "/rw",
					    SIM_DIR };
	int fd;

	for (size_t i = 0; i < TR_COUNT(dirs) - !is_sim; i++)
		if (mkdir(dirs[i], 0755) < 0 && errno != EEXIST)
			return tr_fail_errno(err, "make %s", dirs[i]);
	fd = open(TR_PRELOAD_FILE, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return tr_fail_errno(err, "make %s", TR_PRELOAD_FILE);
	(void)close(fd);
	return 0;
}

int tr_enter_prepare(struct tr_enter *enter, struct tr_err *err)
{
	char path[256];
	int r = tr_find_part("libvgpu.so", enter->library, sizeof(enter->library), err);

	if (r == 0 && enter->is_sim)
		r = tr_find_part("sim", enter->sim, sizeof(enter->sim), err);
	enter->has_namespace = can_mount();
	if (r < 0 || !enter->has_namespace)
		return r;
	(void)snprintf(path, sizeof(path), "%s/ro/ld.so.preload", enter->dir->path);
	r = make_mount_points(enter->is_sim, err);
	if (r == 0)
		r = write_preload(path, enter->library, err);
	if (r == 0 && enter->is_sim)
		r = write_loader_cache(enter->dir->path, enter->sim, err);
	return r;
}

static int bind_over(const char *from, const char *to, bool is_read_only,
		     struct tr_err *err)
{
	if (mount(from, to, NULL, MS_BIND, NULL) < 0)
		return tr_fail_errno(err, "mount %s over %s", from, to);
	if (is_read_only &&
	    mount("none", to, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV,
		  NULL) < 0)
		return tr_fail_errno(err, "make %s read-only", to);
	return 0;
}

static int enter_namespace(const struct tr_enter *enter, struct tr_err *err)
{
	const char *machine = getenv("TRANCHE_SIM");
	char from[256];
	int r;

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return tr_fail_errno(err, "make a mount namespace");
	(void)snprintf(from, sizeof(from), "%s/rw", enter->dir->path);
	r = bind_over(from, TR_SLICE_DIR "/rw", false, err);
	(void)snprintf(from, sizeof(from), "%s/ro/ld.so.preload", enter->dir->path);
	if (r == 0)
		r = bind_over(from, TR_PRELOAD_FILE, true, err);
	(void)snprintf(from, sizeof(from), "%s/ro/ld.so.cache", enter->dir->path);
	if (r == 0 && enter->is_sim)
		r = bind_over(from, "/etc/ld.so.cache", true, err);
	if (r == 0 && enter->is_sim && machine)
		r = bind_over(machine, SIM_DIR, false, err);
	(void)snprintf(from, sizeof(from), "%s/ro", enter->dir->path);
	if (r == 0)
		r = bind_over(from, TR_SLICE_DIR "/ro", true, err);
	return r;
}

static int set_preload(const char *library, struct tr_err *err)
{
	const char *old = getenv("LD_PRELOAD");
	char value[4096];

	if (snprintf(value, sizeof(value), "%s%s%s", library, old && *old ? ":" : "",
		     old ? old : "") >= (int)sizeof(value))
		return tr_fail(err, E2BIG, "LD_PRELOAD is too long");
	return setenv("LD_PRELOAD", value, 1) < 0 ? tr_fail_errno(err, "LD_PRELOAD") : 0;
}

/* The program sees the slice's devices only; what the user has chosen already stands. */
static void set_visible(const struct tr_enter *enter)
{
	char value[TR_DEVICES_MAX * 49];
	size_t n = 0;

	for (unsigned i = 0; i < enter->uuid_count; i++)
		n += (size_t)snprintf(value + n, sizeof(value) - n, "%s%s", i ? "," : "",
				      enter->uuids[i]);
	if (enter->uuid_count)
		(void)setenv("CUDA_VISIBLE_DEVICES", value, 0);
}

int tr_enter_slice(void *arg, struct tr_err *err)
{
	const struct tr_enter *enter = arg;

	set_visible(enter);
	if (enter->has_namespace)
		return enter_namespace(enter, err);
	(void)setenv(TR_ENV_POLICY, enter->dir->policy_path, 1);
	return set_preload(enter->library, err);
}
