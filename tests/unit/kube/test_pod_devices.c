/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kube/marks.h"
#include "kube/pod_devices.h"
#include "kube/words.h"
#include "tranche/names.h"

#define A "GPU-0fc3,NVIDIA,3000,30:"
#define B "GPU-11aa,NVIDIA,5000,0:"

static const struct decision_case {
	const char *name, *text;
	const char *printed; /* NULL: refused */
	const char *says;    /* then */
} decisions[] = {
	{ "decision: nothing", "", "", NULL },
	{ "decision: two containers", A ";" B ";", A ";" B ";", NULL },
	{ "decision: two devices", A B ";", A B ";", NULL },
	{ "decision: a placeholder first", ";" A ";", ";" A ";", NULL },
	{ "decision: a placeholder between", A ";;" B ";", A ";;" B ";", NULL },
	{ "decision: what HAMi's rewrites add", A ";;;;", A ";", NULL },
	{ "decision: all taken", ";;;", "", NULL },
	{ "decision: no semicolon at the end", A, A ";", NULL },
	{ "decision: no colon at the end", "GPU-0fc3,NVIDIA,3000,30", A ";", NULL },
	{ "decision: further fields", "GPU-0fc3,NVIDIA,3000,30,x,y:;", A ";", NULL },
	{ "decision: leading zeros", "GPU-0fc3,NVIDIA,03000,030:;", A ";", NULL },
	{ "decision: the largest amounts", "G,V,2147483647,2147483647:;",
	  "G,V,2147483647,2147483647:;", NULL },
	{ "decision: memory of 32 bits", "G,V,2147483648,0:;", NULL, "31 bits" },
	{ "decision: negative", "G,V,-1,0:;", NULL, "31 bits" },
	{ "decision: a plus", "G,V,+1,0:;", NULL, "31 bits" },
	{ "decision: no amount", "G,V,,0:;", NULL, "31 bits" },
	{ "decision: a unit", "G,V,3Gi,0:;", NULL, "31 bits" },
	{ "decision: three fields", "G,V,1:;", NULL, "four fields" },
	{ "decision: one field", "garbage", NULL, "four fields" },
	{ "decision: no id", ",V,1,1:;", NULL, "not an identifier" },
	{ "decision: no vendor", "G,,1,1:;", NULL, "not an identifier" },
	{ "decision: a blank in the id", "G 1,V,1,1:;", NULL, "not an identifier" },
	{ "decision: a control character", "G\n,V,1,1:;", NULL, "not an identifier" },
	{ "decision: beyond ASCII", "G\xc3\xa4,V,1,1:;", NULL, "not an identifier" },
	{ "decision: only colons", ":::", NULL, "not an identifier" },
	{ "decision: the second is wrong", A ";" A "x:;", NULL, "container 1, at \"x:;\"" },
};

static void test_decision(void **state)
{
	const struct decision_case *c = *state;
	struct tr_pod_devices d = { 0 };
	struct tr_err err = { 0 };
	struct tr_buf out = { 0 };
	int r = tr_pod_devices_parse(&d, c->text, &err);

	if ((r == 0) != (c->printed != NULL))
		fail_msg("%d %s", r, err.msg);
	if (r < 0) {
		assert_int_equal(r, -EBADMSG);
		if (!strstr(err.msg, c->says))
			fail_msg("\"%s\" does not say \"%s\"", err.msg, c->says);
		return;
	}
	tr_pod_devices_print(&d, 0, &out);
	assert_string_equal(out.p, c->printed);
	tr_pod_devices_free(&d);
	tr_buf_free(&out);
}

