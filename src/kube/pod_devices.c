/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/pod_devices.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "kube/words.h"
#include "tranche/names.h"

struct reader {
	struct tr_pod_devices d;
	uint32_t part_room, container_room;
	struct tr_err *err;
};

static int refuse(const struct reader *r, const char *at, const char *what)
{
	return tr_fail(r->err, EBADMSG, "container %u, at \"%.32s\": %s",
		       r->d.container_count, at, what);
}

/* The field at *AT up to a separator, made a text of its own. */
static int take_word(struct reader *r, char **at, size_t max, const char **out)
{
	size_t n = strcspn(*at, ",:;");

	if (n == 0 || n > max || !tr_word_is_printable(*at, n))
		return refuse(r, *at, "not an identifier");
	if ((*at)[n] != ',')
		return refuse(r, *at, "a device has four fields");
	*out = *at;
	(*at)[n] = '\0';
	*at += n + 1;
	return 0;
}

static int take_amount(struct reader *r, char **at, uint32_t *out)
{
	size_t n = strcspn(*at, ",:;");
	uint64_t value;

	if (tr_word_number(*at, n, INT32_MAX, &value) < 0)
		return refuse(r, *at, "not a number of 31 bits");
	*out = (uint32_t)value;
	*at += n;
	return 0;
}

static struct tr_device_part *new_part(struct reader *r)
{
	if (r->d.part_count == r->part_room) {
		r->part_room = r->part_room ? 2 * r->part_room : 8;
		r->d.parts = tr_xrealloc(r->d.parts, r->part_room * sizeof(*r->d.parts));
	}
	return &r->d.parts[r->d.part_count];
}

/* ID,VENDOR,MIB,PERCENT[,...] with its colon. */
static int take_part(struct reader *r, char **at)
{
	struct tr_device_part *part = new_part(r);
	int res = take_word(r, at, TR_DEVICE_ID_MAX, &part->id);

	if (res == 0)
		res = take_word(r, at, TR_VENDOR_MAX, &part->vendor);
	if (res == 0)
		res = take_amount(r, at, &part->mem_mib);
	if (res == 0 && **at != ',')
		res = refuse(r, *at, "a device has four fields");
	if (res < 0)
		return res;
	(*at)++;
	res = take_amount(r, at, &part->cores);
	if (res < 0)
		return res;
	*at += strcspn(*at, ":;");
	/* HAMi writes a colon after each device, and reads the last one without. */
	if (**at == ':')
		(*at)++;
	r->d.part_count++;
	return 0;
}

static int add_container(struct reader *r, uint32_t first)
{
	struct tr_pod_devices *d = &r->d;

	if (d->part_count - first > TR_CONTAINER_DEVICES_MAX)
		return refuse(r, "", "too many devices");
	if (d->container_count == TR_POD_CONTAINERS_MAX)
		return refuse(r, "", "too many containers");
	if (d->container_count == r->container_room) {
		r->container_room = r->container_room ? 2 * r->container_room : 8;
		d->containers = tr_xrealloc(d->containers,
					    r->container_room * sizeof(*d->containers));
	}
	d->containers[d->container_count++] =
		(struct tr_container_parts){ first, d->part_count - first };
	return 0;
}

static void drop_empty_end(struct tr_pod_devices *d)
{
	while (d->container_count && !d->containers[d->container_count - 1].count)
		d->container_count--;
}

static int take_all(struct reader *r, char *at)
{
	uint32_t first = 0;
	int res = 0;

	while (*at && res == 0) {
		if (*at != ';') {
			res = take_part(r, &at);
			if (res == 0 && (*at || r->d.part_count == first))
				continue;
		}
		if (res < 0)
			break;
		res = add_container(r, first);
		first = r->d.part_count;
		if (*at == ';')
			at++;
	}
	return res;
}

int tr_pod_devices_parse(struct tr_pod_devices *out, const char *text, struct tr_err *err)
{
	struct reader r = { .err = err };
	size_t n = strnlen(text, TR_ANNOTATION_MAX + 1);
	int res;

	if (n > TR_ANNOTATION_MAX)
		return tr_fail(err, EBADMSG, "a decision of more than %zu bytes",
			       TR_ANNOTATION_MAX);
	/* A run of separators at the end has no meaning, and can be long. */
	while (n > 1 && text[n - 1] == ';' && text[n - 2] == ';')
		n--;
	r.d.text = tr_xstrndup(text, n);
	res = take_all(&r, r.d.text);
	if (res < 0) {
		tr_pod_devices_free(&r.d);
		return res;
	}
	drop_empty_end(&r.d);
	*out = r.d;
	return 0;
}

