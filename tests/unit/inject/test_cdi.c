/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deviceplugin/inject/cdi.h"
#include "reader.h"
#include "rig.h"
#include "tranche/paths.h"

static struct tr_driver_node nodes[] = {
	{ (char[]){ "/dev/nvidiactl" }, (char[]){ "/dev/nvidiactl" } },
	{ (char[]){ "/run/nvidia/driver/dev/nvidia-uvm" }, (char[]){ "/dev/nvidia-uvm" } },
};
static struct tr_driver_mount mounts[] = {
	{ (char[]){ "/usr/lib64/libcuda.so.580.1" },
	  (char[]){ "/usr/lib64/libcuda.so.1" } },
	{ (char[]){ "/usr/bin/nvidia-smi" }, (char[]){ "/usr/bin/nvidia-smi" } },
};
static const struct tr_driver_files driver = { .version = "580.1",
					       .mounts = mounts,
					       .mount_count = 2,
					       .nodes = nodes,
					       .node_count = 2,
					       .host_dev = (char[]){ "/dev" } };
static const int minors[] = { 3, 11 };
static const struct tr_cdi_slice whole = {
	.name = "s00000000000000ff",
	.minors = minors,
	.minor_count = 2,
	.slice_dir = "/run/tranche/node/slices/s00000000000000ff",
	.hook_path = "/opt/tr/libvgpu.so.1-2",
	.preload_path = "/opt/tr/ld.so.preload",
};

static const char *cdi_of(const struct rig *rig)
{
	static char path[128];

	(void)snprintf(path, sizeof(path), "%s/var/run/cdi", rig->folder);
	return path;
}

static size_t files_in(const char *path)
{
	DIR *folder = opendir(path);
	size_t n = 0;

	if (!folder)
		return 0;
	while (readdir(folder))
		n++;
	(void)closedir(folder);
	return n - 2;
}

static void test_allocation(void **state)
{
	const struct rig *rig = *state;
	json_t *file, *edits;
	const char *path;
	struct stat st;

	assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &whole, NULL), 0);
	path = reader_file(cdi_of(rig));
	edits = reader_edits(path, "tranche.io/gpu", "s00000000000000ff", &file);
	assert_string_equal(reader_env(edits, "NVIDIA_VISIBLE_DEVICES"), "void");
	assert_int_equal(reader_count(edits, "deviceNodes"), 4);
	assert_string_equal(reader_node(edits, "/dev/nvidiactl"), "/dev/nvidiactl");
	assert_string_equal(reader_node(edits, "/dev/nvidia-uvm"),
			    "/run/nvidia/driver/dev/nvidia-uvm");
	assert_string_equal(reader_node(edits, "/dev/nvidia3"), "/dev/nvidia3");
	assert_string_equal(reader_node(edits, "/dev/nvidia11"), "/dev/nvidia11");
	assert_int_equal(reader_count(edits, "mounts"), 4);
	assert_string_equal(reader_mount(edits, "/run/tranche/slice/ro", "ro"),
			    "/run/tranche/node/slices/s00000000000000ff/ro");
	assert_string_equal(reader_mount(edits, "/run/tranche/slice/rw", "rw"),
			    "/run/tranche/node/slices/s00000000000000ff/rw");
	assert_string_equal(reader_mount(edits, "/run/tranche/slice/libvgpu.so", "ro"),
			    "/opt/tr/libvgpu.so.1-2");
	assert_string_equal(reader_mount(edits, "/etc/ld.so.preload", "ro"),
			    "/opt/tr/ld.so.preload");
	json_decref(file);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
}

/* Without the file there is a slice and no GPU. */
static void test_no_gpu(void **state)
{
	const struct rig *rig = *state;
	struct tr_cdi_slice slice = { .name = "s1" };
	json_t *file, *edits;

	assert_int_equal(tr_cdi_write(cdi_of(rig), NULL, &slice, NULL), 0);
	edits = reader_edits(reader_file(cdi_of(rig)), "tranche.io/gpu", "s1", &file);
	assert_int_equal(reader_count(edits, "deviceNodes"), 0);
	assert_int_equal(reader_count(edits, "mounts"), 0);
	json_decref(file);
	slice.slice_dir = "/s";
	assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, NULL), 0);
	edits = reader_edits(reader_file(cdi_of(rig)), "tranche.io/gpu", "s1", &file);
	assert_int_equal(reader_count(edits, "deviceNodes"), 0);
	assert_int_equal(reader_count(edits, "mounts"), 2);
	json_decref(file);
}

