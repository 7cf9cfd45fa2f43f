/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/inject/driver.h"
#include "deviceplugin/inject/libraries.h"

#define TEXT_MAX  4096
#define UUID_TEXT 40 /* "GPU-" and 8-4-4-4-12 */
/* 255 is nvidiactl's. */
#define MINOR_MAX 254

struct value {
	const char *at;
	size_t n;
};

/* The value of a line "KEY: blanks VALUE blanks"; false: LINE is another's. */
static bool value_of(const struct value *line, const char *key, struct value *out)
{
	size_t n = strlen(key);

	if (line->n <= n || memcmp(line->at, key, n) != 0 || line->at[n] != ':')
		return false;
	*out = (struct value){ line->at + n + 1, line->n - n - 1 };
	while (out->n > 0 && (*out->at == ' ' || *out->at == '\t')) {
		out->at++;
		out->n--;
	}
	while (out->n > 0 && strchr(" \t\r", out->at[out->n - 1]))
		out->n--;
	return true;
}

/* A driver that has not met the GPU yet shows question marks for digits. */
static int take_uuid(const struct value *value, char uuid[static 48])
{
	size_t known = 0, unknown = 0;

	if (value->n != UUID_TEXT || memcmp(value->at, "GPU-", 4) != 0)
		return -EBADMSG;
	for (size_t i = 4; i < UUID_TEXT; i++) {
		if (i == 12 || i == 17 || i == 22 || i == 27) {
			if (value->at[i] != '-')
				return -EBADMSG;
			continue;
		}
		known += isxdigit((unsigned char)value->at[i]) != 0;
		unknown += value->at[i] == '?';
	}
	if (known != 32 && unknown != 32)
		return -EBADMSG;
	memcpy(uuid, value->at, UUID_TEXT);
	uuid[known ? UUID_TEXT : 0] = '\0';
	return 0;
}

static int take_minor(const struct value *value, int *minor)
{
	int got = 0;

	if (value->n == 0 || value->n > 3 || (value->n > 1 && value->at[0] == '0'))
		return -EBADMSG;
	for (size_t i = 0; i < value->n; i++) {
		if (!isdigit((unsigned char)value->at[i]))
			return -EBADMSG;
		got = 10 * got + (value->at[i] - '0');
	}
	*minor = got;
	return got <= MINOR_MAX ? 0 : -EBADMSG;
}

/* "0000:3b:00.0": hexadecimal with these marks between. */
static int take_bus(const struct value *value, char bus[static 24])
{
	size_t colons = 0;

	if (value->n < 12 || value->n > 16)
		return -EBADMSG;
	for (size_t i = 0; i < value->n; i++) {
		char mark = i == value->n - 2                        ? '.'
			    : i == value->n - 5 || i == value->n - 8 ? ':'
								     : '\0';

		colons += mark == ':';
		if (mark ? value->at[i] != mark : !isxdigit((unsigned char)value->at[i]))
			return -EBADMSG;
	}
	memcpy(bus, value->at, value->n);
	bus[value->n] = '\0';
	return colons == 2 ? 0 : -EBADMSG;
}

int tr_proc_gpu_parse(const char *text, size_t n, struct tr_proc_gpu *out)
{
	unsigned uuids = 0, minors = 0, buses = 0;
	const char *end = text + n;

	memset(out, 0, sizeof(*out));
	if (memchr(text, '\0', n))
		return -EBADMSG;
	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		struct value line = { text, (size_t)((stop ? stop : end) - text) }, value;
		int r = 0;

		if (value_of(&line, "GPU UUID", &value) && ++uuids)
			r = take_uuid(&value, out->uuid);
		else if (value_of(&line, "Device Minor", &value) && ++minors)
			r = take_minor(&value, &out->minor);
		else if (value_of(&line, "Bus Location", &value) && ++buses)
			r = take_bus(&value, out->bus);
		if (r < 0)
			return r;
		text = stop ? stop + 1 : end;
	}
	return uuids == 1 && minors == 1 && buses <= 1 ? 0 : -EBADMSG;
}

static int by_minor(const void *a, const void *b)
{
	const struct tr_proc_gpu *left = a, *right = b;

	return (left->minor > right->minor) - (left->minor < right->minor);
}

static void close_folder(DIR **folder)
{
	if (*folder)
		(void)closedir(*folder);
}

static int read_gpu(const char *gpus, const char *bus, struct tr_proc_gpu *out,
		    struct tr_err *err)
{
	tr_autofree char *path = tr_xprintf("%s/%s/information", gpus, bus);
	char text[TEXT_MAX];
	ssize_t n = tr_proc_read(path, text, sizeof(text));
	int r = 0;

	if (n < 0)
		return tr_fail(err, (int)-n, "read %s: %s", path, strerror((int)-n));
	if (tr_proc_gpu_parse(text, (size_t)n, out) < 0)
		r = tr_fail(err, EBADMSG, "%s does not say which GPU it is", path);
	return r;
}

int tr_proc_gpus(const char *proc, struct tr_proc_gpu *out, size_t max, struct tr_err *err)
{
	tr_autofree char *gpus = tr_xprintf("%s/driver/nvidia/gpus",
					    proc && *proc ? proc : "/proc");
	DIR *folder __attribute__((cleanup(close_folder))) = opendir(gpus);
	const struct dirent *entry;
	size_t count = 0;

	if (!folder)
		return tr_fail_errno(err, "open %s", gpus);
	while ((entry = readdir(folder)) && count < max) {
		int r;

		if (entry->d_name[0] == '.')
			continue;
		r = read_gpu(gpus, entry->d_name, &out[count], err);
		if (r < 0)
			return r;
		count++;
	}
	qsort(out, count, sizeof(*out), by_minor);
	for (size_t i = 1; i < count; i++)
		if (out[i].minor == out[i - 1].minor)
			return tr_fail(err, EBADMSG, "%s: two GPUs are nvidia%d", gpus,
				       out[i].minor);
	return (int)count;
}
