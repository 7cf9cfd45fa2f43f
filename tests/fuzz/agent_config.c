/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of the node agent, and requests of its control socket. First byte: 'f' its own file, 'h'
 * HAMi's device-config.yaml, 'w' words of a command line, one a line, 'e' an environment. What is accepted
 * is printed, and read again as a file it is the same. 'c': a request; the reply is whole whatever it was.
 */
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/agent/config_key.h"
#include "deviceplugin/agent/control.h"
#include "fuzz.h"
#include "naive.h"

#define WORDS_MAX 16

/* The lines of TEXT, then NULL. */
static int cut(char *text, char *words[static WORDS_MAX + 1])
{
	int n = 0;
	char *word;

	while (n < WORDS_MAX && (word = strsep(&text, "\n")))
		words[n++] = word;
	words[n] = NULL;
	return n;
}

static int read_as(struct tr_config_making *m, char kind, char *text, size_t n,
		   struct tr_err *err)
{
	char *words[WORDS_MAX + 1];
	struct tr_config_start start = { 0 };
	struct tr_config_inputs inputs = { 0, words, words };

	if (kind == 'f')
		return tr_config_read_file(m, "f", text, n, err);
	if (kind == 'h')
		return tr_config_read_hami(m, "h", text, n, err);
	inputs.argc = cut(text, words);
	return kind == 'w' ? tr_config_read_words(m, &start, &inputs, err)
			   : tr_config_read_env(m, words, err);
}

/* What was printed of A reads as A. */
static void read_back(const struct tr_config *a)
{
	struct tr_config b = { 0 };
	struct tr_buf first = { 0 }, second = { 0 }, notes = { 0 };
	struct tr_config_making m = { .config = &b, .notes = &notes };
	struct tr_err err = { 0 };

	tr_config_print(a, &first);
	CHECK(tr_config_read_file(&m, "printed", first.p, first.n, &err) == 0);
	CHECK(tr_config_finish(&m, &err) == 0);
	tr_config_print(&b, &second);
	CHECK(strcmp(first.p, second.p) == 0 && notes.n == 0);
	tr_config_free(&b);
	tr_buf_free(&first);
	tr_buf_free(&second);
}

static int answer(const char *what, const json_t *request, json_t *reply, void *arg,
		  struct tr_err *err)
{
	(void)request;
	(void)arg;
	json_object_set_new(reply, "what", json_string(what));
	return strlen(what) % 2 ? tr_fail(err, 22, "%s", what) : 0;
}

static void try_request(const char *line, size_t n)
{
	json_t *reply = tr_control_reply(line, n, answer, NULL);
	const json_t *ok = json_object_get(reply, "ok");

	CHECK(json_is_boolean(ok));
	CHECK(json_is_true(ok) == (json_object_get(reply, "what") != NULL));
	CHECK(json_is_true(ok) || json_is_string(json_object_get(reply, "error")));
	json_decref(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct tr_config config = { 0 };
	struct tr_buf notes = { 0 };
	struct tr_config_making m = { .config = &config, .notes = &notes };
	struct tr_err err = { 0 };
	char *text;
	int r;

	if (!n)
		return 0;
	if (bytes[0] == 'c') {
		try_request((const char *)bytes + 1, n - 1);
		return 0;
	}
	text = calloc(1, n);
	CHECK(text != NULL);
	memcpy(text, bytes + 1, n - 1);
	r = read_as(&m, (char)bytes[0], text, n - 1, &err);
	if (r == 0)
		r = tr_config_finish(&m, &err);
	CHECK(r == 0 || err.msg[0]);
	if (r == 0)
		read_back(&config);
	tr_config_free(&config);
	tr_buf_free(&notes);
	free(text);
	return 0;
}
