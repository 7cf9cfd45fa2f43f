/* SPDX-License-Identifier: Apache-2.0 */
#include "attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "env.h"
#include "guard.h"
#include "hook.h"
#include "pace.h"
#include "reserves.h"
#include "rt/cleanup.h"
#include "rt/file.h"
#include "rt/sat.h"
#include "trace.h"
#include "tranche/paths.h"

#define REAP_EVERY_NS (100ull * 1000 * 1000)

struct tr_self tr_self;

static struct tr_env env; /* written in stage 1 */
static struct tr_visible
	visible; /* written in stage 2: the driver reads the variable at cuInit */
static struct tr_step policy_step, seat_step, watch_step;
static struct tr_seat watch_seat;
static struct tr_ledger watch_ledger;
static _Atomic uint64_t
	env_limit_bytes[TR_DEVICES_MAX];           /* of rows met so far; 0: not met */
static _Atomic uint32_t env_cores[TR_DEVICES_MAX]; /* the same; percent, 0: no limit */
static _Atomic bool is_unarmed;                    /* found so in stage 1 */

/* ---- stage 1 ------------------------------------------------------------------------- */

/* 0, or -ENOENT. The fixed path comes first: an environment that somebody cleared or
 * changed finds the same page. */
static int open_page(void)
{
	const char *path = TR_SLICE_POLICY;
	struct tr_err err = { 0 };
	int r = tr_page_open(&tr_self.page, path, &err);

	if (r == -ENOENT && access(TR_SLICE_DIR "/ro", F_OK) == 0 &&
	    access(TR_SLICE_NONE, F_OK) < 0) {
		tr_trace("the slice of this mount namespace has ended: refusing");
		return -ENODATA;
	}
	if (r == -ENOENT || r == -ENOTDIR) {
		path = getenv(TR_ENV_POLICY);
		if (!path || !*path)
			return -ENOENT;
		r = tr_page_open(&tr_self.page, path, &err);
	}
	tr_trace("policy %s: %s", path, r < 0 ? err.msg : tr_self.page.name);
	return r == -ENOENT ? -ENODATA
			    : r; /* one that was named and is not there refuses */
}

static void find_policy(void)
{
	int r = open_page();

	tr_env_read(&env);
	tr_self.has_page = r == 0;
	if (r != 0 && r != -ENOENT) {
		tr_self.is_refused = true;
		return;
	}
	if (!tr_self.has_page && env.is_disabled)
		return;
	tr_self.has_env = env.has_limit || env.has_cores || env.is_bad;
	tr_self.is_refused = env.is_bad;
	if (env.is_bad)
		tr_trace("a limit in the environment cannot be read: refusing");
}

static void find_armed(void)
{
	bool by_page = tr_self.has_page && (tr_self.page.flags & TR_POLICY_ARMED),
	     by_env = (tr_self.has_page || tr_self.has_env) && env.has_cores;

	atomic_store(&is_unarmed, !by_page && !by_env);
}

static bool is_always(void)
{
	return true;
}

bool tr_attach_is_active(void)
{
	int saved_errno = errno;

	switch (tr_step_begin(&policy_step, is_always)) {
	case TR_TURN_MINE:
		find_policy();
		find_armed();
		tr_step_end(&policy_step, true);
		break;
	case TR_TURN_DONE:
		break;
	case TR_TURN_TIMEOUT: /* a signal handler on top of find_policy(): hook, decide
				 later */
		errno = saved_errno;
		return true;
	}
	errno = saved_errno;
	return tr_self.has_page || tr_self.has_env || tr_self.is_refused;
}

bool tr_attach_is_armed(void)
{
	/* A signal handler on top of find_policy() may come before it is known: armed. */
	return tr_attach_is_active() &&
	       !atomic_load_explicit(&is_unarmed, memory_order_acquire);
}

/* ---- the state file of environment limits -------------------------------------------- */

/* Where processes of one container meet when PATH cannot be used: the same name for all. */
static void other_path(char *out, size_t room, const char *path)
{
	(void)snprintf(out, room, "/dev/shm/tranche-%016llx",
		       (unsigned long long)tr_uuid_key(path));
}

