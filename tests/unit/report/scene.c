/* SPDX-License-Identifier: Apache-2.0 */
#include "scene.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rt/file.h"
#include "slice/page.h"
#include "slice/seat.h"

#define GIB (UINT64_C(1) << 30)

static void must(bool is_so, const char *what)
{
	if (!is_so) {
		perror(what);
		abort();
	}
}

static void open_cards(struct scene *scene)
{
	static const char *const uuids[] = { SCENE_UUID_0, SCENE_UUID_1 };

	for (unsigned i = 0; i < SCENE_CARDS; i++) {
		struct tr_card *card = &scene->cards[i];

		*card = (struct tr_card){ .type = "NVIDIA H100 80GB HBM3",
					  .index = i,
					  .total_bytes = 80 * GIB,
					  .give_bytes = 80 * GIB,
					  .give_cores = 100,
					  .split = 10,
					  .mode = "hami-core",
					  .is_healthy = i == 0 };
		(void)snprintf(card->uuid, sizeof(card->uuid), "%s", uuids[i]);
		scene->use[i] = (struct tr_card_use){ .has = 127,
						      .used_bytes = 3 * GIB,
						      .gpu_percent = 40,
						      .memory_percent = 7,
						      .celsius = 51,
						      .power_mw = 123456,
						      .energy_mj = UINT64_C(98765432109),
						      .ecc_corrected = 2 };
		scene->rows[i] = (struct tr_report_card){ .card = card,
							  .use = &scene->use[i] };
	}
	scene->xids[0] = (struct tr_report_xid){ 31, 2 };
	scene->xids[1] = (struct tr_report_xid){ 79, 1 };
	scene->rows[1].xids = scene->xids;
	scene->rows[1].xid_count = 2;
}

void scene_open(struct scene *scene)
{
	*scene = (struct scene){ .dir = "/tmp/tranche-report-XXXXXX" };
	must(mkdtemp(scene->dir), "mkdtemp");
	open_cards(scene);
	scene->rpcs[0].method = "Allocate";
	scene->rpcs[1].method = "PreStartContainer";
	tr_histogram_add(&scene->rpcs[0].duration, 1200000);
	tr_histogram_add(&scene->rpcs[0].duration, 20000000000);
	scene->view = (struct tr_report_view){ .node = "node-1",
					       .version = "0.1.0",
					       .revision = "abc",
					       .build_date = "2026-01-02",
					       .driver = "580.95.05",
					       .cards = scene->rows,
					       .card_count = SCENE_CARDS,
					       .rpcs = scene->rpcs,
					       .rpc_count = 2,
					       .with_legacy = true };
	scene->source = (struct tr_report_source){ .slices_dir = scene->dir,
						   .book = &scene->book };
}

static void path_of(const struct scene *scene, const struct tr_alloc *alloc,
		    const char *what, char out[static 256])
{
	(void)snprintf(out, 256, "%s/%s%s", scene->dir, alloc->name, what);
}

static void remove_files(const struct scene *scene, const struct tr_alloc *alloc)
{
	static const char *const names[] = { "/ro/policy", "/rw/state", "/ro", "/rw", "" };
	char path[256];

	for (unsigned i = 0; i < 5; i++) {
		path_of(scene, alloc, names[i], path);
		(void)(unlink(path) < 0 && rmdir(path));
	}
}

void scene_close(struct scene *scene)
{
	tr_report_forget(&scene->view);
	for (unsigned i = 0; i < scene->count; i++) {
		remove_files(scene, &scene->allocs[i]);
		for (size_t k = 0; k < scene->allocs[i].id_count; k++)
			free(scene->allocs[i].ids[k]);
		free(scene->allocs[i].ids);
	}
	(void)rmdir(scene->dir);
}

static void add_to_book(struct tr_book *book, struct tr_alloc *alloc)
{
	struct tr_alloc **at = &book->first;

	while (*at)
		at = &(*at)->next;
	*at = alloc;
	book->count++;
}

struct tr_alloc *scene_add(struct scene *scene, unsigned devices)
{
	struct tr_page_device rows[] = { { .uuid = SCENE_UUID_0 },
					 { .uuid = SCENE_UUID_1 } };
	struct tr_alloc *alloc = &scene->allocs[scene->count];
	struct tr_page_spec spec = { .serial = 1000 + scene->count,
				     .armed = true,
				     .device_count = devices,
				     .devices = rows };
	char path[256], id[64];

