/* SPDX-License-Identifier: Apache-2.0 */
#include "slice/seat.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rt/cleanup.h"
#include "rt/file.h"
#include "rt/sat.h"

#define LOST_NS \
	UINT64_C(100000000) /* one that is gone may be charged, or as the longest known */

static void fill_state(void *addr, void *arg)
{
	struct tr_state *state = addr;

	state->magic = TR_STATE_MAGIC;
	state->abi = TR_STATE_ABI;
	state->size = sizeof(*state);
	state->serial = *(const uint64_t *)arg;
}

int tr_state_create(const char *path, uint64_t serial, unsigned mode, struct tr_err *err)
{
	return tr_file_create(path, sizeof(struct tr_state), mode, fill_state, &serial,
			      err);
}

static int check_state(const struct tr_state *state, const char *path, uint64_t serial,
		       struct tr_err *err)
{
	uint32_t magic = state->magic, abi = state->abi;

	if (magic != TR_STATE_MAGIC)
		return tr_fail(err, EBADMSG, "%s is not a state file: magic 0x%08x", path,
			       magic);
	if (abi != TR_STATE_ABI || state->size != sizeof(*state))
		return tr_fail(err, EPROTONOSUPPORT, "state file %s: layout %u, need %u",
			       path, abi, TR_STATE_ABI);
	if (serial && state->serial != serial)
		return tr_fail(err, EBADMSG, "state file %s belongs to another slice",
			       path);
	return 0;
}

/* Maps PATH and checks it. FD is the caller's, and so is SEAT: also when it is refused. */
static int map_state(struct tr_seat *seat, const char *path, uint64_t serial, int *fd,
		     struct tr_err *err)
{
	void *map = NULL;
	int r;

	*seat = (struct tr_seat){ 0 };
	if (strlen(path) >= sizeof(seat->path))
		return tr_fail(err, ENAMETOOLONG, "state file %s: the path is too long",
			       path);
	memcpy(seat->path, path, strlen(path));
	r = tr_file_map(path, sizeof(struct tr_state), true, &map, fd, err);
	if (r < 0)
		return r;
	seat->state = map;
	r = check_state(map, path, serial, err);
	/* A child must not keep the lock of a parent that dies, so it does not get the
	 * mapping. */
	if (r == 0 && madvise(map, sizeof(struct tr_state), MADV_DONTFORK) < 0)
		r = tr_fail_errno(err, "state file %s: madvise", path);
	return r;
}

/* Under the slot's lock. The totals of the device keep what its process used. */
static void free_usage(struct tr_state *state, unsigned s)
{
	for (unsigned i = 0; i < TR_USAGE_WINDOW; i++) {
		struct tr_state_usage *row =
			&state->usage[(tr_usage_first(s) + i) % TR_USAGE_ROWS];

		if (atomic_load(&row->owner) >> 8 != s + 1)
			continue;
		atomic_store(&row->gpu_ns, 0);
		atomic_store(&row->told, 0);
		atomic_store(&row->launches, 0);
		atomic_store(&row->throttled_ns, 0);
		atomic_store(&row->vtime_ns, 0);
		atomic_store(&row->seen_ns, 0);
		atomic_store(&row->owner, 0);
	}
}

/* What its process had under way that nobody had measured: at most since it was submitted, and in
 * doubt not that much, for all the time it may have lived on. */
static void lose_unmeasured(struct tr_state *state, unsigned s)
{
	uint64_t word = atomic_exchange(&state->slots[s].unmeasured, 0);
	struct tr_state_pace *pace = &state->pace[word % TR_DEVICES_MAX];
	uint64_t lost_ns = tr_sat_sub(tr_clock_ns(), word);
	uint64_t most_ns = atomic_load(&pace->longest_ns);

	if (!word)
		return;
	if (most_ns < LOST_NS)
		most_ns = LOST_NS;
	atomic_fetch_add(&pace->lost_ns, lost_ns < most_ns ? lost_ns : most_ns);
}

static void zero_slot(struct tr_state *state, unsigned s)
{
	uint64_t used_bytes = 0;

	lose_unmeasured(state, s);

	for (unsigned d = 0; d < TR_DEVICES_MAX; d++) {
		if (atomic_load(&state->devices[d].key) == 0)
			continue; /* nobody has reserved there: its pages stay untouched */
		used_bytes |= atomic_exchange(&state->mem[d][s].used_bytes, 0);
		atomic_store(&state->mem[d][s].floor_bytes, 0);
	}
	free_usage(state, s);
	atomic_store(&state->slots[s].contexts, 0);
	atomic_store(&state->slots[s].pinned_bytes, 0);
	atomic_store(&state->slots[s].tag, 0);
	/* The driver may be slower than we: for a moment it still holds what is free here. */
	if (used_bytes)
		atomic_store(&state->reaped_ns, tr_clock_ns());
}

/* Field 22 of /proc/self/stat, or 0. The name (field 2) may hold blanks and brackets: start
 * after the last ')'. */
static uint64_t read_start_ticks(void)
{
	char text[1024];
	tr_autoclose int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	const char *at;
	uint64_t ticks = 0;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strrchr(text, ')');
	for (unsigned field = 2; at && field < 22; field++) {
		at = strchr(at, ' ');
		if (at)
			at++;
	}
	for (; at && *at >= '0' && *at <= '9'; at++)
		ticks = ticks * 10 + (uint64_t)(*at - '0');
	return ticks;
}

