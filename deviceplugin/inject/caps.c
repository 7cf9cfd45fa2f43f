/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/inject/driver.h"
#include "deviceplugin/inject/libraries.h"

/* What an instance of a GPU in MIG mode is opened by: a device node for each of its two parts. */

#define TEXT_MAX 1024

static const char key[] = "DeviceFileMinor:";

/* The number of a line "DeviceFileMinor: N" in N_BYTES. */
static int take_minor(const char *line, size_t n_bytes, int *minor)
{
	size_t i = sizeof(key) - 1, digits = 0;
	int got = 0;

	while (i < n_bytes && (line[i] == ' ' || line[i] == '\t'))
		i++;
	for (; i < n_bytes && isdigit((unsigned char)line[i]) && got <= TR_CAP_MINOR_MAX;
	     i++) {
		got = 10 * got + (line[i] - '0');
		digits++;
	}
	while (i < n_bytes && strchr(" \t\r", line[i]))
		i++;
	if (i < n_bytes || digits == 0 || got > TR_CAP_MINOR_MAX)
		return -EBADMSG;
	*minor = got;
	return 0;
}

int tr_cap_parse(const char *text, size_t n, int *minor)
{
	const char *end = text + n;
	unsigned found = 0;
	int got = 0;

	if (memchr(text, '\0', n))
		return -EBADMSG;
	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		size_t length = (size_t)((stop ? stop : end) - text);

		if (length >= sizeof(key) - 1 && memcmp(text, key, sizeof(key) - 1) == 0) {
			if (take_minor(text, length, &got) < 0)
				return -EBADMSG;
			found++;
		}
		text = stop ? stop + 1 : end;
	}
	if (found != 1)
		return -EBADMSG;
	*minor = got;
	return 0;
}

static int read_cap(const char *path, int *minor, struct tr_err *err)
{
	char text[TEXT_MAX];
	ssize_t n = tr_proc_read(path, text, sizeof(text));

	if (n < 0)
		return tr_fail(err, (int)-n, "read %s: %s", path, strerror((int)-n));
	return tr_cap_parse(text, (size_t)n, minor) < 0
		       ? tr_fail(err, EBADMSG, "%s does not say which device node it is",
				 path)
		       : 0;
}

int tr_proc_caps(const char *proc, const struct tr_mig_instance *instance,
		 int minors[static 2], struct tr_err *err)
{
	tr_autofree char *gpu = tr_xprintf("%s/driver/nvidia/capabilities/gpu%d/mig/gi%u",
					   proc && *proc ? proc : "/proc",
					   instance->gpu_minor, instance->gpu_instance);
	tr_autofree char *whole = tr_xprintf("%s/access", gpu);
	tr_autofree char *part = tr_xprintf("%s/ci%u/access", gpu,
					    instance->compute_instance);
	int r = read_cap(whole, &minors[0], err);

	return r < 0 ? r : read_cap(part, &minors[1], err);
}
