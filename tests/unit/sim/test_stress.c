/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"
#include "rm/inspect.h"
#include "rm/rm.h"

/*
 * Thirty-two clients allocate, refer, export, import, look names up and are killed at any
 * moment, some of them while their descriptors lie in a message under way. At the end not a
 * byte is left.
 */

#define WORKERS 32
#define HELD    24
#define KILLS   600
#define MIB     ((uint64_t)1 << 20)

struct worker {
	int pool; /* a socket that all share: descriptors wait in it for whoever takes them
		   */
	unsigned seed;
	struct rm_phys held[HELD];
	size_t n;
};

static void send_export(const struct worker *w, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec io = { .iov_base = &(char){ 'x' }, .iov_len = 1 };
	struct msghdr msg = { .msg_iov = &io,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	(void)sendmsg(w->pool, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int take_export(int pool)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec io = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = { .msg_iov = &io,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	int fd = -1;

	if (recvmsg(pool, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (c)
		memcpy(&fd, CMSG_DATA(c), sizeof(int));
	return fd;
}

static void drop_one(struct worker *w)
{
	size_t i;

	if (w->n == 0)
		return;
	i = (size_t)rand_r(&w->seed) % w->n;
	MUST(rm_phys_unref(w->held[i].id) == 0);
	w->held[i] = w->held[--w->n];
}

static void take_one(struct worker *w)
{
	unsigned kind = (unsigned)rand_r(&w->seed) % RM_KINDS;
	uint64_t bytes = (1 + (uint64_t)(rand_r(&w->seed) % 64)) * 65536;
	struct rm_phys *phys = &w->held[w->n];
	char *p;
	int r;

	r = rm_phys_alloc(phys, (uint32_t)rand_r(&w->seed) % 2, bytes, (enum rm_kind)kind);
	if (r == -ENOMEM)
		return;
	MUST(r == 0);
	w->n++;
	MUST(rm_object_add(RM_VMM, phys->device, phys->id, bytes) == 0);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, rm_backing(phys->device),
		 (off_t)phys->offset);
	MUST(p != MAP_FAILED && p[0] == 0); /* nobody else's bytes */
	p[0] = 1;
	munmap(p, 4096);
	rm_object_remove(RM_VMM, phys->id);
}

static void pass_one(struct worker *w)
{
	struct rm_phys *phys = &w->held[w->n];
	int fd;

	if (w->n > 0 && rand_r(&w->seed) % 2) {
		MUST(rm_phys_export(w->held[0].id, &fd) == 0);
		send_export(w, fd);
		close(fd);
		return;
	}
	fd = take_export(w->pool);
	if (fd < 0)
		return;
	MUST(rm_phys_import(fd, phys) == 0); /* the descriptor kept it alive */
	close(fd);
	w->n++;
}

static void name_one(struct worker *w)
{
	uint8_t name[64];
	size_t n = 0;

	if (w->n == 0)
		return;
	MUST(rm_name(w->held[0].id, &w->seed, sizeof(w->seed), name) == 0);
	MUST(rm_named(name, &w->held[w->n], NULL, &n, NULL) == 0);
	w->n++;
}

static void work(void *arg)
{
	struct worker *w = arg;

	MUST(rm_open() == 0);
	for (;;) {
		if (w->n + 1 >= HELD) {
			drop_one(w);
			continue;
		}
		switch (rand_r(&w->seed) % 5) {
		case 0:
		case 1:
			take_one(w);
			break;
		case 2:
			drop_one(w);
			break;
		case 3:
			pass_one(w);
			break;
		default:
			name_one(w);
			break;
		}
	}
}

static void kill_one(pid_t *pid)
{
	int status;

	MUST(kill(*pid, SIGKILL) == 0);
	MUST(waitpid(*pid, &status, 0) == *pid);
	MUST(WIFSIGNALED(status)); /* it did not end by itself: no claim of it failed */
}

static void check_empty(void)
{
	static struct rm_client clients[4];
	size_t n = 4;
	struct stat st;

	MUST(rm_clients(clients, &n) == 0);
	MUST(n == 2); /* ourselves, and what only descriptors hold: nothing */
	for (uint32_t device = 0; device < 2; device++) {
		MUST(used_on(device) == 0);
		for (int kind = 0; kind < RM_KINDS; kind++)
			MUST(clients[0].bytes[device][kind] == 0);
		MUST(fstat(rm_backing(device), &st) == 0 && st.st_blocks == 0);
	}
}

static void prove_stress(void)
{
	static struct worker w;
	unsigned seed = (unsigned)time(NULL);
	pid_t pids[WORKERS];
	int pool[2];

	fprintf(stderr, "seed %u\n", seed);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pool) == 0);
	for (int i = 0; i < WORKERS; i++) {
		w = (struct worker){ .pool = pool[i % 2], .seed = seed + (unsigned)i };
		pids[i] = start_child(work, &w);
	}
	MUST(rm_open() == 0);
	for (unsigned k = 0; k < KILLS; k++) {
		unsigned i = (unsigned)rand_r(&seed) % WORKERS;

		usleep((useconds_t)rand_r(&seed) % 10000);
		kill_one(&pids[i]);
		w = (struct worker){ .pool = pool[i % 2], .seed = seed + k };
		pids[i] = start_child(work, &w);
	}
	for (int i = 0; i < WORKERS; i++)
		kill_one(&pids[i]);
	close(pool[0]);
	close(pool[1]);
	check_empty();
}

int main(void)
{
	static struct claim claim = { "stress: 600 kills leave nothing", prove_stress,
				      "h100,l4" };
	const struct CMUnitTest tests[] = {
		{ claim.name, run_claim, NULL, NULL, &claim },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