static int make_and_take(struct tr_seat *seat, const char *path, struct tr_err *err)
{
	int made, r = tr_seat_take(seat, path, 0, err);

	if (r != -ENOENT)
		return r;
	made = tr_state_create(path, 0, 0666, err);
	if (made < 0 && made != -EEXIST)
		return made;
	r = tr_seat_take(seat, path, 0, err);
	/* Useless to anybody who comes: the file system loses locks. */
	if (r == -ENOLCK && made == 0)
		(void)unlink(path);
	return r;
}

static const char *env_state_path(void)
{
	const char *path = getenv(TR_ENV_STATE);

	return path && *path ? path : TR_STATE_DEFAULT;
}

static int take_env_seat(struct tr_seat *seat, struct tr_err *err)
{
	const char *path = env_state_path();
	char other[64];
	int r = -EINVAL;

	/* A relative one would be another file in every directory. */
	if (path[0] == '/')
		r = make_and_take(seat, path, err);
	else
		(void)tr_fail(err, r, "not an absolute path");
	if (r == 0 || r == -EUSERS)
		return r;
	tr_trace("state %s: %s", path, err->msg);
	other_path(other, sizeof(other), path);
	return make_and_take(seat, other, err);
}

static int watch_env(struct tr_seat *seat)
{
	const char *path = env_state_path();
	char other[64];

	if (path[0] == '/' && tr_seat_watch(seat, path, 0, NULL) == 0)
		return 0;
	other_path(other, sizeof(other), path);
	return tr_seat_watch(seat, other, 0, NULL);
}

/* ---- stage 2 ------------------------------------------------------------------------- */

static struct {
	_Atomic int state; /* 0 not asked, 1 being written, 2 known */
	int r;             /* of tr_attach_device() */
	tr_dev dev;
} ordinals[TR_ORDINALS_MAX];

/* What a fork child has of its parent's: nothing it may use. The mapping is gone already.
 */
static void forget(void)
{
	/* A first seat finds the tables as the loader made them: pages nobody touched. */
	static bool had_seat;
	unsigned i;

	memset(&tr_self.seat, 0, sizeof(tr_self.seat));
	memset(&tr_self.ledger, 0, sizeof(tr_self.ledger));
	for (i = 0; i < TR_ORDINALS_MAX; i++)
		atomic_store(&ordinals[i].state, 0);
	if (had_seat) {
		tr_objects_forget();
		tr_contexts_forget();
		tr_pace_forget();
	}
	had_seat = true;
}

static int take_seat(void)
{
	struct tr_err err = { 0 };
	int r;

	if (tr_self.is_refused)
		return -EPERM;
	forget();
	tr_visible_read(&visible, getenv("CUDA_VISIBLE_DEVICES"));
	if (tr_self.has_page)
		r = tr_seat_take(&tr_self.seat, tr_self.page.state_path,
				 tr_self.page.serial, &err);
	else
		r = take_env_seat(&tr_self.seat, &err);
	if (r < 0) {
		tr_trace("no seat: %s", err.msg);
		return r;
	}
	tr_self.ledger = (struct tr_ledger){
		.state = tr_self.seat.state,
		.policy = tr_self.has_page ? tr_self.page.map : NULL,
		.slot = tr_self.seat.slot,
	};
	r = tr_set_alive(TR_ALIVE_SEATED);
	if (r < 0)
		tr_seat_leave(&tr_self.seat);
	else
		tr_trace("slot %u of %s", tr_self.seat.slot.at, tr_self.seat.path);
	atomic_store(&tr_pace_is_armed, tr_attach_is_armed());
	return r;
}

static bool is_seated(void)
{
	return tr_is_alive(TR_ALIVE_SEATED);
}

int tr_attach_seat(void)
{
	int saved_errno = errno, r = 0;

	if (is_seated() || !tr_attach_is_active())
		return 0;
	switch (tr_step_begin(&seat_step, is_seated)) {
	case TR_TURN_MINE:
		r = take_seat();
		tr_step_end(&seat_step, r == 0);
		break;
	case TR_TURN_DONE:
		break;
	case TR_TURN_TIMEOUT:
		r = -ETIMEDOUT;
		break;
	}
	errno = saved_errno;
	return r;
}

