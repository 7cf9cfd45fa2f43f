/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of PodResources that outlive the call which told them. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/inside.h"

char **tr_texts_copy(const char *const *from, size_t count)
{
	char **to = tr_xcalloc(count + 1, sizeof(*to));

	for (size_t i = 0; i < count; i++)
		to[i] = tr_xstrdup(from[i]);
	return to;
}

void tr_texts_free(const char *const *texts, size_t count)
{
	for (size_t i = 0; texts && i < count; i++)
		free((void *)(uintptr_t)texts[i]);
	free((void *)(uintptr_t)texts);
}

static void free_row(struct tr_pod_row *row)
{
	free((void *)(uintptr_t)row->namespace);
	free((void *)(uintptr_t)row->pod);
	free((void *)(uintptr_t)row->container);
	tr_texts_free(row->ids, row->count);
}

void tr_rows_free(struct tr_pod_list *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		free_row(&rows->rows[i]);
	free(rows->rows);
	*rows = (struct tr_pod_list){ 0 };
}

void tr_rows_keep(struct tr_pod_list *rows, tr_row_is_kept *is_kept, const void *arg)
{
	size_t n = 0;

	for (size_t i = 0; i < rows->count; i++)
		if (is_kept(&rows->rows[i], arg))
			rows->rows[n++] = rows->rows[i];
		else
			free_row(&rows->rows[i]);
	rows->count = n;
}

/* Names of pods differ, those of their namespaces seldom. */
static bool is_of(const struct tr_pod_row *row, const struct tr_pod_row *of)
{
	return !of || (strcmp(row->pod, of->pod) == 0 &&
		       strcmp(row->namespace, of->namespace) == 0);
}

void tr_rows_copy(const struct tr_pod_list *from, const struct tr_pod_row *of,
		  struct tr_pod_list *to)
{
	size_t count = 0;

	for (size_t i = 0; i < from->count; i++)
		count += is_of(&from->rows[i], of);
	*to = (struct tr_pod_list){ .rows = tr_xcalloc(count + 1, sizeof(*to->rows)) };
	for (size_t i = 0; i < from->count; i++) {
		const struct tr_pod_row *row = &from->rows[i];

		if (!is_of(row, of))
			continue;
		to->rows[to->count++] = (struct tr_pod_row){
			.namespace = tr_xstrdup(row->namespace),
			.pod = tr_xstrdup(row->pod),
			.container = tr_xstrdup(row->container),
			.ids = (const char *const *)tr_texts_copy(row->ids, row->count),
			.count = row->count,
		};
	}
}
