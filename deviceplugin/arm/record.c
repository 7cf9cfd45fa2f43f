/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/arm/record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "kube/fields.h"
#include "kube/words.h"
#include "rt/cleanup.h"

#define IDS_MAX   1024
#define BOOT_PATH "/proc/sys/kernel/random/boot_id"

static const char *const states[] = { "waiting", "armed" };
static const char *const kinds[] = { "init", "sidecar", "app" };
static const char *const priorities[] = { "normal", "high", "low" };

int tr_boot_id(char out[static TR_BOOT_ID], const char *path, struct tr_err *err)
{
	tr_autoclose int fd = open(path ? path : BOOT_PATH, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, TR_BOOT_ID - 1);

	if (n < 0)
		return tr_fail_errno(err, "%s", path ? path : BOOT_PATH);
	out[n] = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (!out[0] || !tr_word_is_printable(out, strlen(out)))
		return tr_fail(err, EBADMSG, "%s is not the id of a boot",
			       path ? path : BOOT_PATH);
	return 0;
}

/* ---- writing ---- */

/* By hand: one is written for every container that starts, while the others wait. */
static void put_text(struct tr_buf *out, const char *before, const char *text)
{
	tr_buf_text(out, before);
	tr_buf_quote(out, text);
}

static void print_ids(const struct tr_alloc *alloc, struct tr_buf *out)
{
	tr_buf_text(out, ",\"ids\":[");
	for (size_t i = 0; i < alloc->id_count; i++)
		put_text(out, i ? "," : "", alloc->ids[i]);
	tr_buf_text(out, "]");
}

static void print_parts(const struct tr_alloc *alloc, struct tr_buf *out)
{
	tr_buf_text(out, ",\"devices\":[");
	for (size_t i = 0; i < alloc->part_count; i++) {
		const struct tr_alloc_part *part = &alloc->parts[i];

		put_text(out, i ? ",{\"uuid\":" : "{\"uuid\":", part->uuid);
		tr_buf_print(out,
			     ",\"limit_bytes\":%" PRIu64 ",\"cores\":%" PRIu32
			     ",\"cores_max\":%" PRIu32 "}",
			     part->limit_bytes, part->cores, part->cores_max);
	}
	tr_buf_text(out, "]");
}

static void print_owner(const struct tr_alloc *alloc, struct tr_buf *out)
{
	put_text(out, ",\"owner\":{\"namespace\":", alloc->space);
	put_text(out, ",\"pod\":", alloc->pod);
	put_text(out, ",\"uid\":", alloc->uid);
	put_text(out, ",\"container\":", alloc->container);
	tr_buf_print(out,
		     ",\"index\":%u,\"kind\":\"%s\",\"priority\":\"%s\",\"armed\":%" PRId64
		     ",\"grant\":%" PRIu64,
		     alloc->index, kinds[alloc->kind], priorities[alloc->priority],
		     alloc->armed_unix_s, alloc->grant_serial);
	print_parts(alloc, out);
	tr_buf_text(out, "}");
}

void tr_record_print(const struct tr_alloc *alloc, const char *boot_id, struct tr_buf *out)
{
	tr_buf_print(out, "{\"version\":%d", TR_RECORD_VERSION);
	put_text(out, ",\"name\":", alloc->name);
	put_text(out, ",\"boot\":", boot_id);
	put_text(out, ",\"state\":", states[alloc->state]);
	tr_buf_print(out, ",\"made\":%" PRId64, alloc->made_unix_s);
	print_ids(alloc, out);
	if (alloc->state == TR_ALLOC_ARMED)
		print_owner(alloc, out);
	tr_buf_text(out, "}\n");
}

/* ---- reading ---- */

/* A key that we do not know was written by somebody who means something by it. */
static void only(struct tr_fields *f, const char *const *known)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)f->object, key, value) {
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i] && f->r == 0)
			f->r = tr_fail(f->err, EBADMSG, "%s: \"%.40s\" is no key of it",
				       f->what, key);
	}
}

static int one_of(struct tr_fields *f, const char *key, const char *const *words,
		  size_t count)
{
	const char *word = tr_field_text(f, key, 32, true);

	for (size_t i = 0; f->r == 0 && i < count; i++)
		if (strcmp(words[i], word) == 0)
			return (int)i;
	if (f->r == 0)
		f->r = tr_fail(f->err, EBADMSG, "%s: %s is \"%s\"", f->what, key, word);
	return 0;
}

/* A text without blanks into a field of ROOM bytes. */
static void word(struct tr_fields *f, const char *key, char *out, size_t room)
{
	const char *text = tr_field_text(f, key, room - 1, true);

	if (f->r == 0 && !tr_word_is_printable(text, strlen(text)))
		f->r = tr_fail(f->err, EBADMSG, "%s: %s is not printable", f->what, key);
	if (f->r == 0)
		memcpy(out, text, strlen(text) + 1);
}

static void read_ids(struct tr_fields *f, struct tr_alloc *alloc)
{
	const json_t *ids = tr_field_array(f, "ids", IDS_MAX);
	const char *texts[IDS_MAX];
	size_t n = json_array_size(ids);

	if (f->r == 0 && !n)
		f->r = tr_fail(f->err, EBADMSG, "%s: no ids", f->what);
	for (size_t i = 0; f->r == 0 && i < n; i++) {
		texts[i] = json_string_value(json_array_get(ids, i));
		if (!texts[i] || strlen(texts[i]) >= TR_DEVICE_ID ||
		    !tr_word_is_printable(texts[i], strlen(texts[i])) || !texts[i][0])
			f->r = tr_fail(f->err, EBADMSG, "%s: id %zu is none", f->what, i);
	}
	if (f->r < 0)
		return;
	tr_alloc_set_ids(alloc, texts, n);
	for (size_t i = 1; i < n; i++)
		if (strcmp(alloc->ids[i - 1], alloc->ids[i]) == 0)
			f->r = tr_fail(f->err, EBADMSG, "%s: id %s twice", f->what,
				       alloc->ids[i]);
}

