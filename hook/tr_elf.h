/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_TR_ELF_H
#define TR_HOOK_TR_ELF_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Symbols without the loader's functions: who exports dlsym cannot call dlsym to find
 * dlsym. Nothing here allocates, locks, or changes what dlerror() says.
 */

/* A loaded object, as its dynamic section describes it. */
struct tr_elf {
	uintptr_t base;
	const ElfW(Dyn) * dyn;
	const ElfW(Sym) * symbols;
	const char *strings;
	uintptr_t strings_bytes;
	const uint32_t *gnu_hash, *sysv_hash; /* either may be absent */
	const uint16_t *versions;             /* NULL: symbols have none */
	const char *soname;                   /* "" when it has none */
};

/* False when there is nothing to look a name up in. */
bool tr_elf_read(struct tr_elf *out, uintptr_t base, const ElfW(Dyn) * dyn);

/* NAME as OBJECT exports it, in its default version (else its newest), or NULL. */
void *tr_elf_symbol(const struct tr_elf *object, const char *name);

/* The object that holds ADDRESS, in any namespace, and its handle. */
bool tr_elf_of(const void *address, struct tr_elf *out, void **handle);

/* What follows CALLER in load order and defines NAME, before this library if that comes
 * next. */
enum tr_next { TR_NEXT_NONE, TR_NEXT_US, TR_NEXT_OTHER };
enum tr_next tr_elf_next(const void *caller, const char *name, struct tr_elf *object,
			 void **symbol);

/* The first object of this namespace with that soname. */
bool tr_elf_named(const char *soname, struct tr_elf *out);

/* An object at BASE whose dynamic section is DYN is still loaded (in our namespace). */
bool tr_elf_is_loaded(uintptr_t base, const ElfW(Dyn) * dyn);

/* The C library's own functions, whoever interposes them. Members are NULL where it has
 * none. */
struct tr_libc {
	void *(*dlsym)(void *handle, const char *name);
	void *(*dlvsym)(void *handle, const char *name, const char *version);
	int (*dladdr1)(const void *address, void *info, void **extra, int flags);
	int (*dl_iterate_phdr)(int (*each)(struct dl_phdr_info *, size_t, void *),
			       void *arg);
	/* Whoever comes after us: what a look-up that is not ours goes on to. */
	void *next_dlsym, *next_dlvsym;
};
const struct tr_libc *tr_libc(void);

#endif /* TR_HOOK_TR_ELF_H */
