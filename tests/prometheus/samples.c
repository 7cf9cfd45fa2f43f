/* SPDX-License-Identifier: Apache-2.0 */
/* samples DIR: metrics as the agent prints them, into files for promtext: a usual node, one with nothing,
 * one whose words are hostile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scene.h"

static struct scene scene;

static void write_file(const char *dir, const char *name, enum tr_metrics_format format)
{
	char path[512], *text = scene_print(&scene, format);
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "we");
	if (!file || fputs(text, file) < 0 || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
	free(text);
}

static void write_both(const char *dir, const char *name)
{
	char file[64];

	(void)snprintf(file, sizeof(file), "%s.prom", name);
	write_file(dir, file, TR_METRICS_TEXT);
	(void)snprintf(file, sizeof(file), "%s.om", name);
	write_file(dir, file, TR_METRICS_OPENMETRICS);
}

int main(int argc, char **argv)
{
	struct tr_alloc *alloc;

	if (argc != 2)
		return 2;
	scene_open(&scene);
	scene.view.with_legacy = false;
	(void)snprintf(scene.cards[1].parent, sizeof(scene.cards[1].parent), SCENE_UUID_0);
	scene_arm(&scene, scene_add(&scene, 2), "shop", "cart-0", "app", 1 << 30);
	scene_arm(&scene, scene_add(&scene, 1), "shop", "cart-0", "sidecar", TR_UNLIMITED);
	scene_arm(&scene, scene_add(&scene, 2), "shop", "cart-0", "app", 2 << 20);
	(void)scene_add(&scene, 1);
	write_both(argv[1], "usual");
	scene.view.with_legacy = true;
	write_both(argv[1], "legacy");
	alloc = scene_add(&scene, 1);
	scene_arm(&scene, alloc, "\n# TYPE x counter\nx 1", "a\\\"}{,= \t",
		  "\xff\xc0\x80\xe2\x80", 1);
	scene.view.node = "\"\\\n\x01";
	scene.view.revision = "";
	write_both(argv[1], "hostile");
	scene_close(&scene);
	scene_open(&scene);
	scene.view.card_count = scene.view.rpc_count = 0;
	scene.view.with_legacy = false;
	write_both(argv[1], "empty");
	scene_close(&scene);
	return 0;
}
