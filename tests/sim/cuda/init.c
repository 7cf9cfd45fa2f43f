/* SPDX-License-Identifier: Apache-2.0 */
#include "init.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "lane.h"
#include "queue.h"
#include "stub.h"

/* Of the driver that no header knows: above every version of the table's future rows. */
#define NEWER_DRIVER_VERSION 14010

enum phase {
	PHASE_NONE, /* cuInit has not succeeded */
	PHASE_READY,
	PHASE_FORKED, /* the parent was ready: nothing works here, as with the real driver
		       */
};

static atomic_int phase;
static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(const struct rm_machine *) machine_facts;

static void before_fork(void)
{
	pthread_mutex_lock(&init_lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&init_lock);
}

static void become_child(void)
{
	int ready = PHASE_READY;

	atomic_compare_exchange_strong(&phase, &ready, PHASE_FORKED);
	/* The mutex was locked by before_fork in the thread that forked: this one. */
	pthread_mutex_unlock(&init_lock);
}

__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, become_child);
}

const struct rm_machine *sim_machine(void)
{
	const struct rm_machine *facts = atomic_load_explicit(&machine_facts,
							      memory_order_acquire);

	if (facts)
		return facts;
	if (rm_open() < 0)
		return NULL;
	facts = rm_machine();
	atomic_store_explicit(&machine_facts, facts, memory_order_release);
	return facts;
}

int sim_driver_version(void)
{
	const struct rm_machine *machine = sim_machine();

	if (!machine)
		return CUDA_VERSION;
	if (machine->newer_driver && machine->driver_version < NEWER_DRIVER_VERSION)
		return NEWER_DRIVER_VERSION;
	return (int)machine->driver_version;
}

bool sim_is_ready(void)
{
	return atomic_load_explicit(&phase, memory_order_acquire) != PHASE_NONE;
}

CUresult sim_enter_early(const char *entry)
{
	int fault = rm_fault(entry);

	return fault < 0 ? CUDA_SUCCESS : (CUresult)fault;
}

CUresult sim_enter(const char *entry)
{
	int fault;

	if (atomic_load_explicit(&phase, memory_order_acquire) != PHASE_READY)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (sim_queue_in_callback())
		return CUDA_ERROR_NOT_PERMITTED;
	fault = rm_fault(entry);
	sim_spend(SIM_SPEND_CALL_NS);
	return fault < 0 ? CUDA_SUCCESS : (CUresult)fault;
}

CUresult sim_not_supported(const char *entry)
{
	CUresult r = sim_enter(entry);

	return r == CUDA_SUCCESS ? CUDA_ERROR_NOT_SUPPORTED : r;
}

CUresult sim_result(int r)
{
	switch (-r) {
	case 0:
		return CUDA_SUCCESS;
	case ENOMEM:
		return CUDA_ERROR_OUT_OF_MEMORY;
	case ENODEV:
		return CUDA_ERROR_NO_DEVICE;
	case ECHILD:
		return CUDA_ERROR_NOT_INITIALIZED;
	case EINVAL:
	case ENOENT:
		return CUDA_ERROR_INVALID_VALUE;
	case EBADF:
		return CUDA_ERROR_INVALID_HANDLE;
	case EPERM:
	case EACCES:
		return CUDA_ERROR_NOT_PERMITTED;
	default:
		return CUDA_ERROR_OPERATING_SYSTEM;
	}
}

static CUresult start(void)
{
	int r = rm_open();

	if (r < 0)
		return sim_result(r);
	if (!sim_machine())
		return CUDA_ERROR_NO_DEVICE;
	return sim_devices_find();
}

CUresult cuInit(unsigned int Flags)
{
	/* Faults first, without the lock: a delay must not hold other threads. */
	CUresult r = sim_enter_early(__func__);

	if (r != CUDA_SUCCESS)
		return r;
	if (Flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&init_lock);
	switch (atomic_load(&phase)) {
	case PHASE_READY:
		break;
	case PHASE_FORKED:
		r = CUDA_ERROR_NOT_INITIALIZED;
		break;
	default:
		r = start();
		if (r == CUDA_SUCCESS)
			atomic_store_explicit(&phase, PHASE_READY, memory_order_release);
	}
	pthread_mutex_unlock(&init_lock);
	return r;
}

CUresult cuDriverGetVersion(int *driverVersion)
{
	CUresult r = sim_enter_early(__func__);

	if (r != CUDA_SUCCESS)
		return r;
	if (!driverVersion)
		return CUDA_ERROR_INVALID_VALUE;
	*driverVersion = sim_driver_version();
	return CUDA_SUCCESS;
}
