/* SPDX-License-Identifier: Apache-2.0 */
/* A machine that goes while a program waits: every wait ends, every poll too. */
#include <pthread.h>
#include <unistd.h>

#include "gpu.h"

static CUstream stream;
static CUevent event;

static void *poll_event(void *unused)
{
	CUresult r;

	(void)unused;
	while ((r = cuEventQuery(event)) == CUDA_ERROR_NOT_READY)
		;
	ANSWERS(CUDA_ERROR_UNKNOWN, r);
	return NULL;
}

static void *wait_event(void *unused)
{
	(void)unused;
	ANSWERS(CUDA_ERROR_UNKNOWN, cuEventSynchronize(event));
	return NULL;
}

static void *wait_stream(void *unused)
{
	(void)unused;
	ANSWERS(CUDA_ERROR_UNKNOWN, cuStreamSynchronize(stream));
	return NULL;
}

static void *wait_context(void *unused)
{
	(void)unused;
	SUCCEEDS(cuCtxSetCurrent(gpu_ctx));
	ANSWERS(CUDA_ERROR_UNKNOWN, cuCtxSynchronize());
	return NULL;
}

/* sim-ctl stop MACHINE */
static void stop_machine(char *tool)
{
	char *arguments[] = { tool, (char[]){ "stop" }, getenv("TRANCHE_SIM"), NULL };
	pid_t child = fork();

	if (child == 0) {
		execv(tool, arguments);
		_exit(127);
	}
	CHECK(child > 0);
}

int main(int argc, char **argv)
{
	void *(*const waits[])(void *) = { poll_event, wait_event, wait_stream,
					   wait_context };
	pthread_t threads[4];

	CHECK(argc == 2);
	gpu_open();
	stream = gpu_stream(CU_STREAM_NON_BLOCKING);
	gpu_launch("run_hang", 1, stream);
	event = gpu_mark(stream);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, waits[i], NULL) == 0);
	usleep(50000);
	ANSWERS(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
	stop_machine(argv[1]);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	ANSWERS(CUDA_ERROR_UNKNOWN, cuEventRecord(event, stream));
	ANSWERS(CUDA_ERROR_UNKNOWN, cuLaunchKernel(gpu_kernel("plain"), 1, 1, 1, 1, 1, 1, 0,
						   stream, NULL, NULL));
	return 0;
}
