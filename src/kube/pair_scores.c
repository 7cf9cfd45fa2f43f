/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "kube/fields.h"
#include "kube/node_devices.h"
#include "kube/pod_devices.h"

static int read_row(struct tr_pair_scores *s, json_t *row, struct tr_err *err)
{
	struct tr_fields f = { .object = row, .what = "a pair score", .err = err };
	const char *from = tr_field_text(&f, "uuid", TR_DEVICE_ID_MAX, true), *to;
	json_t *scores = (json_t *)(uintptr_t)tr_field_object(&f, "score"), *score;

	if (f.r < 0)
		return f.r;
	json_object_foreach (scores, to, score) {
		if (!json_is_integer(score) || json_integer_value(score) < INT32_MIN ||
		    json_integer_value(score) > INT32_MAX)
			return tr_fail(err, EBADMSG,
				       "the score of %.95s and %.95s is no number", from,
				       to);
		s->at[s->count++] = (struct tr_pair_score){
			from, to, (int32_t)json_integer_value(score)
		};
	}
	return 0;
}

int tr_pair_scores_parse(struct tr_pair_scores *out, const char *text, struct tr_err *err)
{
	struct tr_pair_scores s = { 0 };
	size_t room = 0;
	int r = tr_json_parse(text, &s.json, err);

	if (r == 0 && !json_is_array(s.json))
		r = tr_fail(err, EBADMSG, "not an array");
	for (size_t i = 0; i < json_array_size(s.json); i++)
		room += json_object_size(
			json_object_get(json_array_get(s.json, i), "score"));
	s.at = tr_xcalloc(room, sizeof(*s.at));
	for (size_t i = 0; r == 0 && i < json_array_size(s.json); i++)
		r = read_row(&s, json_array_get(s.json, i), err);
	if (r < 0)
		tr_pair_scores_free(&s);
	else
		*out = s;
	return r;
}

void tr_pair_scores_free(struct tr_pair_scores *s)
{
	free(s->at);
	json_decref(s->json);
	*s = (struct tr_pair_scores){ 0 };
}

int tr_pair_scores_print(const struct tr_pair_score *at, size_t count, struct tr_buf *out)
{
	json_t *json = json_array();
	bool is_good = true;

	for (size_t i = 0; i < count; i++) {
		json_t *row = json_array_get(json, json_array_size(json) - 1);

		if (!i || strcmp(at[i].from, at[i - 1].from) != 0) {
			row = json_pack("{s:s,s:{}}", "uuid", at[i].from, "score");
			is_good &= json_array_append_new(json, row) == 0;
		}
		is_good = is_good &&
			  json_object_set_new(json_object_get(row, "score"), at[i].to,
					      json_integer(at[i].score)) == 0;
	}
	if (!is_good) {
		json_decref(json);
		return -EINVAL;
	}
	return tr_json_print(json, out);
}
