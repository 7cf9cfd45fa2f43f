/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rm/client.h"

/* What goes back: the reply, its size after the head, and a descriptor. */
struct answer {
	struct wire_reply reply;
	size_t bytes;
	int fd;
	bool closes_fd;
};

static int hello(struct sim_client *client, const struct wire_request *req,
		 struct answer *a)
{
	int r = sim_clients_greet(client, &req->hello);

	if (r != 0)
		return r;
	a->reply.machine = sim_kernel.settings.machine;
	a->bytes = sizeof(a->reply.machine);
	a->fd = sim_kernel.board_fd;
	return 0;
}

static int backing(const struct wire_request *req, struct answer *a)
{
	a->fd = sim_memory_backing(req->device);
	return a->fd < 0 ? a->fd : 0;
}

static int reference(struct sim_client *client, const struct wire_request *req)
{
	struct sim_ref *ref = sim_memory_find_ref(client, req->id);

	if (!ref)
		return -ENOENT;
	if (req->op == WIRE_REF)
		ref->count++;
	else
		sim_memory_unref(ref);
	return 0;
}

static int export(struct sim_client *client, const struct wire_request *req,
		  struct answer *a)
{
	struct sim_ref *ref = sim_memory_find_ref(client, req->id);

	if (!ref)
		return -ENOENT;
	a->closes_fd = true;
	return sim_export_make(ref->phys, &a->fd);
}

static int import(struct sim_client *client, int fd, struct answer *a)
{
	struct sim_phys *phys = sim_export_find(fd);

	if (!phys)
		return -EBADF;
	sim_memory_ref(client, phys);
	sim_memory_show(phys, &a->reply.phys);
	a->bytes = sizeof(a->reply.phys);
	return 0;
}

static int name(struct sim_client *client, const struct wire_request *req, struct answer *a)
{
	struct sim_ref *ref = NULL;

	if (req->n > WIRE_TEXT_MAX)
		return -EINVAL;
	if (req->id) {
		ref = sim_memory_find_ref(client, req->id);
		if (!ref)
			return -ENOENT;
	}
	a->bytes = sizeof(a->reply.name);
	return sim_name_make(ref ? &ref->names : &client->names, client,
			     ref ? ref->phys : NULL, req->text, req->n, a->reply.name);
}

static int named(struct sim_client *client, const struct wire_request *req,
		 struct answer *a)
{
	struct sim_client *exporter;
	struct sim_phys *phys;
	int r;

	r = sim_name_find(req->name, &phys, &exporter, a->reply.named.text, &a->reply.n);
	if (r != 0)
		return r;
	if (phys) {
		sim_memory_ref(client, phys);
		sim_memory_show(phys, &a->reply.named.phys);
	}
	a->reply.pid = exporter->host_pid ? exporter->host_pid : exporter->own_pid;
	a->bytes = sizeof(a->reply.named);
	return 0;
}

static int table(struct sim_client *client, struct answer *a)
{
	if (client->table_fd < 0) {
		int fd = sim_memfd("sim-objects", WIRE_TABLE_BYTES);

		if (fd < 0)
			return fd;
		client->table_fd = fd;
	}
	a->fd = client->table_fd;
	return 0;
}

static int table_of(const struct wire_request *req, struct answer *a)
{
	for (struct sim_client *c = sim_clients_first(); c; c = c->next) {
		if (c->serial == req->id) {
			a->fd = c->table_fd;
			return 0;
		}
	}
	return -ENOENT;
}

static int processes(const struct wire_request *req, struct answer *a)
{
	if (req->device >= sim_kernel.settings.machine.device_count)
		return -EINVAL;
	sim_list_processes(req->device, req->id, &a->reply);
	a->bytes = a->reply.n * sizeof(a->reply.processes[0]);
	return 0;
}

static int samples(const struct wire_request *req, struct answer *a)
{
	int r = sim_time_samples(req, &a->reply);

	a->bytes = a->reply.n * sizeof(a->reply.samples[0]);
	return r;
}

