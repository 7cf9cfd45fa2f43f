/* SPDX-License-Identifier: Apache-2.0 */
#include "timeline.h"

#include <errno.h>
#include <string.h>

#include "engine_memory.h"
#include "kernel.h"

/*
 * Who had the devices, written down at times that a client named: what one would see who woke up at
 * each of them and looked, for which every time two processes had to change.
 */

#define ROWS_MAX (1u << 20) /* that nobody has read */
#define USES_MAX 4096

static int make_room(struct timeline_recording *rec)
{
	size_t room = rec->room ? 2 * rec->room : 256;
	void *grown;

	if (rec->first + rec->count < rec->room)
		return 0;
	if (rec->first > 0) {
		memmove(rec->rows, rec->rows + rec->first, rec->count * sizeof(*rec->rows));
		rec->first = 0;
		return 0;
	}
	grown = room > ROWS_MAX ? NULL : engine_regrow(rec->rows, room, sizeof(*rec->rows));
	if (!grown)
		return -ENOBUFS;
	rec->rows = grown;
	rec->room = room;
	return 0;
}

static void add_row(struct timeline_recording *rec, uint32_t device, pid_t pid,
		    uint64_t busy_ns, uint64_t kernels)
{
	if (rec->is_full || make_room(rec) != 0) {
		rec->is_full = true;
		return;
	}
	rec->rows[rec->first + rec->count++] =
		(struct rm_record){ .at_ns = rec->next_ns,
				    .row = { .device = device,
					     .pid = pid,
					     .busy_ns = busy_ns,
					     .kernels = kernels } };
}

static void write_down(struct timeline_recording *rec)
{
	static struct engine_use uses[USES_MAX];
	uint32_t devices = timeline->device_count;

	for (uint32_t d = 0; d < devices; d++) {
		size_t n = engine_uses(timeline->engine, d, uses, USES_MAX);

		add_row(rec, d, 0, engine_busy_ns(timeline->engine, d, 0), 0);
		for (size_t i = 0; i < n; i++) {
			const struct timeline_client *c =
				timeline_client_of(uses[i].client);

			if (c)
				add_row(rec, d, c->host_pid, uses[i].busy_ns,
					uses[i].kernels);
		}
	}
	rec->next_ns += rec->every_ns;
	rec->left = rec->is_full ? 0 : rec->left - 1;
}

static void find_next(void)
{
	timeline->record_ns = UINT64_MAX;
	for (uint64_t i = 0; i < timeline->client_count; i++) {
		const struct timeline_client *c = timeline->clients[i];

		if (c && c->recording.left && c->recording.next_ns < timeline->record_ns)
			timeline->record_ns = c->recording.next_ns;
	}
}

void timeline_advance(uint64_t to_ns)
{
	while (timeline->record_ns <= to_ns) {
		uint64_t at_ns = timeline->record_ns;

		engine_advance(timeline->engine, at_ns);
		for (uint64_t i = 0; i < timeline->client_count; i++) {
			struct timeline_client *c = timeline->clients[i];

			if (c && c->recording.left && c->recording.next_ns == at_ns)
				write_down(&c->recording);
		}
		find_next();
	}
	engine_advance(timeline->engine, to_ns);
}

void timeline_record_drop(struct timeline_client *c)
{
	engine_release(c->recording.rows);
	c->recording = (struct timeline_recording){ 0 };
	find_next();
}

int sim_time_record(struct sim_client *client, uint64_t first_ns, uint64_t every_ns,
		    uint32_t count)
{
	struct timeline_client *c = client->time;
	int r = 0;

	timeline_lock();
	if (!c || every_ns == 0 || first_ns > UINT64_MAX / 2 ||
	    every_ns > (UINT64_MAX / 2 - first_ns) / (count + 1ull))
		r = -EINVAL;
	else if (!timeline->is_virtual)
		r = -ENOTSUP;
	else if (first_ns <= engine_now_ns(timeline->engine))
		r = -ETIME;
	if (r == 0) {
		timeline_record_drop(c);
		c->recording.next_ns = first_ns;
		c->recording.every_ns = every_ns;
		c->recording.left = count;
		find_next();
	}
	timeline_unlock();
	return r;
}

int sim_time_recorded(struct sim_client *client, uint32_t room, struct wire_reply *reply)
{
	struct timeline_recording *rec = client->time ? &client->time->recording : NULL;
	size_t n = room < WIRE_RECORD_ROWS ? room : WIRE_RECORD_ROWS;

	reply->n = 0;
	if (!rec)
		return -EINVAL;
	timeline_lock();
	n = n < rec->count ? n : rec->count;
	memcpy(reply->records, rec->rows + rec->first, n * sizeof(*rec->rows));
	rec->count -= n;
	rec->first = rec->count > 0 ? rec->first + n : 0;
	reply->n = (uint32_t)n;
	reply->more = rec->count > 0;
	timeline_unlock();
	return n == 0 && rec->is_full ? -ENOBUFS : 0;
}
