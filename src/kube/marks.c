/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/marks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kube/words.h"

/* N bytes of FROM as a name of at most ROOM - 1. */
static int copy_name(char *to, size_t room, const char *from, size_t n)
{
	if (n == 0 || n >= room || !tr_word_is_printable(from, n))
		return -EBADMSG;
	memcpy(to, from, n);
	to[n] = '\0';
	return 0;
}

int tr_node_lock_parse(struct tr_node_lock *out, const char *text, struct tr_err *err)
{
	struct tr_node_lock lock = { 0 };
	char time[64];
	size_t n = strcspn(text, ",");
	const char *space = text + n + 1, *pod;
	int r = copy_name(time, sizeof(time), text, n);

	if (r == 0)
		r = tr_rfc3339_parse(time, &lock.unix_us);
	if (r < 0)
		return tr_fail(err, EBADMSG, "lock \"%.64s\": no time", text);
	if (text[n] == ',') {
		n = strcspn(space, ",");
		pod = space + n + 1;
		if (!space[n] || strchr(pod, ',') ||
		    copy_name(lock.space, sizeof(lock.space), space, n) < 0 ||
		    copy_name(lock.pod, sizeof(lock.pod), pod, strlen(pod)) < 0)
			return tr_fail(err, EBADMSG, "lock \"%.64s\": no owner", text);
	}
	*out = lock;
	return 0;
}

void tr_node_lock_print(const struct tr_node_lock *lock, char out[static TR_NODE_LOCK_TEXT])
{
	char time[TR_RFC3339_TEXT];
	int64_t s = lock->unix_us / 1000000;

	tr_rfc3339_print(time, lock->unix_us % 1000000 < 0 ? s - 1 : s);
	if (*lock->pod)
		(void)snprintf(out, TR_NODE_LOCK_TEXT, "%s,%s,%s", time, lock->space,
			       lock->pod);
	else
		(void)snprintf(out, TR_NODE_LOCK_TEXT, "%s", time);
}

/* "2006-01-02 15:04:05", nothing after it. */
static bool read_wall(const char *text, int64_t *wall_s)
{
	char time[TR_RFC3339_TEXT];
	int64_t us;

	if (strlen(text) != 19 || text[10] != ' ')
		return false;
	(void)snprintf(time, sizeof(time), "%.10sT%.8sZ", text, text + 11);
	if (tr_rfc3339_parse(time, &us) < 0)
		return false;
	*wall_s = us / 1000000;
	return true;
}

struct tr_handshake tr_handshake_parse(const char *text)
{
	static const char *const words[] = {
		[TR_HANDSHAKE_REQUESTING] = "Requesting",
		[TR_HANDSHAKE_REPORTED] = "Reported",
		[TR_HANDSHAKE_DELETED] = "Deleted",
	};
	struct tr_handshake h = { 0 };

	for (int i = TR_HANDSHAKE_REQUESTING; i <= TR_HANDSHAKE_DELETED; i++) {
		size_t n = strlen(words[i]);

		if (strncmp(text, words[i], n) != 0)
			continue;
		h.kind = (enum tr_handshake_kind)i;
		h.has_time = (text[n] == '_' || text[n] == ' ') &&
			     read_wall(text + n + 1, &h.wall_s);
	}
	/* HAMi's scheduler looks for the word anywhere. */
	if (h.kind == TR_HANDSHAKE_OTHER && strstr(text, words[TR_HANDSHAKE_REQUESTING]))
		h.kind = TR_HANDSHAKE_REQUESTING;
	return h;
}

void tr_handshake_print(int64_t wall_s, char out[static TR_HANDSHAKE_TEXT])
{
	char time[TR_RFC3339_TEXT];

	tr_rfc3339_print(time, wall_s);
	(void)snprintf(out, TR_HANDSHAKE_TEXT, "Requesting_%.10s %.8s", time, time + 11);
}

static const char *const phases[] = { "allocating", "success", "failed" };

int tr_bind_phase_parse(const char *text, enum tr_bind_phase *out)
{
	for (unsigned i = 0; i < sizeof(phases) / sizeof(*phases); i++)
		if (strcmp(text, phases[i]) == 0) {
			*out = (enum tr_bind_phase)i;
			return 0;
		}
	return -EBADMSG;
}

const char *tr_bind_phase_name(enum tr_bind_phase phase)
{
	return phases[phase];
}

int tr_unix_time_parse(const char *text, int64_t *unix_s_out)
{
	uint64_t value;

	/* Up to the year 9999. */
	if (tr_word_number(text, strlen(text), UINT64_C(253402300799), &value) < 0)
		return -EBADMSG;
	*unix_s_out = (int64_t)value;
	return 0;
}