static void label_slot(struct tr_state *state, unsigned s)
{
	struct tr_state_slot *slot = &state->slots[s];
	uint32_t pid = (uint32_t)syscall(SYS_getpid);
	char comm[16] = { 0 };

	(void)prctl(PR_GET_NAME, comm);
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): mapped when map_state() is 0 */
	memcpy(slot->comm, comm, sizeof(slot->comm));
	atomic_store(&slot->pid, (int32_t)pid);
	atomic_store(&slot->start_ticks, read_start_ticks());
	/* New for each occupant: published overhead of the last one does not count for this
	 * one. */
	atomic_store(&slot->tag, tr_clock_ns() << 16 | (pid & 0xffff) | 1);
}

/* A sum scans to the mark, so it must cover a slot before the slot's words can be anything
 * but 0. */
static void raise_high_water(struct tr_state *state, unsigned slots)
{
	uint32_t seen = atomic_load(&state->high_water);

	while (seen < slots &&
	       !atomic_compare_exchange_weak(&state->high_water, &seen, slots))
		;
}

/* The kernel decides who owns a slot. A pid label that is gone is likely free: but only a
 * hint. */
static int take_slot(struct tr_seat *seat, int fd, struct tr_err *err)
{
	for (unsigned s = 0; s < TR_SLOTS_MAX; s++) {
		int r = tr_byte_lock(fd, (off_t)s);

		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return tr_fail(err, -r, "state file %s: lock: %s", seat->path,
				       strerror(-r));
		zero_slot(seat->state, s);
		raise_high_water(seat->state, s + 1);
		label_slot(seat->state, s);
		seat->slot.at = (uint16_t)s;
		seat->is_seated = true;
		return 0;
	}
	return tr_fail(err, EUSERS, "state file %s: all %u slots are taken", seat->path,
		       TR_SLOTS_MAX);
}

/* On overlayfs the lock goes when the descriptor closes though the mapping lives. So:
 * close, and look at our own byte through another description. */
static int probe_lock(const struct tr_seat *seat, struct tr_err *err)
{
	tr_autoclose int fd = open(seat->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (fd < 0)
		return tr_fail_errno(err, "open %s again", seat->path);
	r = tr_byte_is_locked(fd, (off_t)seat->slot.at);
	if (r < 0)
		return tr_fail(err, -r, "state file %s: lock: %s", seat->path,
			       strerror(-r));
	if (r == 0)
		return tr_fail(err, ENOLCK,
			       "state file %s: this file system loses locks (overlayfs?); "
			       "put it on tmpfs",
			       seat->path);
	return 0;
}

int tr_seat_take(struct tr_seat *out, const char *path, uint64_t serial, struct tr_err *err)
{
	struct tr_seat seat;
	int fd = -1;
	int r = map_state(&seat, path, serial, &fd, err);

	if (r == 0)
		r = take_slot(&seat, fd, err);
	/* The mapping alone holds the lock: nothing of ours in the fd table. -1: nothing was opened. */
	(void)close(fd);
	if (r == 0)
		r = probe_lock(&seat, err);
	if (r < 0) {
		tr_seat_leave(&seat);
		return r;
	}
	*out = seat;
	return 0;
}

int tr_seat_watch(struct tr_seat *out, const char *path, uint64_t serial,
		  struct tr_err *err)
{
	tr_autoclose int fd = -1;
	int r = map_state(out, path, serial, &fd, err);

	if (r < 0)
		tr_seat_leave(out);
	return r;
}

void tr_seat_leave(struct tr_seat *seat)
{
	if (seat->state && seat->is_seated)
		zero_slot(seat->state, seat->slot.at);
	if (seat->state)
		(void)munmap(seat->state, sizeof(*seat->state));
	*seat = (struct tr_seat){ 0 };
}

int tr_state_row(struct tr_state *state, uint64_t key, tr_dev *out)
{
	for (unsigned d = 0; d < TR_DEVICES_MAX; d++) {
		uint64_t seen = 0;

		if (atomic_load(&state->devices[d].key) == key ||
		    atomic_compare_exchange_strong(&state->devices[d].key, &seen, key) ||
		    seen == key) {
			out->at = (uint8_t)d;
			return 0;
		}
	}
	return -ENOSPC;
}

void tr_state_claim_row(struct tr_state *state, tr_dev dev, uint64_t key)
{
	uint64_t seen = 0;

	(void)atomic_compare_exchange_strong(&state->devices[dev.at].key, &seen, key);
}

unsigned tr_state_reap(struct tr_state *state, int fd)
{
	uint32_t slots = atomic_load(&state->high_water);
	unsigned reaped = 0;

	for (unsigned s = 0; s < slots && s < TR_SLOTS_MAX; s++) {
		if (atomic_load(&state->slots[s].tag) == 0)
			continue; /* zeroed already, or being labelled by its new owner */
		/* Only under the slot's own lock: the next owner may be moving in. */
		if (tr_byte_lock(fd, (off_t)s) < 0)
			continue;
		zero_slot(state, s);
		(void)tr_byte_unlock(fd, (off_t)s);
		reaped++;
	}
	return reaped;
}