static void test_maxima(void **state)
{
	struct tr_pod_devices d;
	struct tr_buf text = { 0 };
	struct tr_err err = { 0 };

	(void)state;
	for (unsigned i = 0; i < TR_CONTAINER_DEVICES_MAX; i++)
		tr_buf_text(&text, A);
	assert_int_equal(tr_pod_devices_parse(&d, text.p, &err), 0);
	assert_int_equal(d.part_count, TR_CONTAINER_DEVICES_MAX);
	tr_pod_devices_free(&d);
	tr_buf_text(&text, A);
	assert_int_equal(tr_pod_devices_parse(&d, text.p, &err), -EBADMSG);
	tr_buf_clear(&text);
	for (unsigned i = 0; i < TR_POD_CONTAINERS_MAX; i++)
		tr_buf_text(&text, A ";");
	assert_int_equal(tr_pod_devices_parse(&d, text.p, &err), 0);
	tr_pod_devices_free(&d);
	tr_buf_text(&text, A ";");
	assert_int_equal(tr_pod_devices_parse(&d, text.p, &err), -EBADMSG);
	while (text.n <= TR_ANNOTATION_MAX)
		tr_buf_text(&text, ";;;;;;;;");
	assert_int_equal(tr_pod_devices_parse(&d, text.p, &err), -EBADMSG);
	tr_buf_free(&text);
}

/* As HAMi's plugin works a list off. */
static void test_taking(void **state)
{
	struct tr_pod_devices d;
	struct tr_buf out = { 0 };
	size_t at, n;

	(void)state;
	assert_int_equal(tr_pod_devices_parse(&d, ";" A B ";;" B ";", NULL), 0);
	assert_int_equal(d.container_count, 4);
	assert_null(tr_pod_devices_of(&d, 0, &n));
	assert_string_equal(tr_pod_devices_of(&d, 1, &n)[1].id, "GPU-11aa");
	assert_int_equal(n, 2);
	assert_null(tr_pod_devices_of(&d, 99, &n));
	assert_int_equal(tr_pod_devices_first(&d, &at), 0);
	assert_int_equal(at, 1);
	tr_pod_devices_clear(&d, at);
	tr_pod_devices_print(&d, 0, &out);
	assert_string_equal(out.p, ";;;" B ";");
	assert_int_equal(tr_pod_devices_first(&d, &at), 0);
	assert_int_equal(at, 3);
	tr_pod_devices_clear(&d, at);
	tr_pod_devices_clear(&d, 77);
	assert_int_equal(tr_pod_devices_first(&d, &at), -ENOENT);
	tr_buf_clear(&out);
	tr_pod_devices_print(&d, 4, &out);
	assert_string_equal(out.p, ";;;;");
	tr_pod_devices_free(&d);
	tr_buf_free(&out);
}

static const struct align_case {
	const char *text;
	uint32_t wanted[4];
	const char *want; /* NULL: refused */
} aligns[] = {
	{ A ";" B ";", { 1, 1 }, A ";" B ";;;" },
	{ ";" A ";", { 0, 1 }, ";" A ";;;" },
	{ A ";", { 0, 1 }, ";" A ";;;" },            /* HAMi 2.10: sidecar, gpu */
	{ A ";" B ";", { 1, 0, 1 }, A ";;" B ";;" }, /* gpu, none, gpu */
	{ A B ";" B ";", { 0, 2, 0, 1 }, ";" A B ";;" B ";" },
	{ "", { 0, 0 }, ";;;;" },
	{ ";" A ";", { 1, 0 }, NULL }, /* too late: not HAMi's doing */
	{ A ";", { 1, 1 }, NULL },
	{ A ";" B ";", { 1 }, NULL },
	{ A B ";", { 1 }, NULL },
	{ A ";" A B ";", { 2, 1 }, NULL },
};

static void test_align(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(aligns); i++) {
		struct tr_pod_devices d;
		struct tr_buf out = { 0 };
		int r;

		assert_int_equal(tr_pod_devices_parse(&d, aligns[i].text, NULL), 0);
		r = tr_pod_devices_align(&d, aligns[i].wanted, 4, NULL);
		assert_int_equal(r, aligns[i].want ? 0 : -EBADMSG);
		tr_pod_devices_print(&d, 4, &out);
		if (aligns[i].want)
			assert_string_equal(out.p, aligns[i].want);
		tr_pod_devices_free(&d);
		tr_buf_free(&out);
	}
}

