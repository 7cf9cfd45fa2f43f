/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <stdlib.h>
#include <string.h>

/* Fat binaries: a header, then entries of PTX or ELF for one architecture each. */

#define KIND_PTX       1
#define KIND_ELF       2
#define FLAG_LZ4       0x2000u
#define FLAG_ZSTD      0x8000u
#define ENTRY_MIN      64u
#define EXPANDED_MAX   (1ull << 30)
#define CANDIDATES_MAX 64u

struct entry {
	uint16_t kind;
	uint32_t header_bytes, arch, packed_bytes;
	uint64_t payload_bytes, flags, expanded_bytes;
	const uint8_t *payload;
	int rank; /* the higher, the earlier it is tried; 0: not for this device */
};

static bool read_entry(const uint8_t *p, size_t n, struct entry *e)
{
	if (n < ENTRY_MIN)
		return false;
	memcpy(&e->kind, p, 2);
	memcpy(&e->header_bytes, p + 4, 4);
	memcpy(&e->payload_bytes, p + 8, 8);
	memcpy(&e->packed_bytes, p + 16, 4);
	memcpy(&e->arch, p + 28, 4);
	memcpy(&e->flags, p + 40, 8);
	memcpy(&e->expanded_bytes, p + 56, 8);
	if (e->header_bytes < ENTRY_MIN || e->header_bytes > n ||
	    e->payload_bytes > n - e->header_bytes)
		return false;
	e->payload = p + e->header_bytes;
	return true;
}

/* Code for this very generation is taken before PTX; of each, the newest that the device
 * runs. */
static int rank_of(const struct entry *e, uint32_t cc)
{
	if (e->arch > 4095 || (e->kind != KIND_PTX && e->kind != KIND_ELF))
		return 0;
	int arch = (int)e->arch + 1;
	if (!cc)
		return e->kind == KIND_ELF ? 8192 + arch : arch;
	if (e->arch > cc)
		return 0;
	if (e->kind == KIND_PTX)
		return arch;
	return e->arch / 10 == cc / 10 ? 8192 + arch : 0;
}

static CUresult parse_payload(const uint8_t *p, size_t n, const struct entry *e,
			      const struct sim_image_target *target,
			      struct sim_image *image)
{
	if (e->kind == KIND_ELF)
		return sim_elf_parse(p, n, target, image);
	return sim_ptx_parse((const char *)p, n, target, image);
}

static CUresult parse_packed(const struct entry *e, const struct sim_image_target *target,
			     struct sim_image *image)
{
	size_t packed = e->packed_bytes;

	if (!packed || packed > e->payload_bytes || e->expanded_bytes > EXPANDED_MAX ||
	    e->expanded_bytes > (uint64_t)packed * 256 + 64)
		return CUDA_ERROR_INVALID_IMAGE;
	uint8_t *text = malloc((size_t)e->expanded_bytes + 1);
	if (!text)
		return CUDA_ERROR_OUT_OF_MEMORY;
	int64_t n = sim_lz4_decode(e->payload, packed, text, (size_t)e->expanded_bytes);
	CUresult r = n < 0 ? CUDA_ERROR_INVALID_IMAGE
			   : parse_payload(text, (size_t)n, e, target, image);
	free(text);
	return r;
}

static CUresult parse_entry(const struct entry *e, const struct sim_image_target *target,
			    struct sim_image *image)
{
	if (e->flags & FLAG_ZSTD)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (e->flags & FLAG_LZ4)
		return parse_packed(e, target, image);
	return parse_payload(e->payload, (size_t)e->payload_bytes, e, target, image);
}

static void empty_image(struct sim_image *image)
{
	for (size_t i = 0; i < image->function_count; i++) {
		free(image->functions[i].name);
		free(image->functions[i].params);
	}
	for (size_t i = 0; i < image->variable_count; i++) {
		free(image->variables[i].name);
		free(image->variables[i].init);
	}
	image->function_count = image->variable_count = 0;
}

static struct entry *best_entry(struct entry *list, size_t n)
{
	struct entry *best = NULL;

	for (size_t i = 0; i < n; i++)
		if (list[i].rank && (!best || list[i].rank > best->rank))
			best = &list[i];
	return best;
}

CUresult sim_fatbin_parse(const uint8_t *bytes, size_t n,
			  const struct sim_image_target *target, struct sim_image *image)
{
	struct entry list[CANDIDATES_MAX];
	uint16_t header_bytes;
	uint64_t payload_bytes;
	size_t count = 0;

	if (n < SIM_FATBIN_HEADER)
		return CUDA_ERROR_INVALID_IMAGE;
	memcpy(&header_bytes, bytes + 6, sizeof header_bytes);
	memcpy(&payload_bytes, bytes + 8, sizeof payload_bytes);
	if (header_bytes < SIM_FATBIN_HEADER || header_bytes > n ||
	    payload_bytes > n - header_bytes)
		return CUDA_ERROR_INVALID_IMAGE;
	const uint8_t *p = bytes + header_bytes, *end = p + payload_bytes;
	while (p < end && count < CANDIDATES_MAX) {
		struct entry *e = &list[count];
		if (!read_entry(p, (size_t)(end - p), e))
			return CUDA_ERROR_INVALID_IMAGE;
		e->rank = rank_of(e, target->cc);
		count += e->rank != 0;
		p = e->payload + e->payload_bytes;
	}
	/* What the best entry answers counts; the others are tried where it cannot be read.
	 */
	CUresult first = CUDA_SUCCESS;
	struct entry *best;
	while ((best = best_entry(list, count))) {
		CUresult r = parse_entry(best, target, image);
		if (r == CUDA_SUCCESS)
			return r;
		if (first == CUDA_SUCCESS)
			first = r;
		empty_image(image);
		best->rank = 0;
	}
	return first == CUDA_SUCCESS ? CUDA_ERROR_NO_BINARY_FOR_GPU : first;
}

/* ---- LZ4 block format ---------------------------------------------------------------- */

/* A length of 15 in the token goes on in bytes of 255, the last one smaller. */
static bool read_length(const uint8_t **in, const uint8_t *end, size_t *length)
{
	if (*length != 15)
		return true;
	uint8_t more;
	do {
		if (*in >= end)
			return false;
		more = *(*in)++;
		*length += more;
	} while (more == 255);
	return true;
}

int64_t sim_lz4_decode(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	const uint8_t *end = in + in_bytes;
	size_t at = 0;

	while (in < end) {
		uint8_t token = *in++;
		size_t literals = token >> 4, match = token & 15;
		if (!read_length(&in, end, &literals) || literals > (size_t)(end - in) ||
		    literals > out_bytes - at)
			return -1;
		memcpy(out + at, in, literals);
		in += literals;
		at += literals;
		if (in == end)
			return (int64_t)at; /* the last sequence has no match */
		if (end - in < 2)
			return -1;
		size_t distance = in[0] | (size_t)in[1] << 8;
		in += 2;
		if (!read_length(&in, end, &match) || !distance || distance > at ||
		    match + 4 > out_bytes - at)
			return -1;
		/* Byte by byte: a match may overlap what it writes. */
		for (size_t i = 0; i < match + 4; i++, at++)
			out[at] = out[at - distance];
	}
	return in_bytes ? (int64_t)at : -1;
}