static bool is_watching(void)
{
	return tr_is_alive(TR_ALIVE_WATCHING);
}

static int watch(void)
{
	int r;

	memset(&watch_seat, 0, sizeof(watch_seat));
	if (tr_self.has_page)
		r = tr_seat_watch(&watch_seat, tr_self.page.state_path, tr_self.page.serial,
				  NULL);
	else
		r = watch_env(&watch_seat);
	if (r < 0)
		return r;
	watch_ledger = (struct tr_ledger){
		.state = watch_seat.state,
		.policy = tr_self.has_page ? tr_self.page.map : NULL,
	};
	r = tr_set_alive(TR_ALIVE_WATCHING);
	if (r < 0)
		tr_seat_leave(&watch_seat);
	return r;
}

const struct tr_ledger *tr_attach_reader(void)
{
	int r;

	if (is_seated())
		return &tr_self.ledger;
	if (is_watching())
		return &watch_ledger;
	if (!tr_attach_is_active() ||
	    tr_step_begin(&watch_step, is_watching) != TR_TURN_MINE)
		return is_watching() ? &watch_ledger : NULL;
	r = watch();
	tr_step_end(&watch_step, r == 0);
	return r == 0 ? &watch_ledger : NULL;
}

void tr_attach_reap(void)
{
	static _Atomic uint64_t next_ns;
	uint64_t now = tr_clock_ns(),
		 next = atomic_load_explicit(&next_ns, memory_order_relaxed);
	const struct tr_seat *seat;
	int saved_errno = errno;

	if (now < next || !tr_attach_reader() ||
	    !atomic_compare_exchange_strong(&next_ns, &next, now + REAP_EVERY_NS))
		return;
	seat = is_seated() ? &tr_self.seat : &watch_seat;
	{
		tr_autoclose int fd = open(seat->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

		if (fd >= 0)
			(void)tr_state_reap(seat->state, fd);
	}
	errno = saved_errno;
}

/* ---- devices ------------------------------------------------------------------------- */

static void lower_limit(tr_dev dev, uint64_t limit_bytes)
{
	uint64_t seen = atomic_load(&env_limit_bytes[dev.at]);
	uint64_t want = limit_bytes ? limit_bytes : 1; /* 0 is "not met" */

	while ((!seen || want < seen) &&
	       !atomic_compare_exchange_weak(&env_limit_bytes[dev.at], &seen, want))
		;
}

static void lower_cores(tr_dev dev, unsigned percent)
{
	uint32_t seen = atomic_load(&env_cores[dev.at]);

	while (percent && (!seen || percent < seen) &&
	       !atomic_compare_exchange_weak(&env_cores[dev.at], &seen, percent))
		;
}

int tr_attach_device(const char *uuid, int index, tr_dev *dev)
{
	const struct tr_ledger *ledger = tr_attach_reader();
	uint64_t key = tr_uuid_key(uuid);
	int r;

	if (tr_self.has_page) {
		r = tr_page_find(&tr_self.page, uuid, dev);
		if (r == 0 && ledger)
			tr_state_claim_row(ledger->state, *dev, key);
	} else {
		r = ledger ? tr_state_row(ledger->state, key, dev) : -ENODEV;
	}
	if (r == 0 && env.has_limit)
		lower_limit(*dev, tr_env_limit(&env, index));
	if (r == 0 && env.has_cores)
		lower_cores(*dev, tr_env_cores(&env, index));
	return r;
}

uint64_t tr_attach_env_limit(int index)
{
	return tr_env_limit(&env, index);
}

unsigned tr_attach_env_cores(tr_dev dev)
{
	return atomic_load_explicit(&env_cores[dev.at], memory_order_relaxed);
}

int tr_attach_index(int ordinal)
{
	return tr_visible_index(&visible, ordinal);
}

static void put_hex(char *out, const unsigned char *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15u];
	}
}

