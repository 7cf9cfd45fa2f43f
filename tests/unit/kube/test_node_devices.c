/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kube/mig_plan.h"
#include "kube/node_devices.h"

/* Parses TEXT as one kind of annotation and prints it again into OUT. */
typedef int (*again)(const char *text, struct tr_buf *out, struct tr_err *err);

static int devices_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_node_devices d;
	int r = tr_node_devices_parse(&d, text, err);

	if (r < 0)
		return r;
	r = tr_node_devices_print(d.at, d.count, out);
	tr_node_devices_free(&d);
	return r;
}

static int legacy_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_node_devices d;
	int r = tr_node_devices_parse_legacy(&d, text, err);

	if (r < 0)
		return r;
	r = tr_node_devices_print(d.at, d.count, out);
	tr_node_devices_free(&d);
	return r;
}

static int scores_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_pair_scores s;
	int r = tr_pair_scores_parse(&s, text, err);

	if (r < 0)
		return r;
	r = tr_pair_scores_print(s.at, s.count, out);
	tr_pair_scores_free(&s);
	return r;
}

static int plan_again(const char *text, struct tr_buf *out, struct tr_err *err)
{
	struct tr_mig_plan p;
	int r = tr_mig_plan_parse(&p, text, err);

	if (r < 0)
		return r;
	r = tr_mig_plan_print(p.at, p.count, out);
	tr_mig_plan_free(&p);
	return r;
}

#define GPU_A                                                                       \
	"{\"id\":\"GPU-a\",\"count\":10,\"devmem\":81559,\"devcore\":100,\"type\":" \
	"\"NVIDIA H100\","                                                          \
	"\"mode\":\"hami-core\",\"health\":true}"
#define GPU_B "{\"id\":\"GPU-b\",\"index\":1,\"numa\":1}"
#define MIG                                                                          \
	"{\"id\":\"GPU-m\",\"mode\":\"mig\",\"migProfiles\":[{\"name\":\"2g.10gb\"," \
	"\"memoryMB\":9856,"                                                         \
	"\"core\":29,\"sliceCount\":2,\"placements\":[{\"start\":0,\"size\":2},{"    \
	"\"start\":2,\"size\":2}]}]}"
#define PLAN                                                                             \
	"\"containerIndex\":0,\"deviceIndex\":0,\"gpuUUID\":\"GPU-a\",\"profile\":\"2g." \
	"10gb\","                                                                        \
	"\"placement\":{\"start\":2,\"size\":2}"
#define MADE ",\"migUUID\":\"MIG-x\",\"gpuInstanceID\":4,\"computeInstanceID\":0"

