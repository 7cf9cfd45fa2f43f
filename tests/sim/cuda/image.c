/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define TEST_PREFIX "tranche-sim kernels:"
#define PAGE_BYTES  4096u
#define IMAGE_MAX   (4ull << 30)

/* ---- the lists ----------------------------------------------------------------------- */

static bool grow(void **list, size_t count, size_t *room, size_t item_bytes)
{
	if (count < *room)
		return true;
	size_t more = *room ? *room * 2 : 8;
	void *p = realloc(*list, more * item_bytes);
	if (!p)
		return false;
	*list = p;
	*room = more;
	return true;
}

struct sim_image_function *sim_image_add_function(struct sim_image *image, const char *name,
						  size_t n)
{
	void *list = image->functions;
	bool grown = grow(&list, image->function_count, &image->function_room,
			  sizeof *image->functions);
	image->functions = list;
	char *copy = grown ? strndup(name, n) : NULL;
	if (!copy)
		return NULL;
	struct sim_image_function *f = &image->functions[image->function_count++];
	*f = (struct sim_image_function){
		.name = copy, .entry = true, .registers = 32, .max_threads = 1024
	};
	return f;
}

struct sim_image_variable *sim_image_add_variable(struct sim_image *image, const char *name,
						  size_t n)
{
	void *list = image->variables;
	bool grown = grow(&list, image->variable_count, &image->variable_room,
			  sizeof *image->variables);
	image->variables = list;
	char *copy = grown ? strndup(name, n) : NULL;
	if (!copy)
		return NULL;
	struct sim_image_variable *v = &image->variables[image->variable_count++];
	*v = (struct sim_image_variable){ .name = copy };
	return v;
}

bool sim_image_add_param(struct sim_image_function *function, uint32_t offset,
			 uint32_t bytes)
{
	struct sim_param *p = realloc(function->params,
				      (function->param_count + 1) * sizeof *p);
	if (!p)
		return false;
	function->params = p;
	p[function->param_count++] = (struct sim_param){ offset, bytes };
	return true;
}

void sim_image_free(struct sim_image *image)
{
	if (!image)
		return;
	for (size_t i = 0; i < image->function_count; i++) {
		free(image->functions[i].name);
		free(image->functions[i].params);
	}
	for (size_t i = 0; i < image->variable_count; i++) {
		free(image->variables[i].name);
		free(image->variables[i].init);
	}
	free(image->functions);
	free(image->variables);
	free(image);
}

/* ---- formats ------------------------------------------------------------------------- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == '\0';
}

static CUresult parse_test_text(const char *text, size_t n, struct sim_image *image)
{
	const char *p = text + strlen(TEST_PREFIX), *end = text + n;

	image->ptx_version = image->binary_version = 70;
	while (p < end && *p != '\0') {
		if (is_blank(*p)) {
			p++;
			continue;
		}
		const char *name = p;
		while (p < end && !is_blank(*p))
			p++;
		struct sim_image_function *f = sim_image_add_function(image, name,
								      (size_t)(p - name));
		if (!f)
			return CUDA_ERROR_OUT_OF_MEMORY;
		f->code_bytes = 256;
	}
	return image->function_count ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

static bool has_test_prefix(const uint8_t *bytes, size_t n)
{
	return n >= strlen(TEST_PREFIX) && !memcmp(bytes, TEST_PREFIX, strlen(TEST_PREFIX));
}

static bool is_elf(const uint8_t *bytes, size_t n)
{
	return n >= 4 && !memcmp(bytes, "\177ELF", 4);
}

static uint32_t first_word(const uint8_t *bytes, size_t n)
{
	uint32_t word = 0;

	if (n >= sizeof word)
		memcpy(&word, bytes, sizeof word);
	return word;
}

/* Text that could be PTX begins with a directive, a comment or blanks. */
static bool looks_like_text(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n && i < 256; i++) {
		if (bytes[i] == '\0')
			return i > 0;
		if (bytes[i] < 0x20 && !is_blank((char)bytes[i]) && bytes[i] != '\f' &&
		    bytes[i] != '\v')
			return false;
	}
	return n > 0;
}

