/* SPDX-License-Identifier: Apache-2.0 */
/* A new version of the library never touches what running programs have mapped. */
#include "tr_test.h"

#include <dirent.h>
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

#include "deviceplugin/inject/install.h"
#include "rig.h"
#include "rt/file.h"
#include "tranche/paths.h"

#define BYTES 20000

static const char *prefix_of(const struct rig *rig)
{
	static char path[128];

	(void)snprintf(path, sizeof(path), "%s/opt/tranche", rig->folder);
	return path;
}

/* A library of version LETTER. */
static const char *source(const struct rig *rig, char letter)
{
	char bytes[BYTES], name[] = "source-x";

	memset(bytes, letter, sizeof(bytes));
	name[7] = letter;
	rig_write(rig, name, bytes, sizeof(bytes));
	return rig_path(rig, name);
}

static void install(const struct rig *rig, char letter, struct tr_installed *out)
{
	struct tr_err err;

	if (tr_install(prefix_of(rig), source(rig, letter), NULL, out, &err) < 0)
		fail_msg("%s", err.msg);
}

/* What all of its bytes are; '\0': not one thing, or not all. */
static char letter_of(const char *path)
{
	size_t n;
	char *bytes = rig_read(path, &n), letter = n == BYTES ? bytes[0] : '\0';

	for (size_t i = 0; i < n; i++)
		letter = bytes[i] == letter ? letter : '\0';
	free(bytes);
	return letter;
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st;
}

static void test_upgrade(void **state)
{
	const struct rig *rig = *state;
	static struct tr_installed first, second, again;
	struct stat before, after;
	char link[PATH_MAX];
	void *mapped;

	install(rig, 'a', &first);
	before = stat_of(first.hook);
	assert_int_equal(before.st_mode & 07777, 0755);
	assert_int_equal(tr_file_map(first.hook, BYTES, false, &mapped, NULL, NULL), 0);
	install(rig, 'b', &second);
	assert_string_not_equal(first.hook, second.hook);
	assert_int_equal(letter_of(first.hook), 'a');
	assert_int_equal(letter_of(second.hook), 'b');
	assert_int_equal(((char *)mapped)[BYTES - 1], 'a');
	assert_non_null(realpath(rig_path(rig, "opt/tranche/libvgpu.so"), link));
	assert_string_equal(link, second.hook);
	/* A restart installs what is there: not one inode is new. */
	install(rig, 'b', &again);
	assert_string_equal(again.hook, second.hook);
	/* And back to the version before. */
	install(rig, 'a', &again);
	assert_string_equal(again.hook, first.hook);
	after = stat_of(first.hook);
	assert_true(before.st_ino == after.st_ino &&
		    before.st_ctim.tv_nsec == after.st_ctim.tv_nsec &&
		    before.st_ctim.tv_sec == after.st_ctim.tv_sec);
	assert_non_null(realpath(rig_path(rig, "opt/tranche/libvgpu.so"), link));
	assert_string_equal(link, first.hook);
}

/* Somebody has overwritten or cut the file: it is replaced, the inode that programs have is not repaired. */
static void test_broken_copy(void **state)
{
	const struct rig *rig = *state;
	static struct tr_installed first, again;
	struct stat before, after;
	int fd;

	install(rig, 'a', &first);
	before = stat_of(first.hook);
	fd = open(first.hook, O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "zz", 2), 2);
	install(rig, 'a', &again);
	assert_string_equal(first.hook, again.hook);
	after = stat_of(first.hook);
	assert_true(before.st_ino != after.st_ino);
	assert_int_equal(letter_of(first.hook), 'a');
	(void)close(fd);
	assert_int_equal(truncate(first.hook, 100), 0);
	install(rig, 'a', &again);
	assert_int_equal(letter_of(first.hook), 'a');
	assert_int_equal(chmod(first.hook, 0600), 0);
	install(rig, 'a', &again);
	assert_int_equal(stat_of(first.hook).st_mode & 07777, 0755);
	/* A link under the name would let somebody else decide what is mounted. */
	assert_int_equal(rename(first.hook, rig_path(rig, "moved")), 0);
	rig_link(rig, first.hook + strlen(rig->folder) + 1, rig_path(rig, "moved"));
	install(rig, 'a', &again);
	assert_int_equal(readlink(first.hook, (char[2]){ 0 }, 1), -1);
}