static const struct grant_case {
	const char *text;
	int want;
} grants[] = {
	{ "v1 0f-1 7 " A ";;" B ";", 0 },
	{ "v1 0f-1 9223372036854775807 ", 0 },
	{ "v2 0f-1 7 x", -EPROTONOSUPPORT },
	{ "v10 0f-1 7 " A, -EPROTONOSUPPORT },
	{ "", -EPROTONOSUPPORT },
	{ A ";", -EPROTONOSUPPORT },
	{ "v1", -EBADMSG },
	{ "v1 0f-1", -EBADMSG },
	{ "v1 0f-1 7", -EBADMSG },
	{ "v1  7 " A, -EBADMSG },
	{ "v1 0f-1 x " A, -EBADMSG },
	{ "v1 0f-1 9223372036854775808 " A, -EBADMSG },
	{ "v1 0f-1 -1 " A, -EBADMSG },
	{ "v1 0f-1 7  " A, -EBADMSG },
	{ "v1 0f-1 7 G,V,1:", -EBADMSG },
	{ "v1 0123456789012345678901234567890123456789012345678901234567890123 7 " A,
	  -EBADMSG },
};

static void test_grants(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(grants); i++) {
		struct tr_grant g;
		struct tr_buf out = { 0 };
		struct tr_err err = { 0 };

		if (tr_grant_parse(&g, grants[i].text, &err) != grants[i].want)
			fail_msg("\"%s\": %s", grants[i].text, err.msg);
		if (grants[i].want < 0)
			continue;
		tr_grant_print(&g, 0, &out);
		assert_string_equal(out.p, grants[i].text);
		tr_grant_free(&g);
		tr_buf_free(&out);
	}
}

static const struct lock_case {
	const char *text, *printed; /* NULL: refused */
} locks[] = {
	{ "2026-08-21T10:00:00Z,a,b", "2026-08-21T10:00:00Z,a,b" },
	{ "2026-08-21T12:00:00.5+02:00,a,b", "2026-08-21T10:00:00Z,a,b" },
	{ "2026-08-21T10:00:00Z", "2026-08-21T10:00:00Z" },
	{ "2026-08-21T10:00:00Z,a", NULL },
	{ "2026-08-21T10:00:00Z,a,", NULL },
	{ "2026-08-21T10:00:00Z,,b", NULL },
	{ "2026-08-21T10:00:00Z,a,b,c", NULL },
	{ "yesterday,a,b", NULL },
	{ ",a,b", NULL },
	{ "", NULL },
};

static void test_locks(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(locks); i++) {
		struct tr_node_lock lock;
		char text[TR_NODE_LOCK_TEXT];
		int r = tr_node_lock_parse(&lock, locks[i].text, NULL);

		assert_int_equal(r, locks[i].printed ? 0 : -EBADMSG);
		if (r < 0)
			continue;
		tr_node_lock_print(&lock, text);
		assert_string_equal(text, locks[i].printed);
	}
}

static const struct handshake_case {
	const char *text;
	enum tr_handshake_kind kind;
	int64_t wall_s; /* -1: none */
} handshakes[] = {
	{ "Requesting_2026-08-21 10:00:00", TR_HANDSHAKE_REQUESTING, 1787306400 },
	{ "Reported 2026-08-21 10:00:00", TR_HANDSHAKE_REPORTED, 1787306400 },
	{ "Deleted_2026-08-21 10:00:00", TR_HANDSHAKE_DELETED, 1787306400 },
	{ "Requesting_", TR_HANDSHAKE_REQUESTING, -1 },
	{ "Requesting_2026-08-21T10:00:00Z", TR_HANDSHAKE_REQUESTING, -1 },
	{ "Requesting_2026-02-30 10:00:00", TR_HANDSHAKE_REQUESTING, -1 },
	{ "x Requesting", TR_HANDSHAKE_REQUESTING, -1 },
	{ "", TR_HANDSHAKE_OTHER, -1 },
	{ "hello", TR_HANDSHAKE_OTHER, -1 },
};

