/* SPDX-License-Identifier: Apache-2.0 */
/*
 * play MODE [ARGUMENT]...: a program on the virtual clock, for clock.sh. Appends lines "NAME what
 * microseconds" to the file $LOG, in microseconds since the machine's start.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rm/rm.h"
#include "rm/time.h"

#define START_US 1000000000u /* what a virtual clock reads at first */

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
}

static void tell(const char *name, const char *what)
{
	char line[128];
	int n = snprintf(line, sizeof(line), "%s %s %llu\n", name, what,
			 (unsigned long long)(now_us() - START_US));
	int fd = open(getenv("LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, line, (size_t)n) != n)
		abort();
	close(fd);
}

static void must(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "not so: %s (errno %d)\n", what, errno);
	exit(1);
}
#define MUST(what) must(!!(what), #what)

static void sleep_us(uint64_t us)
{
	struct timespec t = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

	MUST(nanosleep(&t, NULL) == 0);
}

/* sleeps NAME COUNT US */
static int sleeps(char **args)
{
	for (int i = 0; i < atoi(args[1]); i++) {
		sleep_us(strtoull(args[2], NULL, 10));
		tell(args[0], "slept");
	}
	return 0;
}

/* naps COUNT US: without a word */
static int naps(char **args)
{
	for (int i = 0; i < atoi(args[0]); i++)
		sleep_us(strtoull(args[1], NULL, 10));
	return 0;
}

static void __attribute__((noreturn)) compute(const char *name)
{
	tell(name, "computes");
	for (;;)
		__asm__ volatile("" ::: "memory");
}

static void __attribute__((noreturn)) wait_for_ever(const char *name)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c = PTHREAD_COND_INITIALIZER;

	tell(name, "waits");
	pthread_mutex_lock(&m);
	for (;;)
		pthread_cond_wait(&c, &m);
}

static int computes(char **args)
{
	compute(args[0]);
}

static int waits(char **args)
{
	wait_for_ever(args[0]);
}

/* fork and exec; what the child does and when the parent goes on is the clock's matter alone */
static int forks(char **args)
{
	int status;
	pid_t pid;

	sleep_us(1000);
	pid = fork();
	if (pid == 0) {
		tell("child", "forked");
		sleep_us(500);
		execl("/proc/self/exe", "play", "sleeps", "image", "2", "1000",
		      (char *)NULL);
		_exit(127);
	}
	sleep_us(1000);
	tell(args[0], "beside");
	MUST(waitpid(pid, &status, 0) == pid && status == 0);
	tell(args[0], "after");
	return 0;
}

/* becomes NAME: computes for more than a second, then is another image */
static int becomes(char **args)
{
	struct timespec spent = { 0 };

	while (spent.tv_sec == 0 || spent.tv_nsec < 200000000)
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
	sleep_us(1000);
	tell(args[0], "becomes");
	execl("/proc/self/exe", "play", "sleeps", args[0], "2", "1000", (char *)NULL);
	return 1;
}

/* hears NAME: what somebody outside writes into descriptor 3 */
static int hears(char **args)
{
	char letter = 0;

	tell(args[0], "listens");
	MUST(read(3, &letter, 1) == 1);
	tell(args[0], "heard");
	sleep_us(1000);
	tell(args[0], "slept");
	return 0;
}

static void hold_lock(int fd, uint64_t us)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	MUST(fcntl(fd, F_OFD_SETLKW, &lock) == 0);
	sleep_us(us);
	lock.l_type = F_UNLCK;
	MUST(fcntl(fd, F_OFD_SETLK, &lock) == 0);
}

