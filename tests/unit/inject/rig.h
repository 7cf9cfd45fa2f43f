/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_TEST_INJECT_RIG_H
#define TR_TEST_INJECT_RIG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A folder of the test's own, and what a driver's installer leaves in it. */

struct rig {
	char folder[64];
};

/* Where it is made; "/tmp". */
extern const char *rig_root;

int rig_make(void **state); /* cmocka set-up and tear-down; *state is a struct rig */
int rig_remove(void **state);

/* FOLDER/PATH, valid until the 16th call after. */
const char *rig_path(const struct rig *rig, const char *path);
/* Folders above are made. */
void rig_write(const struct rig *rig, const char *path, const void *bytes, size_t n);
void rig_text(const struct rig *rig, const char *path, const char *text);
void rig_link(const struct rig *rig, const char *path, const char *target);
/* As much of a library as who only looks at its first bytes can tell. */
void rig_library(const struct rig *rig, const char *path);
/* The whole file; free() it. */
char *rig_read(const char *path, size_t *n);

struct rig_entry {
	uint32_t kind;
	const char *name, *path;
	uint64_t hwcap;
};
#if defined(__x86_64__)
#define RIG_KIND 0x0303u
#else
#define RIG_KIND 0x0a03u
#endif
/* A loader's cache; OUT has room for 4096 bytes. Answers its size. */
size_t rig_cache(unsigned char out[static 4096], const struct rig_entry *entries,
		 uint32_t count);

/* Folder with an installed driver VERSION: /usr/lib64 as folder, nodes, proc, programs; no cache. */
void rig_driver(const struct rig *rig, const char *version);

#endif /* TR_TEST_INJECT_RIG_H */
