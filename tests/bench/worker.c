/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_worker LOOP LIVE ITERATIONS BATCHES THREADS [READY GO]: measures one loop in this process
 * and prints nanoseconds. One thread: the median over the batches of the time of one iteration;
 * slow calls get fewer of them. More threads, or descriptors to start together on: the time of a
 * processor that one iteration takes, so that eight on two cores and what else the machine does
 * can be told apart. bench_worker uuid | resident LIVE: what the harness must know.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "loops.h"

#define THREADS_MAX 64
#define BATCHES_MAX 1024
#define BATCH_NS    2000000u /* enough to measure, little enough to repeat */

static const struct bench_loop *loop;
static unsigned long iterations, batches;
static pthread_barrier_t together;
static double cpu_ns[THREADS_MAX];

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* What a batch takes must not depend on how slow this driver is. */
static void shorten_batches(void)
{
	uint64_t began_ns = bench_now_ns(), took_ns;
	unsigned long trial = iterations / 16 + 1;

	if (iterations == 1)
		return;
	loop->run(trial);
	took_ns = bench_now_ns() - began_ns + 1;
	if (iterations * took_ns / trial > BATCH_NS)
		iterations = BATCH_NS * trial / took_ns + 1;
}

static void run_alone(void)
{
	static double ns[BATCHES_MAX];

	shorten_batches();
	for (unsigned long i = 0; i < batches; i++) {
		uint64_t t = bench_now_ns();

		loop->run(iterations);
		ns[i] = (double)(bench_now_ns() - t) / (double)iterations;
	}
	qsort(ns, batches, sizeof(*ns), by_size);
	printf("%.3f\n", ns[batches / 2]);
}

/* The processor time of this thread for one iteration. */
static double run_timed(void)
{
	struct timespec began, ended;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began);
	loop->run(iterations * batches);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ended);
	return ((double)(ended.tv_sec - began.tv_sec) * 1e9 +
		(double)(ended.tv_nsec - began.tv_nsec)) /
	       (double)(iterations * batches);
}

static void *run_thread(void *argument)
{
	double *out = argument;

	bench_driver_join();
	loop->run(1);
	pthread_barrier_wait(&together);
	*out = run_timed();
	return NULL;
}

static void run_threads(unsigned long count)
{
	pthread_t threads[THREADS_MAX];
	double sum_ns = 0;

	pthread_barrier_init(&together, NULL, (unsigned)count);
	for (unsigned long i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, run_thread, &cpu_ns[i]) != 0)
			bench_fail("pthread_create", (int)i);
	for (unsigned long i = 0; i < count; i++) {
		pthread_join(threads[i], NULL);
		sum_ns += cpu_ns[i];
	}
	printf("%.3f\n", sum_ns / (double)count);
}

/* Says that it is ready, and waits until the other end of GO is closed. */
static void run_gated(int ready, int go)
{
	char byte = 0;

	loop->run(1);
	if (write(ready, &byte, 1) != 1)
		exit(1);
	while (read(go, &byte, 1) > 0)
		;
	printf("%.3f\n", run_timed());
}

static unsigned long number(const char *text, unsigned long max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || end == text || n > max) {
		fprintf(stderr, "bench: %s is no number up to %lu\n", text, max);
		exit(2);
	}
	return n;
}

/* Is FILE (the name a mapping has) one that a preloaded library brought? */
static bool is_brought(const char *file)
{
	const char *preload = getenv("LD_PRELOAD");

	return (preload && strstr(file, preload)) || strstr(file, "/tranche-bench") ||
	       strstr(file, "cudevshr");
}

/* Resident memory, private and shared: all that is anonymous, and of files those that a preloaded
 * library brought. Less the same without one, it is what that library costs. */
static void print_resident(unsigned long live)
{
	unsigned long rss_kib = 0, kib = 0, value;
	char line[1024];
	bool brought = false;
	FILE *f;

	bench_driver_start();
	bench_live_make(live);
	f = fopen("/proc/self/smaps", "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strchr(line, '-') && strspn(line, "0123456789abcdef") >= 8)
			brought = is_brought(line);
		else if (sscanf(line, "Rss: %lu", &value) == 1)
			rss_kib = value;
		else if (sscanf(line, "Anonymous: %lu", &value) == 1)
			kib += brought ? rss_kib : value;
	}
	if (f)
		fclose(f);
	printf("%lu\n", kib * 1024);
}

int main(int argc, char **argv)
{
	unsigned long threads;

	if (argc == 2 && strcmp(argv[1], "uuid") == 0) {
		bench_uuid_print();
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "resident") == 0) {
		print_resident(number(argv[2], 100000000));
		return 0;
	}
	if (argc != 6 && argc != 8) {
		fprintf(stderr,
			"bench_worker LOOP LIVE ITERATIONS BATCHES THREADS [READY GO]\n");
		return 2;
	}
	loop = bench_loop_find(argv[1]);
	iterations = number(argv[3], 1000000000);
	batches = number(argv[4], BATCHES_MAX);
	threads = number(argv[5], THREADS_MAX);
	if (iterations == 0 || batches == 0 || threads == 0)
		return 2;
	loop->prepare();
	bench_live_make(number(argv[2], 100000000));
	if (argc == 8)
		run_gated((int)number(argv[6], 1000), (int)number(argv[7], 1000));
	else if (threads > 1)
		run_threads(threads);
	else
		run_alone();
	return 0;
}
