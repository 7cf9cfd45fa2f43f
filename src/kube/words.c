/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/words.h"

#include <errno.h>
#include <string.h>

bool tr_word_is_printable(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return false;
	return true;
}

int tr_word_number(const char *text, size_t n, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (n == 0)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		uint64_t digit = (uint64_t)(text[i] - '0');

		if (digit > max || value > (max - digit) / 10)
			return -ERANGE;
		value = value * 10 + digit;
	}
	*out = value;
	return 0;
}

int tr_word_bool(const char *text, bool *out)
{
	static const char *const words[] = { "0", "f", "F", "FALSE", "false", "False",
					     "1", "t", "T", "TRUE",  "true",  "True" };

	for (unsigned i = 0; i < 12; i++)
		if (strcmp(text, words[i]) == 0) {
			*out = i >= 6;
			return 0;
		}
	return -EINVAL;
}

bool tr_list_next(const char **at, const char **entry, size_t *n)
{
	static const char blanks[] = " \t\r\n";

	*at += strspn(*at, ", \t\r\n");
	if (!**at)
		return false;
	*entry = *at;
	*n = strcspn(*at, ",");
	*at += *n;
	while (*n && strchr(blanks, (*entry)[*n - 1]))
		--*n;
	return true;
}

bool tr_list_has(const char *list, const char *word)
{
	const char *entry;
	size_t n;

	while (tr_list_next(&list, &entry, &n))
		if (n == strlen(word) && memcmp(entry, word, n) == 0)
			return true;
	return false;
}

bool tr_list_is_empty(const char *list)
{
	const char *entry;
	size_t n;

	return !tr_list_next(&list, &entry, &n);
}
