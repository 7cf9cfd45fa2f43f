/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What NVML tells inside a slice: the same numbers as CUDA, and the slice's own processes
 * under the pids that they themselves know. A process that only asks NVML has no seat and
 * reads the state file. Processes of a slice are compute processes: its graphics and MPS
 * lists are empty.
 */
#include "nvml_hook.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "attach.h"
#include "hook.h"
#include "lock.h"
#include "rt/sat.h"

#define HANDLES_MAX 64u

/* ---- which device a handle is -------------------------------------------------------- */

static struct {
	nvmlDevice_t handle; /* NULL: free */
	int r;
	tr_dev dev;
} handles[HANDLES_MAX];
static struct tr_lock handles_lock;

static bool recall(nvmlDevice_t handle, tr_dev *dev, int *r)
{
	bool is_known = false;
	unsigned i;

	tr_lock(&handles_lock);
	for (i = 0; i < HANDLES_MAX && handles[i].handle && !is_known; i++) {
		if (handles[i].handle == handle) {
			*dev = handles[i].dev;
			*r = handles[i].r;
			is_known = true;
		}
	}
	tr_unlock(&handles_lock);
	return is_known;
}

static void remember(nvmlDevice_t handle, tr_dev dev, int r)
{
	unsigned i;

	tr_lock(&handles_lock);
	for (i = 0; i < HANDLES_MAX; i++) {
		if (!handles[i].handle || handles[i].handle == handle) {
			handles[i].handle = handle;
			handles[i].dev = dev;
			handles[i].r = r;
			break;
		}
	}
	tr_unlock(&handles_lock);
}

/* 0: DEV is its row. -ENOENT: the page does not name it. -EAGAIN: NVML would not say, or
 * nobody has made the state file of an environment limit yet. */
static int device_of(nvmlDevice_t handle, tr_dev *dev, int *index)
{
	unsigned nvml_index = 0;
	char uuid[96] = { 0 };
	int r = 0;

	*index = -1;
	if (recall(handle, dev, &r))
		return r;
	if (!tr_nvml.nvmlDeviceGetUUID ||
	    tr_nvml.nvmlDeviceGetUUID(handle, uuid, sizeof(uuid)) != NVML_SUCCESS)
		return -EAGAIN;
	if (tr_nvml.nvmlDeviceGetIndex &&
	    tr_nvml.nvmlDeviceGetIndex(handle, &nvml_index) == NVML_SUCCESS)
		*index = (int)nvml_index;
	r = tr_attach_device(uuid, *index, dev);
	if (r == 0 || r == -ENOENT)
		remember(handle, *dev, r);
	return r == 0 || r == -ENOENT ? r : -EAGAIN;
}

/* ---- memory -------------------------------------------------------------------------- */

struct memory {
	uint64_t total_bytes, free_bytes, used_bytes;
};

/* The driver's numbers in, the slice's out. */
static nvmlReturn_t tell(nvmlDevice_t handle, struct memory *m)
{
	const struct tr_ledger *ledger;
	uint64_t limit, used = 0;
	tr_dev dev;
	int index, r;

	if (tr_self.is_refused)
		return NVML_ERROR_NO_PERMISSION;
	r = device_of(handle, &dev, &index);
	if (r == -ENOENT)
		return NVML_ERROR_NO_PERMISSION;
	if (r == 0) {
		limit = tr_limit_bytes(dev);
		ledger = tr_attach_reader();
		used = ledger ? tr_ledger_sum(ledger, dev) : 0;
		tr_told_memory(dev, &m->free_bytes, &m->total_bytes);
	} else if (!tr_self.has_page) {
		limit = tr_attach_env_limit(index); /* nobody uses anything yet */
		if (m->total_bytes > limit)
			m->total_bytes = limit;
		if (m->free_bytes > limit)
			m->free_bytes = limit;
	} else {
		return NVML_SUCCESS;
	}
	if (limit != TR_UNLIMITED)
		m->used_bytes = used < m->total_bytes ? used : m->total_bytes;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	nvmlReturn_t res = tr_nvml.nvmlDeviceGetMemoryInfo(device, memory);
	int saved_errno = errno;
	struct memory m;

	if (res != NVML_SUCCESS || !memory)
		return res;
	m = (struct memory){ memory->total, memory->free, memory->used };
	res = tell(device, &m);
	if (res == NVML_SUCCESS) {
		memory->total = m.total_bytes;
		memory->free = m.free_bytes;
		memory->used = m.used_bytes;
	} else {
		memset(memory, 0, sizeof(*memory));
	}
	errno = saved_errno;
	return res;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	nvmlReturn_t res = tr_nvml.nvmlDeviceGetMemoryInfo_v2(device, memory);
	int saved_errno = errno;
	struct memory m;

	/* Another version of the struct is another layout: what NVML makes of it stays. */
	if (res != NVML_SUCCESS || !memory || memory->version != nvmlMemory_v2)
		return res;
	m = (struct memory){ memory->total, memory->free, memory->used };
	res = tell(device, &m);
	if (res != NVML_SUCCESS)
		memset(&m, 0, sizeof(m));
	if (res != NVML_SUCCESS || m.total_bytes != memory->total ||
	    m.used_bytes != memory->used)
		memory->reserved = 0;
	memory->total = m.total_bytes;
	memory->free = m.free_bytes;
	memory->used = m.used_bytes;
	errno = saved_errno;
	return res;
}

