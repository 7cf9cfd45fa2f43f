/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/image.h"

#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#define LOADER  "ld-linux-x86-64.so.2"
#else
#define MACHINE EM_AARCH64
#define LOADER  "ld-linux-aarch64.so.1"
#endif

#define SEGMENTS_MAX 64u
#define GLIBC_MINOR  17u
/* Newer than the headers that we build with may be. */
#define TAG_RELR 36

struct image {
	const unsigned char *bytes;
	size_t n;
	Elf64_Ehdr head;
	Elf64_Phdr segments[SEGMENTS_MAX];
	size_t strings, strings_n; /* of the dynamic section, in the file */
	struct tr_err *err;
};

#define bad(image, ...) tr_fail((image)->err, EBADMSG, __VA_ARGS__)

static bool get(const struct image *im, uint64_t at, void *out, size_t n)
{
	if (at > im->n || n > im->n - at)
		return false;
	memcpy(out, im->bytes + at, n);
	return true;
}

bool tr_image_is_ours(const void *bytes, size_t n)
{
	const unsigned char *ident = bytes;
	Elf64_Ehdr head;

	if (n < sizeof(head) || memcmp(ident, ELFMAG, SELFMAG) != 0 ||
	    ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB)
		return false;
	memcpy(&head, bytes, sizeof(head));
	return head.e_machine == MACHINE && head.e_type == ET_DYN;
}

static int read_segments(struct image *im)
{
	if (im->n < sizeof(im->head) || memcmp(im->bytes, ELFMAG, SELFMAG) != 0)
		return bad(im, "it is no library");
	if (!tr_image_is_ours(im->bytes, im->n))
		return bad(im, "it is no library for this machine's processor");
	memcpy(&im->head, im->bytes, sizeof(im->head));
	if (im->head.e_phentsize != sizeof(Elf64_Phdr) || im->head.e_phnum == 0 ||
	    im->head.e_phnum > SEGMENTS_MAX)
		return bad(im, "it has %u segments of %u bytes each",
			   (unsigned)im->head.e_phnum, (unsigned)im->head.e_phentsize);
	if (!get(im, im->head.e_phoff, im->segments, im->head.e_phnum * sizeof(Elf64_Phdr)))
		return bad(im, "it is cut short: it ends before its list of segments");
	for (size_t i = 0; i < im->head.e_phnum; i++) {
		const Elf64_Phdr *s = &im->segments[i];

		if (s->p_type == PT_LOAD &&
		    (s->p_offset > im->n || s->p_filesz > im->n - s->p_offset))
			return bad(
				im,
				"it is cut short: %zu bytes, a segment needs %llu at %llu",
				im->n, (unsigned long long)s->p_filesz,
				(unsigned long long)s->p_offset);
		if (s->p_type == PT_LOAD && s->p_filesz > s->p_memsz)
			return bad(im, "a segment is larger in the file than in memory");
	}
	return 0;
}

/* Where in the file N bytes of the address AT are; false: nowhere. */
static bool in_file(const struct image *im, uint64_t at, uint64_t n, size_t *out)
{
	for (size_t i = 0; i < im->head.e_phnum; i++) {
		const Elf64_Phdr *s = &im->segments[i];

		if (s->p_type == PT_LOAD && at >= s->p_vaddr &&
		    at - s->p_vaddr <= s->p_filesz &&
		    n <= s->p_filesz - (at - s->p_vaddr)) {
			*out = (size_t)(s->p_offset + (at - s->p_vaddr));
			return true;
		}
	}
	return false;
}

static const char *string_at(const struct image *im, uint64_t at)
{
	if (at >= im->strings_n ||
	    !memchr(im->bytes + im->strings + at, '\0', im->strings_n - at))
		return NULL;
	return (const char *)im->bytes + im->strings + at;
}

struct dynamic {
	size_t at, count; /* entries, in the file */
	uint64_t strings, strings_n, needs, need_count;
};

/* Entry I; its end is DT_NULL. */
static Elf64_Dyn entry_at(const struct image *im, const struct dynamic *d, size_t i)
{
	Elf64_Dyn entry = { 0 };

	(void)get(im, d->at + i * sizeof(entry), &entry, sizeof(entry));
	return entry;
}

