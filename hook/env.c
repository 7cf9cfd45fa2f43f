/* SPDX-License-Identifier: Apache-2.0 */
#include "env.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "rt/bytes.h"
#include "tranche/paths.h"

extern char **environ;

/* Decimal digits only, as a whole: -1 for anything else, or more than MAX. */
static int parse_number(const char *text, int max)
{
	int n = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		n = n * 10 + (*text - '0');
		if (n > max)
			return -1;
	}
	return n;
}

static void read_limit(struct tr_env *env, const char *value, uint64_t *limit_bytes)
{
	env->has_limit = true;
	if (tr_bytes_parse(value, limit_bytes) < 0) {
		env->is_bad = true;
		*limit_bytes = 0;
	} else if (*limit_bytes == 0) {
		/* A zero as it is written, not what is less than a byte. */
		if (strpbrk(value, "123456789"))
			env->is_bad = true;
		else
			*limit_bytes = TR_UNLIMITED;
	}
}

/* 0 and 100 and more: off, as in HAMi. */
static void read_percent(struct tr_env *env, const char *value, uint8_t *percent)
{
	int n = parse_number(value, 1000000);

	if (n < 0)
		env->is_bad = true;
	*percent = n > 0 && n < 100 ? (uint8_t)n : 0;
}

/* "NAME=value" or "NAME_7=value". Returns the value, or NULL when ENTRY is another
 * variable. */
static const char *match(const char *entry, const char *name, int *index, bool *is_bad)
{
	size_t n = strlen(name);
	const char *equals;
	char digits[4] = { 0 };

	*index = -1;
	if (strncmp(entry, name, n) != 0)
		return NULL;
	if (entry[n] == '=')
		return entry + n + 1;
	if (entry[n] != '_')
		return NULL;
	equals = strchr(entry, '=');
	if (!equals)
		return NULL;
	n++;
	if ((size_t)(equals - entry) - n < sizeof(digits))
		memcpy(digits, entry + n, (size_t)(equals - entry) - n);
	*index = parse_number(digits, (int)TR_ENV_INDICES - 1);
	if (*index < 0)
		*is_bad = true; /* a limit of nobody knows which device */
	return equals + 1;
}

static void read_entry(struct tr_env *env, const char *entry)
{
	const char *value;
	int index;

	value = match(entry, TR_ENV_MEM_LIMIT, &index, &env->is_bad);
	if (value && index < 0) {
		read_limit(env, value, &env->limit_bytes);
	} else if (value) {
		env->has_limit_of[index] = true;
		read_limit(env, value, &env->limit_bytes_of[index]);
	}
	value = match(entry, TR_ENV_SM_LIMIT, &index, &env->is_bad);
	if (value && index < 0) {
		read_percent(env, value, &env->sm_percent);
	} else if (value) {
		env->has_sm_percent_of[index] = true;
		read_percent(env, value, &env->sm_percent_of[index]);
	}
}

static uint8_t small_number(const char *name, int max, uint8_t fallback)
{
	const char *value = getenv(name);
	int n = value ? parse_number(value, max) : -1;

	return n < 0 ? fallback : (uint8_t)n;
}

void tr_env_read(struct tr_env *out)
{
	const char *policy = getenv(TR_ENV_POLICY_SM), *disable = getenv(TR_ENV_DISABLE);
	char **e;

	memset(out, 0, sizeof(*out));
	out->limit_bytes = TR_UNLIMITED;
	for (e = environ; e && *e; e++)
		if (strncmp(*e, "CUDA_DEVICE_", 12) == 0)
			read_entry(out, *e);
	out->priority = small_number(TR_ENV_PRIORITY, 255, 1);
	out->log_level = small_number(TR_ENV_LOG_LEVEL, 4, 2);
	if (policy && strcasecmp(policy, "force") == 0)
		out->core = TR_CORE_FORCE;
	else if (policy && strcasecmp(policy, "disable") == 0)
		out->core = TR_CORE_DISABLE;
	out->is_disabled = disable && strcmp(disable, "true") == 0;
	out->has_cores = tr_env_cores(out, -1) != 0;
}

uint64_t tr_env_limit(const struct tr_env *env, int index)
{
	uint64_t lowest = env->limit_bytes;
	unsigned i;

	if (index >= 0 && (unsigned)index < TR_ENV_INDICES)
		return env->has_limit_of[index] ? env->limit_bytes_of[index]
						: env->limit_bytes;
	for (i = 0; i < TR_ENV_INDICES; i++)
		if (env->has_limit_of[i] && env->limit_bytes_of[i] < lowest)
			lowest = env->limit_bytes_of[i];
	return lowest;
}

unsigned tr_env_cores(const struct tr_env *env, int index)
{
	unsigned lowest = env->sm_percent;

	if (env->core == TR_CORE_DISABLE)
		return 0;
	if (index >= 0 && (unsigned)index < TR_ENV_INDICES)
		return env->has_sm_percent_of[index] ? env->sm_percent_of[index]
						     : env->sm_percent;
	for (unsigned i = 0; i < TR_ENV_INDICES; i++) {
		unsigned own = env->sm_percent_of[i];

		if (own && (!lowest || own < lowest))
			lowest = own;
	}
	return lowest;
}

void tr_visible_read(struct tr_visible *out, const char *text)
{
	memset(out, 0, sizeof(*out));
	if (!text) {
		out->is_plain = true;
		return;
	}
	out->is_listed = true;
	while (out->count < TR_ENV_INDICES) {
		unsigned n = 0, digits = 0;

		text += strspn(text, " ");
		for (; *text >= '0' && *text <= '9' && digits < 3; text++, digits++)
			n = n * 10 + (unsigned)(*text - '0');
		text += strspn(text, " ");
		if (!digits || n >= TR_ENV_INDICES || (*text && *text != ','))
			return;
		out->index_of[out->count++] = (uint8_t)n;
		if (!*text++) {
			out->is_plain = true;
			return;
		}
	}
}

int tr_visible_index(const struct tr_visible *visible, int ordinal)
{
	if (!visible->is_plain || ordinal < 0)
		return -1;
	if (!visible->is_listed)
		return ordinal < (int)TR_ENV_INDICES ? ordinal : -1;
	return ordinal < visible->count ? visible->index_of[ordinal] : -1;
}
