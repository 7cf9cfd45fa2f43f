/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent reads of allocations. First byte: 'r' a record, which must print as what reads as the
 * same again; 'c' the kubelet's checkpoint, which names one pod or none; else a decision on a pod with init container, sidecar and two others, which must be
 * refused or be just what they ask for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/checkpoint.h"
#include "deviceplugin/arm/identify.h"
#include "deviceplugin/arm/record.h"
#include "fuzz.h"
#include "naive.h"

static void try_record(const char *text, size_t n)
{
	struct tr_buf first = { 0 }, second = { 0 };
	struct tr_alloc *alloc = NULL, *again = NULL;
	char boot[TR_BOOT_ID], boot_again[TR_BOOT_ID];
	struct tr_err err = { 0 };
	int r = tr_record_parse(text, n, &alloc, boot, &err);

	if (r < 0) {
		CHECK(r == -EBADMSG || r == -EPROTONOSUPPORT);
		CHECK(err.msg[0]);
		return;
	}
	CHECK(alloc->id_count);
	CHECK((alloc->state == TR_ALLOC_ARMED) == (alloc->part_count > 0));
	CHECK((alloc->state == TR_ALLOC_ARMED) == (alloc->uid[0] != '\0'));
	for (size_t i = 0; i < alloc->part_count; i++)
		CHECK(alloc->parts[i].limit_bytes && alloc->parts[i].cores <= 100);
	tr_record_print(alloc, boot, &first);
	CHECK(tr_record_parse(first.p, first.n, &again, boot_again, NULL) == 0);
	CHECK(strcmp(boot, boot_again) == 0);
	tr_record_print(again, boot, &second);
	CHECK(first.n == second.n && memcmp(first.p, second.p, first.n) == 0);
	tr_alloc_free(alloc);
	tr_alloc_free(again);
	tr_buf_free(&first);
	tr_buf_free(&second);
}

static void try_decision(const char *text)
{
	static const struct tr_amount two[] = { { "nvidia.com/gpu", 2, false } },
				      one[] = { { "nvidia.com/gpu", 1, false } };
	static const struct tr_pod_container containers[] = {
		{ .name = "init", .kind = TR_CONTAINER_INIT, .limits = { two, 1 } },
		{ .name = "side", .kind = TR_CONTAINER_SIDECAR, .limits = { one, 1 } },
		{ .name = "none", .kind = TR_CONTAINER_APP },
		{ .name = "app", .kind = TR_CONTAINER_APP, .limits = { two, 1 } },
	};
	static const struct tr_arm_rules rules = {
		.resource = "nvidia.com/gpu", .resource_priority = "nvidia.com/priority"
	};
	static const struct tr_pod pod = {
		.object = { .space = "default", .name = "p", .uid = "u" },
		.node = "",
		.containers = containers,
		.container_count = 4,
		.init_count = 2,
	};
	static const size_t wants[] = { 2, 1, 0, 2 };
	static struct tr_cards cards;
	struct tr_share shares[4];
	struct tr_err err = { 0 };
	int r;

	cards.count = 3;
	for (unsigned i = 0; i < 3; i++) {
		memcpy(cards.at[i].uuid, "GPU-0", 6);
		cards.at[i].uuid[4] = (char)('0' + i);
		cards.at[i].is_healthy = i < 2;
	}
	r = tr_decision_parse(text, &pod, &rules, &cards, shares, &err);
	if (r < 0) {
		CHECK(r == -EBADMSG && err.msg[0]);
		return;
	}
	for (size_t c = 0; c < 4; c++) {
		CHECK(shares[c].count == wants[c]);
		for (size_t i = 0; i < shares[c].count; i++) {
			CHECK(tr_card_find(&cards, shares[c].parts[i].uuid)->is_healthy);
			CHECK(shares[c].parts[i].limit_bytes >= 1u << 20);
			CHECK(shares[c].parts[i].cores <= 100);
			for (size_t k = 0; k < i; k++)
				CHECK(strcmp(shares[c].parts[i].uuid,
					     shares[c].parts[k].uuid) != 0);
		}
	}
	tr_shares_free(shares, 4);
}

static void try_checkpoint(const char *text, size_t n)
{
	static const char *const texts[] = { "x-1", "x-2" };
	struct tr_ids ids = { texts, 2 };
	struct tr_err err = { 0 };
	struct tr_checkpoint checkpoint = { 0 };
	char uid[TR_POD_UID];
	int r = tr_checkpoint_parse(&checkpoint, text, n, "nvidia.com/gpu", &err);

	if (r == 0)
		r = tr_checkpoint_owner(&checkpoint, &ids, uid, &err);
	tr_checkpoint_free(&checkpoint);
	CHECK(r == 0 || ((r == -EAGAIN || r == -EBADMSG) && err.msg[0]));
	CHECK(r < 0 || (uid[0] && strstr(text, uid)) || memchr(text, '\\', n));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char *text;

	if (!n)
		return 0;
	text = tr_xstrndup((const char *)bytes + 1, n - 1);
	if (bytes[0] == 'r')
		try_record(text, strlen(text));
	else if (bytes[0] == 'c')
		try_checkpoint(text, strlen(text));
	else
		try_decision(text);
	free(text);
	return 0;
}
