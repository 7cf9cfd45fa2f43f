/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_ENGINE_PARTS_H
#define SIM_KERNEL_ENGINE_PARTS_H

#include "engine.h"
#include "engine_heap.h"
#include "engine_map.h"
#include "engine_meter.h"

/* What the engine's files share. Work of a channel runs in order, so that at most its first piece is
 * anywhere else than in the channel: every list and heap holds channels. */

struct engine_link {
	struct engine_link *prev, *next;
};

static inline void engine_link_init(struct engine_link *l)
{
	l->prev = l->next = l;
}

static inline bool engine_list_is_empty(const struct engine_link *list)
{
	return list->next == list;
}

/* In front of BEFORE; with a list's head: at its end. */
static inline void engine_link_add(struct engine_link *before, struct engine_link *l)
{
	l->prev = before->prev;
	l->next = before;
	before->prev->next = l;
	before->prev = l;
}

/* One that is in no list is left alone. */
static inline void engine_link_remove(struct engine_link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	engine_link_init(l);
}

#define engine_of(type, member, pointer) \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Wakes its owner at a time. */
struct engine_timer {
	struct engine_node node; /* first: a node of engine.timers is one of these */
	bool is_device;
};

struct engine_stamp {
	uint64_t id, generation;
	size_t refs;                /* pieces of work that name it */
	struct engine_link waiters; /* channels */
	struct engine_link by_client;
};

/* Who takes turns on a device: a client, or with MPS all of them together. */
struct engine_party {
	uint64_t order; /* of arrival */
	uint32_t sms_used;
	size_t channels;           /* that are open: room in READY */
	size_t works;              /* in READY, STAMPS and RUNNING */
	struct engine_heap ready;  /* kernels: (priority, arrival) */
	struct engine_link stamps; /* ready ones, in order of arrival */
	struct engine_link running;
	struct engine_link wanting; /* in device.wanting */
	bool has_paused;            /* what is in RUNNING stands still */
};

/* A client on a device. */
struct engine_share {
	struct engine_client *client;
	struct engine_party *party, own; /* PARTY: OWN, or the device's */
	struct engine_link by_device;
	size_t channels;
	uint64_t since_ns; /* of the first of the channels */
	uint64_t kernels;
	struct engine_meter busy, copying;
};

struct engine_client {
	uint64_t id, order;
	struct engine_share *shares[RM_DEVICES_MAX];
	struct engine_link channels, stamps;
	struct engine_link by_engine;
};

struct engine_piece {
	enum rm_work_kind kind;
	uint32_t sms;
	uint64_t ns;
	uint64_t until; /* generation or ticket */
	union {
		struct engine_stamp *stamp;
		struct engine_channel *channel; /* NULL: one that is done for good */
	} of;
};

enum engine_state {
	ENGINE_IDLE, /* no work, or in engine.stepping */
	ENGINE_WAITING,
	ENGINE_READY,
	ENGINE_RUNNING,
	ENGINE_QUEUED, /* for a copy engine */
	ENGINE_COPYING,
};

struct engine_channel {
	struct engine_timer
		timer; /* first, see engine_timer; its node is in READY as well */
	enum engine_state state;
	bool is_closed, is_stepping;
	uint64_t id, priority;
	struct engine_client *client;
	struct engine_share *share;
	struct engine_device *device;
	uint64_t end_ns, rest_ns; /* while running; while paused */
	uint64_t done;            /* tickets; UINT64_MAX: closed and drained */
	struct engine_piece *pieces;
	size_t first, count, room; /* a ring; room: a power of two, or 0 */
	size_t refs;               /* pieces of work that wait for it */
	struct engine_link waiters;
	struct engine_link where; /* the one list it is in, by STATE */
	struct engine_link by_client;
	struct engine_channel *next_step;
};

struct engine_copier {
	struct engine_link queue;
	struct engine_channel *active;
};

#define ENGINE_COPIERS 3

struct engine_device {
	struct engine_timer timer; /* first, see engine_timer */
	uint64_t timer_ns;         /* UINT64_MAX: not set */
	uint32_t index, sm_count;
	struct engine_party *turn; /* whose turn it is, or NULL */
	struct engine_party all;   /* with MPS */
	uint64_t last_order;       /* of who had the turn last */
	uint64_t turn_from_ns, turn_to_ns;
	struct engine_link wanting; /* parties with work, and the one in TURN; by order */
	struct engine_link shares;  /* by order of the clients */
	struct engine_copier copiers[ENGINE_COPIERS];
	uint64_t kernels;
	struct engine_meter busy, copying;
};

struct engine {
	struct engine_setup setup;
	struct engine_hears hears;
	uint64_t now_ns, sequence;
	struct engine_heap timers;
	size_t timer_count; /* that there can be: room in TIMERS */
	struct engine_map clients, channels, stamps;
	struct engine_link by_order; /* clients */
	struct engine_channel *stepping, **stepping_end;
	uint64_t unsettled; /* devices whose turn or room may have changed, one bit each */
	struct engine_device devices[RM_DEVICES_MAX];
};

/* engine_work.c: the way of a piece of work */
void engine_step_later(struct engine *e, struct engine_channel *c);
void engine_piece_done(struct engine *e, struct engine_channel *c);
void engine_timer_due(struct engine *e, struct engine_channel *c);
void engine_settle(struct engine *e);
void engine_channel_drained(struct engine *e, struct engine_channel *c);
/* Takes its work back, wherever it is. */
void engine_channel_stop(struct engine *e, struct engine_channel *c);

/* engine_turn.c: turns and multiprocessors */
void engine_party_init(struct engine_party *p, uint64_t order);
void engine_party_free(struct engine_party *p);
void engine_party_want(struct engine *e, struct engine_channel *c);
/* A kernel or stamp that was started has ended. */
void engine_party_end(struct engine *e, struct engine_channel *c);
/* One that waits, runs or is paused is taken back. */
void engine_party_drop(struct engine *e, struct engine_channel *c);
void engine_party_gone(struct engine *e, struct engine_device *d, struct engine_party *p);
void engine_device_settle(struct engine *e, struct engine_device *d);

#endif /* SIM_KERNEL_ENGINE_PARTS_H */
