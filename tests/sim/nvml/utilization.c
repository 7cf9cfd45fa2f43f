/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml/sim_nvml.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "rm/time.h"
#include "rm/timeclient.h"

/*
 * How busy a device was, in sixths of a second: the machine's own samples (rm/time.h), told in the
 * driver's forms. A process has one row, whatever was asked: the mean of its sixths since then, up
 * to the last in which it was active, whose end is the time stamp.
 */

#define SIXTH_NS       166666667ull
#define DEVICE_ROWS    120u
#define PROCESS_ROWS   4096u
#define PROCESS_SIXTHS 30u  /* as far back as a process is told of */
#define PROCESSES_ROOM 100u /* what the driver says it needs, however few there are */
#define SAME_EPOCH_US  100  /* two readings of two clocks never agree to the microsecond */

/* ---- two scales of time -------------------------------------------------------------- */

static int64_t wall_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* The machine's: CLOCK_MONOTONIC may have jumped against it. */
static int64_t machine_us(void)
{
	struct timespec t;

	if (rm_time_is_virtual())
		return (int64_t)(sim_clock_now() / 1000);
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* From the machine's clock to time stamps, which are of the wall's. It is read once, so that a stamp
 * that is handed back means the same sample; set anew when the wall's clock was. A process that
 * does not take part in a virtual clock has no wall for it: there it is the stamp itself. */
static int64_t find_epoch_us(void)
{
	static _Atomic int64_t kept_us;
	const struct rm_machine *machine = rm_machine();
	int64_t kept, now;

	if (rm_time_is_virtual() &&
	    (!sim_clock_is_active || !sim_clock_is_active(machine->dir)))
		return 0;
	kept = atomic_load(&kept_us);
	now = wall_us() - machine_us();
	if (now - kept < SAME_EPOCH_US && kept - now < SAME_EPOCH_US)
		return kept;
	atomic_store(&kept_us, now);
	return now;
}

static uint64_t stamp_us(uint64_t machine_ns, int64_t epoch_us)
{
	return machine_ns / 1000 + (uint64_t)epoch_us;
}

/* The machine's time before which no sample can be newer than LAST_SEEN_US. */
static uint64_t machine_ns(uint64_t last_seen_us, int64_t epoch_us)
{
	uint64_t epoch = (uint64_t)epoch_us;

	if (last_seen_us <= epoch)
		return 0;
	last_seen_us -= epoch;
	return last_seen_us < UINT64_MAX / 1000 ? last_seen_us * 1000 : UINT64_MAX;
}

/* ---- rows ---------------------------------------------------------------------------- */

struct rows {
	struct rm_sample *rows; /* the owner frees */
	size_t n;
	int64_t epoch_us; /* what their stamps are counted from */
};

/* Those newer than LAST_SEEN_US of the last SIXTHS. */
static nvmlReturn_t read_rows(uint32_t device, bool processes, uint64_t last_seen_us,
			      uint64_t sixths, struct rows *out)
{
	size_t room = processes ? PROCESS_ROWS : DEVICE_ROWS, n = room, kept = 0;
	int64_t epoch_us = find_epoch_us();
	uint64_t after_ns = machine_ns(last_seen_us, epoch_us), oldest_ns = 0;
	struct rm_busy busy;
	int r;

	out->n = 0;
	out->epoch_us = epoch_us;
	out->rows = malloc(room * sizeof(*out->rows));
	if (!out->rows)
		return NVML_ERROR_MEMORY;
	r = rm_busy(device, 0, &busy);
	if (r == 0 && busy.now_ns > sixths * SIXTH_NS)
		oldest_ns = busy.now_ns - sixths * SIXTH_NS;
	if (r == 0)
		r = rm_samples(device, processes,
			       after_ns > oldest_ns ? after_ns : oldest_ns, out->rows, &n);
	if (r != 0) {
		free(out->rows);
		out->rows = NULL;
		return nv_result(r);
	}
	for (size_t i = 0; i < n; i++) {
		if (stamp_us(out->rows[i].end_ns, epoch_us) > last_seen_us)
			out->rows[kept++] = out->rows[i];
	}
	out->n = kept;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device,
					   nvmlUtilization_t *utilization)
{
	struct nv_device dev;
	struct rows rows;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!utilization)
		return NVML_ERROR_INVALID_ARGUMENT;
	r = read_rows(dev.index, false, 0, 1, &rows);
	if (r != NVML_SUCCESS)
		return r;
	utilization->gpu = rows.n ? rows.rows[rows.n - 1].sm_percent : 0;
	utilization->memory = rows.n ? rows.rows[rows.n - 1].mem_percent : 0;
	free(rows.rows);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type,
				  unsigned long long lastSeenTimeStamp,
				  nvmlValueType_t *sampleValType, unsigned int *sampleCount,
				  nvmlSample_t *samples)
{
	bool is_gpu = type == NVML_GPU_UTILIZATION_SAMPLES;
	struct nv_device dev;
	struct rows rows;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!sampleValType || !sampleCount || type >= NVML_SAMPLINGTYPE_COUNT ||
	    (samples && *sampleCount == 0))
		return NVML_ERROR_INVALID_ARGUMENT;
	*sampleValType = NVML_VALUE_TYPE_UNSIGNED_INT;
	if (!is_gpu && type != NVML_MEMORY_UTILIZATION_SAMPLES) {
		*sampleCount = 0;
		return NVML_ERROR_NOT_FOUND; /* an idle board's engine: never a sample */
	}
	if (!samples) {
		*sampleCount = DEVICE_ROWS;
		return NVML_SUCCESS;
	}
	r = read_rows(dev.index, false, lastSeenTimeStamp, DEVICE_ROWS, &rows);
	if (r != NVML_SUCCESS)
		return r;
	if (*sampleCount > rows.n)
		*sampleCount = (unsigned int)rows.n;
	for (unsigned int i = 0; i < *sampleCount; i++) {
		const struct rm_sample *row = &rows.rows[i];

		samples[i].timeStamp = stamp_us(row->end_ns, rows.epoch_us);
		samples[i].sampleValue.ullVal = 0;
		samples[i].sampleValue.uiVal = is_gpu ? row->sm_percent : row->mem_percent;
	}
	free(rows.rows);
	return *sampleCount ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

