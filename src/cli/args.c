/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "rt/bytes.h"

int tr_cli_fail(const struct tr_err *err, int status)
{
	(void)fprintf(stderr, "tranche: %s\n", err->msg);
	return status;
}

int tr_cli_usage(const struct tr_err *err, int r)
{
	return r == -ECANCELED ? 0 : tr_cli_fail(err, TR_EXIT_USAGE);
}

/* Takes one option at argv[0]; returns how many words it used. */
static int take_option(const char *command, int argc, char **argv,
		       const struct tr_option *options, size_t count, uint64_t *given,
		       struct tr_err *err)
{
	const char *word = argv[0] + 2, *equals = strchr(word, '=');
	size_t n = equals ? (size_t)(equals - word) : strlen(word);

	for (size_t i = 0; i < count; i++) {
		const struct tr_option *o = &options[i];

		if (strlen(o->name) != n || strncmp(o->name, word, n) != 0)
			continue;
		if (o->flag && equals)
			return tr_fail(err, EINVAL, "--%s takes no value", o->name);
		if (o->flag) {
			*o->flag = true;
			return 1;
		}
		if (!equals && (argc < 2 || strcmp(argv[1], "--") == 0))
			return tr_fail(err, EINVAL, "--%s needs a value", o->name);
		if (!equals && strncmp(argv[1], "--", 2) == 0)
			return tr_fail(err, EINVAL,
				       "--%s needs a value, and \"%s\" follows", o->name,
				       argv[1]);
		if (*given & UINT64_C(1) << i)
			return tr_fail(err, EINVAL, "--%s is given twice", o->name);
		*given |= UINT64_C(1) << i;
		*o->text = equals ? equals + 1 : argv[1];
		return equals ? 1 : 2;
	}
	return tr_fail(err, EINVAL,
		       "\"%s\" is not an option of %s; see `tranche %s --help`", argv[0],
		       command, command);
}

int tr_args_parse(struct tr_args *out, int argc, char **argv,
		  const struct tr_option *options, size_t count, bool plain,
		  struct tr_err *err)
{
	uint64_t given = 0; /* a bit per option */
	int at = 1, kept = 0;

	*out = (struct tr_args){ .command = argv[0], .rest = argv + 1 };
	while (at < argc) {
		int used = 1;

		if (strcmp(argv[at], "--") == 0) {
			out->has_dashes = true;
			at++;
			break;
		}
		if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
			tr_help_print(argv[0]);
			return -ECANCELED;
		}
		if (strncmp(argv[at], "--", 2) == 0)
			used = take_option(argv[0], argc - at, argv + at, options, count,
					   &given, err);
		else if (argv[at][0] == '-')
			used = tr_fail(
				err, EINVAL,
				"\"%s\" is not an option of %s; see `tranche %s --help`",
				argv[at], argv[0], argv[0]);
		else if (plain)
			out->rest[kept++] = argv[at];
		else
			break; /* the program to run begins here */
		if (used < 0)
			return used;
		at += used;
	}
	while (at < argc)
		out->rest[kept++] = argv[at++];
	out->rest[kept] = NULL; /* argv has room: at least the command's own word is gone */
	out->rest_count = kept;
	return 0;
}

/* "25%" or "12.5%" of TOTAL, exact to the byte below. */
static int parse_percent(const char *text, uint64_t total_bytes, uint64_t *bytes_out,
			 struct tr_err *err)
{
	uint64_t thousandths = 0, scale = 1000;
	const char *at = text;

	for (; *at >= '0' && *at <= '9' && thousandths <= 100000000; at++)
		thousandths = thousandths * 10 + (uint64_t)(*at - '0') * 1000;
	if (*at == '.' && at != text)
		for (at++; *at >= '0' && *at <= '9' && scale > 1; at++)
			thousandths += (uint64_t)(*at - '0') * (scale /= 10);
	if (at == text || strcmp(at, "%") != 0 || thousandths == 0 || thousandths > 100000)
		return tr_fail(err, EINVAL,
			       "--mem \"%s\": a percentage is above 0%% and at most 100%%",
			       text);
	*bytes_out = (uint64_t)((unsigned __int128)total_bytes * thousandths / 100000);
	return 0;
}

int tr_size_parse(const char *text, uint64_t total_bytes, uint64_t *bytes_out,
		  struct tr_err *err)
{
	char total[TR_BYTES_TEXT];
	int r;

	if (strchr(text, '%'))
		return parse_percent(text, total_bytes, bytes_out, err);
	r = tr_bytes_parse(text, bytes_out);
	if (r == -ERANGE)
		return tr_fail(err, EINVAL, "--mem \"%s\": more than any device has", text);
	if (r < 0)
		return tr_fail(err, EINVAL,
			       "--mem \"%s\" is not a size: write 4Gi, 1.5g, 3000m, bytes, "
			       "or 25%%",
			       text);
	if (*bytes_out == 0)
		return tr_fail(err, EINVAL, "--mem \"%s\": a slice has at least one byte",
			       text);
	if (total_bytes && *bytes_out > total_bytes) {
		tr_bytes_print(total, total_bytes);
		return tr_fail(err, EINVAL, "--mem \"%s\": the device has %s", text, total);
	}
	return 0;
}

/* The device that WORD of N bytes names. */
static int find_device(const char *word, size_t n, const struct tr_gpus *gpus,
		       struct tr_err *err)
{
	unsigned long index = 0;
	int found = -1;
	size_t digits = 0;

	while (digits < n && word[digits] >= '0' && word[digits] <= '9')
		digits++;
	if (n && digits == n && n < 4) {
		index = strtoul(word, NULL, 10);
		if (index < gpus->count)
			return (int)index;
		return tr_fail(err, EINVAL,
			       "--device %.*s: this machine has devices 0 to %u", (int)n,
			       word, gpus->count - 1);
	}
	for (unsigned i = 0; n > 4 && i < gpus->count; i++) {
		if (strncmp(gpus->gpus[i].uuid, word, n) != 0)
			continue;
		if (found >= 0)
			return tr_fail(err, EINVAL,
				       "--device %.*s: several devices' UUIDs begin so",
				       (int)n, word);
		found = (int)i;
	}
	if (found < 0)
		return tr_fail(
			err, EINVAL,
			"--device \"%.*s\" is neither an index nor a UUID of this machine "
			"(device 0 is %s)",
			(int)n, word, gpus->gpus[0].uuid);
	return found;
}

int tr_devices_parse(const char *text, const struct tr_gpus *gpus, unsigned *out,
		     unsigned *count, struct tr_err *err)
{
	const char *at = text;

	*count = 0;
	for (;;) {
		size_t n = strcspn(at, ",");
		int found = find_device(at, n, gpus, err);

		if (found < 0)
			return found;
		for (unsigned i = 0; i < *count; i++)
			if (out[i] == (unsigned)found)
				return tr_fail(err, EINVAL,
					       "--device \"%s\" names device %d twice",
					       text, found);
		if (*count == TR_DEVICES_MAX)
			return tr_fail(err, EINVAL,
				       "--device: a slice has at most %u devices",
				       TR_DEVICES_MAX);
		out[(*count)++] = (unsigned)found;
		if (!at[n])
			return 0;
		at += n + 1;
	}
}
