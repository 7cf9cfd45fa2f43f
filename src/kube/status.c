/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/status.h"

#include <errno.h>
#include <string.h>

/* One printable line of at most ROOM - 1 bytes; a cut does not split a UTF-8 character. */
static void copy_line(char *out, size_t room, const char *text, size_t n)
{
	size_t to = 0, i;

	for (i = 0; i < n && text[i] && to + 1 < room; i++) {
		unsigned char c = (unsigned char)text[i];

		out[to++] = c < ' ' || c == 0x7f ? ' ' : (char)c;
	}
	if (i < n && text[i])
		while (to && ((unsigned char)text[i] & 0xc0) == 0x80) {
			i--;
			to--;
		}
	while (to && out[to - 1] == ' ')
		to--;
	out[to] = '\0';
}

static void copy_member(char *out, size_t room, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	if (json_is_string(value))
		copy_line(out, room, json_string_value(value), json_string_length(value));
}

void tr_kube_status_read(struct tr_kube_status *out, int http, const json_t *body,
			 const char *text, size_t n)
{
	const json_t *kind = json_object_get(body, "kind");
	const json_t *wait;

	*out = (struct tr_kube_status){ .code = http };
	if (!json_is_string(kind) || strcmp(json_string_value(kind), "Status") != 0) {
		copy_line(out->message, sizeof(out->message), text ? text : "", n);
		return;
	}
	copy_member(out->reason, sizeof(out->reason), body, "reason");
	copy_member(out->message, sizeof(out->message), body, "message");
	if (!http)
		out->code = (int)json_integer_value(json_object_get(body, "code"));
	wait = json_object_get(json_object_get(body, "details"), "retryAfterSeconds");
	if (json_is_integer(wait) && json_integer_value(wait) > 0)
		out->retry_after_s = json_integer_value(wait) < 3600
					     ? (uint32_t)json_integer_value(wait)
					     : 3600;
}

int tr_kube_status_errno(const struct tr_kube_status *s)
{
	switch (s->code) {
	case 404:
		return ENOENT;
	case 401:
	case 403:
		return EACCES;
	case 409:
		return strcmp(s->reason, "AlreadyExists") == 0 ? EEXIST : ESTALE;
	case 400:
	case 405:
	case 413:
	case 415:
	case 422:
		return EINVAL;
	case 410:
		return EKEYEXPIRED;
	case 408:
	case 429:
	case 500:
	case 502:
	case 503:
	case 504:
		return EAGAIN;
	default:
		return EPROTO;
	}
}
