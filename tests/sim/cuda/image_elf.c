/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

/*
 * Cubins: a kernel K has .text.K; its parameters stand in .nv.info.K, its static shared
 * memory in .nv.shared.K, its register count in the top byte of .text.K's sh_info.
 * Variables are symbols in .nv.global, .nv.global.init and .nv.constant3.
 */

#define EM_CUDA_GPU       190
#define STO_ENTRY         0x10u
#define STO_MANAGED       0x04u
#define INFO_STRUCT       0x04u /* format: a payload follows; others have none */
#define INFO_KPARAM       0x17u
#define INFO_MAX_THREADS  0x05u
#define INFO_KPARAM_BYTES 12u

struct elf {
	const uint8_t *bytes;
	size_t n;
	Elf64_Ehdr header;
	const char *names; /* of sections; NUL-terminated as a whole */
	size_t names_bytes;
};

static bool section_at(const struct elf *elf, size_t i, Elf64_Shdr *out)
{
	if (i >= elf->header.e_shnum)
		return false;
	memcpy(out, elf->bytes + elf->header.e_shoff + i * sizeof *out, sizeof *out);
	return true;
}

/* The section's bytes; NULL when it has none or they lie outside of the file. */
static const uint8_t *contents(const struct elf *elf, const Elf64_Shdr *s)
{
	if (s->sh_type == SHT_NOBITS || s->sh_offset > elf->n ||
	    s->sh_size > elf->n - s->sh_offset)
		return NULL;
	return elf->bytes + s->sh_offset;
}

static bool string_table(const struct elf *elf, size_t section, const char **out, size_t *n)
{
	Elf64_Shdr s;
	const uint8_t *p;

	if (!section_at(elf, section, &s) || s.sh_type != SHT_STRTAB || !s.sh_size)
		return false;
	p = contents(elf, &s);
	if (!p || p[s.sh_size - 1] != '\0')
		return false;
	*out = (const char *)p;
	*n = s.sh_size;
	return true;
}

static const char *section_name(const struct elf *elf, const Elf64_Shdr *s)
{
	return s->sh_name < elf->names_bytes ? elf->names + s->sh_name : "";
}

static bool find_section(const struct elf *elf, const char *prefix, const char *name,
			 Elf64_Shdr *out)
{
	size_t n = strlen(prefix);

	for (size_t i = 0; section_at(elf, i, out); i++) {
		const char *s = section_name(elf, out);
		if (!strncmp(s, prefix, n) && !strcmp(s + n, name))
			return true;
	}
	return false;
}

static bool open_elf(struct elf *elf, const uint8_t *bytes, size_t n)
{
	*elf = (struct elf){ .bytes = bytes, .n = n };
	if (n < sizeof elf->header)
		return false;
	memcpy(&elf->header, bytes, sizeof elf->header);
	const Elf64_Ehdr *h = &elf->header;
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
	    h->e_machine != EM_CUDA_GPU || h->e_shentsize != sizeof(Elf64_Shdr))
		return false;
	if (h->e_shoff > n || (uint64_t)h->e_shnum * sizeof(Elf64_Shdr) > n - h->e_shoff)
		return false;
	return string_table(elf, h->e_shstrndx, &elf->names, &elf->names_bytes);
}

/* The compute capability: where it stands in e_flags has moved with version 8 of the
 * format. */
static uint32_t capability(const Elf64_Ehdr *h)
{
	uint32_t sm = h->e_ident[EI_ABIVERSION] >= 8 ? (h->e_flags >> 8) & 0xff
						     : h->e_flags & 0xff;

	return sm >= 20 && sm <= 210 ? sm : 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct sim_param *p = a, *q = b;

	return p->offset < q->offset ? -1 : p->offset > q->offset;
}

static bool read_info(const uint8_t *p, size_t n, struct sim_image_function *f)
{
	while (n >= 4) {
		uint16_t size;
		uint8_t format = p[0], attribute = p[1];
		memcpy(&size, p + 2, sizeof size);
		size_t payload = format == INFO_STRUCT ? size : 0;
		if (payload > n - 4)
			break;
		if (payload >= INFO_KPARAM_BYTES && attribute == INFO_KPARAM) {
			uint16_t offset;
			uint32_t packed;
			memcpy(&offset, p + 4 + 6, sizeof offset);
			memcpy(&packed, p + 4 + 8, sizeof packed);
			if (!sim_image_add_param(f, offset, packed >> 18))
				return false;
		} else if (payload >= 4 && attribute == INFO_MAX_THREADS) {
			uint32_t x, y = 1, z = 1;
			memcpy(&x, p + 4, 4);
			if (payload >= 12) {
				memcpy(&y, p + 8, 4);
				memcpy(&z, p + 12, 4);
			}
			uint64_t threads = (uint64_t)(x & 0xffff) * (y & 0xffff) *
					   (z & 0xffff);
			if (threads && threads <= 1024)
				f->max_threads = (uint32_t)threads;
		}
		p += 4 + payload;
		n -= 4 + payload;
	}
	if (f->param_count)
		qsort(f->params, f->param_count, sizeof *f->params, by_offset);
	f->params_known = true;
	return true;
}

