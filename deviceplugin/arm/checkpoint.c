/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/arm/checkpoint.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/slurp.h"
#include "kube/words.h"
#include "rt/file.h"

#define CHECKPOINT_MAX ((size_t)64 << 20)
/* A file system's clock ticks every few milliseconds, an old one's every second or two; a file that is changed
 * twice in a tick may look the same. */
#define TICK_NS     INT64_C(100000000)
#define OLD_TICK_NS INT64_C(3000000000)

void tr_checkpoint_free(struct tr_checkpoint *checkpoint)
{
	for (size_t i = 0; i < checkpoint->count; i++)
		free(checkpoint->rows[i].id);
	free(checkpoint->rows);
	*checkpoint = (struct tr_checkpoint){ 0 };
}

static void add_row(struct tr_checkpoint *checkpoint, const char *id, const char *uid)
{
	struct tr_checkpoint_row *row;
	size_t n = checkpoint->count;

	if ((n & (n - 1)) == 0)
		checkpoint->rows = tr_xrealloc(checkpoint->rows,
					       (n ? 2 * n : 1) * sizeof(*row));
	row = &checkpoint->rows[checkpoint->count++];
	*row = (struct tr_checkpoint_row){ .id = tr_xstrdup(id) };
	if (uid && strlen(uid) < TR_POD_UID && tr_word_is_printable(uid, strlen(uid)))
		memcpy(row->uid, uid, strlen(uid) + 1);
}

/* The ids of an entry stand by NUMA node. */
static void add_entry(struct tr_checkpoint *checkpoint, json_t *entry, const char *resource)
{
	const char *of = json_string_value(json_object_get(entry, "ResourceName")), *node;
	const char *uid = json_string_value(json_object_get(entry, "PodUID"));
	json_t *nodes = json_object_get(entry, "DeviceIDs"), *texts, *text;
	size_t i;

	if (!of || strcmp(of, resource) != 0)
		return;
	json_object_foreach (nodes, node, texts) {
		json_array_foreach (texts, i, text)
			if (json_is_string(text))
				add_row(checkpoint, json_string_value(text), uid);
	}
}

static int by_id(const void *a, const void *b)
{
	const struct tr_checkpoint_row *x = a, *y = b;

	return strcmp(x->id, y->id);
}

/* An id that is said to be two pods' is nobody's. */
static void sort_rows(struct tr_checkpoint *checkpoint)
{
	struct tr_checkpoint_row *rows = checkpoint->rows;

	if (rows)
		qsort(rows, checkpoint->count, sizeof(*rows), by_id);
	for (size_t i = 1; i < checkpoint->count; i++)
		if (strcmp(rows[i].id, rows[i - 1].id) == 0 &&
		    strcmp(rows[i].uid, rows[i - 1].uid) != 0)
			rows[i].uid[0] = rows[i - 1].uid[0] = '\0';
	/* Of more than two the first may have been passed. */
	for (size_t i = checkpoint->count; i-- > 1;)
		if (strcmp(rows[i].id, rows[i - 1].id) == 0 && !rows[i].uid[0])
			rows[i - 1].uid[0] = '\0';
}

int tr_checkpoint_parse(struct tr_checkpoint *checkpoint, const char *text, size_t n,
			const char *resource, struct tr_err *err)
{
	json_auto_t *all = json_loadb(text, n, 0, NULL);
	const json_t *entries = json_object_get(json_object_get(all, "Data"),
						"PodDeviceEntries");

	tr_checkpoint_free(checkpoint);
	/* A kubelet that gave nothing yet writes null. */
	if (!json_is_array(entries) && !json_is_null(entries))
		return tr_fail(err, EBADMSG, "the kubelet's checkpoint has another form");
	for (size_t i = 0; i < json_array_size(entries); i++)
		add_entry(checkpoint, json_array_get(entries, i), resource);
	sort_rows(checkpoint);
	return 0;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool is_settled(const struct stat *file)
{
	int64_t tick_ns = file->st_ctim.tv_nsec ? TICK_NS : OLD_TICK_NS;
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (now.tv_sec - file->st_ctim.tv_sec) * INT64_C(1000000000) +
		       (now.tv_nsec - file->st_ctim.tv_nsec) >
	       tick_ns;
}

int tr_checkpoint_read(struct tr_checkpoint *checkpoint, const char *path,
		       const char *resource, uint64_t since_ns, struct tr_err *err)
{
	uint64_t now_ns = tr_clock_ns();
	tr_autofree char *text = NULL;
	struct stat file = { 0 };
	size_t n;
	int r;

	if (checkpoint->read_ns && checkpoint->read_ns >= since_ns)
		return 0;
	if (stat(path, &file) == 0 && checkpoint->is_settled &&
	    is_same(&file, &checkpoint->file)) {
		checkpoint->read_ns = now_ns;
		return 0;
	}
	r = tr_slurp(path, CHECKPOINT_MAX, &text, &n, err);
	if (r == 0)
		r = tr_checkpoint_parse(checkpoint, text, n, resource, err);
	if (r < 0) {
		tr_checkpoint_free(checkpoint);
		return r;
	}
	checkpoint->read_ns = now_ns;
	checkpoint->file = file;
	checkpoint->is_settled = is_settled(&file);
	return 0;
}

int tr_checkpoint_owner(const struct tr_checkpoint *checkpoint, const struct tr_ids *ids,
			char uid[static TR_POD_UID], struct tr_err *err)
{
	uid[0] = '\0';
	for (size_t i = 0; i < ids->count; i++) {
		const struct tr_checkpoint_row key = { .id = (char *)(uintptr_t)
								     ids->ids[i] },
					       *row = NULL;

		if (checkpoint->count)
			row = bsearch(&key, checkpoint->rows, checkpoint->count,
				      sizeof(key), by_id);
		if (!row)
			continue;
		if (!row->uid[0] || (uid[0] && strcmp(row->uid, uid) != 0))
			return tr_fail(err, EBADMSG,
				       "the kubelet's checkpoint does not say whose device "
				       "%s is",
				       ids->ids[i]);
		memcpy(uid, row->uid, sizeof(row->uid));
	}
	return uid[0] ? 0
		      : tr_fail(err, EAGAIN,
				"the kubelet does not say which pod device %s "
				"belongs to",
				ids->count ? ids->ids[0] : "(none)");
}