void tr_pod_devices_free(struct tr_pod_devices *d)
{
	free(d->parts);
	free(d->containers);
	free(d->text);
	*d = (struct tr_pod_devices){ 0 };
}

void tr_pod_devices_print(const struct tr_pod_devices *d, size_t containers,
			  struct tr_buf *out)
{
	tr_buf_text(out, "");
	for (size_t c = 0; c < containers || c < d->container_count; c++) {
		size_t n;
		const struct tr_device_part *part = tr_pod_devices_of(d, c, &n);

		for (size_t i = 0; i < n; i++)
			tr_buf_print(out, "%s,%s,%" PRIu32 ",%" PRIu32 ":", part[i].id,
				     part[i].vendor, part[i].mem_mib, part[i].cores);
		tr_buf_text(out, ";");
	}
}

const struct tr_device_part *tr_pod_devices_of(const struct tr_pod_devices *d, size_t index,
					       size_t *count)
{
	*count = index < d->container_count ? d->containers[index].count : 0;
	return *count ? &d->parts[d->containers[index].first] : NULL;
}

void tr_pod_devices_clear(struct tr_pod_devices *d, size_t index)
{
	if (index < d->container_count)
		d->containers[index].count = 0;
	drop_empty_end(d);
}

int tr_pod_devices_first(const struct tr_pod_devices *d, size_t *index)
{
	for (size_t c = 0; c < d->container_count; c++)
		if (d->containers[c].count) {
			*index = c;
			return 0;
		}
	return -ENOENT;
}

/* The next container from AT on that has devices, or container_count. */
static uint32_t next_of(const struct tr_pod_devices *d, uint32_t at)
{
	while (at < d->container_count && !d->containers[at].count)
		at++;
	return at;
}

int tr_pod_devices_align(struct tr_pod_devices *d, const uint32_t *wanted, size_t n,
			 struct tr_err *err)
{
	struct tr_container_parts *moved;
	uint32_t from = next_of(d, 0);

	/* One walk serves both: where they are in place, each is found at its own place. */
	moved = tr_xcalloc(n, sizeof(*moved));
	for (size_t c = 0; c < n; c++) {
		if (!wanted[c])
			continue;
		/* HAMi's own only ever stand too early. */
		if (from == d->container_count || from > c ||
		    d->containers[from].count != wanted[c]) {
			uint32_t has = from < d->container_count && from <= c
					       ? d->containers[from].count
					       : 0;

			free(moved);
			return tr_fail(err, EBADMSG,
				       "container %zu asks for %u device%s, the decision "
				       "gives it %u",
				       c, wanted[c], wanted[c] == 1 ? "" : "s", has);
		}
		moved[c] = d->containers[from];
		from = next_of(d, from + 1);
	}
	if (from != d->container_count) {
		free(moved);
		return tr_fail(
			err, EBADMSG,
			"the decision has devices for more containers than ask for any");
	}
	free(d->containers);
	d->containers = moved;
	d->container_count = (uint32_t)n;
	drop_empty_end(d);
	return 0;
}

int tr_grant_parse(struct tr_grant *out, const char *text, struct tr_err *err)
{
	const char *words[3], *at = text;
	size_t lengths[3];
	struct tr_grant g = { 0 };
	int r;

	for (int i = 0; i < 3; i++) {
		words[i] = at;
		lengths[i] = strcspn(at, " ");
		if (i == 0 && (lengths[0] != 2 || strncmp(at, "v1", 2) != 0))
			return tr_fail(err, EPROTONOSUPPORT, "a grant of version \"%.16s\"",
				       at);
		if (at[lengths[i]] != ' ')
			return tr_fail(err, EBADMSG, "a grant of fewer than four words");
		at += lengths[i] + 1;
	}
	if (!lengths[1] || lengths[1] >= sizeof(g.uid) ||
	    !tr_word_is_printable(words[1], lengths[1]))
		return tr_fail(err, EBADMSG, "a grant without a pod's uid");
	if (tr_word_number(words[2], lengths[2], INT64_MAX, &g.serial) < 0)
		return tr_fail(err, EBADMSG, "a grant without a serial number");
	memcpy(g.uid, words[1], lengths[1]);
	r = tr_pod_devices_parse(&g.devices, at, err);
	if (r < 0)
		return tr_wrap(err, r, "grant");
	*out = g;
	return 0;
}

void tr_grant_print(const struct tr_grant *g, size_t containers, struct tr_buf *out)
{
	tr_buf_print(out, "v1 %s %" PRIu64 " ", g->uid, g->serial);
	tr_pod_devices_print(&g->devices, containers, out);
}

void tr_grant_free(struct tr_grant *g)
{
	tr_pod_devices_free(&g->devices);
	*g = (struct tr_grant){ 0 };
}