	must(scene->count++ < SCENE_ALLOCS, "too many");
	alloc->serial = spec.serial;
	(void)snprintf(alloc->name, sizeof(alloc->name), "s%016llx",
		       (unsigned long long)alloc->serial);
	alloc->ids = calloc(devices, sizeof(char *));
	for (unsigned i = 0; i < devices; i++) {
		(void)snprintf(id, sizeof(id), "%s-%u", rows[i].uuid, scene->count);
		alloc->ids[alloc->id_count++] = strdup(id);
	}
	add_to_book(&scene->book, alloc);
	path_of(scene, alloc, "", path);
	must(mkdir(path, 0755) == 0, path);
	path_of(scene, alloc, "/ro", path);
	must(mkdir(path, 0755) == 0, path);
	path_of(scene, alloc, "/rw", path);
	must(mkdir(path, 0755) == 0, path);
	spec.name = alloc->name;
	spec.state_path = "/run/tranche/slice/rw/state";
	path_of(scene, alloc, "/ro/policy", path);
	must(tr_page_create(path, &spec, NULL) == 0, path);
	path_of(scene, alloc, "/rw/state", path);
	must(tr_state_create(path, spec.serial, 0666, NULL) == 0, path);
	return alloc;
}

void scene_arm(struct scene *scene, struct tr_alloc *alloc, const char *space,
	       const char *pod, const char *container, uint64_t limit_bytes)
{
	struct tr_alloc_part *parts = scene->parts[alloc - scene->allocs];
	struct tr_policy *page = scene_page(scene, alloc);

	alloc->state = TR_ALLOC_ARMED;
	alloc->kind = TR_CONTAINER_APP;
	(void)snprintf(alloc->space, sizeof(alloc->space), "%s", space);
	(void)snprintf(alloc->pod, sizeof(alloc->pod), "%s", pod);
	(void)snprintf(alloc->container, sizeof(alloc->container), "%s", container);
	alloc->parts = parts;
	alloc->part_count = alloc->id_count;
	for (size_t i = 0; i < alloc->part_count; i++) {
		parts[i] = (struct tr_alloc_part){ .limit_bytes = limit_bytes,
						   .cores = 20 };
		memcpy(parts[i].uuid, scene->cards[i].uuid, sizeof(parts[i].uuid));
		page->devices[i].limit_bytes = limit_bytes;
		page->devices[i].rate_q32 = TR_RATE_ALL / 5;
		page->devices[i].rate_max_q32 = TR_RATE_ALL;
	}
	(void)munmap(page, sizeof(*page));
}

void scene_remove(struct scene *scene, struct tr_alloc *alloc)
{
	struct tr_alloc **at = &scene->book.first;

	while (*at != alloc)
		at = &(*at)->next;
	*at = alloc->next;
	scene->book.count--;
	remove_files(scene, alloc);
}

static void *map_file(const char *path, size_t bytes)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *map;

	must(fd >= 0, path);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(map != MAP_FAILED, path);
	(void)close(fd);
	return map;
}

struct tr_policy *scene_page(const struct scene *scene, const struct tr_alloc *alloc)
{
	char path[256];

	path_of(scene, alloc, "/ro/policy", path);
	return map_file(path, sizeof(struct tr_policy));
}

struct tr_state *scene_state(const struct scene *scene, const struct tr_alloc *alloc)
{
	char path[256];

	path_of(scene, alloc, "/rw/state", path);
	return map_file(path, sizeof(struct tr_state));
}

int scene_process(const struct scene *scene, const struct tr_alloc *alloc, unsigned slot)
{
	struct tr_state *state = scene_state(scene, alloc);
	char path[256];
	int fd;

	path_of(scene, alloc, "/rw/state", path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	must(fd >= 0 && tr_byte_lock(fd, (off_t)slot) == 0, "slot");
	state->slots[slot].tag = slot + 1;
	if (state->high_water <= slot)
		state->high_water = slot + 1;
	(void)munmap(state, sizeof(*state));
	return fd;
}

char *scene_print(struct scene *scene, enum tr_metrics_format format)
{
	struct tr_buf out = { 0 };

	tr_report_take(&scene->view, &scene->source);
	tr_metrics_print(&scene->view, &out, format);
	return tr_buf_take(&out);
}

const char *scene_value(const char *text, const char *series)
{
	static char value[64];
	size_t n = strlen(series);

	for (const char *line = text; *line; line = strchr(line, '\n') + 1)
		if (strncmp(line, series, n) == 0 && line[n] == ' ') {
			(void)snprintf(value, sizeof(value), "%.*s",
				       (int)strcspn(line + n + 1, "\n"), line + n + 1);
			return value;
		}
	return NULL;
}
