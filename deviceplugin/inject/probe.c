/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deviceplugin/inject/image.h"
#include "rt/cleanup.h"
#include "rt/file.h"

/* The library is handed over as an open file: a path with blanks or colons could not be said in LD_PRELOAD, and in
 * a container it has another one anyway. */
#define CHILD_FD   9
#define CHILD_PATH "/proc/self/fd/9"
#define WORDS_MAX  400
/* What the loader says of an object it does not take begins so. */
#define COMPLAINT "ERROR: ld.so: object '" CHILD_PATH "' from LD_PRELOAD "

static int look_at(int fd, const char *library, struct tr_err *err)
{
	struct tr_mapping image tr_cleanup(tr_unmap_at) = { 0 };
	int64_t size = tr_file_size(fd);
	struct stat st;
	void *map;
	int r;

	if (size < 0)
		return tr_fail(err, (int)-size, "%s is not a regular file", library);
	if (size == 0)
		return tr_fail(err, EBADMSG, "%s is empty", library);
	if (fstat(fd, &st) == 0 && (st.st_mode & S_IROTH) == 0)
		return tr_fail(
			err, EACCES,
			"%s may not be read by everybody (mode %03o): programs of other "
			"users than root could not load it",
			library, (unsigned)st.st_mode & 0777);
	map = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return tr_fail_errno(err, "read %s", library);
	image = (struct tr_mapping){ map, (size_t)size };
	r = tr_image_check(image.addr, image.bytes, err);
	return r < 0 ? tr_wrap(err, r, "%s cannot be preloaded", library) : 0;
}

/* ---- the program ---- */

struct child {
	pid_t pid;
	int words; /* what it says; its other end closes when it ends */
};

static int start_child(int library, const char *program, int say, struct child *child)
{
	char *const argv[] = { (char *)(uintptr_t)program, (char *)(uintptr_t)TR_PROBE_WORD,
			       NULL };
	static char preload[] = "LD_PRELOAD=" CHILD_PATH, language[] = "LC_ALL=C";
	static char *const env[] = { preload, language, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attr);
	r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = r ? r : posix_spawnattr_setsigmask(&attr, &none);
	r = r ? r : posix_spawnattr_setsigdefault(&attr, &all);
	r = r ? r : posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, say, 1);
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, say, 2);
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, library, CHILD_FD);
	r = r ? r : posix_spawn(&child->pid, program, &actions, &attr, argv, env);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attr);
	return -r;
}

static int left_ms(uint64_t end)
{
	uint64_t now = tr_clock_ns();

	return now >= end ? 0 : (int)((end - now) / 1000000u) + 1;
}

/* Until it has closed its end. What does not fit is read and dropped. */
static void hear(const struct child *child, uint64_t end, char words[static WORDS_MAX])
{
	size_t n = 0;
	int left;

	while ((left = left_ms(end)) > 0) {
		struct pollfd poll_fd = { .fd = child->words, .events = POLLIN };
		char more[WORDS_MAX];
		ssize_t got;

		if (poll(&poll_fd, 1, left) <= 0)
			continue;
		got = read(child->words, more, sizeof(more));
		if (got == 0 || (got < 0 && errno != EINTR))
			break;
		for (ssize_t i = 0; i < got && n + 1 < WORDS_MAX; i++)
			words[n++] = more[i];
	}
	words[n] = '\0';
	words[strcspn(words, "\n")] = '\0';
}

/* Its wait status; -ETIMEDOUT: ended by us. */
static int reap(const struct child *child, uint64_t end, int *status)
{
	pid_t got;

	for (;;) {
		got = waitpid(child->pid, status, WNOHANG);
		if (got < 0 && errno == EINTR)
			continue;
		if (got != 0 || left_ms(end) == 0)
			break;
		tr_sleep_ns(1000000);
	}
	if (got == child->pid)
		return 0;
	if (got < 0)
		return -errno;
	(void)kill(child->pid, SIGKILL);
	while (waitpid(child->pid, status, 0) < 0 && errno == EINTR)
		;
	return -ETIMEDOUT;
}

static int judge(const char *library, int status, const char *words, struct tr_err *err)
{
	const char *said = strncmp(words, COMPLAINT, sizeof(COMPLAINT) - 1) == 0
				   ? words + sizeof(COMPLAINT) - 1
				   : words;

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFSIGNALED(status))
		return tr_fail(
			err, EBADMSG,
			"%s cannot be preloaded: a program with it died of signal %d %s",
			library, WTERMSIG(status), said);
	return tr_fail(err, EBADMSG, "%s cannot be preloaded: %s", library,
		       *said ? said : "the loader passed over it and does not say why");
}

static int ask_child(int fd, const char *library, const char *program, unsigned timeout_ms,
		     struct tr_err *err)
{
	uint64_t end = tr_clock_ns() + (uint64_t)timeout_ms * 1000000u;
	struct child child = { 0 };
	char words[WORDS_MAX];
	int ends[2], status = 0, r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return tr_fail_errno(err, "start %s", program);
	child.words = ends[0];
	r = start_child(fd, program, ends[1], &child);
	(void)close(ends[1]);
	if (r < 0) {
		(void)close(ends[0]);
		return tr_fail(err, -r, "start %s: %s", program, strerror(-r));
	}
	hear(&child, end, words);
	(void)close(ends[0]);
	r = reap(&child, end, &status);
	if (r < 0)
		return tr_fail(err, -r, "%s: a program with it preloaded %s", library,
			       r == -ETIMEDOUT ? "did not end in time" : strerror(-r));
	return judge(library, status, words, err);
}

int tr_probe(const char *library, const char *called, const char *program,
	     unsigned timeout_ms, struct tr_err *err)
{
	tr_autoclose int fd = open(library, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	tr_autoclose int moved = -1;
	int r;

	called = called ? called : library;
	if (fd < 0)
		return tr_fail_errno(err, "open %s", library);
	r = look_at(fd, called, err);
	if (r < 0)
		return r;
	/* dup2() of the child's number onto itself would leave it closing at exec. */
	moved = fcntl(fd, F_DUPFD_CLOEXEC, CHILD_FD + 1);
	if (moved < 0)
		return tr_fail_errno(err, "open %s", library);
	return ask_child(moved, called, program ? program : "/proc/self/exe", timeout_ms,
			 err);
}
