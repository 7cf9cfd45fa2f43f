/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/ldcache.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* The old format: this, padding, a count, and that many entries of 12 bytes. Its strings come behind the
 * new format's. */
#define OLD_MAGIC  "ld.so-1.7.0"
#define OLD_HEADER 16u
#define OLD_ENTRY  12u

#define MAGIC   "glibc-ld.so.cache1.1"
#define MAGIC_N 20u
/* Magic, count and length of the strings, byte order, 3 bytes and 4 words of no interest here. */
#define HEADER   48u
#define AT_COUNT 20u
#define AT_BYTES 24u
#define AT_ORDER 28u
/* Kind, where name and path are, version of the kernel, what the processor must have. */
#define ENTRY    24u
#define AT_NAME  4u
#define AT_PATH  8u
#define AT_HWCAP 16u

#define ORDER_LITTLE 2u
#define ORDER_MASK   3u

#if defined(__x86_64__)
#define KIND_OURS 0x0303u
#else
#define KIND_OURS 0x0a03u
#endif

struct cache {
	const unsigned char *at; /* of the new format's header */
	size_t n;
	uint32_t count;
	size_t strings, strings_end;
};

static uint32_t word_at(const unsigned char *at)
{
	uint32_t word;

	memcpy(&word, at, sizeof(word));
	return le32toh(word);
}

static bool skip_old(struct cache *c)
{
	size_t skip;

	if (c->n < OLD_HEADER || memcmp(c->at, OLD_MAGIC, sizeof(OLD_MAGIC) - 1) != 0)
		return true;
	skip = OLD_HEADER + (size_t)word_at(c->at + 12) * OLD_ENTRY;
	skip = (skip + 7) & ~(size_t)7;
	if (skip > c->n)
		return false;
	c->at += skip;
	c->n -= skip;
	return true;
}

static bool read_header(struct cache *c)
{
	unsigned order;

	if (c->n < HEADER || memcmp(c->at, MAGIC, MAGIC_N) != 0)
		return false;
	/* 0: written before glibc said. */
	order = c->at[AT_ORDER] & ORDER_MASK;
	if (order != 0 && order != ORDER_LITTLE)
		return false;
	c->count = word_at(c->at + AT_COUNT);
	if (c->count > (c->n - HEADER) / ENTRY)
		return false;
	c->strings = HEADER + (size_t)c->count * ENTRY;
	if (word_at(c->at + AT_BYTES) > c->n - c->strings)
		return false;
	c->strings_end = c->strings + word_at(c->at + AT_BYTES);
	return true;
}

/* NULL: outside the strings, endless, or longer than a path can be. */
static const char *string_at(const struct cache *c, uint32_t offset)
{
	size_t room;

	if (offset < c->strings || offset >= c->strings_end)
		return NULL;
	room = c->strings_end - offset;
	if (!memchr(c->at + offset, '\0', room < PATH_MAX ? room : PATH_MAX))
		return NULL;
	return (const char *)c->at + offset;
}

/* 1: ours; 0: another processor's, or only for some of ours; -EBADMSG. */
static int entry_at(const struct cache *c, uint32_t i, const char **name, const char **path)
{
	const unsigned char *entry = c->at + HEADER + (size_t)i * ENTRY;

	*name = string_at(c, word_at(entry + AT_NAME));
	*path = string_at(c, word_at(entry + AT_PATH));
	if (!*name || !*path || !**name || strchr(*name, '/') || **path != '/')
		return -EBADMSG;
	return word_at(entry) == KIND_OURS && word_at(entry + AT_HWCAP) == 0 &&
	       word_at(entry + AT_HWCAP + 4) == 0;
}

int tr_ldcache_each(const void *bytes, size_t n,
		    void (*each)(const char *name, const char *path, void *arg), void *arg,
		    struct tr_err *err)
{
	struct cache c = { .at = bytes, .n = n };
	const char *name, *path;

	if (!skip_old(&c) || !read_header(&c))
		return tr_fail(err, EBADMSG,
			       "the loader's cache is of a format that is not known");
	for (uint32_t i = 0; i < c.count; i++)
		if (entry_at(&c, i, &name, &path) < 0)
			return tr_fail(err, EBADMSG,
				       "entry %u of the loader's cache is broken", i);
	for (uint32_t i = 0; i < c.count; i++)
		if (entry_at(&c, i, &name, &path) == 1)
			each(name, path, arg);
	return 0;
}
