/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/inspect.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rm/client.h"

#define HEAD_BYTES offsetof(struct wire_request, hello)

static void copy_client(struct rm_client *out, const struct wire_client *in)
{
	out->serial = in->serial;
	out->own_pid = in->own_pid;
	out->host_pid = in->host_pid;
	out->uid = in->uid;
	out->has_objects = in->has_table != 0;
	memcpy(out->name, in->name, sizeof(out->name));
	memcpy(out->bytes, in->bytes, sizeof(out->bytes));
	out->host_bytes = in->host_bytes;
}

int rm_clients(struct rm_client *rows, size_t *n)
{
	struct wire_request req = { .op = WIRE_CLIENTS };
	size_t room = *n, found = 0;
	struct wire_reply reply;
	int r;

	do {
		r = rm_call(&req, HEAD_BYTES, -1, &reply, NULL);
		if (r != 0)
			return r;
		for (uint32_t i = 0; i < reply.n; i++, found++) {
			if (found < room)
				copy_client(&rows[found], &reply.clients[i]);
			req.id = reply.clients[i].serial + 1;
		}
	} while (reply.more);
	*n = found;
	return found > room ? -ENOSPC : 0;
}

static void see_slot(const struct wire_slot *slot,
		     void (*see)(const struct rm_live *object, void *arg), void *arg)
{
	uint32_t seq = atomic_load_explicit(&slot->seq, memory_order_acquire);
	struct rm_live object;

	if (!(seq & 1))
		return;
	object.kind = (enum rm_kind)slot->kind;
	object.device = slot->device == 0xffff ? RM_HOST : slot->device;
	object.handle = atomic_load_explicit(&slot->handle, memory_order_relaxed);
	object.bytes = atomic_load_explicit(&slot->bytes, memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&slot->seq, memory_order_relaxed) == seq)
		see(&object, arg);
}

int rm_live_each(uint64_t serial, void (*see)(const struct rm_live *object, void *arg),
		 void *arg)
{
	struct wire_request req = { .op = WIRE_TABLE_OF, .id = serial };
	const struct wire_table *table;
	struct wire_reply reply;
	uint32_t high;
	int r, fd;

	r = rm_call(&req, HEAD_BYTES, -1, &reply, &fd);
	if (r != 0 || fd < 0)
		return r; /* no descriptor: the client has no table yet */
	table = mmap(NULL, WIRE_TABLE_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
	if (table == MAP_FAILED)
		return -ENOMEM;
	high = atomic_load_explicit(&table->high, memory_order_acquire);
	for (uint32_t i = 0; i < high && i < WIRE_SLOTS_MAX; i++)
		see_slot(&table->slots[i], see, arg);
	munmap((void *)(uintptr_t)table, WIRE_TABLE_BYTES);
	return 0;
}

const char *rm_kind_name(enum rm_kind kind)
{
	static const char *const names[RM_KINDS] = {
		[RM_CONTEXT] = "context", [RM_CODE] = "code",
		[RM_LIMITS] = "limits",   [RM_BLOCK] = "block",
		[RM_VMM] = "vmm",         [RM_POOL] = "pool",
		[RM_GRAPH] = "graph",     [RM_ARRAY] = "array",
		[RM_MANAGED] = "managed", [RM_MULTICAST] = "multicast",
		[RM_OTHER] = "other",
	};

	return (unsigned)kind < RM_KINDS ? names[kind] : "unknown";
}

int rm_stop(void)
{
	struct wire_request req = { .op = WIRE_STOP };
	struct wire_reply reply;

	return rm_call(&req, HEAD_BYTES, -1, &reply, NULL);
}
