/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_HANDLE_H
#define SIM_CUDA_HANDLE_H

/*
 * Which pointers are live handles of one type: a stale or invented handle must answer
 * INVALID_HANDLE, not end the process. Objects begin with a struct sim_handle.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define SIM_HANDLE_BUCKETS 1024

struct sim_handle {
	struct sim_handle *next;
};

struct sim_handle_set {
	pthread_mutex_t lock;
	struct sim_handle *bucket[SIM_HANDLE_BUCKETS];
};

#define SIM_HANDLE_SET(name) \
	static struct sim_handle_set name = { .lock = PTHREAD_MUTEX_INITIALIZER }

void sim_handle_add(struct sim_handle_set *set, struct sim_handle *h);
bool sim_handle_live(struct sim_handle_set *set, const void *handle);
/* False when it was not live: of two threads that destroy one object, one is told. */
bool sim_handle_remove(struct sim_handle_set *set, const void *handle);
/* Removes and returns some handle that MATCH accepts; NULL when there is none. */
struct sim_handle *sim_handle_pick(struct sim_handle_set *set,
				   bool (*match)(const struct sim_handle *h,
						 const void *what),
				   const void *what);

#endif /* SIM_CUDA_HANDLE_H */
