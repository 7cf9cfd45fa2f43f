/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/slices_json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/report/text.h"
#include "rt/sat.h"
#include "tranche/limits.h"

/* jansson takes UTF-8 only. */
static json_t *text_of(const char *text)
{
	size_t n = strlen(text), at = 0;
	tr_auto_buf struct tr_buf mended = { 0 };
	uint32_t code;

	while (at < n) {
		unsigned bytes = tr_utf8_step(text + at, n - at, &code);

		if (bytes)
			tr_buf_add(&mended, text + at, bytes);
		else
			tr_buf_text(&mended, TR_UTF8_MEND);
		at += bytes ? bytes : 1;
	}
	return json_stringn_nocheck(mended.p ? mended.p : "", mended.n);
}

/* JSON's readers have 53 bits, jansson 63: what has no end is null. */
static json_t *number_of(uint64_t n)
{
	return n > INT64_MAX ? json_null() : json_integer((json_int_t)n);
}

static json_t *seconds_of(uint64_t ns)
{
	return json_real((double)ns / 1e9);
}

/* A new object takes all values over; none is lost when one fails, as memory is all they can lack. */
struct member {
	const char *name;
	json_t *value;
};

static json_t *object_of(const struct member *members, size_t count)
{
	json_t *object = json_object();

	for (size_t i = 0; i < count; i++)
		if (json_object_set_new_nocheck(object, members[i].name, members[i].value) <
		    0)
			abort();
	return object;
}

#define OBJECT(...)                                       \
	object_of((const struct member[]){ __VA_ARGS__ }, \
		  sizeof((const struct member[]){ __VA_ARGS__ }) / sizeof(struct member))

static const char *priority_name(uint32_t priority)
{
	return priority == TR_PRIORITY_HIGH  ? "high"
	       : priority == TR_PRIORITY_LOW ? "low"
					     : "normal";
}

static json_t *device_of(const struct tr_report_device *d)
{
	return OBJECT(
		{ "uuid", text_of(d->uuid) },
		{ "memory_limit_bytes", number_of(d->limit_bytes) },
		{ "memory_used_bytes",
		  number_of(tr_sat_add(d->used_bytes,
				       d->overhead_bytes)) }, /* as the metric */
		{ "memory_overhead_bytes", number_of(d->overhead_bytes) },
		{ "memory_peak_bytes", number_of(d->peak_bytes) },
		{ "refused", number_of(d->refused) },
		{ "refused_bytes", number_of(d->refused_bytes) },
		{ "time_share", json_real((double)d->sure_q32 / 4294967296.0) },
		{ "time_share_max", json_real((double)d->rate_max_q32 / 4294967296.0) },
		{ "priority", json_string(priority_name(d->priority)) },
		{ "is_borrowing", json_boolean(d->is_borrowing) },
		{ "is_held_back", json_boolean(d->is_held_back) },
		{ "gpu_seconds", seconds_of(d->gpu_ns) },
		{ "nvml_busy_seconds", d->seen_ns ? seconds_of(d->busy_ns) : json_null() },
		{ "busy_percent", json_integer((json_int_t)d->busy_percent) },
		{ "idle_seconds", seconds_of(d->idle_ns) },
		{ "throttled_seconds", seconds_of(d->throttled_ns) },
		{ "throttled_launches", number_of(d->gate_waits) },
		{ "launches", number_of(d->launches) },
		{ "processes", json_integer((json_int_t)d->processes) },
		{ "bypass_suspicions", number_of(d->bypass_seen) });
}

static json_t *slice_of(const struct tr_report_alloc *a)
{
	json_t *devices = json_array();

	for (unsigned k = 0; k < a->device_count; k++)
		(void)json_array_append_new(devices, device_of(&a->devices[k]));
	return OBJECT({ "name", text_of(a->name) },
		      { "state", json_string(a->is_armed ? "armed" : "waiting") },
		      { "namespace", text_of(a->space) }, { "pod", text_of(a->pod) },
		      { "container", text_of(a->container) }, { "uid", text_of(a->uid) },
		      { "container_index", json_integer((json_int_t)a->index) },
		      { "is_readable", json_boolean(a->is_readable) },
		      { "made_unix_seconds", json_integer(a->made_unix_s) },
		      { "armed_unix_seconds", json_integer(a->armed_unix_s) },
		      { "processes", json_integer((json_int_t)a->process_count) },
		      { "pinned_bytes", number_of(a->pinned_bytes) },
		      { "devices", devices });
}

static json_t *told(const struct tr_report_card *c, unsigned has, uint64_t n)
{
	return c->use && (c->use->has & has) ? number_of(n) : json_null();
}

static json_t *card_of(const struct tr_report_card *c)
{
	static const struct tr_card_use nothing;
	const struct tr_card *card = c->card;
	const struct tr_card_use *use = c->use ? c->use : &nothing;

	return OBJECT(
		{ "uuid", text_of(card->uuid) }, { "type", text_of(card->type) },
		{ "index", json_integer((json_int_t)card->index) },
		{ "is_healthy", json_boolean(card->is_healthy) },
		{ "reason", text_of(card->reason) },
		{ "memory_total_bytes", number_of(card->total_bytes) },
		{ "memory_offered_bytes", number_of(card->give_bytes) },
		{ "memory_allocated_bytes", number_of(c->given_bytes) },
		{ "memory_used_bytes", told(c, TR_CARD_HAS_MEMORY, use->used_bytes) },
		{ "cores_offered_percent", json_integer((json_int_t)card->give_cores) },
		{ "cores_allocated_percent", number_of(c->given_cores) },
		{ "slots", json_integer((json_int_t)card->split) },
		{ "slots_allocated", number_of(c->given_slots) },
		{ "busy_percent", told(c, TR_CARD_HAS_GPU_RATE, use->gpu_percent) },
		{ "celsius", told(c, TR_CARD_HAS_TEMPERATURE, use->celsius) },
		{ "power_milliwatts", told(c, TR_CARD_HAS_POWER, use->power_mw) },
		{ "energy_millijoules", told(c, TR_CARD_HAS_ENERGY, use->energy_mj) },
		{ "xids", number_of(use->xids) },
		{ "last_xid", json_integer((json_int_t)use->last_xid) });
}

void tr_slices_json(const struct tr_report_view *view, struct tr_buf *out)
{
	json_t *cards = json_array(), *slices = json_array();
	json_auto_t *all = NULL;
	tr_autofree char *text = NULL;

	for (size_t i = 0; i < view->card_count; i++)
		(void)json_array_append_new(cards, card_of(&view->cards[i]));
	for (size_t i = 0; i < view->alloc_count; i++)
		(void)json_array_append_new(slices, slice_of(view->allocs[i]));
	all = OBJECT({ "node", text_of(view->node) }, { "cards", cards },
		     { "slices", slices });
	text = json_dumps(all, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	if (!text)
		abort();
	tr_buf_text(out, text);
	tr_buf_text(out, "\n");
}