static void test_driver(void **state)
{
	const struct rig *rig = *state;
	const char *path = rig_path(rig, "var/run/cdi/tranche-driver.json");
	struct tr_driver_files other = driver;
	struct stat before, after;
	json_t *file, *edits;

	assert_int_equal(tr_cdi_write_driver(cdi_of(rig), &driver, NULL), 0);
	edits = reader_edits(path, "tranche.io/driver", "all", &file);
	assert_int_equal(reader_count(edits, "deviceNodes"), 0);
	assert_int_equal(reader_count(edits, "mounts"), 2);
	assert_string_equal(reader_mount(edits, "/usr/lib64/libcuda.so.1", "ro"),
			    "/usr/lib64/libcuda.so.580.1");
	assert_string_equal(reader_mount(edits, "/usr/bin/nvidia-smi", "nosuid"),
			    "/usr/bin/nvidia-smi");
	json_decref(file);
	/* Runtimes read everything again when a file changes: it does so only when it must. */
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(tr_cdi_write_driver(cdi_of(rig), &driver, NULL), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_true(before.st_ino == after.st_ino);
	other.mount_count = 1;
	assert_int_equal(tr_cdi_write_driver(cdi_of(rig), &other, NULL), 0);
	edits = reader_edits(path, "tranche.io/driver", "all", &file);
	assert_int_equal(reader_count(edits, "mounts"), 1);
	json_decref(file);
}

static void test_hostile(void **state)
{
	static const char *const names[] = {
		"",
		".",
		"..",
		"../x",
		"a/b",
		"a b",
		"A",
		"a\n",
		"a\"",
		"a\\",
		"a=b",
		"\xc3\xa4",
		"a.json",
		"a-",
		"-a",
		"0123456789012345678901234567890123456789012345678901234567890123",
	};
	static const char *const paths[] = { "",      "x",      "/a/../b", "/..",
					     "/a\nb", "/a\x7f", "/\xff",   "/\x01" };
	static const int numbers[][2] = { { -1, 0 }, { 255, 0 }, { 3, 3 }, { 0, 1 << 30 } };
	const struct rig *rig = *state;
	struct tr_cdi_slice slice;
	struct tr_err err;

	for (size_t i = 0; i < TR_COUNT(names); i++) {
		slice = whole;
		slice.name = names[i];
		err.msg[0] = '\0';
		assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, &err), -EINVAL);
		assert_true(err.msg[0]);
		assert_int_equal(tr_cdi_remove(cdi_of(rig), names[i], NULL), -EINVAL);
	}
	for (size_t i = 0; i < TR_COUNT(paths); i++)
		for (size_t k = 0; k < 3; k++) {
			slice = whole;
			*(k == 0   ? &slice.slice_dir
			  : k == 1 ? &slice.hook_path
				   : &slice.preload_path) = paths[i];
			/* A slice's folder is the only one with something behind. */
			if (k == 0 && !*paths[i])
				continue;
			assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, &err),
					 -EINVAL);
		}
	for (size_t i = 0; i < TR_COUNT(numbers); i++) {
		slice = whole;
		slice.minors = numbers[i];
		assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, &err), -EINVAL);
	}
	assert_int_equal(tr_cdi_write(cdi_of(rig), NULL, &whole, &err), -EINVAL);
	assert_int_equal(files_in(cdi_of(rig)), 0);
	/* What is strange and can be: quoted, not refused. */
	slice = whole;
	slice.slice_dir = "/a \"b\" \\c'{}: [\xc3\xa4]";
	assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, &err), 0);
}

static void test_strange_path_is_kept(void **state)
{
	const struct rig *rig = *state;
	struct tr_cdi_slice slice = { .name = "s1",
				      .hook_path = "/a \"b\" \\c'{}: \xc3\xa4" };
	json_t *file, *edits;

	assert_int_equal(tr_cdi_write(cdi_of(rig), NULL, &slice, NULL), 0);
	edits = reader_edits(reader_file(cdi_of(rig)), "tranche.io/gpu", "s1", &file);
	assert_string_equal(reader_mount(edits, TR_SLICE_HOOK, "bind"), slice.hook_path);
	json_decref(file);
}

/* Two instances of nvidia3 beside nvidia11: the nodes of both, and no node of another's. */
static void test_instances(void **state)
{
	static const int caps[] = { 21, 22, 48 },
			 wrong[][2] = { { 1, 1 }, { -1, 1 }, { 1, 1 << 20 } };
	const struct rig *rig = *state;
	struct tr_cdi_slice slice = whole;
	struct tr_err err = { 0 };
	json_t *file, *edits;

	slice.caps = caps;
	slice.cap_count = 3;
	assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, NULL), 0);
	edits = reader_edits(reader_file(cdi_of(rig)), "tranche.io/gpu", slice.name, &file);
	assert_int_equal(reader_count(edits, "deviceNodes"), 7);
	assert_string_equal(reader_node(edits, "/dev/nvidia-caps/nvidia-cap21"),
			    "/dev/nvidia-caps/nvidia-cap21");
	assert_non_null(reader_node(edits, "/dev/nvidia-caps/nvidia-cap48"));
	json_decref(file);
	slice.cap_count = 2;
	for (size_t i = 0; i < TR_COUNT(wrong); i++) {
		slice.caps = wrong[i];
		assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "/dev/nvidia-caps/nvidia-cap"));
	}
	slice.caps = caps;
	slice.minor_count = 0;
	assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, &err), -EINVAL);
}