static void read_part(struct tr_fields *owner, const json_t *json,
		      struct tr_alloc_part *out)
{
	static const char *const known[] = { "uuid", "limit_bytes", "cores", "cores_max",
					     NULL };
	struct tr_fields f = { json, "device", owner->err, 0 };

	if (!json_is_object(json))
		f.r = tr_fail(f.err, EBADMSG, "a device is not an object");
	else
		only(&f, known);
	word(&f, "uuid", out->uuid, sizeof(out->uuid));
	out->limit_bytes = (uint64_t)tr_field_number(&f, "limit_bytes", 1, INT64_MAX);
	out->cores = (uint32_t)tr_field_number(&f, "cores", 0, 100);
	out->cores_max = (uint32_t)tr_field_number(&f, "cores_max", 0, 100);
	if (f.r == 0 && !out->limit_bytes)
		f.r = tr_fail(f.err, EBADMSG, "a device without limit_bytes");
	owner->r = f.r;
}

static void read_parts(struct tr_fields *f, struct tr_alloc *alloc)
{
	const json_t *devices = tr_field_array(f, "devices", TR_DEVICES_MAX);
	struct tr_alloc_part parts[TR_DEVICES_MAX] = { 0 };
	size_t n = json_array_size(devices);

	if (f->r == 0 && !n)
		f->r = tr_fail(f->err, EBADMSG, "%s: no devices", f->what);
	for (size_t i = 0; f->r == 0 && i < n; i++) {
		read_part(f, json_array_get(devices, i), &parts[i]);
		for (size_t k = 0; f->r == 0 && k < i; k++)
			if (strcmp(parts[k].uuid, parts[i].uuid) == 0)
				f->r = tr_fail(f->err, EBADMSG, "device %s twice",
					       parts[i].uuid);
	}
	if (f->r == 0)
		tr_alloc_set_parts(alloc, parts, n);
}

static int read_owner(const json_t *json, struct tr_alloc *alloc, struct tr_err *err)
{
	static const char *const known[] = { "namespace", "pod",   "uid",
					     "container", "index", "kind",
					     "priority",  "armed", "grant",
					     "devices",   NULL };
	struct tr_fields f = { json, "owner", err, 0 };

	if (!json)
		return tr_fail(err, EBADMSG, "armed for nobody");
	only(&f, known);
	word(&f, "namespace", alloc->space, sizeof(alloc->space));
	word(&f, "pod", alloc->pod, sizeof(alloc->pod));
	word(&f, "uid", alloc->uid, sizeof(alloc->uid));
	word(&f, "container", alloc->container, sizeof(alloc->container));
	alloc->index = (unsigned)tr_field_number(&f, "index", 0, 1024);
	alloc->kind = (enum tr_container_kind)one_of(&f, "kind", kinds, 3);
	alloc->priority = (enum tr_priority)one_of(&f, "priority", priorities, 3);
	alloc->armed_unix_s = tr_field_number(&f, "armed", 0, INT64_MAX);
	alloc->grant_serial = (uint64_t)tr_field_number(&f, "grant", 0, INT64_MAX);
	read_parts(&f, alloc);
	return f.r;
}

static int read_record(const json_t *json, struct tr_alloc *alloc,
		       char boot_id[static TR_BOOT_ID], struct tr_err *err)
{
	static const char *const known[] = { "version", "name", "boot",  "state",
					     "made",    "ids",  "owner", NULL };
	struct tr_fields f = { json, "record", err, 0 };
	int64_t version = tr_field_number(&f, "version", 1, INT64_MAX);
	const json_t *owner;

	if (f.r == 0 && version > TR_RECORD_VERSION)
		return tr_fail(err, EPROTONOSUPPORT, "a record of version %" PRId64,
			       version);
	if (f.r == 0 && !version)
		return tr_fail(err, EBADMSG, "a record without a version");
	only(&f, known);
	word(&f, "name", alloc->name, sizeof(alloc->name));
	word(&f, "boot", boot_id, TR_BOOT_ID);
	alloc->state = (enum tr_alloc_state)one_of(&f, "state", states, 2);
	alloc->made_unix_s = tr_field_number(&f, "made", 0, INT64_MAX);
	read_ids(&f, alloc);
	owner = tr_field_object(&f, "owner");
	if (f.r < 0)
		return f.r;
	if (tr_alloc_name_parse(alloc->name, &alloc->serial) < 0)
		return tr_fail(err, EBADMSG, "\"%s\" is not the name of an allocation",
			       alloc->name);
	if (alloc->state == TR_ALLOC_WAITING)
		return owner ? tr_fail(err, EBADMSG, "waiting, and has an owner") : 0;
	return read_owner(owner, alloc, err);
}

int tr_record_parse(const char *text, size_t n, struct tr_alloc **out,
		    char boot_id[static TR_BOOT_ID], struct tr_err *err)
{
	json_auto_t *json = NULL;
	struct tr_alloc *alloc;
	json_error_t problem;
	int r;

	if (n > TR_RECORD_MAX)
		return tr_fail(err, EBADMSG, "more than %zu bytes", TR_RECORD_MAX);
	json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &problem);
	if (!json_is_object(json))
		return tr_fail(err, EBADMSG, "not a JSON object: %s", problem.text);
	alloc = tr_xcalloc(1, sizeof(*alloc));
	r = read_record(json, alloc, boot_id, err);
	if (r < 0)
		tr_alloc_free(alloc);
	else
		*out = alloc;
	return r;
}
