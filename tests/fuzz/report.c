/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent's port takes from anybody, and what it prints of words that are not its own. First byte:
 * which, and in which form a view is printed; the rest: a request, an Accept header, an address, the words of
 * a view.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/report/http.h"
#include "deviceplugin/report/metrics.h"
#include "deviceplugin/report/slices_json.h"
#include "fuzz.h"
#include "naive.h"

#define VIEW_WORDS 24u

static bool ends(const char *text, size_t room)
{
	return memchr(text, '\0', room) != NULL;
}

static void try_request(const char *bytes, size_t n)
{
	struct tr_http_request request, again;
	int r = tr_http_parse(bytes, n, &request);

	CHECK(r <= (int)n && r <= (int)TR_HTTP_REQUEST);
	CHECK(r >= 0 || r == -400 || r == -405 || r == -413 || r == -414 || r == -431 ||
	      r == -505);
	CHECK(r != 0 || n < TR_HTTP_REQUEST);
	CHECK(ends(request.path, sizeof(request.path)) &&
	      ends(request.query, sizeof(request.query)) &&
	      ends(request.accept, sizeof(request.accept)));
	if (r <= 0)
		return;
	CHECK(request.path[0] == '/');
	/* It does not depend on what follows, and needs all that it took. */
	CHECK(tr_http_parse(bytes, (size_t)r, &again) == r);
	CHECK(memcmp(&request, &again, sizeof(request)) == 0);
	CHECK(tr_http_parse(bytes, (size_t)r - 1, &again) == 0);
}

#ifdef __clang__
#define UNGUIDED \
	__attribute__((no_sanitize("coverage"))) /* what it compares is no input's news */
#else
#define UNGUIDED
#endif

/* A line is a comment, or a name, labels whose quotes are closed, and a number. */
UNGUIDED static void check_line(const char *line, size_t n)
{
	bool is_quoted = false;

	CHECK(n > 0 && (line[0] == '#' || (line[0] >= 'A' && line[0] <= 'z')));
	for (size_t i = 0; line[0] != '#' && i < n; i++) {
		if (line[i] == '\\' && is_quoted)
			i++;
		else if (line[i] == '"')
			is_quoted = !is_quoted;
	}
	CHECK(!is_quoted);
	CHECK(line[0] == '#' || strchr("0123456789f", line[n - 1]));
}

static void check_metrics(const struct tr_buf *text)
{
	json_t *json;

	for (const char *line = text->p, *end; *line; line = end + 1) {
		end = strchr(line, '\n');
		CHECK(end);
		check_line(line, (size_t)(end - line));
	}
	json = json_stringn(text->p, text->n); /* it is UTF-8 */
	CHECK(json);
	json_decref(json);
}

/* Each of WORDS stands in some hundred samples: a view is printed in one form, of few words. */
static void try_view(const char *words, unsigned form)
{
	struct tr_card card = { .is_healthy = true };
	struct tr_report_card row = { .card = &card };
	struct tr_report_alloc alloc = { .is_shown = true, .device_count = 1 };
	struct tr_report_alloc *allocs[] = { &alloc };
	struct tr_report_view view = { .node = words,
				       .version = words,
				       .revision = words,
				       .build_date = words,
				       .driver = words,
				       .with_legacy = true,
				       .cards = &row,
				       .card_count = 1,
				       .allocs = allocs,
				       .alloc_count = 1 };
	struct tr_buf text = { 0 };
	json_t *json;

	strncpy(card.type, words, sizeof(card.type) - 1);
	strncpy(card.reason, words, sizeof(card.reason) - 1);
	strncpy(alloc.pod, words, sizeof(alloc.pod) - 1);
	strncpy(alloc.container, words, sizeof(alloc.container) - 1);
	if (form < 2) {
		tr_metrics_print(&view, &text, (enum tr_metrics_format)form);
		check_metrics(&text);
	} else {
		tr_slices_json(&view, &text);
		json = json_loads(text.p, 0, NULL);
		CHECK(json);
		json_decref(json);
	}
	tr_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	size_t rest = n ? n - 1 : 0;
	char *words;

	if (!n)
		return 0;
	words = malloc(rest + 1);
	CHECK(words);
	memcpy(words, bytes + 1, rest);
	words[rest] = '\0';
	switch (bytes[0] % 4) {
	case 0:
		try_request(words, rest);
		break;
	case 1:
		CHECK(tr_metrics_choose(words) <= TR_METRICS_OPENMETRICS);
		break;
	case 2:
		(void)tr_http_address_check(words, NULL);
		break;
	default:
		words[rest < VIEW_WORDS ? rest : VIEW_WORDS] = '\0';
		try_view(words, bytes[0] / 4 % 3);
	}
	free(words);
	return 0;
}