static void test_handshakes(void **state)
{
	char text[TR_HANDSHAKE_TEXT];

	(void)state;
	for (size_t i = 0; i < TR_COUNT(handshakes); i++) {
		struct tr_handshake h = tr_handshake_parse(handshakes[i].text);

		assert_int_equal(h.kind, handshakes[i].kind);
		assert_int_equal(h.has_time, handshakes[i].wall_s >= 0);
		if (h.has_time)
			assert_true(h.wall_s == handshakes[i].wall_s);
	}
	tr_handshake_print(1787306400, text);
	assert_string_equal(text, handshakes[0].text);
}

static void test_small_marks(void **state)
{
	enum tr_bind_phase phase;
	const char *list = " a , ,b\t,, c d ,";
	const char *entry;
	int64_t s;
	bool b;
	size_t n;

	(void)state;
	for (int i = TR_BIND_ALLOCATING; i <= TR_BIND_FAILED; i++) {
		assert_int_equal(tr_bind_phase_parse(
					 tr_bind_phase_name((enum tr_bind_phase)i), &phase),
				 0);
		assert_int_equal(phase, i);
	}
	assert_int_equal(tr_bind_phase_parse("Success", &phase), -EBADMSG);
	assert_int_equal(tr_unix_time_parse("1787306400", &s), 0);
	assert_true(s == 1787306400);
	assert_int_equal(tr_unix_time_parse("-1", &s), -EBADMSG);
	assert_int_equal(tr_unix_time_parse("", &s), -EBADMSG);
	assert_int_equal(tr_unix_time_parse("99999999999999999999", &s), -EBADMSG);
	assert_true(tr_list_next(&list, &entry, &n) && n == 1 && *entry == 'a');
	assert_true(tr_list_next(&list, &entry, &n) && n == 1 && *entry == 'b');
	assert_true(tr_list_next(&list, &entry, &n) && n == 3 && *entry == 'c');
	assert_false(tr_list_next(&list, &entry, &n));
	assert_true(tr_list_has("GPU-a, GPU-b", "GPU-b"));
	assert_false(tr_list_has("GPU-a, GPU-b", "GPU"));
	assert_true(tr_list_is_empty(" , ,"));
	assert_true(tr_list_is_empty(""));
	assert_false(tr_list_is_empty(",x"));
	assert_int_equal(tr_word_bool("T", &b), 0);
	assert_true(b);
	assert_int_equal(tr_word_bool("False", &b), 0);
	assert_false(b);
	assert_int_equal(tr_word_bool("yes", &b), -EINVAL);
}

int main(void)
{
	static const struct CMUnitTest others[] = {
		cmocka_unit_test(test_maxima),      cmocka_unit_test(test_taking),
		cmocka_unit_test(test_align),       cmocka_unit_test(test_grants),
		cmocka_unit_test(test_locks),       cmocka_unit_test(test_handshakes),
		cmocka_unit_test(test_small_marks),
	};
	struct CMUnitTest tests[TR_COUNT(decisions) + TR_COUNT(others)];
	size_t n = 0;

	for (size_t i = 0; i < TR_COUNT(decisions); i++)
		tests[n++] = (struct CMUnitTest){ decisions[i].name, test_decision, NULL,
						  NULL, (void *)(uintptr_t)&decisions[i] };
	for (size_t i = 0; i < TR_COUNT(others); i++)
		tests[n++] = others[i];
	return cmocka_run_group_tests_name("pod devices", tests, NULL, NULL);
}
