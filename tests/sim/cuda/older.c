/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim-older IN OUT VERSION: the simulated libcuda.so.1 of another driver version.
 *
 * VERSION is 12.4 or 12040; "newer" is a driver that no header knows yet. A dynamic symbol
 * that the driver of that version lacks is made undefined and weak, so that neither the
 * loader nor dlsym finds it and no linker asks for it; its address waits in st_size, so
 * that any variant can be made from any other. Which symbol came when is in the library's
 * own section .sim_versions: lines of a name and a number, in the order of names.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEWER (1L << 30)
/* Above what headers know, only the unknown newer driver has anything. */
#define KNOWN_BELOW     14000L
#define IMAGE_BYTES_MAX (64u << 20)

struct image {
	unsigned char *bytes;
	size_t size;
};

struct introduced {
	const char *name;
	size_t name_length;
	long version;
};

static int fail(const char *subject, const char *why)
{
	fprintf(stderr, "sim-older: %s: %s\n", subject, why);
	return -1;
}

/* 12.4, 12040 or newer; 0 for anything else. */
static long parse_version(const char *text)
{
	long number, minor = 0;
	char *end;

	if (strcmp(text, "newer") == 0)
		return NEWER;
	if (text[0] < '0' || text[0] > '9')
		return 0;
	errno = 0;
	number = strtol(text, &end, 10);
	if (errno || number > KNOWN_BELOW)
		return 0;
	if (*end == '.' && end[1] >= '0' && end[1] <= '9') {
		minor = strtol(end + 1, &end, 10);
		if (minor > 99)
			return 0;
		number = number * 1000 + minor * 10;
	}
	return *end || number < 2000 || number >= KNOWN_BELOW ? 0 : number;
}

static int read_image(const char *path, struct image *image)
{
	FILE *in = fopen(path, "rbe");
	size_t room = IMAGE_BYTES_MAX;

	if (!in)
		return fail(path, strerror(errno));
	image->bytes = malloc(room);
	image->size = image->bytes ? fread(image->bytes, 1, room, in) : 0;
	(void)fclose(in);
	if (image->size < sizeof(Elf64_Ehdr) || image->size == room ||
	    memcmp(image->bytes, ELFMAG, SELFMAG) != 0 ||
	    image->bytes[EI_CLASS] != ELFCLASS64 || image->bytes[EI_DATA] != ELFDATA2LSB)
		return fail(path, "not a 64-bit little-endian ELF file");
	return 0;
}

/* The section called NAME and its index, or NULL. */
static const Elf64_Shdr *find_section(const struct image *image, const char *name,
				      unsigned *index)
{
	const Elf64_Ehdr *head = (const void *)image->bytes;
	const Elf64_Shdr *sections, *names;

	if (head->e_shoff > image->size || head->e_shoff % 8 != 0 ||
	    head->e_shnum > (image->size - head->e_shoff) / sizeof(*sections) ||
	    head->e_shstrndx >= head->e_shnum)
		return NULL;
	sections = (const void *)(image->bytes + head->e_shoff);
	names = &sections[head->e_shstrndx];
	for (unsigned i = 0; i < head->e_shnum; i++) {
		const Elf64_Shdr *s = &sections[i];
		size_t at = (size_t)names->sh_offset + s->sh_name;

		if (at < image->size && s->sh_type != SHT_NOBITS &&
		    s->sh_offset <= image->size &&
		    s->sh_size <= image->size - s->sh_offset &&
		    strncmp((const char *)image->bytes + at, name, image->size - at) == 0) {
			*index = i;
			return s;
		}
	}
	return NULL;
}

static int compare_rows(const void *a, const void *b)
{
	const struct introduced *x = a, *y = b;
	size_t n = x->name_length < y->name_length ? x->name_length : y->name_length;
	int r = memcmp(x->name, y->name, n);

	return r ? r
		 : (x->name_length > y->name_length) - (x->name_length < y->name_length);
}

/* The rows of .sim_versions, sorted; NULL when it has none. */
static struct introduced *read_rows(const char *text, size_t size, size_t *count)
{
	struct introduced *rows = calloc(size / 4 + 1, sizeof(*rows));
	const char *at = text, *end = text + size;

