/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deviceplugin/inject/driver.h"
#include "deviceplugin/inject/image.h"
#include "deviceplugin/inject/libraries.h"
#include "deviceplugin/inject/root.h"
#include "rig.h"

/* ---- paths below another root ---- */

static void test_resolve(void **state)
{
	const struct rig *rig = *state;
	static const struct {
		const char *path, *want;
		int r;
	} rows[] = {
		{ "/a/b/file", "/a/b/file", 0 },
		{ "/a//./b/../b/file", "/a/b/file", 0 },
		{ "/../../a/b/file", "/a/b/file", 0 },
		{ "/absolute", "/a/b/file", 0 },
		{ "/a/up", "/a/b/file", 0 },
		{ "/a/out", "/a/b/file", 0 },
		{ "/through/file", "/a/b/file", 0 },
		{ "/", "/", 0 },
		{ "/a/b/..", "/a", 0 },
		{ "/loop", NULL, -ELOOP },
		{ "/a/none", NULL, -ENOENT },
		{ "/dangling", NULL, -ENOENT },
		{ "/a/b/file/x", NULL, -ENOTDIR },
		{ "relative", NULL, -EINVAL },
	};

	rig_text(rig, "a/b/file", "");
	rig_link(rig, "absolute", "/a/b/file");
	rig_link(rig, "a/up", "../a/./b/file");
	rig_link(rig, "a/out", "../../../../../a/b/file");
	rig_link(rig, "through", "/a/b");
	rig_link(rig, "loop", "loop");
	rig_link(rig, "dangling", "/etc/passwd-of-the-host");
	for (size_t i = 0; i < TR_COUNT(rows); i++) {
		char out[PATH_MAX] = "";

		assert_int_equal(tr_root_resolve(rig->folder, rows[i].path, out),
				 rows[i].r);
		if (rows[i].want)
			assert_string_equal(out, rows[i].want);
	}
}

/* ---- what is found ---- */

static const char *mount_of(const struct tr_driver_files *files, const char *container)
{
	const char *host = NULL;

	for (size_t i = 0; i < files->mount_count; i++)
		if (strcmp(files->mounts[i].container, container) == 0) {
			assert_null(host); /* each place once */
			host = files->mounts[i].host;
		}
	return host;
}

#define MULTIARCH "/usr/lib/" TR_MULTIARCH

static struct tr_driver_where where_of(const struct rig *rig)
{
	static char proc[128];

	(void)snprintf(proc, sizeof(proc), "%s/proc", rig->folder);
	return (struct tr_driver_where){ .root = rig->folder,
					 .host_root = "/",
					 .dev = rig->folder,
					 .host_dev = "/",
					 .proc = proc };
}

static void expect_driver(const struct tr_driver_files *files, const char *host_folder)
{
	static const struct {
		const char *name, *file;
	} rows[] = {
		{ "libcuda.so", "libcuda.so.580.95.05" },
		{ "libcuda.so.1", "libcuda.so.580.95.05" },
		{ "libcuda.so.580.95.05", "libcuda.so.580.95.05" },
		{ "libnvidia-ml.so.1", "libnvidia-ml.so.580.95.05" },
		{ "libnvidia-ml.so.580.95.05", "libnvidia-ml.so.580.95.05" },
		{ "libnvidia-ptxjitcompiler.so.1",
		  "libnvidia-ptxjitcompiler.so.580.95.05" },
		{ "libnvidia-ptxjitcompiler.so.580.95.05",
		  "libnvidia-ptxjitcompiler.so.580.95.05" },
		{ "libnvidia-gpucomp.so.580.95.05", "libnvidia-gpucomp.so.580.95.05" },
	};
	static const char *const folders[] = { "/usr/lib64", MULTIARCH };
	char container[256], host[256];

	assert_string_equal(files->version, "580.95.05");
	for (size_t k = 0; k < TR_COUNT(folders); k++)
		for (size_t i = 0; i < TR_COUNT(rows); i++) {
			const char *got;

			(void)snprintf(container, sizeof(container), "%s/%s", folders[k],
				       rows[i].name);
			(void)snprintf(host, sizeof(host), "%s/%s", host_folder,
				       rows[i].file);
			got = mount_of(files, container);
			if (!got || strcmp(got, host) != 0)
				fail_msg("%s is %s", container, got ? got : "missing");
		}
	/* Nothing else: no drawing, nothing of another version. */
	assert_int_equal(files->mount_count, 2 * TR_COUNT(rows) + 2);
}

