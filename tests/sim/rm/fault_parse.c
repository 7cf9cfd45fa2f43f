/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/fault.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SEPARATORS " \t\r\n,;"

struct cursor {
	const char *p, *end;
};

static bool take_char(struct cursor *c, char wanted)
{
	if (c->p == c->end || *c->p != wanted)
		return false;
	c->p++;
	return true;
}

static bool take_word(struct cursor *c, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
		return false;
	c->p += n;
	return true;
}

static bool take_number(struct cursor *c, uint64_t max, uint64_t *out)
{
	const char *start = c->p;
	uint64_t v = 0;

	while (c->p < c->end && isdigit((unsigned char)*c->p)) {
		v = v * 10 + (uint64_t)(*c->p++ - '0');
		if (v > max)
			return false;
	}
	*out = v;
	return c->p > start;
}

static const char *parse_delay(struct cursor *c, struct fault_rule *rule)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = { { "ns", 1 }, { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 } };
	uint64_t v;

	if (!take_number(c, 1000000000, &v))
		return "a delay is a whole number below 1000000001 and a unit";
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (take_word(c, units[i].unit)) {
			rule->delay_ns = v * units[i].ns;
			return NULL;
		}
	}
	return "a delay ends in ns, us, ms or s";
}

static const char *parse_action(struct cursor *c, struct fault_rule *rule)
{
	uint64_t code;

	if (take_word(c, "lost")) {
		rule->action = FAULT_LOST;
	} else if (take_word(c, "hang")) {
		rule->action = FAULT_HANG;
	} else if (take_word(c, "delay:")) {
		rule->action = FAULT_DELAY;
		return parse_delay(c, rule);
	} else if (take_number(c, 99999, &code)) {
		rule->action = FAULT_CODE;
		rule->code = (int)code;
	} else {
		return "after '=' comes a code (0 to 99999), lost, hang or delay:100ms";
	}
	return NULL;
}

static const char *parse_rule(struct cursor *c, struct fault_rule *rule)
{
	const char *why;
	size_t n = 0;

	memset(rule, 0, sizeof(*rule));
	while (c->p < c->end && (isalnum((unsigned char)*c->p) || *c->p == '_')) {
		if (n + 1 >= sizeof(rule->name))
			return "a name has at most 63 characters";
		rule->name[n++] = *c->p++;
	}
	rule->is_prefix = take_char(c, '*');
	if (n == 0 && !rule->is_prefix)
		return "a fault starts with the name of a function, or '*'";
	if (take_char(c, ':')) {
		if (!take_number(c, UINT32_MAX, &rule->call) || rule->call == 0)
			return "after ':' comes the number of a call, 1 or more";
		rule->is_onwards = take_char(c, '+');
	}
	if (!take_char(c, '='))
		return "expected '=' and what shall happen";
	why = parse_action(c, rule);
	if (!why && c->p != c->end)
		why = "there is more text than a fault has";
	return why;
}

/* The next word of TEXT; comments are skipped. */
static bool next_word(struct cursor *text, struct cursor *word)
{
	while (text->p < text->end && (strchr(SEPARATORS, *text->p) || *text->p == '#')) {
		if (*text->p++ != '#')
			continue;
		while (text->p < text->end && *text->p != '\n')
			text->p++;
	}
	word->p = text->p;
	while (text->p < text->end && *text->p && !strchr(SEPARATORS, *text->p))
		text->p++;
	word->end = text->p;
	return word->end > word->p;
}

int rm_faults_parse(struct fault_rules *rules, const char *text, size_t n, char *why,
		    size_t why_bytes)
{
	struct cursor all = { text, text + n }, word, rest;
	const char *problem;

	rules->n = 0;
	while (next_word(&all, &word)) {
		rest = word;
		problem = rules->n == FAULT_RULES_MAX
				  ? "there are more than 64 faults"
				  : parse_rule(&rest, &rules->rule[rules->n]);
		if (problem) {
			snprintf(why, why_bytes, "fault \"%.*s\": %s",
				 (int)(word.end - word.p > 80 ? 80 : word.end - word.p),
				 word.p, problem);
			rules->n = 0;
			return -EINVAL;
		}
		rules->n++;
	}
	if (all.p != all.end) {
		snprintf(why, why_bytes, "faults: a zero byte at position %zu",
			 (size_t)(all.p - text));
		rules->n = 0;
		return -EINVAL;
	}
	return 0;
}