	*count = 0;
	while (rows && at < end) {
		const char *line_end = memchr(at, '\n', (size_t)(end - at));
		const char *blank;

		if (!line_end)
			break;
		blank = memchr(at, ' ', (size_t)(line_end - at));
		if (blank)
			rows[(*count)++] = (struct introduced){ at, (size_t)(blank - at),
								strtol(blank, NULL, 10) };
		at = line_end + 1;
	}
	if (rows)
		qsort(rows, *count, sizeof(*rows), compare_rows);
	return rows;
}

/* Hides or shows one symbol. */
static void judge(Elf64_Sym *symbol, bool is_wanted, unsigned text)
{
	unsigned char type = ELF64_ST_TYPE(symbol->st_info);
	bool is_hidden = symbol->st_shndx == SHN_UNDEF;

	if (!is_wanted && !is_hidden) {
		symbol->st_size = symbol->st_value;
		symbol->st_value = 0;
		symbol->st_shndx = SHN_UNDEF;
		symbol->st_info = (unsigned char)ELF64_ST_INFO(STB_WEAK, type);
	} else if (is_wanted && is_hidden) {
		symbol->st_value = symbol->st_size;
		symbol->st_size = 0;
		symbol->st_shndx = (Elf64_Half)text;
		symbol->st_info = (unsigned char)ELF64_ST_INFO(STB_GLOBAL, type);
	}
}

static int patch(const char *path, const struct image *image, long version)
{
	unsigned index, text;
	const Elf64_Shdr *versions = find_section(image, ".sim_versions", &index);
	const Elf64_Shdr *names = find_section(image, ".dynstr", &index);
	const Elf64_Shdr *table = find_section(image, ".dynsym", &index);
	struct introduced *rows;
	Elf64_Sym *symbols;
	size_t count;

	if (!versions || !names || !table || !find_section(image, ".text", &text))
		return fail(path, "not the simulator's library: a section is missing");
	rows = read_rows((const char *)image->bytes + versions->sh_offset,
			 versions->sh_size, &count);
	if (!rows)
		return fail(path, "out of memory");
	symbols = (void *)(image->bytes + table->sh_offset);
	for (size_t i = 0; i < table->sh_size / sizeof(*symbols); i++) {
		struct introduced key = { 0 }, *row;

		if (symbols[i].st_name >= names->sh_size)
			continue;
		key.name = (const char *)image->bytes + names->sh_offset +
			   symbols[i].st_name;
		key.name_length = strnlen(key.name, names->sh_size - symbols[i].st_name);
		row = bsearch(&key, rows, count, sizeof(*rows), compare_rows);
		if (row)
			judge(&symbols[i], row->version <= version, text);
	}
	free(rows);
	return 0;
}

/* By rename: a process that has the old file mapped keeps it. */
static int write_image(const char *path, const struct image *image)
{
	char temporary[PATH_MAX], target[PATH_MAX];
	size_t done = 0;
	int fd;

	/* OUT may be a link: what it names is replaced */
	if (!realpath(path, target))
		(void)snprintf(target, sizeof(target), "%s", path);
	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", target) >= PATH_MAX)
		return fail(path, strerror(ENAMETOOLONG));
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return fail(path, strerror(errno));
	while (done < image->size) {
		ssize_t n = write(fd, image->bytes + done, image->size - done);

		if (n < 0)
			break;
		done += (size_t)n;
	}
	if (done < image->size || fchmod(fd, 0755) != 0 || rename(temporary, target) != 0) {
		int why = errno;

		(void)close(fd);
		(void)unlink(temporary);
		return fail(path, strerror(why));
	}
	return close(fd) == 0 ? 0 : fail(path, strerror(errno));
}

int main(int argc, char **argv)
{
	struct image image = { 0 };
	long version;

	if (argc != 4) {
		fprintf(stderr, "usage: sim-older IN OUT VERSION\n");
		return 2;
	}
	version = parse_version(argv[3]);
	if (version == 0) {
		(void)fail(argv[3], "no driver version: say 12.4, 12040 or newer");
		return 2;
	}
	if (read_image(argv[1], &image) < 0 || patch(argv[1], &image, version) < 0)
		return 1;
	return write_image(argv[2], &image) < 0 ? 1 : 0;
}
