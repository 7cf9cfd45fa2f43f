/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scene.h"

/* F34: a pod with several GPU containers. Each container has its own series, all of them. */

static struct scene scene;

#define SERIES(name, container)                                          \
	name "{namespace=\"shop\",pod=\"cart-0\",container=\"" container \
	     "\",vdevice_index=\"0\",device_uuid=\"" SCENE_UUID_0 "\"}"
#define HAMI(name, container)                                                          \
	name "{zone=\"vGPU\",namespace=\"shop\",pod=\"cart-0\",container=\"" container \
	     "\",vdevice_index=\"0\",device_uuid=\"" SCENE_UUID_0 "\"}"

static void F34_every_container(void **state)
{
	static const char *const containers[] = { "init", "sidecar", "app" };
	char *text;

	(void)state;
	scene_open(&scene);
	for (unsigned i = 0; i < 3; i++) {
		struct tr_alloc *alloc = scene_add(&scene, 1);
		struct tr_state *used;

		scene_arm(&scene, alloc, "shop", "cart-0", containers[i], (i + 1) << 20);
		used = scene_state(&scene, alloc);
		used->high_water = 1;
		used->mem[0][0].used_bytes = 100 + i;
		(void)munmap(used, sizeof(*used));
	}
	text = scene_print(&scene, TR_METRICS_TEXT);
#define CHECK(container, limit, bytes)                                                  \
	assert_string_equal(                                                            \
		scene_value(text,                                                       \
			    SERIES("tranche_container_memory_limit_bytes", container)), \
		limit);                                                                 \
	assert_string_equal(                                                            \
		scene_value(text,                                                       \
			    SERIES("tranche_container_memory_used_bytes", container)),  \
		bytes);                                                                 \
	assert_string_equal(                                                            \
		scene_value(text, HAMI("hami_vgpu_memory_limit_bytes", container)),     \
		limit);                                                                 \
	assert_string_equal(                                                            \
		scene_value(text, HAMI("hami_vgpu_memory_used_bytes", container)), bytes)
	CHECK("init", "1048576", "100");
	CHECK("sidecar", "2097152", "101");
	CHECK("app", "3145728", "102");
	free(text);
	scene_close(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(F34_every_container) };

	return cmocka_run_group_tests_name("F34", tests, NULL, NULL);
}