static CUresult parse_any(const uint8_t *bytes, size_t n,
			  const struct sim_image_target *target, struct sim_image *image)
{
	if (is_elf(bytes, n))
		return sim_elf_parse(bytes, n, target, image);
	if (first_word(bytes, n) == SIM_FATBIN_MAGIC)
		return sim_fatbin_parse(bytes, n, target, image);
	if (has_test_prefix(bytes, n))
		return parse_test_text((const char *)bytes, n, image);
	if (looks_like_text(bytes, n))
		return sim_ptx_parse((const char *)bytes, n, target, image);
	return CUDA_ERROR_INVALID_IMAGE;
}

CUresult sim_image_parse(const void *bytes, size_t n, const struct sim_image_target *target,
			 struct sim_image **out)
{
	struct sim_image *image = calloc(1, sizeof *image);

	if (!image)
		return CUDA_ERROR_OUT_OF_MEMORY;
	CUresult r = parse_any(bytes, n, target, image);
	if (r != CUDA_SUCCESS) {
		sim_image_free(image);
		return r;
	}
	*out = image;
	return CUDA_SUCCESS;
}

/* ---- images in memory ---------------------------------------------------------------- */

/*
 * Whether [p, p+n) can be read. The caller gives a pointer without a length, and a wrong
 * one must become an error: a read by the kernel of our own memory answers EFAULT instead
 * of a signal. Where that call is filtered we trust the caller, as a driver would.
 */
static bool can_read(const void *p, size_t n)
{
	uintptr_t at = (uintptr_t)p, end;

	if (!n || __builtin_add_overflow(at, n - 1, &end))
		return !n;
	for (;;) {
		char byte;
		struct iovec local = { &byte, 1 }, remote = { (void *)at, 1 };
		if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1)
			return false;
		uintptr_t next = (at | (PAGE_BYTES - 1)) + 1;
		if (next > end || next < at)
			return true;
		at = next;
	}
}

static size_t text_extent(const char *text)
{
	size_t n = 0;

	while (can_read(text + n, 1)) {
		size_t left = PAGE_BYTES - ((uintptr_t)(text + n) & (PAGE_BYTES - 1));
		size_t got = strnlen(text + n, left);
		n += got;
		if (got < left || n > IMAGE_MAX)
			return n;
	}
	return 0; /* ran into unmapped memory before its end */
}

static size_t fatbin_extent(const uint8_t *bytes)
{
	uint16_t header_bytes;
	uint64_t payload_bytes;

	if (!can_read(bytes, SIM_FATBIN_HEADER))
		return 0;
	memcpy(&header_bytes, bytes + 6, sizeof header_bytes);
	memcpy(&payload_bytes, bytes + 8, sizeof payload_bytes);
	return payload_bytes > IMAGE_MAX ? 0 : (size_t)payload_bytes + header_bytes;
}

/* The image proper: what a fat binary wrapper points to, or IMAGE itself. */
static const void *unwrap(const void *image)
{
	const void *inner;

	if (!can_read(image, 4) || first_word(image, 4) != SIM_FATBIN_WRAP)
		return image;
	if (!can_read(image, 24))
		return NULL;
	memcpy(&inner, (const uint8_t *)image + 8, sizeof inner);
	return inner;
}

size_t sim_image_extent(const void *image)
{
	const uint8_t *bytes = image;
	size_t n = 0;

	if (!image || !can_read(bytes, 1))
		return 0;
	if (!can_read(bytes, 4))
		return text_extent(image);
	if (is_elf(bytes, 4))
		n = can_read(bytes, 64) ? sim_elf_extent(bytes, 64) : 0;
	else if (first_word(bytes, 4) == SIM_FATBIN_MAGIC)
		n = fatbin_extent(bytes);
	else
		return text_extent(image);
	return n <= IMAGE_MAX && can_read(bytes, n) ? n : 0;
}

CUresult sim_image_load(const void *image, const struct sim_image_target *target,
			struct sim_image **out)
{
	if (!image)
		return CUDA_ERROR_INVALID_VALUE;
	const void *inner = unwrap(image);
	size_t n = sim_image_extent(inner);
	return n ? sim_image_parse(inner, n, target, out) : CUDA_ERROR_INVALID_IMAGE;
}