/* What one process waits for and another does, outside of the clock: at times of the clock. */
static int outside(char **args)
{
	int to[2], from[2], fd, again, status;
	char letter = 0;
	sigset_t set;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	MUST(pipe(to) == 0 && pipe(from) == 0);
	MUST((fd = open(getenv("LOG"), O_RDWR | O_CREAT, 0644)) >= 0);
	pid = fork();
	if (pid == 0) {
		MUST((again = open(getenv("LOG"), O_RDWR)) >= 0);
		MUST(read(to[0], &letter, 1) == 1);
		tell("child", "heard");
		hold_lock(again, 5000);
		sleep_us(1000);
		MUST(write(from[1], "b", 1) == 1);
		sleep_us(2000);
		kill(getppid(), SIGUSR1);
		sleep_us(2000);
		_exit(7);
	}
	sleep_us(3000);
	MUST(write(to[1], "a", 1) == 1);
	sleep_us(1000);
	hold_lock(fd, 0);
	tell(args[0], "locked");
	MUST(read(from[0], &letter, 1) == 1 && letter == 'b');
	tell(args[0], "heard");
	MUST(sigwaitinfo(&set, NULL) == SIGUSR1);
	tell(args[0], "woken");
	MUST(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
	tell(args[0], "alone");
	return 0;
}

/* blocks NAME: in a call that the clock does not know */
static int blocks(char **args)
{
	tell(args[0], "blocks");
	syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
	return 1;
}

static struct shared {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	sem_t semaphore;
	int items;
} shared = { .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static void *takes(void *arg)
{
	for (int i = 0; i < 3; i++) {
		pthread_mutex_lock(&shared.mutex);
		while (shared.items == 0)
			pthread_cond_wait(&shared.cond, &shared.mutex);
		shared.items--;
		tell(arg, "took");
		sleep_us(300); /* with the mutex */
		pthread_mutex_unlock(&shared.mutex);
	}
	sem_post(&shared.semaphore);
	return NULL;
}

static int threads(char **args)
{
	static char name_a[] = "a", name_b[] = "b";
	struct timespec until;
	pthread_t a, b;

	(void)args;
	sem_init(&shared.semaphore, 0, 0);
	MUST(pthread_create(&a, NULL, takes, name_a) == 0);
	MUST(pthread_create(&b, NULL, takes, name_b) == 0);
	for (int i = 0; i < 6; i++) {
		sleep_us(1000);
		pthread_mutex_lock(&shared.mutex);
		shared.items++;
		pthread_cond_signal(&shared.cond);
		pthread_mutex_unlock(&shared.mutex);
	}
	MUST(sem_wait(&shared.semaphore) == 0);
	MUST(pthread_join(a, NULL) == 0 && pthread_join(b, NULL) == 0);
	tell("main", "joined");
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 5;
	pthread_mutex_lock(&shared.mutex);
	MUST(pthread_cond_timedwait(&shared.cond, &shared.mutex, &until) == ETIMEDOUT);
	pthread_mutex_unlock(&shared.mutex);
	tell("main", "timed-out");
	return 0;
}

/* Every way to let time pass; each takes what it says. */
static int ways(char **args)
{
	struct timespec t = { 0, 2000000 };
	struct timeval v = { 0, 4000 }, wall;
	struct pollfd p = { .fd = -1 };
	time_t before = time(NULL);

	sleep(1);
	tell(args[0], "sleep");
	usleep(1000);
	tell(args[0], "usleep");
	MUST(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL) == 0);
	tell(args[0], "clock_nanosleep");
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 1;
	MUST(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0);
	tell(args[0], "absolute");
	MUST(poll(&p, 1, 3) == 0);
	tell(args[0], "poll");
	MUST(select(0, NULL, NULL, NULL, &v) == 0);
	tell(args[0], "select");
	gettimeofday(&wall, NULL);
	MUST(wall.tv_sec == time(NULL));
	MUST(time(NULL) - before == 2);
	/* a loop that looks at the clock only comes to its end */
	for (uint64_t end = now_us() + 1000; now_us() < end;)
		;
	tell(args[0], "loop");
	return 0;
}

/* A random mixture of threads, sleeps, processes and work, from SEED. */
static uint64_t channel;

static void *mixes(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	char name[32];

	snprintf(name, sizeof(name), "t%u", seed);
	for (int i = 0; i < 40; i++) {
		struct rm_work w = { .kind = RM_WORK_KERNEL, .sms = 10 };
		uint64_t ticket;

		w.ns = 1000u + (uint64_t)(rand_r(&seed) % 300000);
		pthread_mutex_lock(&shared.mutex);
		MUST(rm_submit(channel, &w, &ticket) == 0);
		if (rand_r(&seed) % 3 == 0)
			sleep_us((uint64_t)(rand_r(&seed) % 200));
		pthread_mutex_unlock(&shared.mutex);
		rm_spend_ns((uint64_t)(rand_r(&seed) % 5000));
		if (rand_r(&seed) % 2)
			MUST(rm_wait(channel, ticket) == 0);
		tell(name, "done");
	}
	return NULL;
}

static int mix(char **args)
{
	unsigned seed = (unsigned)atoi(args[0]);
	pthread_t threads_of[3];
	pid_t pid = fork();

	MUST(rm_open() == 0 && rm_time_open() == 0);
	MUST(rm_channel_open(0, 0, &channel) == 0);
	for (unsigned i = 0; i < 3; i++)
		MUST(pthread_create(&threads_of[i], NULL, mixes,
				    (void *)(uintptr_t)(seed * 10 + i + (pid ? 0 : 5))) ==
		     0);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads_of[i], NULL);
	tell(pid ? "parent" : "child", "ends");
	return 0;
}

