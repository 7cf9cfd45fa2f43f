/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkalloc DIR: makes the slice of an allocation in DIR, as the node agent does in Allocate, and prints its
 * name. mkalloc DIR NAME UUID MIB CORES: arms it as in PreStartContainer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/arm/slices.h"

static int fail(const char *what)
{
	fprintf(stderr, "mkalloc: %s\n", what);
	return 2;
}

int main(int argc, char **argv)
{
	static const char *const texts[] = { "id-0" };
	static struct tr_cards cards;
	struct tr_ids ids = { texts, 1 };
	struct tr_alloc_part part = { .limit_bytes = 0 };
	struct tr_book book = { 0 };
	struct tr_err err = { 0 };
	struct tr_alloc *alloc;
	int r;

	if (argc != 2 && argc != 6)
		return fail("mkalloc DIR [NAME UUID MIB CORES]");
	alloc = tr_alloc_new(&book, &ids, 1790000000000000);
	if (argc == 6) {
		if (tr_alloc_name_parse(argv[2], &alloc->serial) < 0 ||
		    strlen(argv[3]) >= sizeof(part.uuid))
			return fail("NAME or UUID");
		snprintf(alloc->name, sizeof(alloc->name), "%s", argv[2]);
		memcpy(part.uuid, argv[3], strlen(argv[3]));
		part.limit_bytes = strtoull(argv[4], NULL, 10) << 20;
		part.cores = (uint32_t)strtoul(argv[5], NULL, 10);
		tr_alloc_set_parts(alloc, &part, 1);
		alloc->state = TR_ALLOC_ARMED;
		r = tr_alloc_slice_fill(argv[1], alloc, &cards, TR_BYPASS_TOLD, &err);
	} else {
		r = tr_alloc_slice_make(argv[1], alloc, &cards, TR_BYPASS_TOLD, &err);
	}
	if (r < 0)
		return fail(err.msg);
	puts(alloc->name);
	tr_alloc_free(alloc);
	return 0;
}