static size_t files_in(const char *path)
{
	DIR *folder = opendir(path);
	size_t n = 0;

	assert_non_null(folder);
	while (readdir(folder))
		n++;
	(void)closedir(folder);
	return n - 2;
}

/* Everything but 'a' is bad. */
static int only_a(const char *path, const char *called, struct tr_err *err)
{
	return letter_of(path) == 'a' && stat_of(path).st_mode & S_IROTH
		       ? 0
		       : tr_fail(err, EBADMSG, "%s is bad", called);
}

/* What is not fit gets neither a name nor the link, and the one before goes on. */
static void test_refused(void **state)
{
	const struct rig *rig = *state;
	static struct tr_installed first, second;
	struct tr_err err = { 0 };
	const char *bad = source(rig, 'b');
	char link[PATH_MAX], said[PATH_MAX];

	(void)snprintf(said, sizeof(said), "%s is bad", bad);
	assert_int_equal(tr_installed_last(prefix_of(rig), only_a, &first, NULL), -ENOENT);
	assert_int_equal(tr_install(prefix_of(rig), bad, only_a, &first, &err), -EBADMSG);
	assert_string_equal(err.msg, said);
	assert_int_equal(files_in(prefix_of(rig)), 0);
	assert_int_equal(tr_install(prefix_of(rig), source(rig, 'a'), only_a, &first, NULL),
			 0);
	assert_int_equal(files_in(prefix_of(rig)), 3); /* it, its link, the preload file */
	assert_int_equal(tr_install(prefix_of(rig), bad, only_a, &second, NULL), -EBADMSG);
	assert_int_equal(files_in(prefix_of(rig)), 3);
	assert_non_null(realpath(rig_path(rig, "opt/tranche/libvgpu.so"), link));
	assert_string_equal(link, first.hook);
	assert_int_equal(tr_installed_last(prefix_of(rig), only_a, &second, NULL), 0);
	assert_string_equal(second.hook, first.hook);
	assert_string_equal(second.preload, first.preload);
	/* That it has its name does not make it good. */
	assert_int_equal(truncate(first.hook, 100), 0);
	assert_int_equal(tr_installed_last(prefix_of(rig), only_a, &second, NULL),
			 -EBADMSG);
	assert_string_equal(second.hook, "");
	/* Nor does somebody else's link. */
	assert_int_equal(unlink(rig_path(rig, "opt/tranche/libvgpu.so")), 0);
	rig_link(rig, "opt/tranche/libvgpu.so", "../../source-a");
	assert_int_equal(tr_installed_last(prefix_of(rig), only_a, &second, NULL), -ENOENT);
}

static void is_preload(const char *path)
{
	size_t n;
	char *text = rig_read(path, &n);

	assert_int_equal(n, strlen(TR_SLICE_HOOK) + 1);
	assert_memory_equal(text, TR_SLICE_HOOK "\n", n);
	free(text);
	assert_int_equal(readlink(path, (char[2]){ 0 }, 1), -1);
	assert_int_equal(stat_of(path).st_mode & 07777, 0644);
}

/* A loader that cannot read it passes over it, and the program runs without the library. */
static void test_preload(void **state)
{
	const struct rig *rig = *state;
	static struct tr_installed out;
	struct stat before, after;

	install(rig, 'a', &out);
	is_preload(out.preload);
	before = stat_of(out.preload);
	install(rig, 'a', &out);
	after = stat_of(out.preload);
	assert_true(before.st_ino == after.st_ino &&
		    before.st_ctim.tv_nsec == after.st_ctim.tv_nsec &&
		    before.st_ctim.tv_sec == after.st_ctim.tv_sec);
	assert_int_equal(chmod(out.preload, 0600), 0);
	install(rig, 'a', &out);
	is_preload(out.preload);
	rig_text(rig, "opt/tranche/ld.so.preload", "/nobody/has/this.so\n");
	install(rig, 'a', &out);
	is_preload(out.preload);
	rig_text(rig, "opt/tranche/ld.so.preload", TR_SLICE_HOOK "\n/another.so\n");
	install(rig, 'a', &out);
	is_preload(out.preload);
	rig_text(rig, "moved", TR_SLICE_HOOK "\n");
	assert_int_equal(chmod(rig_path(rig, "moved"), 0644), 0);
	assert_int_equal(unlink(out.preload), 0);
	rig_link(rig, "opt/tranche/ld.so.preload", "../../moved");
	install(rig, 'a', &out);
	is_preload(out.preload);
	/* Also beside the one that was installed last. */
	assert_int_equal(chmod(out.preload, 0600), 0);
	assert_int_equal(tr_installed_last(prefix_of(rig), NULL, &out, NULL), 0);
	is_preload(out.preload);
}

