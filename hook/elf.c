/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_elf.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

#define OBJECTS_MAX    65536u     /* a list that is longer is not a list */
#define CHAIN_MAX      (1u << 20) /* of one hash chain */
#define VERSION_GLOBAL 1u
#define VERSION_HIDDEN 0x8000u

/* The loader relocates these in place on some machines and leaves the vDSO's alone. */
static const void *absolute(uintptr_t base, uintptr_t value)
{
	uintptr_t at = value < base ? base + value : value;

	return (const void *)at; /* an address that the loader wrote as an integer */
}

bool tr_elf_read(struct tr_elf *out, uintptr_t base, const ElfW(Dyn) * dyn)
{
	uintptr_t soname = 0;
	const ElfW(Dyn) * d;

	*out = (struct tr_elf){ .base = base, .dyn = dyn, .soname = "" };
	if (!dyn)
		return false;
	for (d = dyn; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_SYMTAB)
			out->symbols = absolute(base, d->d_un.d_ptr);
		else if (d->d_tag == DT_STRTAB)
			out->strings = absolute(base, d->d_un.d_ptr);
		else if (d->d_tag == DT_STRSZ)
			out->strings_bytes = d->d_un.d_val;
		else if (d->d_tag == DT_GNU_HASH)
			out->gnu_hash = absolute(base, d->d_un.d_ptr);
		else if (d->d_tag == DT_HASH)
			out->sysv_hash = absolute(base, d->d_un.d_ptr);
		else if (d->d_tag == DT_VERSYM)
			out->versions = absolute(base, d->d_un.d_ptr);
		else if (d->d_tag == DT_SONAME)
			soname = d->d_un.d_val;
	}
	if (!out->symbols || !out->strings)
		return false;
	if (soname && soname < out->strings_bytes)
		out->soname = out->strings + soname;
	return out->gnu_hash || out->sysv_hash;
}

/* ---- one object's hash tables -------------------------------------------------------- */

/* How good a definition is: 0 no match, else higher is better. The default version wins,
 * then the newest of the hidden ones. */
static unsigned rank(const struct tr_elf *o, uint32_t i, const char *name)
{
	const ElfW(Sym) *s = &o->symbols[i];
	unsigned bind = s->st_info >> 4, type = s->st_info & 15u;
	uint16_t version;

	if (s->st_shndx == SHN_UNDEF ||
	    (type != STT_FUNC && type != STT_NOTYPE && type != STT_OBJECT) ||
	    (bind != STB_GLOBAL && bind != STB_WEAK) || s->st_name >= o->strings_bytes ||
	    strcmp(o->strings + s->st_name, name) != 0)
		return 0;
	if (!o->versions)
		return VERSION_HIDDEN + 1;
	version = o->versions[i];
	if (version & VERSION_HIDDEN)
		return version & ~VERSION_HIDDEN;
	return version >= VERSION_GLOBAL ? VERSION_HIDDEN + 1 : 0; /* 0: local */
}