/* ---- processes ----------------------------------------------------------------------- */

struct person {
	int pid;
	uint32_t sixths;        /* its rows so far */
	uint32_t active_sixths; /* ... up to the last in which it was active; 0: never */
	uint64_t end_ns, active_ns; /* of the last row, of the last active one */
	uint32_t sm_sum, mem_sum;
};

struct people {
	struct person *people; /* the owner frees */
	size_t n;
	int64_t epoch_us;
};

/* Rows come in the same order in each sixth: the next one is mostly the one wanted. */
static struct person *find_person(struct people *p, int pid, size_t *hint)
{
	for (size_t i = 0; i < p->n; i++) {
		*hint = (*hint + 1) % p->n;
		if (p->people[*hint].pid == pid)
			return &p->people[*hint];
	}
	p->people[p->n] = (struct person){ .pid = pid };
	return &p->people[p->n++];
}

/* A process has a row for each of its connections. */
static void add_row(struct person *person, const struct rm_sample *row)
{
	if (person->end_ns != row->end_ns)
		person->sixths++;
	person->end_ns = row->end_ns;
	if (row->sm_percent == 0 && row->mem_percent == 0)
		return;
	person->sm_sum += row->sm_percent;
	person->mem_sum += row->mem_percent;
	person->active_sixths = person->sixths;
	person->active_ns = row->end_ns;
}

static nvmlReturn_t read_people(uint32_t device, uint64_t last_seen_us, struct people *out)
{
	size_t hint = 0, active = 0;
	struct rows rows;
	nvmlReturn_t r;

	*out = (struct people){ 0 };
	r = read_rows(device, true, last_seen_us, PROCESS_SIXTHS, &rows);
	if (r != NVML_SUCCESS)
		return r;
	out->people = calloc(rows.n + 1, sizeof(*out->people));
	for (size_t i = 0; out->people && i < rows.n; i++)
		add_row(find_person(out, rows.rows[i].pid, &hint), &rows.rows[i]);
	free(rows.rows);
	out->epoch_us = rows.epoch_us;
	if (!out->people)
		return NVML_ERROR_MEMORY;
	for (size_t i = 0; i < out->n; i++) {
		if (out->people[i].active_sixths)
			out->people[active++] = out->people[i];
	}
	out->n = active;
	return NVML_SUCCESS;
}

static unsigned int mean(uint32_t sum, uint32_t count)
{
	unsigned int percent = (2 * sum + count) / (2 * count);

	return percent < 100 ? percent : 100;
}

/* Whether PEOPLE fit into *COUNT rows at ROWS; *COUNT says how many there are, or how many there
 * must be room for. */
static nvmlReturn_t fit(const struct people *people, const void *rows, unsigned int *count)
{
	unsigned int n = (unsigned int)people->n;

	if (!rows || *count < n) {
		*count = n > PROCESSES_ROOM ? n : PROCESSES_ROOM;
		return NVML_ERROR_INSUFFICIENT_SIZE;
	}
	*count = n;
	return n ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
					     nvmlProcessUtilizationSample_t *utilization,
					     unsigned int *processSamplesCount,
					     unsigned long long lastSeenTimeStamp)
{
	struct nv_device dev;
	struct people people;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!processSamplesCount)
		return NVML_ERROR_INVALID_ARGUMENT;
	r = read_people(dev.index, lastSeenTimeStamp, &people);
	if (r != NVML_SUCCESS)
		return r;
	r = fit(&people, utilization, processSamplesCount);
	for (size_t i = 0; r == NVML_SUCCESS && i < people.n; i++) {
		const struct person *p = &people.people[i];

		utilization[i] = (nvmlProcessUtilizationSample_t){
			.pid = (unsigned int)p->pid,
			.timeStamp = stamp_us(p->active_ns, people.epoch_us),
			.smUtil = mean(p->sm_sum, p->active_sixths),
			.memUtil = mean(p->mem_sum, p->active_sixths),
		};
	}
	free(people.people);
	return r;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
						   nvmlProcessesUtilizationInfo_t *info)
{
	struct nv_device dev;
	struct people people;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!info)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (info->version != nvmlProcessesUtilizationInfo_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	r = read_people(dev.index, info->lastSeenTimeStamp, &people);
	if (r != NVML_SUCCESS)
		return r;
	r = fit(&people, info->procUtilArray, &info->processSamplesCount);
	for (size_t i = 0; r == NVML_SUCCESS && i < people.n; i++) {
		const struct person *p = &people.people[i];

		info->procUtilArray[i] = (nvmlProcessUtilizationInfo_v1_t){
			.pid = (unsigned int)p->pid,
			.timeStamp = stamp_us(p->active_ns, people.epoch_us),
			.smUtil = mean(p->sm_sum, p->active_sixths),
			.memUtil = mean(p->mem_sum, p->active_sixths),
		};
	}
	free(people.people);
	return r;
}
