/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads start at once, each by its own look-ups, and one of them forks in between:
 * nobody waits for anybody for long, and the slice is there for all. */
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define THREADS 16

static pthread_barrier_t start;

static void *one(void *arg)
{
	CUresult (*init)(unsigned), (*total)(size_t *, CUdevice);
	void *driver;
	size_t bytes;

	(void)arg;
	(void)pthread_barrier_wait(&start);
	driver = dlopen("libcuda.so.1", RTLD_NOW);
	CHECK(driver);
	*(void **)&init = dlsym(driver, "cuInit");
	*(void **)&total = dlsym(driver, "cuDeviceTotalMem_v2");
	OK(init(0));
	OK(total(&bytes, 0));
	CHECK_RESULT(bytes, 1024 * MIB);
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	int i, status;
	pid_t pid;

	CHECK(pthread_barrier_init(&start, NULL, THREADS + 1) == 0);
	for (i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, one, NULL) == 0);
	(void)pthread_barrier_wait(&start);
	pid = fork();
	if (pid == 0) {
		alarm(10); /* a child that waits for a thread it does not have */
		(void)dlsym(RTLD_DEFAULT, "cuInit");
		(void)cuInit(0);
		_exit(0);
	}
	for (i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return 0;
}
