/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/identify.h"
#include "kube/pod_devices.h"
#include "tranche/names.h"

#define VENDOR "NVIDIA"

/* Who the sentence is about. */
struct about {
	const struct tr_pod *pod;
	const struct tr_pod_container *container;
	struct tr_err *err;
};

static int refuse(const struct about *about, const struct tr_device_part *part,
		  const char *what)
{
	return tr_fail(about->err, EBADMSG, "container %s of pod %s/%s: device %s %s",
		       about->container->name, about->pod->object.space,
		       about->pod->object.name, part->id, what);
}

static int read_part(const struct about *about, const struct tr_device_part *from,
		     const struct tr_arm_rules *rules, const struct tr_cards *cards,
		     struct tr_alloc_part *to)
{
	const struct tr_card *card = tr_card_find(cards, from->id);
	char what[256];

	if (strcmp(from->vendor, VENDOR) != 0)
		return refuse(about, from, "is not of vendor " VENDOR);
	if (!card || strlen(from->id) >= sizeof(to->uuid))
		return refuse(about, from, "was decided on and is not on this node");
	if (!card->is_healthy && !rules->is_of_running) {
		(void)snprintf(what, sizeof(what), "is unhealthy: %s", card->reason);
		return refuse(about, from, what);
	}
	if (from->mem_mib == 0)
		return refuse(about, from, "was decided on with no memory at all");
	if (from->cores > 100)
		return refuse(about, from,
			      "was decided on with more than 100 percent of its time");
	*to = (struct tr_alloc_part){
		.limit_bytes = (uint64_t)from->mem_mib << 20,
		.cores = from->cores ? from->cores : rules->default_cores,
	};
	memcpy(to->uuid, from->id, strlen(from->id));
	if (rules->is_core_unlimited)
		to->cores = 0;
	return 0;
}

/* HAMi's numbers: 0 is high, 1 is normal; what is above is lower. */
static int read_priority(const struct about *about, const char *resource,
			 enum tr_priority *out)
{
	const struct tr_amount *amount = tr_amount_find(&about->container->limits,
							resource);

	*out = TR_PRIORITY_NORMAL;
	if (!amount)
		return 0;
	if (amount->is_bad || amount->value < 0)
		return tr_fail(about->err, EINVAL,
			       "container %s of pod %s/%s: %s is not a whole number",
			       about->container->name, about->pod->object.space,
			       about->pod->object.name, resource);
	if (amount->value == 0)
		*out = TR_PRIORITY_HIGH;
	else if (amount->value > 1)
		*out = TR_PRIORITY_LOW;
	return 0;
}

static int read_share(const struct about *about, const struct tr_device_part *parts,
		      size_t count, const struct tr_arm_rules *rules,
		      const struct tr_cards *cards, struct tr_share *out)
{
	int r = read_priority(about, rules->resource_priority, &out->priority);

	if (r == 0 && count > TR_DEVICES_MAX)
		r = tr_fail(
			about->err, EBADMSG,
			"container %s of pod %s/%s: %zu devices: a slice has at most %u",
			about->container->name, about->pod->object.space,
			about->pod->object.name, count, TR_DEVICES_MAX);
	if (r < 0)
		return r;
	out->parts = tr_xcalloc(count + 1, sizeof(*out->parts));
	out->count = count;
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = read_part(about, &parts[i], rules, cards, &out->parts[i]);
		for (size_t k = 0; r == 0 && k < i; k++)
			if (strcmp(out->parts[k].uuid, out->parts[i].uuid) == 0)
				r = refuse(about, &parts[i], "was decided on twice");
	}
	return r;
}

static int read_shares(struct tr_pod_devices *devices, const struct tr_pod *pod,
		       const struct tr_arm_rules *rules, const struct tr_cards *cards,
		       struct tr_share *shares, struct tr_err *err)
{
	tr_autofree uint32_t *wanted = tr_xcalloc(pod->container_count + 1,
						  sizeof(*wanted));
	struct tr_err inner = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < pod->container_count; i++)
		r = tr_wanted(pod, i, rules->resource, &wanted[i], err);
	if (r < 0)
		return r;
	r = tr_pod_devices_align(devices, wanted, pod->container_count, &inner);
	if (r < 0)
		return tr_fail(err, -r, "the scheduler's decision on pod %s/%s: %s",
			       pod->object.space, pod->object.name, inner.msg);
	for (size_t i = 0; r == 0 && i < pod->container_count; i++) {
		struct about about = { pod, &pod->containers[i], err };
		size_t n;
		const struct tr_device_part *parts = tr_pod_devices_of(devices, i, &n);

		if (n)
			r = read_share(&about, parts, n, rules, cards, &shares[i]);
	}
	return r;
}

int tr_decision_parse(const char *text, const struct tr_pod *pod,
		      const struct tr_arm_rules *rules, const struct tr_cards *cards,
		      struct tr_share *shares, struct tr_err *err)
{
	struct tr_pod_devices devices = { 0 };
	struct tr_err inner = { 0 };
	int r = tr_pod_devices_parse(&devices, text, &inner);

	memset(shares, 0, pod->container_count * sizeof(*shares));
	if (r < 0)
		return tr_fail(err, -r, "the scheduler's decision on pod %s/%s: %s",
			       pod->object.space, pod->object.name, inner.msg);
	r = read_shares(&devices, pod, rules, cards, shares, err);
	if (r < 0)
		tr_shares_free(shares, pod->container_count);
	tr_pod_devices_free(&devices);
	return r;
}

int tr_decision_read(const struct tr_pod *pod, const struct tr_arm_rules *rules,
		     const struct tr_cards *cards, struct tr_share *shares,
		     struct tr_err *err)
{
	const char *text;
	int r = tr_pod_annotation(pod, TR_POD_ALLOCATED, &text, err);

	memset(shares, 0, pod->container_count * sizeof(*shares));
	if (r == -ENOENT)
		return tr_fail(err, ENOENT,
			       "no GPU scheduler has decided on pod %s/%s: its "
			       "annotation " TR_POD_ALLOCATED " is missing",
			       pod->object.space, pod->object.name);
	return r < 0 ? r : tr_decision_parse(text, pod, rules, cards, shares, err);
}

void tr_shares_free(struct tr_share *shares, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(shares[i].parts);
		shares[i] = (struct tr_share){ 0 };
	}
}
