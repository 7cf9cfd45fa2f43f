/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/steps.h"
#include "bench/worker.h"
#include "rt/cleanup.h"

/* bench-tenant PAGE WORKLOAD PROCESSES DEVICES LOOP_Q10 SEED: so many workers, until killed.
 * LOOP_Q10 "calibrate": measures it, prints it, ends. */

struct tenant {
	struct tr_bench_page *page;
	struct tr_workload room;
	const struct tr_workload *workload;
	unsigned processes, devices, loop_q10;
	uint64_t seed;
	bool is_calibration;
};

static struct tr_bench_page *map_page(const char *path)
{
	tr_autoclose int fd = open(path, O_RDWR | O_CLOEXEC);
	void *p = fd < 0 ? MAP_FAILED
			 : mmap(NULL, sizeof(struct tr_bench_page), PROT_READ | PROT_WRITE,
				MAP_SHARED, fd, 0);

	if (p == MAP_FAILED) {
		perror(path);
		exit(2);
	}
	return p;
}

static void open_driver(struct tr_worker *w, struct tr_bench_page *page, unsigned loop_q10)
{
	struct tr_err err = { 0 };
	CUresult r;

	if (tr_driver_open(&err) < 0)
		tr_worker_fail(w, err.msg, err.code);
	r = tr_driver.cuInit(0);
	if (r != CUDA_SUCCESS)
		tr_worker_fail(w, "cuInit", (int)r);
	if (!loop_q10)
		return;
	/* Portable: every device writes into it. */
	r = tr_driver.cuDeviceGet(&(CUdevice){ 0 }, 0);
	if (r == CUDA_SUCCESS) {
		CUcontext context;

		r = tr_driver.cuDevicePrimaryCtxRetain(&context, 0);
		if (r == CUDA_SUCCESS)
			r = tr_driver.cuCtxSetCurrent(context);
	}
	if (r == CUDA_SUCCESS)
		r = tr_driver.cuMemHostRegister_v2(page, sizeof(*page),
						   CU_MEMHOSTREGISTER_PORTABLE |
							   CU_MEMHOSTREGISTER_DEVICEMAP);
	if (r != CUDA_SUCCESS)
		tr_worker_fail(w, "cuMemHostRegister", (int)r);
}

/* The INDEXth process: a thread for each device, the first one is its own. */
static int run_worker(const struct tenant *t, unsigned index)
{
	static struct tr_worker workers[TR_BENCH_DEVICES];
	struct tr_bench_worker *row = &t->page->workers[index];

	atomic_store(&row->pid, (int32_t)getpid());
	atomic_store(&row->state, TR_BENCH_STARTED);
	for (unsigned d = 0; d < t->devices; d++)
		workers[d] = (struct tr_worker){
			.workload = t->workload,
			.page = row,
			.tenant = t->page,
			.device = d,
			.loop_q10 = t->loop_q10,
			.random = t->seed * 1000003 + index * UINT64_C(257) + d,
		};
	open_driver(&workers[0], t->page, t->loop_q10);
	if (t->is_calibration) {
		(void)printf("%u\n", tr_worker_calibrate(&workers[0]));
		return 0;
	}
	for (unsigned d = 1; d < t->devices; d++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, tr_worker_run, &workers[d]) != 0)
			tr_worker_fail(&workers[d], "pthread_create", EAGAIN);
	}
	(void)tr_worker_run(&workers[0]);
	return 0;
}

static int start_workers(const struct tenant *t)
{
	pid_t parent = getpid();
	int status = 0;

	for (unsigned i = 1; i < t->processes; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 1;
		if (pid > 0)
			continue;
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		_exit(run_worker(t, i));
	}
	/* The first one is this process: nothing of it waits for the others. */
	status = run_worker(t, 0);
	return status;
}

int tr_bench_tenant(int argc, char **argv)
{
	struct tenant t = { 0 };

	if (argc != 7)
		return 2;
	/* The bench kills who it started when it dies; behind `run` that is not this process. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	t.page = map_page(argv[1]);
	t.workload = tr_workload_find(argv[2], &t.room);
	t.processes = (unsigned)strtoul(argv[3], NULL, 10);
	t.devices = (unsigned)strtoul(argv[4], NULL, 10);
	t.is_calibration = strcmp(argv[5], "calibrate") == 0;
	t.loop_q10 = (unsigned)strtoul(argv[5], NULL, 10);
	t.seed = strtoull(argv[6], NULL, 10);
	if (!t.workload || t.processes == 0 || t.processes > TR_BENCH_WORKERS ||
	    t.devices == 0 || t.devices > TR_BENCH_DEVICES)
		return 2;
	return start_workers(&t);
}