static void count_name(const char *name, void *arg)
{
	char *all = arg;

	(void)snprintf(all + strlen(all), 64, "%s ", name);
}

static void test_what_is_there(void **state)
{
	const struct rig *rig = *state;
	struct tr_cdi_slice slice = { .name = "s1" };
	char all[256] = "";

	assert_int_equal(tr_cdi_each(cdi_of(rig), count_name, all, NULL), 0);
	assert_int_equal(tr_cdi_remove(cdi_of(rig), "s1", NULL), 0);
	assert_int_equal(tr_cdi_write(cdi_of(rig), NULL, &slice, NULL), 0);
	assert_int_equal(tr_cdi_write_driver(cdi_of(rig), &driver, NULL), 0);
	rig_text(rig, "var/run/cdi/tranche-gpu-s2.json.12.ab.new", "{");
	rig_text(rig, "var/run/cdi/somebody.json.new", "{");
	rig_text(rig, "var/run/cdi/tranche-gpu-A.json", "{");
	rig_text(rig, "var/run/cdi/nvidia.yaml", "{");
	assert_int_equal(tr_cdi_each(cdi_of(rig), count_name, all, NULL), 0);
	assert_string_equal(all, "s1 ");
	assert_int_equal(files_in(cdi_of(rig)), 5);
	assert_int_equal(tr_cdi_remove(cdi_of(rig), "s1", NULL), 0);
	all[0] = '\0';
	assert_int_equal(tr_cdi_each(cdi_of(rig), count_name, all, NULL), 0);
	assert_string_equal(all, "");
}

/* Many allocations: few files, each with its own; what is removed takes nobody along; what is broken is made anew. */
static void test_many(void **state)
{
	const struct rig *rig = *state;
	struct tr_cdi_slice slice = whole;
	char all[8192] = "", name[24], *end;
	unsigned left = 0;

	slice.name = name;
	for (unsigned i = 0; i < 300; i++) {
		(void)snprintf(name, sizeof(name), "s%016x", i);
		assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, NULL), 0);
		assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, NULL), 0);
	}
	assert_int_equal(files_in(cdi_of(rig)), 8);
	for (unsigned i = 0; i < 300; i += 2) {
		(void)snprintf(name, sizeof(name), "s%016x", i);
		assert_int_equal(tr_cdi_remove(cdi_of(rig), name, NULL), 0);
		assert_int_equal(tr_cdi_remove(cdi_of(rig), name, NULL), 0);
	}
	assert_int_equal(tr_cdi_each(cdi_of(rig), count_name, all, NULL), 0);
	for (end = strtok(all, " "); end; end = strtok(NULL, " ")) {
		assert_int_equal(strtoul(end + 1, NULL, 16) % 2, 1);
		left++;
	}
	assert_int_equal(left, 150);
	for (unsigned i = 1; i < 300; i += 2) {
		(void)snprintf(name, sizeof(name), "s%016x", i);
		assert_int_equal(tr_cdi_remove(cdi_of(rig), name, NULL), 0);
	}
	assert_int_equal(files_in(cdi_of(rig)), 0);
}

