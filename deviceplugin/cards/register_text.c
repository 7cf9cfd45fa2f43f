/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/rfc3339.h"
#include "deviceplugin/cards/register_text.h"
#include "kube/node_devices.h"
#include "kube/quantity.h"
#include "tranche/names.h"

#define CONDITION "GPUUnhealthy"

/* ---- texts --------------------------------------------------------------------------- */

int tr_register_print(const struct tr_cards *cards, struct tr_buf *out)
{
	struct tr_node_device devices[TR_GPUS_MAX];

	for (unsigned i = 0; i < cards->count; i++) {
		const struct tr_card *card = &cards->at[i];

		devices[i] = (struct tr_node_device){
			.id = card->uuid,
			.type = card->type,
			.mode = card->mode,
			.index = card->index,
			.count = card->split,
			.mem_mib = (uint32_t)(card->give_bytes >> 20),
			.cores = card->give_cores,
			.numa = card->numa > 0 ? card->numa : 0,
			.is_healthy = card->is_healthy,
		};
	}
	return tr_node_devices_print(devices, cards->count, out);
}

static void add(char *out, size_t room, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void add(char *out, size_t room, const char *format, ...)
{
	size_t n = strlen(out);
	va_list args;

	va_start(args, format);
	(void)vsnprintf(out + n, room - n, format, args);
	va_end(args);
}

unsigned tr_register_healthy(const struct tr_cards *cards)
{
	unsigned healthy = 0;

	for (unsigned i = 0; i < cards->count; i++)
		healthy += cards->at[i].is_healthy;
	return healthy;
}

void tr_register_sentence(const struct tr_cards *cards, char *out, size_t room)
{
	out[0] = '\0';
	if (cards->count)
		add(out, room, "%u of %u GPUs are healthy", tr_register_healthy(cards),
		    cards->count);
	else
		add(out, room, "no GPU is offered");
	for (unsigned i = 0; i < cards->count; i++)
		if (!cards->at[i].is_healthy)
			add(out, room, "; %s: %s", cards->at[i].uuid, cards->at[i].reason);
	if (cards->reason[0])
		add(out, room, "; %s", cards->reason);
}

/* ---- the node's status --------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static const json_t *find_condition(const json_t *node)
{
	const json_t *list = json_object_get(json_object_get(node, "status"), "conditions");

	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(text_of(json_array_get(list, i), "type"), CONDITION) == 0)
			return json_array_get(list, i);
	return NULL;
}

/* NULL: as it is. */
static json_t *condition_change(const json_t *node, const struct tr_cards *cards,
				int64_t unix_s)
{
	bool is_bad = cards->reason[0] || tr_register_healthy(cards) < cards->count;
	const char *status = !cards->count ? "Unknown" : is_bad ? "True" : "False";
	const char *reason = !cards->count ? "NoGPUs"
			     : is_bad      ? "SomeAreNot"
					   : "AllHealthy";
	const json_t *live = find_condition(node);
	char now[TR_RFC3339_TEXT], sentence[1024];
	bool is_same = live && strcmp(text_of(live, "status"), status) == 0;

	tr_register_sentence(cards, sentence, sizeof(sentence));
	if (is_same && strcmp(text_of(live, "reason"), reason) == 0 &&
	    strcmp(text_of(live, "message"), sentence) == 0)
		return NULL;
	tr_rfc3339_print(now, unix_s);
	return json_pack("[{s:s,s:s,s:s,s:s,s:s,s:s}]", "type", CONDITION, "status", status,
			 "reason", reason, "message", sentence, "lastHeartbeatTime", now,
			 "lastTransitionTime",
			 is_same && text_of(live, "lastTransitionTime")[0]
				 ? text_of(live, "lastTransitionTime")
				 : now);
}

static void set_amount(const json_t *node, json_t *change, const char *name, uint64_t value)
{
	const json_t *status = json_object_get(node, "status");
	const char *live = text_of(json_object_get(status, "capacity"), name);
	char text[24];
	int64_t now;

	if (tr_quantity_parse(live, &now) == 0 && now == (int64_t)value)
		return;
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	(void)json_object_set_new(change, name, json_string(text));
}

static json_t *capacity_change(const json_t *node, const struct tr_cards *cards,
			       const struct tr_register_names *names)
{
	uint64_t mib = 0, cores = 0;
	json_t *change = json_object();

	for (unsigned i = 0; i < cards->count; i++) {
		mib += cards->at[i].give_bytes >> 20;
		cores += cards->at[i].give_cores;
	}
	set_amount(node, change, names->mem, mib);
	set_amount(node, change, names->cores, cores);
	if (json_object_size(change))
		return change;
	json_decref(change);
	return NULL;
}

json_t *tr_register_status_change(const json_t *node, const struct tr_cards *cards,
				  const struct tr_register_names *names, int64_t unix_s)
{
	json_t *conditions = condition_change(node, cards, unix_s);
	json_t *capacity = names ? capacity_change(node, cards, names) : NULL;

	if (!conditions && !capacity)
		return NULL;
	return json_pack("{s:{s:o*,s:o*}}", "status", "conditions", conditions, "capacity",
			 capacity);
}
