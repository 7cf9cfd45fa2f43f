/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of the command line against naive models. First byte: 's' a size, 'n' a slice's
 * name, 'd' a list of devices.
 */
#include <errno.h>
#include <regex.h>
#include <stdbool.h>
#include <string.h>

#include "cli/cli.h"
#include "fuzz.h"
#include "keeper/slices.h"
#include "naive.h"

#define TEXT_MAX 200u
#define TOTAL    UINT64_C(85899345920)

static const struct tr_gpus gpus = {
	.count = 3,
	.gpus = { { .uuid = "GPU-aaaaaaaa-0000-0000-0000-000000000001" },
		  { .uuid = "GPU-aaaaaaab-0000-0000-0000-000000000002" },
		  { .uuid = "GPU-bbbbbbbb-0000-0000-0000-000000000003" } },
};

/* args.c asks for it; nothing is printed here. */
void tr_help_print(const char *command)
{
	(void)command;
}

static void try_size(const char *text)
{
	uint64_t bytes = 0, want = 0;
	struct tr_err err = { 0 };
	int r = tr_size_parse(text, TOTAL, &bytes, &err);
	bool fits;

	if (strchr(text, '%')) {
		int64_t part = naive_percent(text);

		fits = part > 0 && part <= 100000;
		if (fits)
			want = (uint64_t)((unsigned __int128)TOTAL * (uint64_t)part /
					  100000);
	} else {
		fits = naive_amount(text, &want) == 0 && want > 0 && want <= TOTAL;
	}
	CHECK((r == 0) == fits);
	CHECK(r == 0 || (r == -EINVAL && err.msg[0]));
	CHECK(r < 0 || bytes == want);
}

static void try_name(const char *text)
{
	static regex_t regex;
	static bool ready;
	struct tr_err err = { 0 };

	if (!ready)
		CHECK(regcomp(&regex, "^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$",
			      REG_EXTENDED | REG_NOSUB) == 0);
	ready = true;
	CHECK((tr_slice_name_check(text, &err) == 0) ==
	      (regexec(&regex, text, 0, NULL, 0) == 0));
}

/* One word of the list, or -1. */
static int expect_device(const char *word)
{
	size_t n = strlen(word), digits = strspn(word, "0123456789");
	int found = -1;

	if (n && digits == n && n < 4) {
		unsigned index = 0;

		for (; *word; word++)
			index = index * 10 + (unsigned)(*word - '0');
		return index < gpus.count ? (int)index : -1;
	}
	for (unsigned i = 0; n > 4 && i < gpus.count; i++)
		if (strncmp(gpus.gpus[i].uuid, word, n) == 0) {
			if (found >= 0)
				return -1;
			found = (int)i;
		}
	return found;
}

static void try_devices(const char *text)
{
	unsigned out[TR_DEVICES_MAX], count = 0, seen = 0, n = 0;
	char copy[TEXT_MAX + 1], *rest = copy, *word;
	struct tr_err err = { 0 };
	int r = tr_devices_parse(text, &gpus, out, &count, &err);
	bool good = true;

	(void)strcpy(copy, text);
	while (good && (word = strsep(&rest, ","))) {
		int device = expect_device(word);

		good = device >= 0 && !(seen >> device & 1);
		if (good && r == 0)
			CHECK(n < count && out[n] == (unsigned)device);
		if (good) {
			seen |= 1u << device;
			n++;
		}
	}
	CHECK((r == 0) == good);
	CHECK(r < 0 ? err.msg[0] != '\0' : count == n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char text[TEXT_MAX + 1] = { 0 };

	if (!n)
		return 0;
	memcpy(text, bytes + 1, n - 1 < TEXT_MAX ? n - 1 : TEXT_MAX);
	if (bytes[0] == 's')
		try_size(text);
	else if (bytes[0] == 'n')
		try_name(text);
	else
		try_devices(text);
	return 0;
}
