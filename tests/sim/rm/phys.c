/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/client.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define HEAD_BYTES offsetof(struct wire_request, hello)

int rm_phys_alloc(struct rm_phys *out, uint32_t device, uint64_t bytes, enum rm_kind kind)
{
	struct wire_request req = {
		.op = WIRE_ALLOC, .device = device, .bytes = bytes, .kind = (uint32_t)kind
	};
	struct wire_reply reply;
	int r;

	r = rm_call(&req, HEAD_BYTES, -1, &reply, NULL);
	if (r == 0)
		*out = reply.phys;
	return r;
}

int rm_phys_ref(uint64_t id)
{
	struct wire_request req = { .op = WIRE_REF, .id = id };
	struct wire_reply reply;

	return rm_call(&req, HEAD_BYTES, -1, &reply, NULL);
}

int rm_phys_unref(uint64_t id)
{
	struct wire_request req = { .op = WIRE_UNREF, .id = id };
	struct wire_reply reply;

	return rm_call(&req, HEAD_BYTES, -1, &reply, NULL);
}

int rm_phys_export(uint64_t id, int *fd_out)
{
	struct wire_request req = { .op = WIRE_EXPORT, .id = id };
	struct wire_reply reply;
	int r;

	r = rm_call(&req, HEAD_BYTES, -1, &reply, fd_out);
	if (r == 0 && *fd_out < 0)
		return -EMFILE;
	return r;
}

int rm_phys_import(int fd, struct rm_phys *out)
{
	struct wire_request req = { .op = WIRE_IMPORT };
	struct wire_reply reply;
	int r;

	if (rm_cookie(fd) == 0)
		return -EBADF;
	r = rm_call(&req, HEAD_BYTES, fd, &reply, NULL);
	if (r == 0)
		*out = reply.phys;
	return r;
}

int rm_name(uint64_t id, const void *text, size_t n, uint8_t name_out[64])
{
	struct wire_request req = { .op = WIRE_NAME, .id = id, .n = (uint32_t)n };
	struct wire_reply reply;
	int r;

	if (n > WIRE_TEXT_MAX)
		return -EINVAL;
	if (n > 0)
		memcpy(req.text, text, n);
	r = rm_call(&req, sizeof(req), -1, &reply, NULL);
	if (r == 0)
		memcpy(name_out, reply.name, sizeof(reply.name));
	return r;
}

int rm_named(const uint8_t name[64], struct rm_phys *out, void *text, size_t *n,
	     int *exporter)
{
	struct wire_request req = { .op = WIRE_NAMED };
	struct wire_reply reply;
	int r;

	memcpy(req.name, name, sizeof(req.name));
	r = rm_call(&req, sizeof(req), -1, &reply, NULL);
	if (r != 0)
		return r;
	if (out)
		*out = reply.named.phys;
	if (text && n) {
		if (reply.n < *n)
			*n = reply.n;
		memcpy(text, reply.named.text, *n);
	}
	if (n)
		*n = reply.n;
	if (exporter)
		*exporter = reply.pid;
	return 0;
}

int rm_memory(uint32_t device, struct rm_memory *out)
{
	struct wire_request req = { .op = WIRE_MEMORY, .device = device };
	struct wire_reply reply;
	int r;

	r = rm_call(&req, HEAD_BYTES, -1, &reply, NULL);
	if (r == 0)
		*out = reply.memory;
	return r;
}

int rm_processes(uint32_t device, struct rm_process *rows, size_t *n)
{
	struct wire_request req = { .op = WIRE_PROCESSES, .device = device };
	size_t room = *n, found = 0;
	struct wire_reply reply;
	int r;

	do {
		r = rm_call(&req, HEAD_BYTES, -1, &reply, NULL);
		if (r != 0)
			return r;
		for (uint32_t i = 0; i < reply.n; i++, found++) {
			if (found < room)
				rows[found] = reply.processes[i].row;
			req.id = reply.processes[i].key;
		}
	} while (reply.more);
	*n = found;
	return found > room ? -ENOSPC : 0;
}
