/* SPDX-License-Identifier: Apache-2.0 */
/*
 * single_step PROGRAM HOOK fits|refused: runs PROGRAM under the hook instruction by
 * instruction through one allocation and its release, and kills it before the first, the
 * second, the third ... of them. After each death another process judges the slice.
 *
 * fits: the allocation fits. refused: another process holds nearly all of the slice, so
 * that the request goes all the way to its refusal.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "slice/ledger.h"
#include "slice/page.h"
#include "slice/seat.h"

#define LIMIT_BYTES (UINT64_C(64) << 20)
#define FLOOR_BYTES (UINT64_C(1) << 20)
#define PAIR_BYTES  (UINT64_C(3) << 20)
#define SERIAL      9
#define STUB_UUID   "GPU-73747562-0000-4000-8000-000000000001"
#define SLOT_OWN    0u
#define SLOT_VICTIM 1u

static const tr_dev dev = { 0 };

struct judge {
	const char *program, *hook;
	char policy[200], state[200], stage[200];
	struct tr_seat seat; /* a neighbour of the victim: slot 0 */
	struct tr_ledger ledger;
	volatile unsigned char *done;
	uint64_t held_bytes; /* by the neighbour */
	bool fits;
	unsigned with_reservation, without;
};

__attribute__((format(printf, 2, 3))) static _Noreturn void fail(unsigned step,
								 const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)fprintf(stderr, "killed before instruction %u: ", step);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	exit(1);
}

static void make_slice(struct judge *j, const char *dir)
{
	struct tr_page_device device = { .uuid = STUB_UUID,
					 .limit_bytes = LIMIT_BYTES,
					 .context_floor_bytes = FLOOR_BYTES };
	struct tr_page_spec spec = { .name = "step",
				     .serial = SERIAL,
				     .state_path = j->state,
				     .device_count = 1,
				     .devices = &device };
	struct tr_err err = { 0 };
	int fd;

	(void)snprintf(j->policy, sizeof(j->policy), "%s/policy", dir);
	(void)snprintf(j->state, sizeof(j->state), "%s/state", dir);
	(void)snprintf(j->stage, sizeof(j->stage), "%s/stage", dir);
	if (tr_state_create(j->state, SERIAL, 0600, &err) < 0 ||
	    tr_page_create(j->policy, &spec, &err) < 0 ||
	    tr_seat_take(&j->seat, j->state, SERIAL, &err) < 0)
		fail(0, "%s", err.msg);
	j->ledger = (struct tr_ledger){ .state = j->seat.state, .slot = j->seat.slot };
	fd = open(j->stage, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 4096) < 0)
		fail(0, "%s: %s", j->stage, strerror(errno));
	j->done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if ((volatile void *)j->done == MAP_FAILED)
		fail(0, "%s: %s", j->stage, strerror(errno));
	(void)close(fd);
	(void)setenv("TRANCHE_POLICY", j->policy, 1);
}

/* ---- the victim
 * -------------------------------------------------------------------------------- */

static pid_t start_victim(const struct judge *j, bool wants_all, unsigned step)
{
	char bytes[24], full[24];
	int status;
	pid_t pid;

	(void)snprintf(bytes, sizeof(bytes), "%" PRIu64, PAIR_BYTES);
	(void)snprintf(full, sizeof(full), "%" PRIu64,
		       wants_all ? LIMIT_BYTES - FLOOR_BYTES : 0);
	*j->done = 0;
	pid = vfork();
	if (pid == 0) {
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		(void)execl(j->program, j->program, j->stage, bytes, full, NULL);
		_exit(127);
	}
	/* The first stop is the exec, the second its own signal. */
	for (unsigned stops = 0; stops < 2; stops++) {
		if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
		    WSTOPSIG(status) != SIGTRAP)
			fail(step, "the program ended before its allocation: 0x%x",
			     (unsigned)status);
		if (stops == 0)
			(void)ptrace(PTRACE_CONT, pid, NULL, NULL);
	}
	return pid;
}

/* False: it was through before the last step. */
static bool step_victim(const struct judge *j, pid_t pid, unsigned steps)
{
	int status;

	for (unsigned i = 0; i < steps && !*j->done; i++)
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 ||
		    waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
			fail(steps, "it ended at instruction %u", i);
	return !*j->done;
}

static void kill_victim(pid_t pid)
{
	int status;

	(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) == pid && !WIFSIGNALED(status) &&
	       !WIFEXITED(status))
		;
}

/* ---- the judgement
 * ----------------------------------------------------------------------------- */

static uint64_t word(const struct judge *j, unsigned slot, bool is_floor)
{
	const struct tr_state_mem *mem = &j->seat.state->mem[0][slot];

	return atomic_load(is_floor ? &mem->floor_bytes : &mem->used_bytes);
}