/* kernels NAME COUNT US: one after the other */
static int kernels(char **args)
{
	struct rm_work w = { .kind = RM_WORK_KERNEL, .sms = 1 };
	uint64_t ticket;

	w.ns = strtoull(args[2], NULL, 10) * 1000;
	MUST(rm_open() == 0 && rm_time_open() == 0);
	MUST(rm_channel_open(0, 0, &channel) == 0);
	for (int i = 0; i < atoi(args[1]); i++) {
		MUST(rm_submit(channel, &w, &ticket) == 0);
		MUST(rm_wait(channel, ticket) == 0);
		tell(args[0], "kernel");
	}
	return 0;
}

static uint64_t wall_us(void)
{
	struct timeval t;

	MUST(gettimeofday(&t, NULL) == 0);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec;
}

/* Clocks are stepped: an hour ahead all of them, then the wall's a minute back. Sleeps are till a
 * time of the clock that jumped, the machine's own time stands meanwhile. */
static int steps(char **args)
{
	uint64_t apart = wall_us() - now_us(), machine;

	MUST(rm_open() == 0 && rm_time_open() == 0);
	sleep_us(1000);
	machine = rm_now_ns();
	MUST(rm_clock_step(3600000000000u, 0) == 0);
	tell(args[0], "jumped");
	MUST(rm_now_ns() - machine < 1000);
	MUST(wall_us() - now_us() - apart <= 1);
	sleep_us(1000);
	tell(args[0], "slept");
	MUST(rm_now_ns() - machine >= 1000000 && rm_now_ns() - machine < 1010000);
	MUST(rm_clock_step(0, -60000000000) == 0);
	tell(args[0], "set");
	MUST(apart - (wall_us() - now_us()) - 60000000 <= 1);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(char **args);
		int args;
	} modes[] = {
		{ "sleeps", sleeps, 3 },   { "computes", computes, 1 },
		{ "waits", waits, 1 },     { "forks", forks, 1 },
		{ "threads", threads, 0 }, { "ways", ways, 1 },
		{ "naps", naps, 2 },       { "mix", mix, 1 },
		{ "kernels", kernels, 3 }, { "hears", hears, 1 },
		{ "outside", outside, 1 }, { "blocks", blocks, 1 },
		{ "steps", steps, 1 },     { "becomes", becomes, 1 },
	};

	for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(modes[i].name, argv[1]) == 0 && argc - 2 >= modes[i].args)
			return modes[i].run(argv + 2);
	}
	return 2;
}
