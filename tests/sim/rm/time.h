/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_TIME_H
#define SIM_RM_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Time on the simulated machine, for its clients. The engine (kernel/engine.h) runs in the machine's
 * process; a client writes work into memory shared with it, as a driver writes into a channel, and
 * reads completions and time stamps there: no round trip. When the client dies its work goes.
 *
 * Two clocks (setting `clock`). real: CLOCK_MONOTONIC. virtual: a discrete-event clock of the whole
 * machine, which moves only while every thread that takes part waits; threads take part when
 * libsimtime.so is preloaded into their process (tests/sim/clock), and run one at a time in an order
 * that depends on the seed alone. rm_time_open() fails with -ENOTSUP on a virtual machine without it.
 *
 * Units: nanoseconds. Errors: 0 or -errno; -EIO: the machine is gone; -ECHILD: a forked child.
 * Threads: all functions from any thread. Everything that blocks is woken by the engine, never by
 * polling.
 */

int rm_time_open(void); /* after rm_open(); idempotent */
bool rm_time_is_virtual(void);
/* The clock that stamps are in; also what CLOCK_MONOTONIC reads in this process, unless it was stepped. */
uint64_t rm_now_ns(void);
/* The calling thread has been busy on its processor for so long. Virtual clock only (the real one
 * sees it by itself); cheap, it adds up and the thread gives way when it has become much. */
void rm_spend_ns(uint64_t ns);

/* Virtual clock only. The machine was suspended: all clocks read JUMP more at once and sleeps end
 * earlier, but nothing has happened meanwhile and the engine's own time, which stamps and
 * rm_now_ns() are in, did not move. And the wall's clock is set by WALL. */
int rm_clock_step(uint64_t jump_ns, int64_t wall_ns);

/* ---- channels: in-order queues of one device ----------------------------------------- */

/* PRIORITY as of streams: lower runs first among the kernels of one process. */
int rm_channel_open(uint32_t device, int priority, uint64_t *channel);
/* What was submitted still runs. Ids are never reused. */
void rm_channel_close(uint64_t channel);

enum rm_work_kind {
	RM_WORK_KERNEL,  /* holds SMS multiprocessors for NS; waits for room and for the
			   process' turn */
	RM_WORK_COPY_IN, /* host to device: NS of that copy engine */
	RM_WORK_COPY_OUT,
	RM_WORK_COPY_LOCAL, /* device to device, memset */
	RM_WORK_STAMP, /* writes the time into a stamp; needs the process' turn, NS may be 0 */
	RM_WORK_WAIT_STAMP,   /* until STAMP has reached GENERATION */
	RM_WORK_WAIT_CHANNEL, /* until CHANNEL has done TICKET */
};

struct rm_work {
	enum rm_work_kind kind;
	uint32_t sms;
	uint64_t ns;
	uint32_t stamp;
	uint64_t generation; /* of the stamp */
	uint64_t channel, ticket;
};

/* Blocks while RM_CHANNEL_DEPTH pieces of work are pending in the channel, as a driver does.
 * TICKET may be NULL; tickets of one channel are 1, 2, 3... */
#define RM_CHANNEL_DEPTH 1024
/* The longest piece of work, eleven days: longer ones are -EINVAL. */
#define RM_WORK_MAX_NS 1000000000000000u
int rm_submit(uint64_t channel, const struct rm_work *work, uint64_t *ticket);
/* Done, or the channel never had it. */
bool rm_is_done(uint64_t channel, uint64_t ticket);
uint64_t rm_last_ticket(uint64_t channel);
/* Until done. */
int rm_wait(uint64_t channel, uint64_t ticket);

/* ---- stamps: what events are made of -------------------------------------------------- */

/* A stamp's generations only grow; a new one begins at 0, reached. */
int rm_stamp_open(uint32_t *stamp);
/* Recycled when no pending work names it. */
void rm_stamp_close(uint32_t stamp);
/* The generation reached last, and when (NS may be NULL). One load or two: no system call. */
uint64_t rm_stamp_read(uint32_t stamp, uint64_t *ns);
int rm_stamp_wait(uint32_t stamp, uint64_t generation);

/* ---- what tests and tools ask --------------------------------------------------------- */

struct rm_busy {
	uint64_t now_ns;
	uint64_t device_ns;  /* a kernel of anybody ran */
	uint64_t process_ns; /* a kernel of that process ran */
	uint64_t kernels;    /* of that process, ended */
};
/* PID: as the machine knows it (host pid); 0: the device alone. Its own truth, since the machine
 * started; a process that is gone reads as 0. */
int rm_busy(uint32_t device, int pid, struct rm_busy *out);

/* Of all devices and processes at one instant: for each device a row with pid 0, then one for each
 * process that ran a kernel there. *n: room in, rows out. */
struct rm_busy_row {
	uint32_t device;
	int pid; /* as in rm_busy() */
	uint64_t busy_ns, kernels;
};
int rm_busy_all(struct rm_busy_row *rows, size_t *n, uint64_t *now_ns);

/* Virtual clock only: the machine writes those rows down itself, COUNT times from FIRST_NS on, every
 * EVERY_NS, so that nobody has to wake up for it. A process has one recording, the last it asked
 * for. */
int rm_record(uint64_t first_ns, uint64_t every_ns, uint32_t count);
/* What was written down since the last call, in order; *n: room in, rows out, fewer than the room
 * when there are no more. -ENOBUFS: they became too many and the recording has ended. */
struct rm_record {
	uint64_t at_ns;
	struct rm_busy_row row;
};
int rm_recorded(struct rm_record *rows, size_t *n);

struct rm_sample {       /* NVML's, over one sixth of a second */
	uint64_t end_ns; /* on the machine's clock */
	int pid;         /* by the machine's pid mode; 0: the device as a whole */
	uint32_t sm_percent, mem_percent;
};
/* Samples that ended after AFTER_NS, oldest first. *n: room in, rows out. PROCESSES false: the
 * device's own rows. */
int rm_samples(uint32_t device, bool processes, uint64_t after_ns, struct rm_sample *rows,
	       size_t *n);

#endif /* SIM_RM_TIME_H */
