/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Amounts of memory, and the environment made of them, against a naive model. First byte: 'a',
 * an amount; 'v', a list of visible devices; else lines of an environment.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "fuzz.h"
#include "naive.h"
#include "rt/bytes.h"
#include "tranche/limits.h"

#define TEXT_MAX  200u
#define LINES_MAX 16u

extern char **environ;

static void try_amount(const char *text)
{
	uint64_t bytes = 77, want = 77;
	int r = tr_bytes_parse(text, &bytes);

	CHECK(r == naive_amount(text, &want));
	CHECK(bytes == want || (r < 0 && bytes == 77));
}

static void try_visible(const char *text)
{
	struct tr_visible visible;
	int index;

	tr_visible_read(&visible, text);
	CHECK(visible.count <= TR_ENV_INDICES);
	for (int i = -2; i < 70; i++) {
		index = tr_visible_index(&visible, i);
		CHECK(index >= -1 && index < (int)TR_ENV_INDICES);
		CHECK(index < 0 || (i >= 0 && i < visible.count));
	}
}

struct want {
	bool is_bad, has, has_of[TR_ENV_INDICES];
	uint64_t limit, limit_of[TR_ENV_INDICES];
};

/* "NAME=..." (-1) or "NAME_7=..." (7); -2: another variable; -3: no such device. */
static int index_of(const char *line, const char *name, const char **value)
{
	size_t n = strlen(name), digits;
	long index;

	if (strncmp(line, name, n) != 0 || !strchr(line, '='))
		return -2;
	*value = strchr(line, '=') + 1;
	if (line[n] == '=')
		return -1;
	if (line[n] != '_')
		return -2;
	digits = strspn(line + n + 1, "0123456789");
	if (digits < 1 || digits > 3 || line[n + 1 + digits] != '=')
		return -3;
	index = strtol(line + n + 1, NULL, 10);
	return index < (long)TR_ENV_INDICES ? (int)index : -3;
}

static void expect_line(struct want *want, const char *line)
{
	const char *value = NULL;
	int index = index_of(line, "CUDA_DEVICE_MEMORY_LIMIT", &value);
	uint64_t bytes = 0;

	if (index_of(line, "CUDA_DEVICE_SM_LIMIT", &value) == -3)
		want->is_bad = true;
	if (index_of(line, "CUDA_DEVICE_SM_LIMIT", &value) >= -1)
		want->is_bad |= strspn(value, "0123456789") != strlen(value) || !*value ||
				strtod(value, NULL) > 1000000;
	if (index == -2)
		return;
	(void)index_of(line, "CUDA_DEVICE_MEMORY_LIMIT", &value);
	want->has = true;
	if (index == -3)
		want->is_bad = true;
	if (naive_amount(value, &bytes) < 0) {
		want->is_bad = true;
		bytes = 0;
	} else if (bytes == 0) {
		bytes = TR_UNLIMITED;
	}
	if (index < 0) {
		want->limit = bytes;
	} else {
		want->has_of[index] = true;
		want->limit_of[index] = bytes;
	}
}

static void try_environment(char *text)
{
	char *lines[LINES_MAX + 1] = { 0 }, *rest = text, *line;
	char **before = environ;
	struct want want = { .limit = TR_UNLIMITED };
	struct tr_env env;
	unsigned n = 0;

	while (n < LINES_MAX && (line = strsep(&rest, "\n")))
		lines[n++] = line;
	environ = lines;
	tr_env_read(&env);
	environ = before;
	for (unsigned i = 0; i < n; i++)
		expect_line(&want, lines[i]);
	CHECK(env.is_bad == want.is_bad);
	if (want.is_bad) /* then nothing is allowed to start */
		return;
	CHECK(env.has_limit == want.has && env.limit_bytes == want.limit);
	for (int i = 0; i < (int)TR_ENV_INDICES; i++) {
		CHECK(env.has_limit_of[i] == want.has_of[i]);
		CHECK(tr_env_limit(&env, i) ==
		      (want.has_of[i] ? want.limit_of[i] : want.limit));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char text[LINES_MAX * TEXT_MAX];

	if (!n)
		return 0;
	n = n < sizeof(text) ? n : sizeof(text);
	memcpy(text, bytes, n - 1 ? n : 0);
	text[n - 1] = '\0';
	if (n > 1 && text[0] == 'a') {
		text[n < TEXT_MAX ? n - 1 : TEXT_MAX] = '\0';
		try_amount(text + 1);
	} else if (n > 1 && text[0] == 'v') {
		try_visible(text + 1);
	} else if (strlen(text) < TEXT_MAX) { /* the model's numbers end there */
		try_environment(text);
	}
	return 0;
}