static void test_folders(void **state)
{
	const struct rig *rig = *state;
	struct tr_driver_where where = where_of(rig);
	struct tr_driver_files files;

	rig_driver(rig, "580.95.05");
	assert_int_equal(tr_driver_find(&where, &files, NULL), 0);
	expect_driver(&files, "/usr/lib64");
	assert_string_equal(mount_of(&files, "/usr/bin/nvidia-smi"), "/usr/bin/nvidia-smi");
	assert_string_equal(
		mount_of(&files, "/lib/firmware/nvidia/580.95.05/gsp_ga10x.bin"),
		"/usr/lib/firmware/nvidia/580.95.05/gsp_ga10x.bin");
	assert_int_equal(files.node_count, 3);
	assert_string_equal(files.nodes[0].host, "/dev/nvidiactl");
	assert_string_equal(files.nodes[2].container, "/dev/nvidia-uvm-tools");
	assert_string_equal(files.host_dev, "/dev");
	tr_driver_free(&files);
}

/* A driver that runs in a container of its own: the host knows its root by another name. */
static void test_other_names_on_the_host(void **state)
{
	const struct rig *rig = *state;
	struct tr_driver_where where = where_of(rig);
	struct tr_driver_files files;
	char seen[128];

	rig_driver(rig, "580.95.05");
	where.host_root = "/run/nvidia/driver/";
	where.host_dev = "/run/nvidia/driver";
	assert_int_equal(tr_driver_find(&where, &files, NULL), 0);
	expect_driver(&files, "/run/nvidia/driver/usr/lib64");
	assert_string_equal(files.nodes[0].host, "/run/nvidia/driver/dev/nvidiactl");
	assert_string_equal(files.nodes[0].container, "/dev/nvidiactl");
	assert_string_equal(files.host_dev, "/run/nvidia/driver/dev");
	(void)snprintf(seen, sizeof(seen), "%s/dev", rig->folder);
	assert_string_equal(files.dev, seen);
	tr_driver_free(&files);
	where.host_root = where.host_dev = NULL;
	assert_int_equal(tr_driver_find(&where, &files, NULL), 0);
	assert_string_equal(mount_of(&files, "/usr/bin/nvidia-smi"),
			    rig_path(rig, "usr/bin/nvidia-smi"));
	tr_driver_free(&files);
}

/* Somewhere nobody would look, with links as Debian's alternatives make them. */
static void test_cache(void **state)
{
	static const struct rig_entry entries[] = {
		{ RIG_KIND, "libcuda.so.1", "/opt/gone/libcuda.so.1", 0 },
		{ RIG_KIND, "libcuda.so.1", "/opt/links/libcuda.so.1", 0 },
		{ RIG_KIND, "libnvidia-ml.so.1", "/opt/links/libnvidia-ml.so.1", 0 },
		{ RIG_KIND, "libnvidia-other.so.1", "/opt/x/libnvidia-other.so.1", 0 },
	};
	const struct rig *rig = *state;
	struct tr_driver_where where = where_of(rig);
	struct tr_driver_files files;
	unsigned char cache[4096];

	rig_driver(rig, "580.95.05");
	assert_int_equal(rename(rig_path(rig, "usr/lib64"), rig_path(rig, "opt")), 0);
	rig_link(rig, "opt/links/libcuda.so.1", "/etc/alternatives/libcuda");
	rig_link(rig, "etc/alternatives/libcuda", "/opt/libcuda.so.580.95.05");
	rig_link(rig, "opt/links/libnvidia-ml.so.1", "../libnvidia-ml.so.1");
	rig_library(rig, "opt/x/libnvidia-other.so.1");
	rig_write(rig, "etc/ld.so.cache", cache,
		  rig_cache(cache, entries, TR_COUNT(entries)));
	assert_int_equal(tr_driver_find(&where, &files, NULL), 0);
	expect_driver(&files, "/opt");
	tr_driver_free(&files);
	/* A cache that nobody understands is as none. */
	rig_text(rig, "etc/ld.so.cache", "glibc-ld.so.cache9.9");
	assert_int_equal(tr_driver_find(&where, &files, NULL), -ENOENT);
	tr_driver_free(&files);
	assert_int_equal(rename(rig_path(rig, "opt"), rig_path(rig, "usr/lib64")), 0);
	assert_int_equal(tr_driver_find(&where, &files, NULL), 0);
	expect_driver(&files, "/usr/lib64");
	tr_driver_free(&files);
}

