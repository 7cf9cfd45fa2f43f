/* SPDX-License-Identifier: Apache-2.0 */
#include "timeline.h"

#include <errno.h>
#include <string.h>

#include "kernel.h"

/* What others ask of the machine's books. */

int sim_time_busy(uint32_t device, pid_t pid, struct rm_busy *out)
{
	if (device >= sim_kernel.settings.machine.device_count)
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	timeline_lock();
	if (timeline->runs) {
		timeline_catch_up();
		out->now_ns = engine_now_ns(timeline->engine);
		out->device_ns = engine_busy_ns(timeline->engine, device, 0);
		for (uint64_t i = 0; pid != 0 && i < timeline->client_count; i++) {
			struct timeline_client *c = timeline->clients[i];

			if (!c || c->host_pid != pid)
				continue;
			out->process_ns += engine_busy_ns(timeline->engine, device, c->key);
			out->kernels += engine_kernels(timeline->engine, device, c->key);
		}
	}
	timeline_unlock();
	return 0;
}

/* The row of a client, or of the device (0); false: of nobody who ran anything. */
static bool read_row(uint32_t device, uint64_t client, struct rm_busy_row *out)
{
	const struct timeline_client *c = timeline_client_of(client);

	*out = (struct rm_busy_row){ .device = device };
	if (client && !c)
		return false;
	out->pid = c ? c->host_pid : 0;
	out->busy_ns = engine_busy_ns(timeline->engine, device, client);
	out->kernels = c ? engine_kernels(timeline->engine, device, client) : 0;
	return !c || out->busy_ns || out->kernels;
}

int sim_time_busy_rows(const struct wire_request *req, struct wire_reply *reply)
{
	uint32_t devices = sim_kernel.settings.machine.device_count;
	uint32_t device = (uint32_t)(req->id >> 32);
	uint64_t client = (uint32_t)req->id;

	reply->n = 0;
	reply->busy_rows.now_ns = 0;
	timeline_lock();
	if (timeline->runs) {
		timeline_catch_up();
		reply->busy_rows.now_ns = engine_now_ns(timeline->engine);
	}
	while (timeline->runs && device < devices && reply->n < WIRE_BUSY_ROWS) {
		reply->n += read_row(device, client, &reply->busy_rows.rows[reply->n]);
		if (client++ == timeline->client_count) {
			client = 0;
			device++;
		}
	}
	timeline_unlock();
	reply->more = device < devices && reply->n == WIRE_BUSY_ROWS;
	reply->busy_rows.next = (uint64_t)device << 32 | client;
	return 0;
}

/* By the machine's pid mode; 0: nobody who may be named. */
static int shown_pid(const struct timeline_client *c)
{
	switch (sim_kernel.settings.machine.pid_mode) {
	case RM_PIDS_NONE:
		return 0;
	case RM_PIDS_OWN:
		return c->own_pid;
	case RM_PIDS_HOST:
		break;
	}
	return c->host_pid ? c->host_pid : c->own_pid;
}

#define SAMPLES_MAX 4096
int sim_time_samples(const struct wire_request *req, struct wire_reply *reply)
{
	static struct engine_sample rows[SAMPLES_MAX]; /* one at a time, as requests are */
	uint64_t skip = req->bytes;
	size_t n = SAMPLES_MAX;

	reply->n = 0;
	if (req->device >= sim_kernel.settings.machine.device_count)
		return -EINVAL;
	timeline_lock();
	if (timeline->runs) {
		timeline_catch_up();
		engine_samples(timeline->engine, req->device, req->kind != 0, req->id, rows,
			       &n);
	} else {
		n = 0;
	}
	for (size_t i = 0; i < n && !reply->more; i++) {
		struct timeline_client *c = timeline_client_of(rows[i].client);
		int pid = c ? shown_pid(c) : 0;

		if (rows[i].client != 0 && pid == 0)
			continue;
		if (skip > 0) {
			skip--;
			continue;
		}
		if (reply->n == WIRE_SAMPLE_ROWS) {
			reply->more = 1;
			break;
		}
		reply->samples[reply->n++] =
			(struct rm_sample){ .end_ns = rows[i].end_ns,
					    .pid = pid,
					    .sm_percent = rows[i].sm_percent,
					    .mem_percent = rows[i].mem_percent };
	}
	timeline_unlock();
	return 0;
}