/* Right after its death, before anybody has cleared up. */
static void judge_remains(struct judge *j, unsigned step)
{
	uint64_t used = word(j, SLOT_VICTIM, false);

	if (used != 0 && used != PAIR_BYTES)
		fail(step, "it left %" PRIu64 " bytes", used);
	if (word(j, SLOT_VICTIM, true) != FLOOR_BYTES)
		fail(step, "it left a floor of %" PRIu64, word(j, SLOT_VICTIM, true));
	if (word(j, SLOT_OWN, false) != j->held_bytes || word(j, SLOT_OWN, true) != 0)
		fail(step, "it changed a neighbour's word");
	if (j->fits && tr_ledger_sum(&j->ledger, dev) > LIMIT_BYTES)
		fail(step, "the sum is %" PRIu64, tr_ledger_sum(&j->ledger, dev));
	*(used ? &j->with_reservation : &j->without) += 1;
}

static void expect_clear(const struct judge *j, unsigned step, const char *after)
{
	for (unsigned d = 0; d < TR_DEVICES_MAX; d++)
		for (unsigned s = 1; s < TR_SLOTS_MAX; s++)
			if (j->seat.state->mem[d][s].used_bytes ||
			    j->seat.state->mem[d][s].floor_bytes)
				fail(step, "slot %u is not 0 after %s", s, after);
	if (tr_ledger_sum(&j->ledger, dev) != j->held_bytes)
		fail(step, "the sum is %" PRIu64 " after %s",
		     tr_ledger_sum(&j->ledger, dev), after);
}

/* A neighbour is refused, looks slowly, and has it all. */
static void judge_by_neighbour(struct judge *j, unsigned step)
{
	uint64_t rest = LIMIT_BYTES - j->held_bytes;

	if (tr_ledger_reserve(&j->ledger, dev, TR_USED, rest, LIMIT_BYTES) == 0)
		fail(step, "what is dead did not count");
	if (tr_ledger_reserve_slowly(&j->ledger, j->state, dev, TR_USED, rest,
				     LIMIT_BYTES) < 0)
		fail(step, "a neighbour does not get the rest");
	tr_ledger_refund(&j->ledger, dev, TR_USED, rest);
	expect_clear(j, step, "reaping");
}

/* Somebody new takes the place, has it all, and leaves nothing. */
static void judge_by_newcomer(struct judge *j, unsigned step)
{
	uint64_t rest = LIMIT_BYTES - j->held_bytes;
	struct tr_ledger ledger;
	struct tr_seat seat;
	struct tr_err err = { 0 };

	if (tr_seat_take(&seat, j->state, SERIAL, &err) < 0)
		fail(step, "%s", err.msg);
	ledger = (struct tr_ledger){ .state = seat.state, .slot = seat.slot };
	if (seat.slot.at != SLOT_VICTIM)
		fail(step, "slot %u was free, not %u", seat.slot.at, SLOT_VICTIM);
	if (tr_ledger_reserve(&ledger, dev, TR_USED, rest, LIMIT_BYTES) < 0)
		fail(step, "a newcomer does not get the rest");
	tr_ledger_refund(&ledger, dev, TR_USED, rest);
	tr_seat_leave(&seat);
	expect_clear(j, step, "a newcomer");
}

/* Every third death is left to the next victim, which allocates the whole slice first. */
static bool judge_death(struct judge *j, unsigned step)
{
	judge_remains(j, step);
	switch (step % 3) {
	case 0:
		judge_by_neighbour(j, step);
		return false;
	case 1:
		judge_by_newcomer(j, step);
		return false;
	default:
		return j->fits;
	}
}

int main(int argc, char **argv)
{
	const char *dir = getenv("TEST_DIR");
	struct judge j = { 0 };
	bool alive = true, wants_all = true;
	unsigned step;

	if (argc != 4 || !dir)
		return 2;
	j.program = argv[1];
	j.hook = argv[2];
	j.fits = strcmp(argv[3], "fits") == 0;
	make_slice(&j, dir);
	if (!j.fits) {
		j.held_bytes = LIMIT_BYTES - FLOOR_BYTES - 4096;
		tr_ledger_add(&j.ledger, dev, TR_USED, j.held_bytes);
	}
	(void)setenv("LD_PRELOAD", j.hook, 1);
	for (step = 0; alive; step++) {
		pid_t pid = start_victim(&j, wants_all && j.fits, step);

		alive = step_victim(&j, pid, step);
		kill_victim(pid);
		wants_all = judge_death(&j, step);
	}
	/* Both happened, or nothing was tested. */
	if (j.with_reservation < 20 || j.without < 20)
		fail(step, "%u deaths with a reservation, %u without", j.with_reservation,
		     j.without);
	printf("killed at each of %u instructions, %u times with a reservation\n", step,
	       j.with_reservation);
	return 0;
}
