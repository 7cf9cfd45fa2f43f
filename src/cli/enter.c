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

/* For every user of the slice, whatever this one's umask is. */
static int close_readable(FILE *out, const char *path, struct tr_err *err)
{
	bool failed = ferror(out) || fchmod(fileno(out), 0644) < 0;

	if (fclose(out) != 0 || failed)
		return tr_fail_errno(err, "write %s", path);
	return 0;
}

/* The lines a program's loader shall see: ours, then what the host had. */
static int write_preload(const char *path, struct tr_err *err)
{
	FILE *out = fopen(path, "we");
	FILE *old = out ? fopen(TR_PRELOAD_FILE, "re") : NULL;
	char line[512];

	if (!out)
		return tr_fail_errno(err, "write %s", path);
	(void)fprintf(out, "%s\n", TR_SLICE_HOOK);
	while (old && fgets(line, sizeof(line), old))
		(void)fputs(line, out);
	if (old)
		(void)fclose(old);
	return close_readable(out, path, err);
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
	if (close_readable(out, conf, err) < 0)
		return -EIO;
	pid = fork();
	if (pid == 0) {
		(void)execl("/sbin/ldconfig", "ldconfig", "-X", "-C", cache, "-f", conf,
			    (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
	(void)unlink(conf);
	if (status != 0 || chmod(cache, 0644) < 0)
		return tr_fail(err, EIO, "ldconfig could not write %s", cache);
	return 0;
}

static int make_dir(const char *path, struct tr_err *err)
{
	if (mkdir(path, 0755) < 0 ? errno != EEXIST : chmod(path, 0755) < 0)
		return tr_fail_errno(err, "make %s", path);
	return 0;
}

static int make_file(const char *path, struct tr_err *err)
{
	tr_autoclose int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || (lseek(fd, 0, SEEK_END) == 0 && fchmod(fd, 0644) < 0))
		return tr_fail_errno(err, "make %s", path);
	return 0;
}

/* The host's own ro/ appears with its mark in it, in one step. */
static int make_marked_dir(struct tr_err *err)
{
	char fresh[64];
	int r;

	if (access(TR_SLICE_NONE, F_OK) == 0)
		return 0;
	if (access(TR_SLICE_DIR "/ro", F_OK) == 0)
		return make_file(TR_SLICE_NONE, err);
	(void)snprintf(fresh, sizeof(fresh), TR_SLICE_DIR "/ro.%d", (int)getpid());
	r = make_dir(fresh, err);
	if (r == 0) {
		char mark[80];

		(void)snprintf(mark, sizeof(mark), "%s/none", fresh);
		r = make_file(mark, err);
	}
	/* Another `run` may have been first: its directory is as good. */
	if (r == 0 && rename(fresh, TR_SLICE_DIR "/ro") < 0 && errno != EEXIST &&
	    errno != ENOTEMPTY)
		r = tr_fail_errno(err, "make %s/ro", TR_SLICE_DIR);
	return r;
}

/* Points of the host that mounts of our namespace lie over. They stay, empty. */
static int make_mount_points(bool is_sim, struct tr_err *err)
{
	static const char *const dirs[] = { "/run/tranche", TR_SLICE_DIR,
					    TR_SLICE_DIR "/rw", SIM_DIR };
	int r = 0;

	for (size_t i = 0; r == 0 && i < TR_COUNT(dirs) - !is_sim; i++)
		r = make_dir(dirs[i], err);
	if (r == 0)
		r = make_marked_dir(err);
	if (r == 0)
		r = make_file(TR_SLICE_HOOK, err);
	return r < 0 ? r : make_file(TR_PRELOAD_FILE, err);
}

/* The loader skips what it cannot load with no more than a message: so it is looked at before. */
static int check_library(const char *path, bool is_bound, struct tr_err *err)
{
	tr_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	tr_autoclose int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	unsigned char head[20] = { 0 }, own[20] = { 0 };
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return tr_fail_errno(err, "%s", path);
	/* Magic, class and byte order; machine: those of this very program. */
	if (read(fd, head, sizeof(head)) != sizeof(head) ||
	    read(self, own, sizeof(own)) < 0 || memcmp(head, own, 6) != 0 ||
	    memcmp(head + 18, own + 18, 2) != 0)
		return tr_fail(err, EINVAL, "%s is not a library for this machine", path);
	if (geteuid() == 0 && !(st.st_mode & S_IROTH))
		return tr_fail(err, EACCES, "%s: other users cannot read it (chmod o+r)",
			       path);
	if (!is_bound && strpbrk(path, " \t\n:"))
		return tr_fail(
			err, EINVAL,
			"%s: the loader takes no path with a blank or a colon; install "
			"elsewhere (tranche install --prefix)",
			path);
	return 0;
}

int tr_enter_prepare(struct tr_enter *enter, struct tr_err *err)
{
	char path[256];
	int r = tr_find_part("libvgpu.so", enter->library, sizeof(enter->library), err);

	if (r == 0 && enter->is_sim)
		r = tr_find_part("sim", enter->sim, sizeof(enter->sim), err);
	enter->has_namespace = can_mount();
	if (r == 0)
		r = check_library(enter->library, enter->has_namespace, err);
	if (r < 0 || !enter->has_namespace)
		return r;
	(void)snprintf(path, sizeof(path), "%s/ro/ld.so.preload", enter->dir->path);
	r = make_mount_points(enter->is_sim, err);
	if (r == 0)
		r = write_preload(path, err);
	if (r == 0 && enter->is_sim)
		r = write_loader_cache(enter->dir->path, enter->sim, err);
	return r;
}

int tr_enter_check(struct tr_err *err)
{
	const char *policy = getenv(TR_ENV_POLICY);

	if (access(TR_SLICE_POLICY, F_OK) == 0 || (policy && access(policy, F_OK) == 0))
		return tr_fail(
			err, EBUSY,
			"this is inside a slice already, and a slice cannot hold another");
	return 0;
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
	if (r == 0)
		r = bind_over(enter->library, TR_SLICE_HOOK, true, err);
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
