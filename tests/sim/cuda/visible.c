/* SPDX-License-Identifier: Apache-2.0 */
#include "visible.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void sim_uuid_format(const uint8_t uuid[16], char out[41])
{
	char *end = out + sprintf(out, "GPU");

	for (int i = 0; i < 16; i++)
		end += sprintf(end, "%s%02x",
			       i == 0 || i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			       uuid[i]);
}

/* By default the fastest device comes first and the others keep their order on the bus. */
static int all_devices(const struct rm_machine *machine, uint64_t allowed,
		       const char *order, uint32_t out[RM_DEVICES_MAX])
{
	int count = 0;
	uint64_t best_speed = 0;
	uint32_t fastest;
	int best = 0;

	for (uint32_t i = 0; i < machine->device_count; i++) {
		const struct rm_device *device = &machine->devices[i];
		uint64_t speed = (uint64_t)device->sm_count * device->clock_khz;

		if (!(allowed >> i & 1))
			continue;
		out[count] = i;
		if (speed > best_speed) {
			best_speed = speed;
			best = count;
		}
		count++;
	}
	if (count == 0 || (order && strcmp(order, "PCI_BUS_ID") == 0))
		return count;
	fastest = out[best];
	memmove(&out[1], &out[0], sizeof(out[0]) * (size_t)best);
	out[0] = fastest;
	return count;
}

/* An index as the driver reads it: leading digits count, the rest of the entry does not. */
static int find_index(const char *entry, size_t length, int count)
{
	char text[16];
	char *end;
	long index;

	if (length == 0 || length >= sizeof(text))
		return -1;
	memcpy(text, entry, length);
	text[length] = '\0';
	index = strtol(text, &end, 10);
	return end == text || index < 0 || index >= count ? -1 : (int)index;
}

static int find_uuid(const struct rm_machine *machine, const uint32_t *all, int count,
		     const char *entry, size_t length)
{
	char uuid[41];
	int found = -1;

	for (int i = 0; i < count; i++) {
		sim_uuid_format(machine->devices[all[i]].uuid, uuid);
		if (length >= sizeof(uuid) || strncasecmp(uuid, entry, length) != 0)
			continue;
		if (found >= 0)
			return -1; /* more than one device begins like that */
		found = i;
	}
	return found;
}

int sim_visible(const struct rm_machine *machine, uint64_t allowed, const char *list,
		const char *order, uint32_t out[RM_DEVICES_MAX])
{
	uint32_t all[RM_DEVICES_MAX];
	int count = all_devices(machine, allowed, order, all);
	uint64_t seen = 0;
	bool by_uuid;
	int n = 0;

	if (!list) {
		memcpy(out, all, sizeof(all[0]) * (size_t)count);
		return count;
	}
	list += strspn(list, " \t");
	by_uuid = strncasecmp(list, "GPU-", 4) == 0;
	for (;;) {
		size_t length = strcspn(list, ",");
		size_t trimmed = length;
		int i;

		while (trimmed > 0 && isspace((unsigned char)list[trimmed - 1]))
			trimmed--;
		if (by_uuid)
			i = trimmed > 4 ? find_uuid(machine, all, count, list, trimmed)
					: -1;
		else
			i = find_index(list, trimmed, count);
		if (i < 0)
			return n;
		if (seen >> i & 1)
			return 0;
		seen |= UINT64_C(1) << i;
		out[n++] = all[i];
		if (list[length] == '\0')
			return n;
		list += length + 1;
		list += strspn(list, " \t");
	}
}
