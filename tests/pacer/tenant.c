/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant PAGE PROCESSES THREADS WORKLOAD [ARGUMENT]...: a program in a slice, told what to do by the
 * test that started it. Each thread (or process) does the workload until it is killed and tells on
 * its row of PAGE how long its submitting calls took. A driver's error ends it.
 */
#include "tenant.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void sleep_ns(uint64_t ns)
{
	const struct timespec t = { .tv_sec = (time_t)(ns / 1000000000u),
				    .tv_nsec = (long)(ns % 1000000000u) };

	(void)nanosleep(&t, NULL);
}

void check(struct worker *w, CUresult r, const char *what)
{
	if (r == CUDA_SUCCESS)
		return;
	(void)snprintf(w->row->what, sizeof(w->row->what), "%s", what);
	atomic_store(&w->row->error, (uint32_t)r);
	_exit(3);
}

/* ---- submitting ------------------------------------------------------------------------ */

void submit_begins(struct worker *w)
{
	while (atomic_load(&w->page->is_paused))
		sleep_ns(50000000);
	w->epoch = atomic_load(&w->page->epoch);
	w->began_ns = now_ns();
	atomic_store(&w->row->inside_ns, w->began_ns);
}

void submit_ends(struct worker *w)
{
	uint64_t ns = now_ns() - w->began_ns;

	atomic_store(&w->row->inside_ns, 0);
	atomic_fetch_add(&w->row->device_launches[w->device], 1);
	/* One that lasted over a change of epoch belongs to none. */
	if (w->epoch != atomic_load(&w->page->epoch))
		return;
	atomic_fetch_add(&w->row->launches, 1);
	atomic_fetch_add(&w->row->sum_ns, ns);
	if (ns > atomic_load(&w->row->longest_ns))
		atomic_store(&w->row->longest_ns, ns);
}

void launch(struct worker *w, CUfunction f, uint64_t ns)
{
	void *params[] = { &ns };

	submit_begins(w);
	check(w, cuLaunchKernel(f, BLOCKS, 1, 1, THREADS, 1, 1, 0, w->stream, params, NULL),
	      "cuLaunchKernel");
	submit_ends(w);
	w->queued_ns += ns;
}

/* Now and then, so that the driver's queue never is what a launch waits for. */
void sync_seldom(struct worker *w, uint64_t kernel_ns)
{
	uint64_t most = 4 * kernel_ns > 20000000 ? 4 * kernel_ns : 20000000;

	if (w->queued_ns < most)
		return;
	w->queued_ns = 0;
	check(w, cuStreamSynchronize(w->stream), "cuStreamSynchronize");
}

/* ---- the device ------------------------------------------------------------------------ */

#define ENTRY ".visible .entry %s(.param .u64 ns)\n{\n\tret;\n}\n"

static char *ptx_text(void)
{
	static char text[160 * (KERNELS + 16)];
	static const char *const others[] = { "tranche_loop", "ncclDevKernel_AllReduce_2ms",
					      "stuck_hang", "entry_2ms" };
	size_t n = (size_t)snprintf(text, sizeof(text),
				    ".version 7.0\n.target sm_50\n.address_size 64\n");
	char name[40];

	for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ENTRY, others[i]);
	for (unsigned i = 0; i < KERNELS; i++) {
		(void)snprintf(name, sizeof(name), "tranche_loop_%u", i);
		n += (size_t)snprintf(text + n, sizeof(text) - n, ENTRY, name);
	}
	return text;
}

CUfunction find_function(struct worker *w, const char *name)
{
	CUfunction f;

	check(w, cuModuleGetFunction(&f, w->module, name), "cuModuleGetFunction");
	return f;
}

void load_module(struct worker *w)
{
	check(w, cuModuleLoadData(&w->module, ptx_text()), "cuModuleLoadData");
	w->loop = find_function(w, "tranche_loop");
}

static void open_device(struct worker *w)
{
	check(w, cuDevicePrimaryCtxRetain(&w->ctx, (CUdevice)w->device),
	      "cuDevicePrimaryCtxRetain");
	check(w, cuCtxSetCurrent(w->ctx), "cuCtxSetCurrent");
	load_module(w);
	check(w, cuStreamCreate(&w->stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
}

static void *run(void *arg)
{
	struct worker *w = arg;

	atomic_store(&w->row->pid, (int32_t)getpid());
	open_device(w);
	atomic_store(&w->row->is_ready, 1);
	w->body(w);
	return NULL;
}

static void fork_processes(unsigned processes, unsigned *index)
{
	pid_t parent = getpid();

	for (unsigned i = 1; i < processes; i++) {
		pid_t pid = fork();

		if (pid != 0)
			continue;
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		*index = i;
		return;
	}
}

static struct page *map_page(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *p = fd < 0 ? MAP_FAILED
			 : mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE,
				MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		_exit(2);
	(void)close(fd);
	return p;
}

int main(int argc, char **argv)
{
	static struct worker workers[PAGE_WORKERS];
	static struct page_worker nobody;
	unsigned processes, threads, index = 0;
	struct page *page;
	pthread_t id;

	if (argc < 5)
		return 2;
	page = map_page(argv[1]);
	processes = (unsigned)strtoul(argv[2], NULL, 10);
	threads = (unsigned)strtoul(argv[3], NULL, 10);
	fork_processes(processes, &index);
	for (unsigned i = 0; i < threads; i++) {
		struct worker *w = &workers[i];

		w->page = page;
		w->row = strcmp(argv[4], "child") == 0
				 ? &nobody
				 : &page->workers[index * threads + i];
		w->index = index * threads + i;
		w->argv = argv;
		w->number = argc > 5 ? strtoull(argv[5], NULL, 10) * 1000 : 0;
		w->count = argc > 6 ? (unsigned)strtoul(argv[6], NULL, 10) : 0;
		w->body = find_workload(argv[4]);
		w->device = strcmp(argv[4], "kernels") == 0 && w->count ? i % w->count : 0;
		if (!w->body)
			return 2;
	}
	check(&workers[0], cuInit(0), "cuInit");
	for (unsigned i = 1; i < threads; i++)
		if (pthread_create(&id, NULL, run, &workers[i]) != 0)
			return 2;
	(void)run(&workers[0]);
	return 0;
}
