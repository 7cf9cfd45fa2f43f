/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCENE_H
#define SCENE_H

#include "deviceplugin/arm/arm.h"

/*
 * A node with cards, the pods that were bound to it, and a kubelet that gives out ids as the real one
 * does: an init container's ids again to containers after it, else any that is free.
 */
#define SCENE_PODS       256
#define SCENE_CONTAINERS 6
#define SCENE_SPLIT      250

struct scene_container {
	const char *name;
	enum tr_container_kind kind;
	unsigned wanted, mib, cores; /* of each card; cards from number `card` on */
	unsigned card;
	int priority; /* -1: none asked for */
	/* the kubelet's */
	const char *ids[TR_DEVICES_MAX];
	char alloc[TR_ALLOC_NAME]; /* the answer's */
};

struct scene_pod {
	char name[64], uid[64];
	struct scene_container at[SCENE_CONTAINERS];
	size_t count;
	const char *decision; /* NULL: as the containers say; "": none */
	const char *granted, *bind_phase;
	const char *phase;    /* "Pending" */
	const char *mirrored; /* the kubelet's UID of a static pod; NULL: it is none */
	bool is_admitted, is_deleting;
	struct tr_object *object;
};

struct scene {
	struct tr_cards cards;
	struct scene_pod pods[SCENE_PODS];
	size_t pod_count;
	struct tr_pod_list rows;
	char (*ids)[64]; /* all that are offered */
	size_t id_count;
	unsigned seed, refused;
	char sentence[600]; /* of the last refusal */
};

extern struct scene scene;

int scene_open(void **state); /* two cards of 16 GiB */
int scene_close(void **state);
void scene_cards(unsigned count, uint64_t give_bytes);
unsigned scene_random(unsigned below);

/* A pod of app containers with one card each, of MIB[i] MiB; ends with 0. */
struct scene_pod *scene_pod(const char *name, const unsigned *mib);
/* An empty one. */
struct scene_pod *scene_pod_new(const char *name);
struct scene_container *scene_add(struct scene_pod *pod, const char *name,
				  enum tr_container_kind kind, unsigned wanted,
				  unsigned mib);
extern const unsigned scene_one[], scene_two[]; /* sizes, for scene_pod */
/* A pod of every kind of container, and one that asks for nothing. */
struct scene_pod *scene_three_kinds(const char *name);
/* The API server's object of it. */
const struct tr_pod *scene_object(struct scene_pod *pod);
/* The kubelet chooses ids for all containers; ALLOCATE is asked for each, and gives the answer's name. */
typedef int scene_allocate(const struct tr_ids *ids, char name[TR_ALLOC_NAME], void *arg);
int scene_admit(struct scene_pod *pod, scene_allocate *allocate, void *arg);
void scene_forget(struct scene_pod *pod); /* it has ended */
struct tr_ids scene_ids(const struct scene_container *container);
/* What PodResources tells. Valid until the next call. */
const struct tr_pod_list *scene_rows(void);
const char *scene_uuid(unsigned card);

#endif /* SCENE_H */
