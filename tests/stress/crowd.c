/* SPDX-License-Identifier: Apache-2.0 */
#include "crowd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rm/inspect.h"

#define PATIENCE_NS UINT64_C(20000000000)
#define CLIENTS_MAX 512u

static pid_t group; /* for crowd_fail(): nobody outlives the test */

void crowd_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	if (group)
		(void)kill(-group, SIGKILL);
	exit(1);
}

uint64_t crowd_clock_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

void crowd_pause_ms(unsigned ms)
{
	struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

	while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
		;
}

uint64_t crowd_random(struct crowd *crowd, uint64_t below)
{
	crowd->random ^= crowd->random << 13;
	crowd->random ^= crowd->random >> 7;
	crowd->random ^= crowd->random << 17;
	return crowd->random % below;
}

static pid_t start_anchor(void)
{
	pid_t pid = fork();

	if (pid < 0)
		crowd_fail("fork: %s", strerror(errno));
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)setpgid(0, 0);
		for (;;)
			(void)pause();
	}
	(void)setpgid(pid, pid);
	return pid;
}

void crowd_open(struct crowd *crowd, const char *dir, const char *program,
		const char *preload)
{
	void *map;
	int fd;

	*crowd = (struct crowd){ .program = program,
				 .preload = preload,
				 .seats = STRESS_SEATS };
	crowd->random = crowd_clock_ns() | 1;
	(void)snprintf(crowd->page_path, sizeof(crowd->page_path), "%s/stress", dir);
	fd = open(crowd->page_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || posix_fallocate(fd, 0, sizeof(*crowd->page)))
		crowd_fail("%s: %s", crowd->page_path, strerror(errno));
	map = mmap(NULL, sizeof(*crowd->page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		crowd_fail("%s: %s", crowd->page_path, strerror(errno));
	(void)close(fd);
	crowd->page = map;
	/* Children of killed tenants come to us. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	crowd->anchor = start_anchor();
	group = crowd->anchor;
}

static pid_t spawn(struct crowd *crowd, unsigned seat, const char *role)
{
	char number[16];
	pid_t pid;

	(void)snprintf(number, sizeof(number), "%u", seat);
	pid = fork();
	if (pid < 0)
		crowd_fail("fork: %s", strerror(errno));
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)setpgid(0, crowd->anchor);
		(void)setenv("LD_PRELOAD", crowd->preload, 1);
		execl(crowd->program, crowd->program, crowd->page_path, number, role, NULL);
		_exit(127);
	}
	(void)setpgid(pid, crowd->anchor);
	atomic_store(&crowd->page->seats[seat].pid, pid);
	return pid;
}

void crowd_start(struct crowd *crowd, unsigned seat)
{
	atomic_store(&crowd->page->seats[seat].call_began_ns, 0);
	(void)spawn(crowd, seat, NULL);
}

static void complain(struct crowd *crowd, unsigned seat, int status)
{
	struct stress_seat *s = &crowd->page->seats[seat];

	crowd_fail("tenant %u ended with status 0x%x; %.63s: %u", seat, (unsigned)status,
		   s->why, (unsigned)atomic_load(&s->result));
}

/* PID ended by itself. */
static void note_end(struct crowd *crowd, pid_t pid, int status)
{
	for (unsigned i = 0; i < 2 * STRESS_SEATS; i++) {
		if (atomic_load(&crowd->page->seats[i].pid) != pid)
			continue;
		if (crowd->page->seats[i].why[0] || i < STRESS_SEATS)
			complain(crowd, i, status);
		return;
	}
	if (pid == crowd->anchor)
		crowd_fail("the process group's leader ended");
}

void crowd_tend(struct crowd *crowd)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		note_end(crowd, pid, status);
	for (unsigned i = 0; i < 2 * STRESS_SEATS; i++)
		if (crowd->page->seats[i].why[0])
			complain(crowd, i, 0);
}

void crowd_check_pulse(const struct crowd *crowd, unsigned ms)
{
	for (unsigned i = 0; i < crowd->seats; i++) {
		uint64_t began_ns = atomic_load(&crowd->page->seats[i].call_began_ns);
		uint64_t now_ns = crowd_clock_ns();

		if (began_ns && now_ns > began_ns &&
		    now_ns - began_ns > ms * UINT64_C(1000000))
			crowd_fail("tenant %u: a call takes more than %u ms", i, ms);
	}
}

void crowd_kill_one(struct crowd *crowd)
{
	unsigned seat = (unsigned)crowd_random(crowd, crowd->seats);
	struct stress_seat *s = &crowd->page->seats[seat];
	pid_t pid = atomic_load(&s->pid);
	int status = 0;

	if (kill(pid, SIGKILL) < 0 || waitpid(pid, &status, 0) != pid)
		crowd_fail("kill tenant %u: %s", seat, strerror(errno));
	if (s->why[0] || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		complain(crowd, seat, status);
	crowd->kills++;
	crowd_start(crowd, seat);
}

/* ---- quiet points -------------------------------------------------------------------- */

static bool is_seat(const struct crowd *crowd, pid_t pid)
{
	for (unsigned i = 0; i < STRESS_SEATS; i++)
		if (atomic_load(&crowd->page->seats[i].pid) == pid)
			return true;
	return false;
}

static bool is_idle(const struct rm_client *client)
{
	uint64_t bytes = 0;

	for (unsigned d = 0; d < RM_DEVICES_MAX; d++)
		for (unsigned k = 0; k < RM_KINDS; k++)
			bytes |= client->bytes[d][k];
	return bytes == 0;
}

/* Others than the seats' processes: children of killed tenants that are dying. */
static unsigned count_strangers(const struct crowd *crowd, int *pid)
{
	static struct rm_client clients[CLIENTS_MAX];
	size_t n = CLIENTS_MAX;
	unsigned strangers = 0;

	if (rm_clients(clients, &n) != 0)
		crowd_fail("the machine does not answer");
	for (size_t i = 0; i < n; i++) {
		/* The row without a process is what descriptors hold. */
		if (clients[i].own_pid == (int)getpid() ||
		    (!clients[i].serial && is_idle(&clients[i])) ||
		    is_seat(crowd, clients[i].own_pid))
			continue;
		strangers++;
		*pid = clients[i].own_pid;
	}
	return strangers;
}

/* 'T' for a stopped process; 0 when it is gone. */
static char state_of(pid_t pid)
{
	char path[64], text[512];
	const char *at;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strrchr(text, ')');
	return at && at[1] == ' ' ? at[2] : 0;
}

void crowd_rest(struct crowd *crowd)
{
	uint64_t give_up_ns = crowd_clock_ns() + PATIENCE_NS;
	uint32_t epoch = atomic_fetch_add(&crowd->page->epoch, 1) + 1;
	int pid = 0;

	atomic_store(&crowd->page->command, STRESS_QUIET);
	for (unsigned i = 0; i < crowd->seats;) {
		crowd_tend(crowd);
		if (atomic_load(&crowd->page->seats[i].quiet_epoch) == epoch) {
			i++;
			continue;
		}
		if (crowd_clock_ns() > give_up_ns)
			crowd_fail("tenant %u does not come to rest", i);
		crowd_pause_ms(2);
	}
	while (count_strangers(crowd, &pid)) {
		crowd_tend(crowd);
		if (crowd_clock_ns() > give_up_ns)
			crowd_fail("process %d holds the device, its state is %c", pid,
				   state_of(pid));
		crowd_pause_ms(2);
	}
}

void crowd_go_on(struct crowd *crowd)
{
	atomic_store(&crowd->page->command, STRESS_RUN);
}

void crowd_freeze(struct crowd *crowd)
{
	static struct rm_client clients[CLIENTS_MAX];
	size_t n = CLIENTS_MAX;

	(void)kill(-crowd->anchor, SIGSTOP);
	if (rm_clients(clients, &n) != 0)
		crowd_fail("the machine does not answer");
	for (size_t i = 0; i < n; i++) {
		char state;

		while (clients[i].own_pid > 0 && clients[i].own_pid != (int)getpid() &&
		       (state = state_of(clients[i].own_pid)) != 0 && state != 'T' &&
		       state != 't' && state != 'Z' && state != 'X')
			crowd_pause_ms(1);
	}
}

void crowd_thaw(struct crowd *crowd)
{
	(void)kill(-crowd->anchor, SIGCONT);
}

/* ---- the end ------------------------------------------------------------------------- */

void crowd_end(struct crowd *crowd)
{
	uint64_t give_up_ns = crowd_clock_ns() + PATIENCE_NS;
	int status;

	crowd_tend(crowd);
	(void)kill(-crowd->anchor, SIGKILL);
	while (waitpid(-1, &status, 0) > 0 || errno == EINTR)
		if (crowd_clock_ns() > give_up_ns)
			crowd_fail("a killed process does not end");
	group = 0;
	crowd->anchor = start_anchor();
	group = crowd->anchor;
}

int crowd_run_last(struct crowd *crowd)
{
	int status = -1;
	pid_t pid;

	memset(crowd->page->seats, 0, sizeof(crowd->page->seats));
	pid = spawn(crowd, 0, "last");
	if (waitpid(pid, &status, 0) != pid)
		crowd_fail("wait: %s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