static CUresult add_function(const struct elf *elf, const Elf64_Shdr *text,
			     const char *name, struct sim_image *image)
{
	struct sim_image_function *f = sim_image_add_function(image, name, strlen(name));
	Elf64_Shdr s;

	if (!f)
		return CUDA_ERROR_OUT_OF_MEMORY;
	f->code_bytes = text->sh_size <= elf->n ? text->sh_size : 0;
	if (text->sh_info >> 24)
		f->registers = text->sh_info >> 24;
	if (find_section(elf, ".nv.shared.", name, &s) && s.sh_size <= UINT32_MAX)
		f->shared_bytes = (uint32_t)s.sh_size;
	if (find_section(elf, ".nv.info.", name, &s)) {
		const uint8_t *p = contents(elf, &s);
		if (p && !read_info(p, s.sh_size, f))
			return CUDA_ERROR_OUT_OF_MEMORY;
	}
	return CUDA_SUCCESS;
}

static CUresult add_variable(const struct elf *elf, const Elf64_Sym *sym, const char *name,
			     struct sim_image *image)
{
	Elf64_Shdr s;

	if (!*name || !section_at(elf, sym->st_shndx, &s))
		return CUDA_SUCCESS;
	const char *section = section_name(elf, &s);
	bool constant = !strncmp(section, ".nv.constant", 12);
	if (!constant && strncmp(section, ".nv.global", 10) &&
	    strncmp(section, ".nv.managed", 11))
		return CUDA_SUCCESS;
	struct sim_image_variable *v = sim_image_add_variable(image, name, strlen(name));
	if (!v)
		return CUDA_ERROR_OUT_OF_MEMORY;
	v->bytes = sym->st_size;
	v->kind = constant                      ? SIM_VAR_CONST
		  : sym->st_other & STO_MANAGED ? SIM_VAR_MANAGED
						: SIM_VAR_GLOBAL;
	const uint8_t *p = contents(elf, &s);
	if (!p || sym->st_value > s.sh_size || sym->st_size > s.sh_size - sym->st_value ||
	    !sym->st_size)
		return CUDA_SUCCESS;
	v->init = malloc(sym->st_size);
	if (!v->init)
		return CUDA_ERROR_OUT_OF_MEMORY;
	v->init_bytes = sym->st_size;
	memcpy(v->init, p + sym->st_value, sym->st_size);
	return CUDA_SUCCESS;
}

static void mark_device_function(struct sim_image *image, const char *name)
{
	for (size_t i = 0; i < image->function_count; i++)
		if (!strcmp(image->functions[i].name, name))
			image->functions[i].entry = false;
}

static CUresult read_symbols(const struct elf *elf, struct sim_image *image)
{
	Elf64_Shdr table;
	const char *names;
	size_t names_bytes;

	if (!find_section(elf, ".symtab", "", &table) ||
	    !string_table(elf, table.sh_link, &names, &names_bytes))
		return CUDA_SUCCESS;
	const uint8_t *p = contents(elf, &table);
	for (size_t at = 0; p && table.sh_size - at >= sizeof(Elf64_Sym);
	     at += sizeof(Elf64_Sym)) {
		Elf64_Sym sym;
		CUresult r = CUDA_SUCCESS;
		memcpy(&sym, p + at, sizeof sym);
		if (sym.st_name >= names_bytes)
			return CUDA_ERROR_INVALID_IMAGE;
		const char *name = names + sym.st_name;
		if (ELF64_ST_TYPE(sym.st_info) == STT_FUNC && !(sym.st_other & STO_ENTRY))
			mark_device_function(image, name);
		else if (ELF64_ST_TYPE(sym.st_info) == STT_OBJECT &&
			 ELF64_ST_BIND(sym.st_info) != STB_LOCAL)
			r = add_variable(elf, &sym, name, image);
		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}

CUresult sim_elf_parse(const uint8_t *bytes, size_t n,
		       const struct sim_image_target *target, struct sim_image *image)
{
	struct elf elf;
	Elf64_Shdr s;

	if (!open_elf(&elf, bytes, n))
		return CUDA_ERROR_INVALID_IMAGE;
	uint32_t sm = capability(&elf.header);
	if (sm && target->cc && (sm / 10 != target->cc / 10 || sm > target->cc))
		return CUDA_ERROR_NO_BINARY_FOR_GPU;
	image->binary_version = image->ptx_version = (int)sm;
	for (size_t i = 0; section_at(&elf, i, &s); i++) {
		const char *name = section_name(&elf, &s);
		if (strncmp(name, ".text.", 6) || !name[6] || s.sh_type != SHT_PROGBITS)
			continue;
		CUresult r = add_function(&elf, &s, name + 6, image);
		if (r != CUDA_SUCCESS)
			return r;
	}
	return read_symbols(&elf, image);
}

size_t sim_elf_extent(const uint8_t *bytes, size_t n)
{
	Elf64_Ehdr h;

	if (n < sizeof h)
		return 0;
	memcpy(&h, bytes, sizeof h);
	/* Some linkers put the program headers after the section headers. */
	uint64_t sections, programs;
	if (h.e_shoff > (1ull << 40) || h.e_phoff > (1ull << 40))
		return 0;
	sections = h.e_shoff + (uint64_t)h.e_shnum * h.e_shentsize;
	programs = h.e_phoff + (uint64_t)h.e_phnum * h.e_phentsize;
	return sections > programs ? sections : programs;
}
