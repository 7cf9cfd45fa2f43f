/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_GUARD_H
#define TR_HOOK_GUARD_H

#include <stdbool.h>

/*
 * Which process this is. Two words in a page of their own, that the kernel wipes in a child
 * of fork (and of a raw clone without shared memory): the seat and the mappings are the
 * parent's there. A vfork child shares them, rightly: it is the same image until exec.
 */
enum tr_alive {
	TR_ALIVE_SEATED,   /* tr_self.seat and .ledger are this process' own */
	TR_ALIVE_WATCHING, /* so is the reader's mapping */
	TR_ALIVE_COUNT,
};

bool tr_is_alive(enum tr_alive what);
/* 0 or -errno: a page of that kind was not to be had. */
int tr_set_alive(enum tr_alive what);

/*
 * A step of the process' life that one thread takes while others wait a bounded time:
 * nothing in between calls the driver. A step that a fork interrupted belongs to a thread
 * that is not here; its pid tells, and the next comer takes it over.
 */
struct tr_step {
	_Atomic int holder; /* 0 open, -1 taken, else the pid whose thread is at it */
};

enum tr_turn { TR_TURN_MINE, TR_TURN_DONE, TR_TURN_TIMEOUT };
/* MINE: do it, then tr_step_end(). IS_DONE tells whether a taken step still holds (a fork
 * may have undone it). */
enum tr_turn tr_step_begin(struct tr_step *step, bool (*is_done)(void));
void tr_step_end(struct tr_step *step, bool is_taken);

#endif /* TR_HOOK_GUARD_H */