static uint32_t find_gnu(const struct tr_elf *o, const char *name)
{
	const uint32_t *h = o->gnu_hash;
	uint32_t bucket_count = h[0], first = h[1], bloom_words = h[2];
	const uint32_t *buckets = h + 4 + bloom_words * (sizeof(ElfW(Addr)) / 4);
	const uint32_t *chains = buckets + bucket_count;
	uint32_t hash = 5381, best = 0, i, n;
	unsigned best_rank = 0;
	const char *c;

	for (c = name; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	i = bucket_count ? buckets[hash % bucket_count] : 0;
	if (i < first || !i)
		return 0;
	for (n = 0; n < CHAIN_MAX; n++, i++) {
		uint32_t link = chains[i - first];
		unsigned r = (link | 1u) == (hash | 1u) ? rank(o, i, name) : 0;

		if (r > best_rank) {
			best_rank = r;
			best = i;
		}
		if (link & 1u)
			break;
	}
	return best;
}

static uint32_t find_sysv(const struct tr_elf *o, const char *name)
{
	const uint32_t *h = o->sysv_hash;
	uint32_t bucket_count = h[0], chain_count = h[1];
	const uint32_t *buckets = h + 2, *chains = buckets + bucket_count;
	uint32_t hash = 0, best = 0, i, n = 0;
	unsigned best_rank = 0;
	const char *c;

	for (c = name; *c; c++) {
		hash = (hash << 4) + (unsigned char)*c;
		hash = (hash ^ ((hash & 0xf0000000u) >> 24)) & 0x0fffffffu;
	}
	for (i = bucket_count ? buckets[hash % bucket_count] : 0;
	     i && i < chain_count && n < CHAIN_MAX; i = chains[i], n++) {
		unsigned r = rank(o, i, name);

		if (r > best_rank) {
			best_rank = r;
			best = i;
		}
	}
	return best;
}

void *tr_elf_symbol(const struct tr_elf *object, const char *name)
{
	uint32_t i = object->gnu_hash ? find_gnu(object, name) : find_sysv(object, name);

	if (!i)
		return NULL;
	return (void *)(object->base +
			object->symbols[i].st_value); /* into a loaded object */
}

/* ---- finding the C library ----------------------------------------------------------- */

static bool is_ours(const ElfW(Dyn) * dyn)
{
	return dyn == _DYNAMIC;
}

/*
 * The loader's own list, without its lock: at the first look-up of a program even the C
 * library's dl_iterate_phdr() may be somebody's wrapper that is not ready yet. What is
 * sought was loaded before the program began and is never unloaded, and stands before
 * anything that may be.
 */
static void find_libc(struct tr_libc *out)
{
	const struct link_map *map;
	bool is_past_us = false;
	unsigned n = 0;

	for (map = _r_debug.r_map; map && n < OBJECTS_MAX; map = map->l_next, n++) {
		struct tr_elf o;
		void *sym;

		if (is_ours(map->l_ld)) {
			is_past_us = true;
			continue;
		}
		if (!tr_elf_read(&o, map->l_addr, map->l_ld))
			continue;
		if (is_past_us && !out->next_dlsym && (sym = tr_elf_symbol(&o, "dlsym")))
			out->next_dlsym = sym;
		if (is_past_us && !out->next_dlvsym && (sym = tr_elf_symbol(&o, "dlvsym")))
			out->next_dlvsym = sym;
		if (strcmp(o.soname, "libc.so.6") != 0 &&
		    strcmp(o.soname, "libdl.so.2") != 0)
			continue;
		/* Since 2.34 libc has them all and libdl only forwards. */
		if (!out->dlsym && (sym = tr_elf_symbol(&o, "dlsym")))
			*(void **)&out->dlsym = sym;
		if (!out->dlvsym && (sym = tr_elf_symbol(&o, "dlvsym")))
			*(void **)&out->dlvsym = sym;
		if (!out->dladdr1 && (sym = tr_elf_symbol(&o, "dladdr1")))
			*(void **)&out->dladdr1 = sym;
		if (!out->dl_iterate_phdr && (sym = tr_elf_symbol(&o, "dl_iterate_phdr")))
			*(void **)&out->dl_iterate_phdr = sym;
		if (out->dlsym && out->dlvsym && out->dladdr1 && out->dl_iterate_phdr &&
		    out->next_dlsym)
			return;
	}
}

const struct tr_libc *tr_libc(void)
{
	static struct tr_libc found;
	static _Atomic int state; /* 0 nobody has looked, 1 somebody writes, 2 written */
	static _Thread_local struct tr_libc own;
	struct tr_libc now = { 0 };
	int idle = 0;

	if (atomic_load_explicit(&state, memory_order_acquire) == 2)
		return &found;
	find_libc(&now);
	if (!now.next_dlsym)
		*(void **)&now.next_dlsym = *(void **)&now.dlsym;
	if (!now.next_dlvsym)
		*(void **)&now.next_dlvsym = *(void **)&now.dlvsym;
	/* On an old system libdl may come later; then look again. */
	if (now.dlsym && atomic_compare_exchange_strong(&state, &idle, 1)) {
		found = now;
		atomic_store_explicit(&state, 2, memory_order_release);
		return &found;
	}
	own = now;
	return &own;
}

/* ---- all objects --------------------------------------------------------------------- */

static const ElfW(Dyn) * dynamic_of(const struct dl_phdr_info *info)
{
	unsigned i;

	for (i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
			return (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
	return NULL;
}

static bool holds(const struct dl_phdr_info *info, const void *address)
{
	uintptr_t at = (uintptr_t)address;
	unsigned i;

	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_LOAD && at >= start && at - start < p->p_memsz)
			return true;
	}
	return false;
}

struct search {
	const void *caller;
	const char *name;
	bool is_past;
	const ElfW(Dyn) * dyn;
	enum tr_next result;
	struct tr_elf *object;
	void **symbol;
};

static int look_after(struct dl_phdr_info *info, size_t size, void *arg)
{
	const ElfW(Dyn) *dyn = dynamic_of(info);
	struct search *s = arg;

	(void)size;
	if (!s->is_past) {
		s->is_past = holds(info, s->caller);
		return 0;
	}
	if (is_ours(dyn)) {
		s->result = TR_NEXT_US;
		return 1;
	}
	if (!tr_elf_read(s->object, info->dlpi_addr, dyn))
		return 0;
	*s->symbol = tr_elf_symbol(s->object, s->name);
	if (!*s->symbol)
		return 0;
	s->result = TR_NEXT_OTHER;
	return 1;
}

enum tr_next tr_elf_next(const void *caller, const char *name, struct tr_elf *object,
			 void **symbol)
{
	struct search s = {
		.caller = caller, .name = name, .object = object, .symbol = symbol
	};

	*symbol = NULL;
	if (tr_libc()->dl_iterate_phdr)
		(void)tr_libc()->dl_iterate_phdr(look_after, &s);
	return s.result;
}

static int look_for_soname(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;

	(void)size;
	if (!tr_elf_read(s->object, info->dlpi_addr, dynamic_of(info)) ||
	    strcmp(s->object->soname, s->name) != 0)
		return 0;
	s->result = TR_NEXT_OTHER;
	return 1;
}

bool tr_elf_named(const char *soname, struct tr_elf *out)
{
	struct search s = { .name = soname, .object = out };

	if (tr_libc()->dl_iterate_phdr)
		(void)tr_libc()->dl_iterate_phdr(look_for_soname, &s);
	return s.result == TR_NEXT_OTHER;
}

static int look_for_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;

	(void)size;
	return (uintptr_t)s->caller == info->dlpi_addr && dynamic_of(info) == s->dyn;
}

bool tr_elf_is_loaded(uintptr_t base, const ElfW(Dyn) * dyn)
{
	struct search s = { .caller = (const void *)base, .dyn = dyn };

	return tr_libc()->dl_iterate_phdr &&
	       tr_libc()->dl_iterate_phdr(look_for_object, &s) != 0;
}

bool tr_elf_of(const void *address, struct tr_elf *out, void **handle)
{
	const struct tr_libc *libc = tr_libc();
	struct link_map *map = NULL;
	Dl_info info;
	void *extra = NULL;

	*handle = NULL;
	if (!libc->dladdr1 || !libc->dladdr1(address, &info, &extra, RTLD_DL_LINKMAP) ||
	    !extra)
		return false;
	map = extra;
	*handle = map;
	return tr_elf_read(out, map->l_addr, map->l_ld);
}