static void refused(const struct rig *rig, int r, const char *words)
{
	struct tr_driver_where where = where_of(rig);
	struct tr_driver_files files;
	struct tr_err err = { 0 };

	assert_int_equal(tr_driver_find(&where, &files, &err), r);
	tr_driver_free(&files);
	if (!strstr(err.msg, words))
		fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
}

static void test_refusals(void **state)
{
	const struct rig *rig = *state;
	char head[64] = "\177ELF\1\1\1";

	rig_text(rig, "proc/driver/nvidia/version", "hello\n");
	refused(rig, -EBADMSG, "does not say which version");
	assert_int_equal(unlink(rig_path(rig, "proc/driver/nvidia/version")), 0);
	refused(rig, -ENOENT, "neither in the loader's cache nor in /usr/lib64");
	rig_driver(rig, "580.95.05");
	rig_text(rig, "proc/driver/nvidia/version",
		 "NVRM version: NVIDIA UNIX x86_64 Kernel Module  575.57.08  Sat May 24\n");
	refused(rig, -EBADMSG,
		"libcuda is of version 580.95.05, the kernel module of 575.57");
	assert_int_equal(unlink(rig_path(rig, "proc/driver/nvidia/version")), 0);
	assert_int_equal(unlink(rig_path(rig, "dev/nvidiactl")), 0);
	refused(rig, -ENOENT, "nvidia-modprobe");
	rig_write(rig, "usr/lib64/libcuda.so.580.95.05", head, sizeof(head));
	refused(rig, -EBADMSG, "is not for this machine's processor");
}

/* After an upgrade of the driver that left the old one's files. */
static void test_two_versions(void **state)
{
	const struct rig *rig = *state;
	struct tr_driver_where where = where_of(rig);
	struct tr_driver_files files;

	rig_driver(rig, "580.95.05");
	rig_library(rig, "usr/lib/" TR_MULTIARCH "/libcuda.so.575.57.08");
	rig_link(rig, "usr/lib/" TR_MULTIARCH "/libcuda.so.1", "libcuda.so.575.57.08");
	assert_int_equal(tr_driver_find(&where, &files, NULL), 0);
	expect_driver(&files, "/usr/lib64");
	tr_driver_free(&files);
	rig_text(rig, "proc/driver/nvidia/version",
		 "NVRM version: NVIDIA UNIX x86_64 Kernel Module  575.57.08  Sat May 24\n");
	assert_int_equal(tr_driver_find(&where, &files, NULL), 0);
	assert_string_equal(files.version, "575.57.08");
	assert_string_equal(mount_of(&files, "/usr/lib64/libcuda.so.1"),
			    MULTIARCH "/libcuda.so.575.57.08");
	tr_driver_free(&files);
}

/* ---- /proc ---- */

/* Put together: a question mark too many before a dash is a trigraph. */
#define MASK   \
	"-???" \
	"?"    \
	"-???" \
	"?"    \
	"-???" \
	"?"    \
	"-????????????"
#define UUID "GPU-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"