/* Many at once: there when flushed, each once as it was added last, but for those that were forgotten. */
static void test_batch(void **state)
{
	const struct rig *rig = *state;
	struct tr_cdi_batch batch = { 0 };
	struct tr_cdi_slice slice = whole;
	char all[8192] = "", name[24];
	struct tr_err err;
	json_t *file;
	unsigned left = 0;

	slice.name = name;
	(void)snprintf(name, sizeof(name), "old");
	assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &slice, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		(void)snprintf(name, sizeof(name), "s%x", i);
		slice.minor_count = 0;
		assert_int_equal(tr_cdi_add(&batch, &driver, &slice, NULL), 0);
		slice.minor_count = 1;
		assert_int_equal(tr_cdi_add(&batch, &driver, &slice, NULL), 0);
		if (i % 2)
			tr_cdi_forget(&batch, name);
	}
	slice.name = "S";
	assert_int_equal(tr_cdi_add(&batch, &driver, &slice, &err), -EINVAL);
	assert_int_equal(tr_cdi_each(cdi_of(rig), count_name, all, NULL), 0);
	assert_string_equal(all, "old ");
	all[0] = '\0';
	assert_int_equal(tr_cdi_flush(&batch, cdi_of(rig), NULL), 0);
	assert_null(batch.first);
	assert_int_equal(tr_cdi_each(cdi_of(rig), count_name, all, NULL), 0);
	for (char *at = strtok(all, " "); at; at = strtok(NULL, " "))
		left += strcmp(at, "old") == 0 || strtoul(at + 1, NULL, 16) % 2 == 0;
	assert_int_equal(left, 101);
	for (unsigned k = 0; k < 8; k++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "var/run/cdi/tranche-gpu-%u.json", k);
		file = json_load_file(rig_path(rig, path), 0, NULL);
		assert_non_null(file);
		json_decref(file);
	}
	assert_int_equal(tr_cdi_flush(&batch, cdi_of(rig), NULL), 0); /* of nothing */
	assert_int_equal(tr_cdi_add(&batch, &driver, &whole, NULL), 0);
	assert_true(tr_cdi_flush(&batch, "/proc/cdi", &err) < 0);
	assert_null(batch.first);
}

static void test_broken_files(void **state)
{
#define HEAD "{\"cdiVersion\":\"0.5.0\",\"kind\":\"tranche.io/gpu\",\"devices\":[\n"
	static const char *const texts[] = {
		"",
		"{",
		"{\"devices\":[]}",
		HEAD,
		HEAD "\n]}\n",
		HEAD "{\"name\":\"s1\",\"containerEdits\":{}",
		HEAD "{\"name\":\"s1\"}\n]}\n",
		HEAD "}}\n]}\n",
		HEAD "{\"name\":\"../x\",\"containerEdits\":{}}\n]}\n",
		HEAD "{\"name\":\"S1\",\"containerEdits\":{}},\n,\n\n]}\n",
		HEAD "{\"name\":\"\n\",\"containerEdits\":{}},\n]}\n",
	};
	const struct rig *rig = *state;
	json_t *file;

	for (size_t i = 0; i < TR_COUNT(texts); i++) {
		for (unsigned k = 0; k < 8; k++) {
			char path[64];

			(void)snprintf(path, sizeof(path),
				       "var/run/cdi/tranche-gpu-%u.json", k);
			(void)unlink(rig_path(rig, path));
		}
		assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &whole, NULL), 0);
		rig_text(rig, reader_file(cdi_of(rig)) + strlen(rig->folder) + 1, texts[i]);
		assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &whole, NULL), 0);
		(void)reader_edits(reader_file(cdi_of(rig)), "tranche.io/gpu", whole.name,
				   &file);
		assert_int_equal(json_array_size(json_object_get(file, "devices")), 1);
		json_decref(file);
	}
}

/* A runtime that reads while the file is written anew meets the one or the other. */
static atomic_bool is_done;

static void *write_again(void *arg)
{
	for (unsigned i = 0; i < 2000; i++) {
		struct tr_cdi_slice slice = whole;

		slice.minor_count = i % 3;
		assert_int_equal(tr_cdi_write(arg, &driver, &slice, NULL), 0);
	}
	atomic_store(&is_done, true);
	return NULL;
}

static void test_whole_or_not_at_all(void **state)
{
	const struct rig *rig = *state;
	char path[128];
	pthread_t writer;
	unsigned reads = 0;
	json_t *file;

	assert_int_equal(tr_cdi_write(cdi_of(rig), &driver, &whole, NULL), 0);
	(void)snprintf(path, sizeof(path), "%s", reader_file(cdi_of(rig)));
	assert_int_equal(
		pthread_create(&writer, NULL, write_again, (void *)(uintptr_t)cdi_of(rig)),
		0);
	while (!atomic_load(&is_done)) {
		(void)reader_edits(path, "tranche.io/gpu", whole.name, &file);
		json_decref(file);
		reads++;
	}
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_true(reads > 0);
	assert_int_equal(files_in(cdi_of(rig)), 1);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_make, rig_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_allocation),    WITH_RIG(test_no_gpu),
		WITH_RIG(test_driver),        WITH_RIG(test_many),
		WITH_RIG(test_batch),         WITH_RIG(test_broken_files),
		WITH_RIG(test_hostile),       WITH_RIG(test_strange_path_is_kept),
		WITH_RIG(test_what_is_there), WITH_RIG(test_whole_or_not_at_all),
		WITH_RIG(test_instances),
	};

	/* In memory, as the real folder is: a disk would be waited for. */
	if (access("/dev/shm", W_OK) == 0)
		rig_root = "/dev/shm";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
