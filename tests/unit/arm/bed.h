/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BED_H
#define BED_H

#include "deviceplugin/arm/arm.h"
#include "scene.h"

/* A struct tr_arm on directories of its own, whose injections are files. */
struct bed {
	struct tr_arm *arm;
	struct event_base *base; /* its clock; NULL: it has none */
	char dir[64], slices[96], records[96], injected[96], boot[96];
	struct tr_arm_options options;
	unsigned events[TR_ARM_ODD + 1];
	char odd[640]; /* the last sentence */
	int inject_fails, flush_fails;
	char unflushed[256][TR_ALLOC_NAME]; /* injected, but not there before flush */
	size_t unflushed_count;
	unsigned flushes;
	bool keeps_dirs;
	struct tr_err err;
};

extern struct bed bed;

int bed_open(void **state);
int bed_close(void **state);
void bed_start(void); /* the agent */
int bed_try_start(void);
void bed_stop(void);
int bed_allocate(const struct tr_ids *ids, char name[TR_ALLOC_NAME], void *arg);
void bed_admit(struct scene_pod *pod);
/* Arms POD as PreStartContainer of its container AT does. */
int bed_arm(struct scene_pod *pod, size_t at);
/* With all pods of the scene as the API server's. */
size_t bed_sweep(int64_t now_ms);
struct tr_alloc *bed_alloc(const struct scene_container *container);
/* Its page and injection allow just what the container was to get, or nothing. */
void bed_assert_armed(struct scene_pod *pod, size_t at);
void bed_assert_all_armed(struct scene_pod *pod); /* that ask for a card */
void bed_assert_closed(const char *name);
/* How many entries there are. */
unsigned bed_count(const char *dir);
bool bed_exists(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif /* BED_H */