static void install_for_a_while(const struct rig *rig, const char *from, unsigned times)
{
	static struct tr_installed out;

	for (unsigned i = 0; i < times; i++)
		if (tr_install(prefix_of(rig), from, NULL, &out, NULL) < 0)
			_exit(1);
	_exit(0);
}

/* Agents that start at once, and a container that starts meanwhile. */
static void test_many_at_once(void **state)
{
	const struct rig *rig = *state;
	static struct tr_installed out;
	const char *froms[] = { source(rig, 'a'), source(rig, 'b') };
	const char *link = rig_path(rig, "opt/tranche/libvgpu.so");
	pid_t pids[6];
	unsigned running = TR_COUNT(pids);

	install(rig, 'a', &out);
	for (size_t i = 0; i < TR_COUNT(pids); i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			install_for_a_while(rig, froms[i % 2], 30);
	}
	while (running > 0) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		assert_true(letter_of(link) != '\0');
		if (pid > 0) {
			assert_int_equal(status, 0);
			running--;
		}
	}
}

/* ---- where it cannot be put ---- */

static void says(const char *prefix, const char *from, int r, const char *words)
{
	static struct tr_installed out;
	struct tr_err err = { 0 };

	assert_int_equal(tr_install(prefix, from, NULL, &out, &err), r);
	if (!strstr(err.msg, words))
		fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
}

static void test_sources(void **state)
{
	const struct rig *rig = *state;

	says(prefix_of(rig), rig_path(rig, "none"), -ENOENT, "No such file");
	rig_text(rig, "empty", "");
	says(prefix_of(rig), rig_path(rig, "empty"), -EBADMSG, "0 bytes: not the library");
	says(prefix_of(rig), rig->folder, -EBADMSG, "read");
	says("relative", source(rig, 'a'), -EINVAL, "no absolute path");
	rig_text(rig, "opt/file", "");
	says(rig_path(rig, "opt/file/x"), source(rig, 'a'), -ENOTDIR,
	     "the library cannot be put");
}

/* On file systems of the test's own. */
static void try_mounts(const struct rig *rig)
{
	const char *from = source(rig, 'a'), *full = rig_path(rig, "full"),
		   *fixed = rig_path(rig, "fixed"), *filler = rig_path(rig, "full/filler");
	int fd;

	assert_int_equal(mkdir(full, 0755) | mkdir(fixed, 0755), 0);
	assert_int_equal(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("tmpfs", full, "tmpfs", 0, "size=64k"), 0);
	fd = open(filler, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(fallocate(fd, 0, 0, 56 << 10), 0);
	(void)close(fd);
	says(full, from, -ENOSPC, "make room there");
	assert_int_equal(files_in(full), 1); /* the filler */
	assert_int_equal(unlink(filler), 0);
	assert_int_equal(tr_install(full, from, NULL, &(struct tr_installed){ 0 }, NULL),
			 0);
	assert_int_equal(mount("tmpfs", fixed, "tmpfs", MS_RDONLY, ""), 0);
	says(fixed, from, -EROFS, "choose a folder that can be written to (lib_dir)");
	says(rig_path(rig, "fixed/deeper"), from, -EROFS, "Read-only file system");
	/* Installed before, read-only since: nothing is to be written. */
	assert_int_equal(mount(NULL, full, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	assert_int_equal(tr_install(full, from, NULL, &(struct tr_installed){ 0 }, NULL),
			 0);
}

static void test_full_and_fixed(void **state)
{
	int status = 0;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0)
			_exit(77);
		try_mounts(*state);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_make, rig_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_upgrade),        WITH_RIG(test_broken_copy),
		WITH_RIG(test_refused),        WITH_RIG(test_preload),
		WITH_RIG(test_many_at_once),   WITH_RIG(test_sources),
		WITH_RIG(test_full_and_fixed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
