/* SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include <stdio.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)

struct model {
	const char *key, *name;
	uint32_t pci_device, total_mib, reserved_mib, context_mib;
	uint32_t cc_major, cc_minor, sm_count, threads_per_sm;
	uint32_t clock_khz, memory_clock_khz, bus_width_bits, l2_kib;
	bool has_nvlink, has_multicast, has_mig;
	uint32_t power_w;
};

static const struct model models[] = {
#define SIM_MODEL(...) { __VA_ARGS__ },
#include "models.def"
#undef SIM_MODEL
};
#define MODEL_COUNT (sizeof(models) / sizeof(models[0]))

/* Buses of a board with sixteen slots; fewer devices are spread over it, more fill further boards,
 * each a PCI domain. */
#define SLOTS 16
static const uint8_t buses[SLOTS] = { 0x1b, 0x29, 0x43, 0x4e, 0x52, 0x5c, 0x61, 0x6a,
				      0x9d, 0xa8, 0xc3, 0xcb, 0xd1, 0xd6, 0xdf, 0xe7 };

int sim_model_find(const char *name, size_t n)
{
	for (size_t i = 0; i < MODEL_COUNT; i++) {
		if (strlen(models[i].key) == n && memcmp(models[i].key, name, n) == 0)
			return (int)i;
	}
	return -1;
}

void sim_model_list(char *text, size_t room)
{
	size_t at = 0;

	text[0] = '\0';
	for (size_t i = 0; i < MODEL_COUNT && at < room; i++)
		at += (size_t)snprintf(text + at, room - at, "%s%s", i ? ", " : "",
				       models[i].key);
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void fill_uuid(uint8_t uuid[16], uint64_t seed, uint32_t index)
{
	uint64_t state = seed ^ ((uint64_t)(index + 1) << 48);

	for (int half = 0; half < 2; half++) {
		uint64_t r = next_random(&state);

		memcpy(uuid + (ptrdiff_t)half * 8, &r, sizeof(r));
	}
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static void fill_device(struct rm_device *d, const struct model *m)
{
	snprintf(d->name, sizeof(d->name), "%s", m->name);
	snprintf(d->model, sizeof(d->model), "%s", m->key);
	d->pci_id = m->pci_device << 16 | 0x10de;
	d->total_bytes = m->total_mib * MIB;
	d->reserved_bytes = m->reserved_mib * MIB;
	d->context_bytes = m->context_mib * MIB;
	d->cc_major = m->cc_major;
	d->cc_minor = m->cc_minor;
	d->sm_count = m->sm_count;
	d->threads_per_sm = m->threads_per_sm;
	d->clock_khz = m->clock_khz;
	d->memory_clock_khz = m->memory_clock_khz;
	d->bus_width_bits = m->bus_width_bits;
	d->l2_bytes = (uint64_t)m->l2_kib << 10;
	d->pcie_gbps = 25;
	d->copy_gbps = 1000;
	d->pitch_align_bytes = 512;
	d->has_nvlink = m->has_nvlink;
	d->has_multicast = m->has_multicast;
	d->has_mig = m->has_mig;
	d->power_limit_mw = m->power_w * 1000;
}

void sim_models_fill(struct sim_settings *s)
{
	uint32_t n = s->machine.device_count;

	for (uint32_t i = 0; i < n; i++) {
		struct rm_device *d = &s->machine.devices[i];

		memset(d, 0, sizeof(*d));
		fill_device(d, &models[s->model_of[i]]);
		fill_uuid(d->uuid, s->seed, i);
		d->pci_domain = i / SLOTS;
		d->pci_bus = buses[n < SLOTS ? i * SLOTS / n : i % SLOTS];
		d->minor = i;
		d->numa_node = s->numa_nodes ? (int32_t)(i * s->numa_nodes / n) : -1;
		if (s->device_bytes)
			d->total_bytes = s->device_bytes + d->reserved_bytes;
	}
}
