/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The annotations' codecs. First byte: which. What is read and printed must read as the same again,
 * and print as the same; a decision must be taken exactly when a regular expression takes it.
 */
#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "kube/marks.h"
#include "kube/mig_plan.h"
#include "kube/node_devices.h"
#include "kube/pod_devices.h"
#include "kube/quantity.h"
#include "kube/words.h"
#include "naive.h"

typedef int (*again)(const char *text, struct tr_buf *out, struct tr_err *err);

static int decision_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_pod_devices d;
	int r = tr_pod_devices_parse(&d, text, err);

	if (r < 0)
		return r;
	for (size_t c = 0; c <= d.container_count; c++) {
		size_t n;
		const struct tr_device_part *part = tr_pod_devices_of(&d, c, &n);

		for (size_t i = 0; i < n; i++) {
			CHECK(strlen(part[i].id) && strlen(part[i].id) <= TR_DEVICE_ID_MAX);
			CHECK(part[i].mem_mib <= INT32_MAX && part[i].cores <= INT32_MAX);
		}
	}
	tr_pod_devices_print(&d, 0, out);
	tr_pod_devices_free(&d);
	return 0;
}

static int grant_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_grant g;
	int r = tr_grant_parse(&g, text, err);

	if (r < 0)
		return r == -EPROTONOSUPPORT ? -EBADMSG : r;
	tr_grant_print(&g, 0, out);
	tr_grant_free(&g);
	return 0;
}

static int register_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_node_devices d;
	int r = tr_node_devices_parse(&d, text, err);

	if (r < 0)
		return r;
	CHECK(tr_node_devices_print(d.at, d.count, out) == 0);
	tr_node_devices_free(&d);
	return 0;
}

/* Its texts need not be UTF-8, so printing them as JSON may fail. */
static void try_legacy(const char *text)
{
	struct tr_node_devices d;
	struct tr_buf out = { 0 };

	if (tr_node_devices_parse_legacy(&d, text, NULL) < 0)
		return;
	(void)tr_node_devices_print(d.at, d.count, &out);
	tr_buf_free(&out);
	tr_node_devices_free(&d);
}

static int scores_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_pair_scores s;
	int r = tr_pair_scores_parse(&s, text, err);

	if (r < 0)
		return r;
	CHECK(tr_pair_scores_print(s.at, s.count, out) == 0);
	tr_pair_scores_free(&s);
	return 0;
}

static int plan_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_mig_plan p;
	int r = tr_mig_plan_parse(&p, text, err);

	if (r < 0)
		return r;
	CHECK(tr_mig_plan_print(p.at, p.count, out) == 0);
	tr_mig_plan_free(&p);
	return 0;
}

static int lock_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_node_lock lock;
	char printed[TR_NODE_LOCK_TEXT];
	int r = tr_node_lock_parse(&lock, text, err);

	if (r < 0)
		return r;
	tr_node_lock_print(&lock, printed);
	tr_buf_text(out, printed);
	return 0;
}

static void try_again(again f, const char *text)
{
	struct tr_buf once = { 0 }, twice = { 0 };
	struct tr_err err = { 0 };
	int r = f(text, &once, &err);

	CHECK(r == 0 || (r == -EBADMSG && err.msg[0]));
	if (r == 0) {
		CHECK(f(once.p, &twice, &err) == 0);
		CHECK(strcmp(once.p, twice.p) == 0);
	}
	tr_buf_free(&once);
	tr_buf_free(&twice);
}

/* The text is short, so that the maxima of devices and containers are not reached. */
static void try_decision(const char *text)
{
	static regex_t regex;
	static bool is_ready;
	struct tr_pod_devices d;
	bool is_one, is_small = strlen(text) < 200;

	if (!is_ready)
		CHECK(regcomp(&regex,
			      "^((([!-+./-9<-~-]{1,95}),([!-+./"
			      "-9<-~-]{1,31}),0*[0-9]{1,9},0*[0-9]{1,9}"
			      "(,[^:;]*)?(:|;|$))|;)*$",
			      REG_EXTENDED | REG_NOSUB) == 0);
	is_ready = true;
	try_again(decision_again, text);
	/* Numbers of ten digits are a matter of value, not of shape. */
	if (!is_small || regexec(&regex, text, 0, NULL, 0) != 0)
		return;
	is_one = tr_pod_devices_parse(&d, text, NULL) == 0;
	CHECK(is_one);
	tr_pod_devices_free(&d);
}

static void try_small(const char *text)
{
	struct tr_handshake h = tr_handshake_parse(text);
	char printed[TR_HANDSHAKE_TEXT];
	const char *at = text, *entry;
	int64_t value = 0;
	size_t n;
	bool b;

	if (h.has_time) {
		tr_handshake_print(h.wall_s, printed);
		CHECK(tr_handshake_parse(printed).wall_s == h.wall_s);
	}
	while (tr_list_next(&at, &entry, &n))
		CHECK(n && !memchr(entry, ',', n) && entry >= text);
	(void)tr_word_bool(text, &b);
	if (tr_unix_time_parse(text, &value) == 0)
		CHECK(value >= 0);
	if (tr_quantity_parse(text, &value) == 0 &&
	    strspn(text, "0123456789") == strlen(text))
		CHECK(value == strtoll(text, NULL, 10));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const struct {
		char letter;
		again again;
	} codecs[] = { { 'g', grant_again },
		       { 'r', register_again },
		       { 's', scores_again },
		       { 'm', plan_again },
		       { 'k', lock_again } };
	char *text = n ? tr_xstrndup((const char *)bytes + 1, n - 1) : NULL;

	if (!n)
		return 0;
	for (size_t i = 0; i < sizeof(codecs) / sizeof(*codecs); i++)
		if (bytes[0] == codecs[i].letter)
			try_again(codecs[i].again, text);
	if (bytes[0] == 'd')
		try_decision(text);
	else if (bytes[0] == 'l')
		try_legacy(text);
	else if (bytes[0] == 'w')
		try_small(text);
	free(text);
	return 0;
}