static const struct again_case {
	const char *name;
	again again;
	const char *text;
	const char *want; /* NULL: as it is; "": refused */
	const char *says;
} cases[] = {
	{ "register: none", devices_again, "[]", NULL, NULL },
	{ "register: as HAMi writes it", devices_again, "[" GPU_A "," GPU_B "]", NULL,
	  NULL },
	{ "register: sorted by index", devices_again, "[" GPU_B "," GPU_A "]",
	  "[" GPU_A "," GPU_B "]", NULL },
	{ "register: MIG profiles", devices_again, "[" MIG "]", NULL, NULL },
	{ "register: keys nobody knows", devices_again,
	  "[{\"devicepairscore\":{},\"id\":\"GPU-b\",\"custominfo\":null,\"index\":1,"
	  "\"numa\":1,\"x\":[]}]",
	  "[" GPU_B "]", NULL },
	{ "register: a number that is a text", devices_again,
	  "[{\"id\":\"a\",\"count\":\"1\"}]", "", "device 0: count is not a whole number" },
	{ "register: a fraction", devices_again, "[{\"id\":\"a\",\"devmem\":1.0}]", "",
	  "devmem" },
	{ "register: negative", devices_again, "[{\"id\":\"a\",\"devmem\":-1}]", "",
	  "devmem" },
	{ "register: beyond 31 bits", devices_again,
	  "[{\"id\":\"a\",\"devmem\":2147483648}]", "", "devmem" },
	{ "register: health that is no bool", devices_again,
	  "[{\"id\":\"a\",\"health\":1}]", "", "health is not true or false" },
	{ "register: no id", devices_again, "[{\"index\":1}]", "",
	  "device 0: id is not a text" },
	{ "register: an id with a separator", devices_again, "[{\"id\":\"a,b\"}]", "",
	  "not an identifier" },
	{ "register: one twice", devices_again, "[" GPU_B "," GPU_B "]", "",
	  "listed twice" },
	{ "register: an object", devices_again, "{}", "", "not an array" },
	{ "register: an element that is none", devices_again, "[1]", "", "id is not" },
	{ "register: a key twice", devices_again, "[{\"id\":\"a\",\"id\":\"b\"}]", "",
	  "not JSON" },
	{ "register: not JSON", devices_again, "[", "", "not JSON" },
	{ "register: HAMi's older form", devices_again, "GPU-a,1,2,3,T,0,true:", "",
	  "not JSON" },
	{ "register: a placement of no size", devices_again,
	  "[{\"id\":\"a\",\"migProfiles\":[{\"name\":\"p\",\"placements\":[{\"start\":1}]}]"
	  "}]",
	  "", "device 0: a placement of no size" },
	{ "legacy: seven fields", legacy_again, "GPU-b,0,0,0,,1,false:",
	  "[{\"id\":\"GPU-b\",\"numa\":1,\"mode\":\"hami-core\"}]", NULL },
	{ "legacy: nine fields", legacy_again,
	  "a,1,2,3,T,0,true,5,mig:b,1,2,3,T,0,True,4,m:",
	  "[{\"id\":\"b\",\"index\":4,\"count\":1,\"devmem\":2,\"devcore\":3,\"type\":"
	  "\"T\",\"mode\":\"m\","
	  "\"health\":true},{\"id\":\"a\",\"index\":5,\"count\":1,\"devmem\":2,\"devcore\":"
	  "3,\"type\":\"T\","
	  "\"mode\":\"mig\",\"health\":true}]",
	  NULL },
	{ "legacy: eight fields", legacy_again, "a,1,2,3,T,0,true,5:", "", "8 fields" },
	{ "legacy: ten fields", legacy_again, "a,1,2,3,T,0,true,5,m,x:", "", "10 fields" },
	{ "legacy: no colon", legacy_again, "a,1,2,3,T,0,true", "", "not a list" },
	{ "legacy: a bad number", legacy_again, "a,-1,2,3,T,0,true:", "",
	  "makes no sense" },
	{ "legacy: a bad bool", legacy_again, "a,1,2,3,T,0,yes:", "", "makes no sense" },
	{ "legacy: an empty one between", legacy_again, "a,1,2,3,T,0,true::", "",
	  "1 fields" },
	{ "scores: a pair", scores_again,
	  "[{\"uuid\":\"GPU-a\",\"score\":{\"GPU-b\":1850,\"GPU-c\":-20}},{\"uuid\":\"GPU-"
	  "b\",\"score\":"
	  "{\"GPU-a\":0}}]",
	  NULL, NULL },
	{ "scores: none", scores_again, "[]", NULL, NULL },
	{ "scores: of nobody", scores_again, "[{\"score\":{}}]", "", "uuid" },
	{ "scores: a text", scores_again, "[{\"uuid\":\"a\",\"score\":{\"b\":\"1\"}}]", "",
	  "no number" },
	{ "scores: an array", scores_again, "[{\"uuid\":\"a\",\"score\":[1]}]", "",
	  "not an object" },
	{ "scores: an object", scores_again, "{}", "", "not an array" },
	{ "MIG: planned", plan_again, "[{" PLAN "}]", NULL, NULL },
	{ "MIG: made", plan_again, "[{" PLAN MADE "}]", NULL, NULL },
	{ "MIG: half made", plan_again, "[{" PLAN ",\"migUUID\":\"MIG-x\"}]", "",
	  "only a part" },
	{ "MIG: twice", plan_again, "[{" PLAN "},{" PLAN MADE "}]", "", "planned twice" },
	{ "MIG: no size", plan_again,
	  "[{\"gpuUUID\":\"a\",\"profile\":\"p\",\"placement\":{\"start\":1}}]", "",
	  "without a size" },
	{ "MIG: no placement", plan_again, "[{\"gpuUUID\":\"a\",\"profile\":\"p\"}]", "",
	  "without a size" },
	{ "MIG: no profile", plan_again, "[{\"gpuUUID\":\"a\",\"placement\":{\"size\":1}}]",
	  "", "profile" },
	{ "MIG: a negative container", plan_again, "[{\"containerIndex\":-1}]", "",
	  "containerIndex" },
};