/* ---- processes ----------------------------------------------------------------------- */

/* The layouts of a row, by their size; each begins like the one before. */
static void put_row(void *rows, unsigned i, size_t row_bytes, unsigned pid, uint64_t bytes)
{
	nvmlProcessDetail_v1_t detail = { .pid = pid,
					  .usedGpuMemory = bytes,
					  .gpuInstanceId = 0xFFFFFFFFu,
					  .computeInstanceId = 0xFFFFFFFFu };
	nvmlProcessInfo_v2_t wide = { .pid = pid,
				      .usedGpuMemory = bytes,
				      .gpuInstanceId = 0xFFFFFFFFu,
				      .computeInstanceId = 0xFFFFFFFFu };
	nvmlProcessInfo_v1_t narrow = { .pid = pid, .usedGpuMemory = bytes };
	char *at = (char *)rows + i * row_bytes;

	if (row_bytes == sizeof(narrow))
		memcpy(at, &narrow, sizeof(narrow));
	else if (row_bytes == sizeof(wide))
		memcpy(at, &wide, sizeof(wide));
	else
		memcpy(at, &detail, sizeof(detail));
}

/* What the process in slot S takes on DEV, in NVML's sense: all that has its name on it. */
static uint64_t slot_bytes(const struct tr_ledger *l, tr_dev dev, unsigned s)
{
	uint64_t used = atomic_load(&l->state->mem[dev.at][s].used_bytes);

	return tr_sat_add(used, tr_overhead(l->policy, l->state, dev.at, s));
}

static unsigned list(const struct tr_ledger *l, tr_dev dev, void *rows, size_t row_bytes,
		     unsigned room)
{
	uint32_t slots = atomic_load(&l->state->high_water);
	unsigned n = 0, s;

	for (s = 0; s < slots && s < TR_SLOTS_MAX; s++) {
		uint64_t bytes = slot_bytes(l, dev, s);

		if (!bytes || !atomic_load(&l->state->slots[s].tag))
			continue;
		if (n < room)
			put_row(rows, n, row_bytes,
				(unsigned)atomic_load(&l->state->slots[s].pid), bytes);
		n++;
	}
	return n;
}

/* RES is what NVML said to a caller without room: it is well, or something is wrong that
 * the caller must hear. */
static nvmlReturn_t answer(nvmlReturn_t res, nvmlDevice_t handle, unsigned *count,
			   void *rows, size_t row_bytes, bool is_compute)
{
	int saved_errno = errno, index;
	const struct tr_ledger *l;
	unsigned room = *count, n = 0;
	tr_dev dev;

	if (res != NVML_SUCCESS && res != NVML_ERROR_INSUFFICIENT_SIZE)
		return res;
	if (room && !rows)
		return NVML_ERROR_INVALID_ARGUMENT;
	tr_attach_reap();
	l = tr_attach_reader();
	if (is_compute && l && !tr_self.is_refused && device_of(handle, &dev, &index) == 0)
		n = list(l, dev, rows, row_bytes, room);
	errno = saved_errno;
	*count = n;
	return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

#define PROCESSES(symbol, info, is_compute)                                              \
	nvmlReturn_t symbol(nvmlDevice_t device, unsigned int *count, info *infos)       \
	{                                                                                \
		unsigned none = 0;                                                       \
                                                                                         \
		if (!count)                                                              \
			return tr_nvml.symbol(device, count, infos);                     \
		return answer(tr_nvml.symbol(device, &none, NULL), device, count, infos, \
			      sizeof(info), is_compute);                                 \
	}

PROCESSES(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t, true)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t, true)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, true)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t, false)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t, false)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t, false)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t, false)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t, false)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t, false)

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
						   nvmlProcessDetailList_t *plist)
{
	nvmlProcessDetailList_t none;
	bool is_compute;

	if (!plist || plist->version != nvmlProcessDetailList_v1)
		return tr_nvml.nvmlDeviceGetRunningProcessDetailList(device, plist);
	none = *plist;
	none.numProcArrayEntries = 0;
	none.procArray = NULL;
	is_compute = plist->mode == NVML_PROCESS_MODE_COMPUTE ||
		     plist->mode == NVML_PROCESS_MODE_ALL;
	return answer(tr_nvml.nvmlDeviceGetRunningProcessDetailList(device, &none), device,
		      &plist->numProcArrayEntries, plist->procArray,
		      sizeof(nvmlProcessDetail_v1_t), is_compute);
}
