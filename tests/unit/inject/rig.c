/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include "tr_test.h"

#include <elf.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/slurp.h"
#include "rt/file.h"

const char *rig_root = "/tmp";

int rig_make(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	(void)snprintf(rig->folder, sizeof(rig->folder), "%s/tr-inject-XXXXXX", rig_root);
	assert_non_null(mkdtemp(rig->folder));
	assert_int_equal(chmod(rig->folder, 0755), 0);
	*state = rig;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	(void)st;
	(void)kind;
	(void)walk;
	return remove(path);
}

int rig_remove(void **state)
{
	struct rig *rig = *state;
	int r = nftw(rig->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);

	free(rig);
	return r;
}

const char *rig_path(const struct rig *rig, const char *path)
{
	static char paths[16][PATH_MAX];
	static unsigned next;
	char *out = paths[next++ % 16];

	(void)snprintf(out, PATH_MAX, "%s/%s", rig->folder, path);
	return out;
}

static void make_above(const char *path)
{
	char folder[PATH_MAX];

	(void)snprintf(folder, sizeof(folder), "%s", path);
	*strrchr(folder, '/') = '\0';
	assert_int_equal(tr_folder_make(folder, NULL), 0);
}

void rig_write(const struct rig *rig, const char *path, const void *bytes, size_t n)
{
	const char *full = rig_path(rig, path);

	make_above(full);
	assert_int_equal(tr_file_replace(full, bytes, n, 0644, NULL), 0);
}

void rig_text(const struct rig *rig, const char *path, const char *text)
{
	rig_write(rig, path, text, strlen(text));
}

void rig_link(const struct rig *rig, const char *path, const char *target)
{
	const char *full = rig_path(rig, path);

	make_above(full);
	assert_int_equal(symlink(target, full), 0);
}

void rig_library(const struct rig *rig, const char *path)
{
	Elf64_Ehdr head = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					 ELFDATA2LSB, EV_CURRENT },
			    .e_type = ET_DYN };

#if defined(__x86_64__)
	head.e_machine = EM_X86_64;
#else
	head.e_machine = EM_AARCH64;
#endif
	rig_write(rig, path, &head, sizeof(head));
}

char *rig_read(const char *path, size_t *n)
{
	struct tr_err err;
	char *text = NULL;
	size_t got = 0;

	if (tr_slurp(path, 64u << 20, &text, &got, &err) < 0)
		fail_msg("%s", err.msg);
	if (n)
		*n = got;
	return text;
}

static void put_word(unsigned char *at, uint32_t word)
{
	memcpy(at, &word, sizeof(word));
}

size_t rig_cache(unsigned char out[static 4096], const struct rig_entry *entries,
		 uint32_t count)
{
	size_t strings = 48 + 24u * (size_t)count, end = strings;

	memset(out, 0, 4096);
	memcpy(out, "glibc-ld.so.cache1.1", 20);
	for (uint32_t i = 0; i < count; i++) {
		unsigned char *entry = out + 48 + 24u * (size_t)i;
		const char *texts[2] = { entries[i].name, entries[i].path };

		put_word(entry, entries[i].kind);
		for (size_t k = 0; k < 2; k++) {
			assert_true(end + strlen(texts[k]) < 4096);
			put_word(entry + 4 + 4 * k, (uint32_t)end);
			memcpy(out + end, texts[k], strlen(texts[k]) + 1);
			end += strlen(texts[k]) + 1;
		}
		memcpy(entry + 16, &entries[i].hwcap, 8);
	}
	put_word(out + 20, count);
	put_word(out + 24, (uint32_t)(end - strings));
	out[28] = 2;
	return end;
}

void rig_driver(const struct rig *rig, const char *version)
{
	static const char *const libraries[] = { "libcuda.so", "libnvidia-ml.so",
						 "libnvidia-ptxjitcompiler.so",
						 "libnvidia-eglcore.so" };
	static const char *const nodes[] = { "nvidiactl", "nvidia-uvm",
					     "nvidia-uvm-tools" };
	char path[256], target[128];

	for (size_t i = 0; i < TR_COUNT(libraries); i++) {
		(void)snprintf(target, sizeof(target), "%s.%s", libraries[i], version);
		(void)snprintf(path, sizeof(path), "usr/lib64/%s", target);
		rig_library(rig, path);
		(void)snprintf(path, sizeof(path), "usr/lib64/%s.1", libraries[i]);
		rig_link(rig, path, target);
	}
	(void)snprintf(path, sizeof(path), "usr/lib64/libnvidia-gpucomp.so.%s", version);
	rig_library(rig, path);
	rig_library(rig, "usr/lib64/libnvidia-encode.so.470.1.2"); /* of an older one */
	rig_link(rig, "usr/lib64/libnvidia-encode.so.1", "libnvidia-encode.so.470.1.2");
	for (size_t i = 0; i < TR_COUNT(nodes); i++) {
		(void)snprintf(path, sizeof(path), "dev/%s", nodes[i]);
		rig_link(rig, path, "/dev/null"); /* a device node, for who is not root */
	}
	rig_text(rig, "usr/bin/nvidia-smi", "");
	assert_int_equal(chmod(rig_path(rig, "usr/bin/nvidia-smi"), 0755), 0);
	(void)snprintf(path, sizeof(path), "usr/lib/firmware/nvidia/%s/gsp_ga10x.bin",
		       version);
	rig_text(rig, path, "");
	rig_link(rig, "lib", "usr/lib");
	(void)snprintf(
		path, sizeof(path),
		"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  %s  Release "
		"Build  (x@y)\nGCC version:  gcc version 12.2.0\n",
		version);
	rig_text(rig, "proc/driver/nvidia/version", path);
}