static void test_gpu_texts(void **state)
{
	static const struct {
		const char *text;
		int r, minor;
		const char *uuid, *bus;
	} rows[] = {
		{ "Model: \t\t NVIDIA H100\nIRQ:   \t\t 0\nGPU UUID: \t " UUID
		  "\nVideo BIOS: \t 96.00\nBus Type: \t PCIe\nBus Location: \t "
		  "0000:3b:00.0\n"
		  "Device Minor: \t 7\nGPU Excluded:\t No\n",
		  0, 7, UUID, "0000:3b:00.0" },
		{ "GPU UUID: " UUID "\nDevice Minor: 254", 0, 254, UUID, "" },
		{ "GPU UUID: GPU-???????"
		  "?" MASK "\nDevice Minor: 0\n",
		  0, 0, "", "" },
		{ "GPU UUID: " UUID "\nDevice Minor: 255\n", -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: " UUID "\nDevice Minor: 07\n", -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: " UUID "\nDevice Minor: -1\n", -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: " UUID "\nDevice Minor: 1x\n", -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: " UUID "\nDevice Minor:\n", -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: " UUID "\nDevice Minor: 4294967296\n", -EBADMSG, 0, NULL,
		  NULL },
		{ "GPU UUID: " UUID "\nDevice Minor: 1\nDevice Minor: 2\n", -EBADMSG, 0,
		  NULL, NULL },
		{ "GPU UUID: " UUID "0\nDevice Minor: 1\n", -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: GPU-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e??\nDevice Minor: 1\n",
		  -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: GPU-0a1b2c3d00a1b00a1b00a1b00a1b2c3d4e5f\nDevice Minor: 1\n",
		  -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: " UUID "\nDevice Minor: 1\nBus Location: 0000:3b:00:0\n",
		  -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: " UUID "\nDevice Minor: 1\nBus Location: 00000000:3b:00.0\n",
		  0, 1, UUID, "00000000:3b:00.0" },
		{ "Device Minor: 1\n", -EBADMSG, 0, NULL, NULL },
		{ "GPU UUID: " UUID "\n", -EBADMSG, 0, NULL, NULL },
		{ "", -EBADMSG, 0, NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < TR_COUNT(rows); i++) {
		struct tr_proc_gpu gpu;

		if (tr_proc_gpu_parse(rows[i].text, strlen(rows[i].text), &gpu) !=
		    rows[i].r)
			fail_msg("%s", rows[i].text);
		if (rows[i].r < 0)
			continue;
		assert_int_equal(gpu.minor, rows[i].minor);
		assert_string_equal(gpu.uuid, rows[i].uuid);
		assert_string_equal(gpu.bus, rows[i].bus);
	}
}

static void test_cap_texts(void **state)
{
	static const struct {
		const char *text;
		int minor; /* -1: none */
	} rows[] = {
		{ "DeviceFileMinor: 21\nDeviceFileMode: 292\nDeviceFileModify: 1\n", 21 },
		{ "DeviceFileMode: 292\nDeviceFileMinor:\t0 \r\n", 0 },
		{ "DeviceFileMinor: 1048575", 1048575 },
		{ "DeviceFileMinor: 1048576", -1 },
		{ "DeviceFileMinor: 99999999999999999999\n", -1 },
		{ "DeviceFileMinor: -1\n", -1 },
		{ "DeviceFileMinor:\n", -1 },
		{ "DeviceFileMinor: 0x10\n", -1 },
		{ "DeviceFileMinor: 1 2\n", -1 },
		{ "DeviceFileMinor: 1\nDeviceFileMinor: 1\n", -1 },
		{ "DeviceFileMode: 292\n", -1 },
		{ "", -1 },
	};

	(void)state;
	for (size_t i = 0; i < TR_COUNT(rows); i++) {
		int minor = -1,
		    r = tr_cap_parse(rows[i].text, strlen(rows[i].text), &minor);

		if (r != (rows[i].minor < 0 ? -EBADMSG : 0) || minor != rows[i].minor)
			fail_msg("%s: %d, %d", rows[i].text, r, minor);
	}
	assert_int_equal(tr_cap_parse("DeviceFileMinor: 1\0\n", 20, &(int){ 0 }), -EBADMSG);
}

static void test_caps(void **state)
{
	const struct tr_mig_instance instance = { 2, 7, 0 };
	const struct rig *rig = *state;
	const char *proc = where_of(rig).proc;
	struct tr_err err = { 0 };
	int minors[2];

	assert_int_equal(tr_proc_caps(proc, &instance, minors, &err), -ENOENT);
	rig_text(rig, "proc/driver/nvidia/capabilities/gpu2/mig/gi7/access",
		 "DeviceFileMinor: 336\nDeviceFileMode: 292\n");
	assert_int_equal(tr_proc_caps(proc, &instance, minors, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "gpu2/mig/gi7/ci0/access"));
	rig_text(rig, "proc/driver/nvidia/capabilities/gpu2/mig/gi7/ci0/access", "?");
	assert_int_equal(tr_proc_caps(proc, &instance, minors, &err), -EBADMSG);
	rig_text(rig, "proc/driver/nvidia/capabilities/gpu2/mig/gi7/ci0/access",
		 "DeviceFileMinor: 337\nDeviceFileMode: 292\n");
	assert_int_equal(tr_proc_caps(proc, &instance, minors, &err), 0);
	assert_int_equal(minors[0], 336);
	assert_int_equal(minors[1], 337);
}

static void test_gpus(void **state)
{
	static const char *const texts[] = { "GPU UUID: " UUID "\nDevice Minor: 2\n",
					     "GPU UUID: " UUID "\nDevice Minor: 0\n" };
	const struct rig *rig = *state;
	const char *proc = where_of(rig).proc;
	struct tr_proc_gpu gpus[8];
	struct tr_err err = { 0 };

	assert_int_equal(tr_proc_gpus(proc, gpus, 8, &err), -ENOENT);
	rig_text(rig, "proc/driver/nvidia/gpus/0000:01:00.0/information", texts[0]);
	rig_text(rig, "proc/driver/nvidia/gpus/0000:02:00.0/information", texts[1]);
	assert_int_equal(tr_proc_gpus(proc, gpus, 8, &err), 2);
	assert_int_equal(gpus[0].minor, 0);
	assert_int_equal(gpus[1].minor, 2);
	assert_int_equal(tr_proc_gpus(proc, gpus, 1, &err), 1);
	rig_text(rig, "proc/driver/nvidia/gpus/0000:03:00.0/information", texts[1]);
	assert_int_equal(tr_proc_gpus(proc, gpus, 8, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "two GPUs are nvidia0"));
	rig_text(rig, "proc/driver/nvidia/gpus/0000:03:00.0/information", "x");
	assert_int_equal(tr_proc_gpus(proc, gpus, 8, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "0000:03:00.0/information does not say which GPU"));
}

static void test_versions(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.12  Wed Sep "
		  "20\n",
		  "535.104.12" },
		{ "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  R",
		  "580.82.07" },
		{ "NVRM version: NVIDIA UNIX x86_64 Kernel Module  418.40  (simulated)\n",
		  "418.40" },
		{ "NVRM version: no number\nGCC version: 12.2.0\n", NULL },
		{ "NVRM version: 5..8 .5 5. 1.2.3.4 12 1234567890.1234567890.12345678901\n",
		  NULL },
		{ "GCC version: 12.2.0\n", NULL },
		{ "", NULL },
	};
	char version[TR_DRIVER_VERSION];

	char text[8192];

	(void)state;
	assert_true(tr_proc_read("/proc/self/status", text, sizeof(text)) > 100);
	assert_non_null(strstr(text, "\nPid:"));
	assert_int_equal(tr_proc_read("/proc/self/status", text, 100), -EFBIG);
	assert_int_equal(tr_proc_read("/proc/self/none", text, 100), -ENOENT);
	for (size_t i = 0; i < TR_COUNT(rows); i++) {
		assert_int_equal(tr_driver_version_parse(rows[i].text, version),
				 rows[i].want ? 0 : -EBADMSG);
		if (rows[i].want)
			assert_string_equal(version, rows[i].want);
	}
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_make, rig_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_resolve),
		WITH_RIG(test_folders),
		WITH_RIG(test_cache),
		WITH_RIG(test_other_names_on_the_host),
		WITH_RIG(test_refusals),
		WITH_RIG(test_two_versions),
		WITH_RIG(test_gpus),
		cmocka_unit_test(test_gpu_texts),
		cmocka_unit_test(test_cap_texts),
		WITH_RIG(test_caps),
		cmocka_unit_test(test_versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
