/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_TEST_REPORT_SCENE_H
#define TR_TEST_REPORT_SCENE_H

#include "deviceplugin/arm/book.h"
#include "deviceplugin/report/metrics.h"
#include "deviceplugin/report/view.h"
#include "tranche/policy.h"
#include "tranche/state.h"

/* A node with two cards and real slices in a directory of its own. */

#define SCENE_CARDS  2
#define SCENE_ALLOCS 256
#define SCENE_UUID_0 "GPU-00000000-0000-0000-0000-000000000000"
#define SCENE_UUID_1 "GPU-11111111-1111-1111-1111-111111111111"

struct scene {
	char dir[64];
	struct tr_book book;
	struct tr_alloc allocs[SCENE_ALLOCS];
	struct tr_alloc_part parts[SCENE_ALLOCS][2];
	unsigned count;
	struct tr_card cards[SCENE_CARDS];
	struct tr_card_use use[SCENE_CARDS];
	struct tr_report_xid xids[2];
	struct tr_report_card rows[SCENE_CARDS];
	struct tr_report_rpc rpcs[2];
	struct tr_report_view view;
	struct tr_report_source source;
};

void scene_open(struct scene *scene);
void scene_close(struct scene *scene);

/* An allocation of N devices and its slice; it waits. */
struct tr_alloc *scene_add(struct scene *scene, unsigned devices);
/* It is that container's; LIMIT of each device, a fifth of the time. */
void scene_arm(struct scene *scene, struct tr_alloc *alloc, const char *space,
	       const char *pod, const char *container, uint64_t limit_bytes);
void scene_remove(struct scene *scene, struct tr_alloc *alloc);

/* The files of its slice, mapped writable; munmap() them. */
struct tr_policy *scene_page(const struct scene *scene, const struct tr_alloc *alloc);
struct tr_state *scene_state(const struct scene *scene, const struct tr_alloc *alloc);
/* A process of the slice in SLOT, as long as the descriptor is open. */
int scene_process(const struct scene *scene, const struct tr_alloc *alloc, unsigned slot);

/* Brings the view up to now; what is printed of it is free()d by the caller. */
char *scene_print(struct scene *scene, enum tr_metrics_format format);
/* The value of the sample that begins with NAME and its labels, or NULL. In static memory. */
const char *scene_value(const char *text, const char *series);

#endif /* TR_TEST_REPORT_SCENE_H */
