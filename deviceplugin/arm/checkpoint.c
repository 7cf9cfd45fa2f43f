/* SPDX-License-Identifier: Apache-2.0 */
/* What the kubelet itself remembers of its devices: a file that only root reads, beside its sockets. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/slurp.h"
#include "deviceplugin/arm/identify.h"
#include "kube/words.h"

#define CHECKPOINT_MAX ((size_t)64 << 20)

static bool has_id(const json_t *texts, const struct tr_ids *ids)
{
	for (size_t i = 0; i < json_array_size(texts); i++) {
		const char *text = json_string_value(json_array_get(texts, i));

		for (size_t k = 0; text && k < ids->count; k++)
			if (strcmp(text, ids->ids[k]) == 0)
				return true;
	}
	return false;
}

/* The ids of an entry stand by NUMA node. */
static bool is_entry_of(json_t *entry, const char *resource, const struct tr_ids *ids)
{
	const char *of = json_string_value(json_object_get(entry, "ResourceName")), *node;
	json_t *nodes = json_object_get(entry, "DeviceIDs"), *texts;

	if (!of || strcmp(of, resource) != 0)
		return false;
	json_object_foreach (nodes, node, texts) {
		if (has_id(texts, ids))
			return true;
	}
	return false;
}

int tr_checkpoint_parse(const char *text, size_t n, const char *resource,
			const struct tr_ids *ids, char uid[static TR_POD_UID],
			struct tr_err *err)
{
	json_auto_t *all = json_loadb(text, n, 0, NULL);
	const json_t *entries = json_object_get(json_object_get(all, "Data"),
						"PodDeviceEntries");

	uid[0] = '\0';
	if (!json_is_array(entries))
		return tr_fail(err, EBADMSG, "the kubelet's checkpoint has another form");
	for (size_t i = 0; i < json_array_size(entries); i++) {
		json_t *entry = json_array_get(entries, i);
		const char *of = json_string_value(json_object_get(entry, "PodUID"));

		if (!is_entry_of(entry, resource, ids))
			continue;
		if (!of || !of[0] || strlen(of) >= TR_POD_UID ||
		    !tr_word_is_printable(of, strlen(of)) ||
		    (uid[0] && strcmp(of, uid) != 0))
			return tr_fail(err, EBADMSG,
				       "the kubelet's checkpoint does not say whose device "
				       "%s is",
				       ids->ids[0]);
		memcpy(uid, of, strlen(of) + 1);
	}
	return uid[0] ? 0
		      : tr_fail(err, EAGAIN,
				"the kubelet does not say which pod device %s "
				"belongs to",
				ids->count ? ids->ids[0] : "(none)");
}

int tr_checkpoint_owner(const char *path, const char *resource, const struct tr_ids *ids,
			char uid[static TR_POD_UID], struct tr_err *err)
{
	tr_autofree char *text = NULL;
	size_t n;
	int r = tr_slurp(path, CHECKPOINT_MAX, &text, &n, err);

	return r < 0 ? r : tr_checkpoint_parse(text, n, resource, ids, uid, err);
}
