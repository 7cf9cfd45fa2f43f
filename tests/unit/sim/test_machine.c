/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"
#include "rm/inspect.h"
#include "rm/rm.h"

/* What one machine keeps in its books: memory, references, names, descriptors, live
 * objects. */

#define MIB ((uint64_t)1 << 20)

static void prove_full_device(void)
{
	const struct rm_device *d;
	struct rm_memory memory;
	struct rm_phys a, b;

	MUST(rm_open() == 0);
	d = &rm_machine()->devices[0];
	MUST(rm_memory(0, &memory) == 0);
	MUST(memory.total == d->total_bytes && memory.used == 0);
	MUST(memory.free == d->total_bytes - d->reserved_bytes);
	MUST(rm_phys_alloc(&a, 0, memory.free, RM_VMM) == 0 && a.bytes == memory.free);
	MUST(rm_phys_alloc(&b, 0, 1, RM_VMM) == -ENOMEM);
	MUST(rm_phys_unref(a.id) == 0);
	MUST(rm_phys_alloc(&b, 0, memory.free + 1, RM_VMM) == -ENOMEM);
	MUST(rm_phys_alloc(&b, 0, UINT64_MAX, RM_VMM) == -ENOMEM);
	MUST(rm_phys_alloc(&b, 0, 0, RM_VMM) == -EINVAL);
	MUST(rm_phys_alloc(&b, 1, 4096, RM_VMM) == -EINVAL);
	MUST(used_on(0) == 0);
}

static void prove_rounding(void)
{
	struct rm_phys a, b;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, 5000, RM_CODE) == 0 && a.bytes == 8192);
	MUST(used_on(0) == 8192);
	MUST(rm_phys_alloc(&b, RM_HOST, 5000, RM_OTHER) == 0 && b.device == RM_HOST);
	MUST(used_on(0) == 8192); /* host memory is nobody's device memory */
}

static void prove_references(void)
{
	struct rm_phys a;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_VMM) == 0);
	MUST(rm_phys_ref(a.id) == 0);
	MUST(rm_phys_unref(a.id) == 0);
	MUST(used_on(0) == MIB);
	MUST(rm_phys_unref(a.id) == 0);
	MUST(used_on(0) == 0);
	MUST(rm_phys_unref(a.id) == -ENOENT);
	MUST(rm_phys_ref(a.id) == -ENOENT);
	MUST(rm_phys_ref(0) == -ENOENT);
}

static uint64_t backed_bytes(void)
{
	struct stat st;

	MUST(fstat(rm_backing(0), &st) == 0);
	return (uint64_t)st.st_blocks * 512;
}

static void prove_backing(void)
{
	struct rm_phys a, b;
	char *p;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, 2 * MIB, RM_BLOCK) == 0);
	MUST(backed_bytes() == 0); /* lazily */
	p = mmap(NULL, a.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rm_backing(0),
		 (off_t)a.offset);
	MUST(p != MAP_FAILED);
	memset(p, 7, a.bytes);
	MUST(backed_bytes() == 2 * MIB);
	MUST(rm_phys_unref(a.id) == 0);
	used_on(0); /* the hole is punched after the answer, before the next one */
	MUST(backed_bytes() == 0);
	MUST(rm_phys_alloc(&b, 0, 2 * MIB, RM_BLOCK) == 0);
	MUST(b.offset != a.offset); /* somebody still maps it */
}

static void import_in_child(void *arg)
{
	const int *fd = arg;
	struct rm_phys a;
	char *p;

	MUST(rm_phys_import(*fd, &a) == -ECHILD);
	MUST(rm_open() == 0);
	MUST(rm_phys_import(*fd, &a) == 0 && a.bytes == MIB);
	p = mmap(NULL, a.bytes, PROT_READ, MAP_SHARED, rm_backing(0), (off_t)a.offset);
	MUST(p != MAP_FAILED && strcmp(p, "across") == 0);
}

static void prove_export(void)
{
	struct rm_phys a, b;
	int fd, other[2];
	char *p;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_VMM) == 0);
	p = mmap(NULL, a.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rm_backing(0),
		 (off_t)a.offset);
	MUST(p != MAP_FAILED);
	strcpy(p, "across");
	MUST(rm_phys_export(a.id, &fd) == 0);
	join_child(start_child(import_in_child, &fd));
	MUST(rm_phys_unref(a.id) == 0);
	MUST(used_on(0) == MIB); /* the descriptor holds it */
	MUST(rm_phys_import(fd, &b) == 0 && b.id == a.id);
	MUST(close(fd) == 0);
	MUST(used_on(0) == MIB);
	MUST(rm_phys_unref(b.id) == 0);
	MUST(used_on(0) == 0);
	MUST(rm_phys_export(a.id, &fd) == -ENOENT);
	MUST(rm_phys_import(-1, &b) == -EBADF);
	MUST(rm_phys_import(0, &b) == -EBADF);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, other) == 0);
	MUST(rm_phys_import(other[0], &b) == -EBADF); /* a socket, but none of ours */
}

static void prove_closed_descriptor_frees(void)
{
	struct rm_phys a;
	int fd;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_VMM) == 0);
	MUST(rm_phys_export(a.id, &fd) == 0);
	MUST(rm_phys_unref(a.id) == 0);
	MUST(used_on(0) == MIB);
	MUST(close(fd) == 0);
	MUST(used_on(0) == 0);
}