static void test_again(void **state)
{
	const struct again_case *c = *state;
	const char *want = c->want ? c->want : c->text;
	struct tr_buf out = { 0 };
	struct tr_err err = { 0 };
	int r = c->again(c->text, &out, &err);

	if ((r == 0) != (*want != '\0'))
		fail_msg("%d %s", r, err.msg);
	if (r == 0) {
		assert_string_equal(out.p, want);
	} else {
		assert_int_equal(r, -EBADMSG);
		if (!strstr(err.msg, c->says))
			fail_msg("\"%s\" does not say \"%s\"", err.msg, c->says);
	}
	tr_buf_free(&out);
}

static void test_not_utf8(void **state)
{
	struct tr_node_device d = { .id = "GPU-a", .type = "\xff", .mode = "" };
	struct tr_pair_score s = { "\xff", "b", 1 };
	struct tr_mig_part p = { .gpu = "\xff", .profile = "p" };
	struct tr_buf out = { 0 };

	(void)state;
	assert_int_equal(tr_node_devices_print(&d, 1, &out), -EINVAL);
	assert_int_equal(tr_pair_scores_print(&s, 1, &out), -EINVAL);
	assert_int_equal(tr_mig_plan_print(&p, 1, &out), -EINVAL);
	assert_int_equal(out.n, 0);
	tr_buf_free(&out);
}

/* What 64 GPUs take of the 256 KiB that all annotations of a node share. */
static void test_size(void **state)
{
	struct tr_node_device d[64];
	char ids[64][48];
	struct tr_buf out = { 0 };
	struct tr_node_devices got;

	(void)state;
	for (uint32_t i = 0; i < 64; i++) {
		(void)snprintf(ids[i], sizeof(ids[i]),
			       "GPU-ba5d309f-3428-4bbd-bdc3-4c68ad342c%02x", i);
		d[i] = (struct tr_node_device){ .id = ids[i],
						.type = "NVIDIA H100 80GB HBM3",
						.mode = "hami-core",
						.index = i,
						.count = 10,
						.mem_mib = 81559,
						.cores = 100,
						.numa = (int32_t)(i / 32),
						.is_healthy = true };
	}
	assert_int_equal(tr_node_devices_print(d, 64, &out), 0);
	assert_true(out.n < (size_t)16 << 10);
	assert_int_equal(tr_node_devices_parse(&got, out.p, NULL), 0);
	assert_int_equal(got.count, 64);
	assert_string_equal(got.at[63].id, ids[63]);
	assert_int_equal(got.at[63].numa, 1);
	tr_node_devices_free(&got);
	tr_buf_free(&out);
}

int main(void)
{
	struct CMUnitTest tests[TR_COUNT(cases) + 2] = {
		cmocka_unit_test(test_not_utf8),
		cmocka_unit_test(test_size),
	};

	for (size_t i = 0; i < TR_COUNT(cases); i++)
		tests[i + 2] = (struct CMUnitTest){ cases[i].name, test_again, NULL, NULL,
						    (void *)(uintptr_t)&cases[i] };
	return cmocka_run_group_tests_name("node devices", tests, NULL, NULL);
}