static int busy_rows(const struct wire_request *req, struct answer *a)
{
	int r = sim_time_busy_rows(req, &a->reply);

	a->bytes = offsetof(struct wire_reply, busy_rows.rows) - WIRE_HEAD +
		   a->reply.n * sizeof(a->reply.busy_rows.rows[0]);
	return r;
}

static int recorded(struct sim_client *client, const struct wire_request *req,
		    struct answer *a)
{
	int r = sim_time_recorded(client, req->n, &a->reply);

	a->bytes = a->reply.n * sizeof(a->reply.records[0]);
	return r;
}

static int stop(const struct sim_client *client)
{
	if (client->uid != 0 && client->uid != geteuid())
		return -EPERM;
	sim_kernel.is_stopping = true;
	return 0;
}

static int dispatch(struct sim_client *client, const struct wire_request *req, int fd,
		    struct answer *a)
{
	if (!client->is_greeted && req->op != WIRE_HELLO)
		return -EPROTO;
	switch ((enum wire_op)req->op) {
	case WIRE_HELLO:
		return hello(client, req, a);
	case WIRE_BACKING:
		return backing(req, a);
	case WIRE_ALLOC:
		a->bytes = sizeof(a->reply.phys);
		return sim_memory_alloc(client, req->device, req->bytes, req->kind,
					&a->reply.phys);
	case WIRE_REF:
	case WIRE_UNREF:
		return reference(client, req);
	case WIRE_EXPORT:
		return export(client, req, a);
	case WIRE_IMPORT:
		return import(client, fd, a);
	case WIRE_NAME:
		return name(client, req, a);
	case WIRE_NAMED:
		return named(client, req, a);
	case WIRE_MEMORY:
		a->bytes = sizeof(a->reply.memory);
		return sim_memory_read(req->device, &a->reply.memory);
	case WIRE_PROCESSES:
		return processes(req, a);
	case WIRE_TABLE:
		return table(client, a);
	case WIRE_CLIENTS:
		sim_list_clients(req->id, &a->reply);
		a->bytes = a->reply.n * sizeof(a->reply.clients[0]);
		return 0;
	case WIRE_TABLE_OF:
		return table_of(req, a);
	case WIRE_STOP:
		return stop(client);
	case WIRE_TIME:
		a->bytes = sizeof(a->reply.place);
		return sim_time_part(client, req->device, &a->fd, &a->reply.place);
	case WIRE_BUSY:
		a->bytes = sizeof(a->reply.busy);
		return sim_time_busy(req->device, (pid_t)req->id, &a->reply.busy);
	case WIRE_BUSY_ALL:
		return busy_rows(req, a);
	case WIRE_SAMPLES:
		return samples(req, a);
	case WIRE_EXPECT:
		sim_time_expect((pid_t)req->id);
		return 0;
	case WIRE_STATE:
		return sim_board_state(req->device, req->kind, req->bytes);
	case WIRE_STEP:
		return sim_time_step(req->id, req->bytes);
	case WIRE_RECORD:
		return sim_time_record(client, req->id, req->bytes, req->kind);
	case WIRE_RECORDED:
		return recorded(client, req, a);
	}
	return -ENOSYS;
}

void sim_serve(struct sim_client *client)
{
	static struct answer a; /* large, and one at a time */
	struct wire_request req;
	int fd = -1, r;

	memset(&req, 0, sizeof(req));
	r = rm_receive(client->fd, &req, sizeof(req), &fd);
	if (r == -EAGAIN)
		return;
	if (r < (int)offsetof(struct wire_request, hello)) {
		sim_client_drop(client);
		return;
	}
	memset(&a.reply, 0, WIRE_HEAD);
	a.bytes = 0;
	a.fd = -1;
	a.closes_fd = false;
	a.reply.r = dispatch(client, &req, fd, &a);
	if (a.reply.r != 0)
		a.bytes = 0;
	/* a client that does not read its replies is none */
	if (!client->is_gone && rm_send(client->fd, &a.reply, WIRE_HEAD + a.bytes,
					a.reply.r == 0 ? a.fd : -1) != 0)
		sim_client_drop(client);
	if (a.closes_fd && a.fd >= 0)
		close(a.fd);
	if (fd >= 0)
		close(fd);
	sim_memory_punch();
}