struct named {
	uint8_t name[64];
};

static void look_up_in_child(void *arg)
{
	const struct named *n = arg;
	struct rm_phys a;
	char text[192];
	size_t bytes = sizeof(text);
	int exporter;

	MUST(rm_open() == 0);
	MUST(rm_named(n->name, &a, text, &bytes, &exporter) == 0);
	MUST(bytes == 5 && memcmp(text, "hello", 5) == 0);
	MUST(exporter == getppid() && a.bytes == MIB);
	MUST(rm_phys_unref(a.id) == 0);
}

static void prove_names(void)
{
	struct named n;
	uint8_t again[64];
	struct rm_phys a, b;
	size_t bytes = 0;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_BLOCK) == 0);
	MUST(rm_name(a.id, "hello", 5, n.name) == 0);
	MUST(rm_name(a.id, "hello", 5, again) == 0 && memcmp(again, n.name, 64) == 0);
	MUST(rm_name(a.id, "other", 5, again) == 0 && memcmp(again, n.name, 64) != 0);
	MUST(rm_name(a.id, again, 193, again) == -EINVAL);
	join_child(start_child(look_up_in_child, &n));
	MUST(used_on(0) == MIB);
	MUST(rm_phys_unref(a.id) == 0);
	MUST(rm_named(n.name, &b, NULL, &bytes, NULL) == -ENOENT);
	memset(n.name, 0, sizeof(n.name));
	MUST(rm_named(n.name, &b, NULL, &bytes, NULL) == -ENOENT);
}

static void prove_processes(void)
{
	struct rm_process row[2];
	struct rm_phys a, b;
	size_t n = 2;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 1, MIB, RM_BLOCK) == 0);
	MUST(rm_processes(1, row, &n) == 0 && n == 0); /* no context there */
	MUST(rm_phys_alloc(&b, 1, 3 * MIB, RM_CONTEXT) == 0);
	n = 2;
	MUST(rm_processes(1, row, &n) == 0 && n == 1);
	MUST(row[0].pid == getpid() && row[0].bytes == 4 * MIB);
	n = 0;
	MUST(rm_processes(1, NULL, &n) == -ENOSPC && n == 1);
	n = 2;
	MUST(rm_processes(0, row, &n) == 0 && n == 0);
	MUST(rm_processes(2, row, &n) == -EINVAL);
}

struct tally {
	uint64_t objects, bytes, handles;
};

static void count_object(const struct rm_live *object, void *arg)
{
	struct tally *t = arg;

	MUST(object->kind == RM_BLOCK && object->device == 0);
	t->objects++;
	t->bytes += object->bytes;
	t->handles ^= object->handle;
}

static struct tally tally_of(pid_t pid)
{
	static struct rm_client clients[8];
	struct tally t = { 0 };
	size_t n = 8;

	MUST(rm_clients(clients, &n) == 0);
	for (size_t i = 0; i < n; i++) {
		if (clients[i].own_pid == pid && clients[i].has_objects)
			MUST(rm_live_each(clients[i].serial, count_object, &t) == 0);
	}
	return t;
}

static void prove_live_objects(void)
{
	const uint64_t count = 1200000; /* past several sizes of the index */
	struct tally t;

	MUST(rm_open() == 0);
	for (uint64_t i = 1; i <= count; i++)
		MUST(rm_object_add(RM_BLOCK, 0, i << 9, i) == 0);
	MUST(rm_object_add(RM_BLOCK, 0, 1 << 9, 1) == -EEXIST);
	t = tally_of(getpid());
	MUST(t.objects == count && t.bytes == count * (count + 1) / 2);
	for (uint64_t i = 1; i <= count; i += 2)
		rm_object_remove(RM_BLOCK, i << 9);
	rm_object_remove(RM_BLOCK, 12345); /* unknown: nothing happens */
	for (uint64_t i = 2; i <= count; i += 2)
		rm_object_resize(RM_BLOCK, i << 9, 3);
	t = tally_of(getpid());
	MUST(t.objects == count / 2 && t.bytes == count / 2 * 3);
	for (uint64_t i = 1; i <= count; i += 2)
		MUST(rm_object_add(RM_BLOCK, 0, i << 9, 1) == 0); /* into the free slots */
	for (uint64_t i = 1; i <= count; i++)
		rm_object_remove(RM_BLOCK, i << 9);
	MUST(tally_of(getpid()).objects == 0);
}

int main(void)
{
	static struct claim claims[] = {
		{ "memory: a full device refuses, a freed one gives", prove_full_device },
		{ "memory: pages, and host memory apart", prove_rounding },
		{ "memory: references", prove_references },
		{ "memory: lazily backed, given back, offsets not reused", prove_backing },
		{ "export: a descriptor carries an object", prove_export },
		{ "export: the last close frees", prove_closed_descriptor_frees },
		{ "names: found while the exporter has the object", prove_names },
		{ "processes: those with a context", prove_processes, "2xt4" },
		{ "objects: more than a million, counted exactly", prove_live_objects },
	};
	struct CMUnitTest tests[TR_COUNT(claims)];

	for (size_t i = 0; i < TR_COUNT(claims); i++)
		tests[i] = (struct CMUnitTest){ .name = claims[i].name,
						.test_func = run_claim,
						.initial_state = &claims[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