/* "GPU-8-4-4-4-12" */
static void print_uuid(char out[48], const CUuuid *uuid)
{
	static const unsigned char groups[] = { 4, 2, 2, 2, 6 };
	unsigned char bytes[16];
	unsigned g, from = 0;
	char *at = out + 3;

	memcpy(bytes, uuid, sizeof(bytes));
	memset(out, 0, 48);
	memcpy(out, "GPU", 3);
	for (g = 0; g < sizeof(groups); g++) {
		*at++ = '-';
		put_hex(at, bytes + from, groups[g]);
		at += (size_t)2 * groups[g];
		from += groups[g];
	}
}

/* The driver says which device an ordinal is; CUDA shows a MIG instance under its own UUID,
 * which pages write with another prefix. */
static CUresult identify(CUdevice ordinal, tr_dev *dev, int *r)
{
	CUresult res = CUDA_ERROR_NOT_SUPPORTED;
	char name[48];
	CUuuid uuid;

	if (tr_real.cuDeviceGetUuid_v2)
		res = tr_real.cuDeviceGetUuid_v2(&uuid, ordinal);
	else if (tr_real.cuDeviceGetUuid)
		res = tr_real.cuDeviceGetUuid(&uuid, ordinal);
	if (res != CUDA_SUCCESS)
		return res;
	print_uuid(name, &uuid);
	*r = tr_attach_device(name, tr_attach_index(ordinal), dev);
	if (*r == -ENOENT && tr_self.has_page) {
		memcpy(name, "MIG", 3);
		*r = tr_attach_device(name, tr_attach_index(ordinal), dev);
	}
	if (*r < 0)
		tr_trace("device %d (%s) is not of this slice", ordinal, name + 4);
	return CUDA_SUCCESS;
}

CUresult tr_device_of(CUdevice ordinal, tr_dev *dev)
{
	unsigned i = (unsigned)ordinal;
	int r = 0, none = 0;
	CUresult res;

	if (i < TR_ORDINALS_MAX &&
	    atomic_load_explicit(&ordinals[i].state, memory_order_acquire) == 2) {
		*dev = ordinals[i].dev;
		return ordinals[i].r < 0 ? CUDA_ERROR_NOT_PERMITTED : CUDA_SUCCESS;
	}
	res = identify(ordinal, dev, &r);
	if (res != CUDA_SUCCESS)
		return res;
	/* Whoever comes second has the same answer in hand and need not wait. */
	if (i < TR_ORDINALS_MAX &&
	    atomic_compare_exchange_strong(&ordinals[i].state, &none, 1)) {
		ordinals[i].r = r;
		ordinals[i].dev = *dev;
		atomic_store_explicit(&ordinals[i].state, 2, memory_order_release);
	}
	return r < 0 ? CUDA_ERROR_NOT_PERMITTED : CUDA_SUCCESS;
}

CUresult tr_device_current(tr_dev *dev, CUcontext *ctx)
{
	CUdevice ordinal;
	CUresult res = tr_real.cuCtxGetDevice(&ordinal);

	if (res == CUDA_SUCCESS && ctx)
		res = tr_real.cuCtxGetCurrent(ctx);
	return res == CUDA_SUCCESS ? tr_device_of(ordinal, dev) : res;
}

uint64_t tr_limit_bytes(tr_dev dev)
{
	uint64_t own = atomic_load_explicit(&env_limit_bytes[dev.at], memory_order_relaxed);
	uint64_t limit = TR_UNLIMITED;

	if (tr_self.has_page)
		limit = atomic_load_explicit(&tr_self.page.map->devices[dev.at].limit_bytes,
					     memory_order_relaxed);
	return own && own < limit ? own : limit;
}

void tr_told_memory(tr_dev dev, uint64_t *free_bytes, uint64_t *total_bytes)
{
	const struct tr_ledger *ledger = tr_attach_reader();
	uint64_t limit = tr_limit_bytes(dev), left;

	tr_attach_reap();
	if (is_seated())
		tr_reserves_look(dev);
	left = tr_sat_sub(limit, ledger ? tr_ledger_sum(ledger, dev) : 0);
	if (*total_bytes > limit)
		*total_bytes = limit;
	if (limit != TR_UNLIMITED && *free_bytes > left)
		*free_bytes = left;
}
