/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent reads of a node's driver: the loader's cache (first byte 0), /proc/driver/nvidia (1, 2, 5), a library that is to
 * be preloaded (3). Nothing that is reported lies outside the bytes or is longer than a path.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/inject/driver.h"
#include "deviceplugin/inject/image.h"
#include "deviceplugin/inject/ldcache.h"
#include "deviceplugin/inject/libraries.h"
#include "fuzz.h"
#include "naive.h"

struct bytes {
	const char *at;
	size_t n;
};

static void check_text(const struct bytes *all, const char *text)
{
	CHECK(text >= all->at && text < all->at + all->n);
	CHECK(strnlen(text, (size_t)(all->at + all->n - text)) <
	      (size_t)(all->at + all->n - text));
	CHECK(strlen(text) < PATH_MAX);
}

static void on_library(const char *name, const char *path, void *arg)
{
	check_text(arg, name);
	check_text(arg, path);
	CHECK(*name && !strchr(name, '/') && *path == '/');
}

static void try_gpu(const char *text, size_t n)
{
	struct tr_proc_gpu gpu;

	if (tr_proc_gpu_parse(text, n, &gpu) < 0)
		return;
	CHECK(gpu.minor >= 0 && gpu.minor <= 254);
	CHECK(strlen(gpu.uuid) == 0 || strlen(gpu.uuid) == 40);
	CHECK(strlen(gpu.bus) == 0 || (strlen(gpu.bus) >= 12 && strlen(gpu.bus) <= 16));
}

static void try_cap(const char *text, size_t n)
{
	int minor;

	if (tr_cap_parse(text, n, &minor) == 0)
		CHECK(minor >= 0 && minor <= TR_CAP_MINOR_MAX);
}

static void try_version(const char *text)
{
	char version[TR_DRIVER_VERSION];

	if (tr_driver_version_parse(text, version) == 0)
		CHECK(strspn(version, "0123456789.") == strlen(version) && *version &&
		      strstr(text, version));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct bytes all;
	char *copy;

	if (n == 0)
		return 0;
	/* Of its own size, for the sanitizer; a NUL behind only where a text is read. */
	all.n = n - 1;
	copy = malloc(all.n + (bytes[0] % 4 == 2 || all.n == 0));
	CHECK(copy);
	memcpy(copy, bytes + 1, all.n);
	all.at = copy;
	if (bytes[0] % 4 == 0)
		(void)tr_ldcache_each(copy, all.n, on_library, &all, NULL);
	else if (bytes[0] % 8 == 1)
		try_gpu(copy, all.n);
	else if (bytes[0] % 8 == 5)
		try_cap(copy, all.n);
	else if (bytes[0] % 4 == 3)
		(void)tr_image_check(copy, all.n, NULL);
	if (bytes[0] % 4 == 2) {
		copy[all.n] = '\0';
		try_version(copy);
	}
	free(copy);
	return 0;
}