static int read_dynamic(struct image *im, struct dynamic *d)
{
	const Elf64_Phdr *section = NULL;

	for (size_t i = 0; i < im->head.e_phnum; i++)
		if (im->segments[i].p_type == PT_DYNAMIC)
			section = &im->segments[i];
	if (!section || !in_file(im, section->p_vaddr, section->p_filesz, &d->at))
		return bad(im, "it has no dynamic section");
	d->count = section->p_filesz / sizeof(Elf64_Dyn);
	for (size_t i = 0; i < d->count; i++) {
		Elf64_Dyn entry = entry_at(im, d, i);

		if (entry.d_tag == DT_NULL)
			d->count = i;
		else if (entry.d_tag == DT_STRTAB)
			d->strings = entry.d_un.d_ptr;
		else if (entry.d_tag == DT_STRSZ)
			d->strings_n = entry.d_un.d_val;
		else if (entry.d_tag == DT_VERNEED)
			d->needs = entry.d_un.d_ptr;
		else if (entry.d_tag == DT_VERNEEDNUM)
			d->need_count = entry.d_un.d_val;
		else if (entry.d_tag == TAG_RELR)
			return bad(im, "its relocations need glibc 2.36");
	}
	im->strings_n = d->strings_n;
	if (!in_file(im, d->strings, d->strings_n, &im->strings))
		return bad(im, "its dynamic section names nothing");
	return 0;
}

static int check_needed(const struct image *im, const struct dynamic *d)
{
	static const char *const fine[] = { "libc.so.6",       LOADER,       "libdl.so.2",
					    "libpthread.so.0", "librt.so.1", "libm.so.6" };

	for (size_t i = 0; i < d->count; i++) {
		Elf64_Dyn entry = entry_at(im, d, i);
		const char *name;
		bool is_fine = false;

		if (entry.d_tag != DT_NEEDED)
			continue;
		name = string_at(im, entry.d_un.d_val);
		for (size_t k = 0; name && k < sizeof(fine) / sizeof(*fine); k++)
			is_fine |= strcmp(name, fine[k]) == 0;
		if (!is_fine)
			return bad(im, "it needs %.100s, which a container may not have",
				   name ? name : "a library without a name");
	}
	return 0;
}

/* "GLIBC_2.17" and older; GLIBC_PRIVATE and GLIBC_ABI_... are newer or nobody's. */
static bool is_old_enough(const char *name)
{
	unsigned minor = 0;
	size_t digits;

	if (strncmp(name, "GLIBC_2.", 8) != 0)
		return false;
	name += 8;
	digits = strspn(name, "0123456789");
	if (digits == 0 || digits > 3 || (name[digits] != '\0' && name[digits] != '.'))
		return false;
	for (size_t i = 0; i < digits; i++)
		minor = 10 * minor + (unsigned)(name[i] - '0');
	return minor <= GLIBC_MINOR;
}

static int check_versions_of(const struct image *im, uint64_t at, const Elf64_Verneed *need)
{
	at += need->vn_aux;
	for (unsigned i = 0; i < need->vn_cnt; i++) {
		Elf64_Vernaux aux;
		const char *name;
		size_t from;

		if (!in_file(im, at, sizeof(aux), &from) ||
		    !get(im, from, &aux, sizeof(aux)))
			return bad(im, "its list of versions is broken");
		name = string_at(im, aux.vna_name);
		if (!name || !is_old_enough(name))
			return bad(im, "it needs %.60s, containers may have GLIBC_2.%u",
				   name ? name : "a version without a name", GLIBC_MINOR);
		if (aux.vna_next == 0)
			break;
		at += aux.vna_next;
	}
	return 0;
}

static int check_versions(const struct image *im, const struct dynamic *d)
{
	uint64_t at = d->needs;

	for (uint64_t i = 0; i < d->need_count; i++) {
		Elf64_Verneed need;
		size_t from;
		int r;

		if (!in_file(im, at, sizeof(need), &from) ||
		    !get(im, from, &need, sizeof(need)))
			return bad(im, "its list of versions is broken");
		r = check_versions_of(im, at, &need);
		if (r < 0)
			return r;
		if (need.vn_next == 0)
			break;
		at += need.vn_next;
	}
	return 0;
}

int tr_image_check(const void *bytes, size_t n, struct tr_err *err)
{
	struct image im = { .bytes = bytes, .n = n, .err = err };
	struct dynamic d = { 0 };
	int r = read_segments(&im);

	if (r == 0)
		r = read_dynamic(&im, &d);
	if (r == 0)
		r = check_needed(&im, &d);
	return r < 0 ? r : check_versions(&im, &d);
}
