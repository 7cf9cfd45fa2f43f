/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/cdi.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/slurp.h"
#include "rt/file.h"
#include "tranche/paths.h"

/* The lowest that knows a device node under another path on the host; every runtime that a kubelet
 * gives CDI names to reads it. */
#define VERSION     "0.5.0"
#define DRIVER_FILE "tranche-driver.json"
#define GPU_FILE    "tranche-gpu-%u.json"
#define GPU_FILES   8u
#define FILE_MAX    (1u << 20)
#define MINOR_MAX   254

static bool is_name(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= TR_CDI_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == n;
}

static unsigned file_of(const char *name)
{
	unsigned hash = 0;

	for (; *name; name++)
		hash = 31 * hash + (unsigned char)*name;
	return hash % GPU_FILES;
}

static int check_name(const char *name, struct tr_err *err)
{
	return is_name(name) ? 0
			     : tr_fail(err, EINVAL, "\"%.80s\" is no name of an allocation",
				       name);
}

/* What a runtime would take literally, and a person would read as something else, is no path of ours. */
static bool is_path(const char *path)
{
	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return false;
	for (const char *p = path; *p; p++)
		if (iscntrl((unsigned char)*p) ||
		    (p[0] == '/' && p[1] == '.' && p[2] == '.' &&
		     (p[3] == '/' || p[3] == '\0')))
			return false;
	return true;
}

/* ---- JSON; NULL in is NULL out, and stands for a path that cannot be ---- */

/* Takes ITEM over. */
static void add(json_t **list, json_t *item)
{
	if (*list && item && json_array_append(*list, item) == 0) {
		json_decref(item);
		return;
	}
	json_decref(item);
	json_decref(*list);
	*list = NULL;
}

/* Nothing that is mounted brings device nodes or set-user-id programs along. */
static json_t *mount_json(const char *host, const char *container, const char *access)
{
	if (!is_path(host) || !is_path(container))
		return NULL;
	return json_pack("{s:s,s:s,s:[s,s,s,s]}", "hostPath", host, "containerPath",
			 container, "options", access, "nosuid", "nodev", "bind");
}

static json_t *node_json(const char *host, const char *container)
{
	if (!is_path(host) || !is_path(container))
		return NULL;
	if (strcmp(host, container) == 0)
		return json_pack("{s:s}", "path", container);
	return json_pack("{s:s,s:s}", "path", container, "hostPath", host);
}

/* EDITS is taken over. */
static json_t *device_json(const char *name, json_t *edits)
{
	return json_pack("{s:s,s:o}", "name", name, "containerEdits", edits);
}

/* Takes JSON over; NULL when it is NULL. free() it. */
static char *line_of(json_t *json)
{
	char *line = json ? json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;

	json_decref(json);
	return line;
}

/* ---- files: a device is a line, so that one can be exchanged without reading the others ---- */

#define HEAD(kind)  "{\"cdiVersion\":\"" VERSION "\",\"kind\":\"" kind "\",\"devices\":[\n"
#define TAIL        "\n]}\n"
#define BEFORE_NAME "{\"name\":\""
#define BEHIND_NAME "\",\"containerEdits\":{"

struct file {
	char *path;
	char *text; /* NULL: none, or not as we write them */
	char *at;   /* of the next line */
};

struct device {
	const char *line;
	size_t n;
	char name[TR_CDI_NAME_MAX + 1];
};

static void close_file(struct file *f)
{
	free(f->path);
	free(f->text);
}

static int open_file(struct file *f, const char *cdi_dir, unsigned number,
		     struct tr_err *err)
{
	static const char head[] = HEAD(TR_CDI_KIND);
	size_t n = 0, h = sizeof(head) - 1, t = sizeof(TAIL) - 1;
	int r;

	f->path = tr_xprintf("%s/" GPU_FILE, cdi_dir, number);
	f->text = NULL;
	r = tr_slurp(f->path, FILE_MAX, &f->text, &n, err);
	if (r < 0)
		return r == -ENOENT || r == -EFBIG ? 0 : r;
	if (n < h + t || strlen(f->text) != n || memcmp(f->text, head, h) != 0 ||
	    strcmp(f->text + n - t, TAIL) != 0) {
		free(f->text);
		f->text = NULL;
		return 0;
	}
	f->text[n - t] = '\0';
	f->at = f->text + h;
	return 0;
}

/* Lines that are not as we write them are passed over. */
static bool next_device(struct file *f, struct device *d)
{
	while (f->text && *f->at) {
		const char *name;
		size_t n = strcspn(f->at, "\n"), k;

		d->line = f->at;
		f->at += n + (f->at[n] == '\n');
		d->n = n - (n > 0 && d->line[n - 1] == ',');
		if (d->n < 2 ||
		    strncmp(d->line, BEFORE_NAME, sizeof(BEFORE_NAME) - 1) != 0 ||
		    memcmp(d->line + d->n - 2, "}}", 2) != 0)
			continue;
		name = d->line + sizeof(BEFORE_NAME) - 1;
		k = strcspn(name, "\"\n");
		if (k > TR_CDI_NAME_MAX ||
		    strncmp(name + k, BEHIND_NAME, sizeof(BEHIND_NAME) - 1) != 0)
			continue;
		memcpy(d->name, name, k);
		d->name[k] = '\0';
		if (is_name(d->name))
			return true;
	}
	return false;
}

static int write_file(const char *cdi_dir, const char *path, const struct tr_buf *text,
		      struct tr_err *err)
{
	int r = tr_folder_make(cdi_dir, err);

	return r < 0 ? r : tr_file_replace(path, text->p, text->n, 0644, err);
}

/* One device of a file, exchanged. */
struct tr_cdi_change {
	char name[TR_CDI_NAME_MAX + 1];
	char *line; /* NULL: no such device any more */
	struct tr_cdi_change *next;
};

static const struct tr_cdi_change *find_change(const struct tr_cdi_change *first,
					       const char *name)
{
	while (first && strcmp(first->name, name) != 0)
		first = first->next;
	return first;
}

static void add_line(struct tr_buf *text, size_t *count, const char *line, size_t n)
{
	tr_buf_text(text, (*count)++ ? ",\n" : "");
	tr_buf_add(text, line, n);
}

/* The file NUMBER as it is after those CHANGES that are of it. */
static int exchange(const char *cdi_dir, unsigned number,
		    const struct tr_cdi_change *changes, struct tr_err *err)
{
	struct file f __attribute__((cleanup(close_file))) = { 0 };
	struct tr_buf text tr_auto_buf = { 0 };
	bool is_changed = false;
	struct device d;
	size_t count = 0;
	int r = open_file(&f, cdi_dir, number, err);

	if (r < 0)
		return r;
	tr_buf_text(&text, HEAD(TR_CDI_KIND));
	for (const struct tr_cdi_change *c = changes; c; c = c->next)
		if (c->line && file_of(c->name) == number)
			add_line(&text, &count, c->line, strlen(c->line));
	is_changed = count > 0;
	while (next_device(&f, &d)) {
		if (find_change(changes, d.name))
			is_changed = true;
		else
			add_line(&text, &count, d.line, d.n);
	}
	tr_buf_text(&text, TAIL);
	/* CDI knows no file without devices. */
	if (count == 0 && unlink(f.path) < 0 && errno != ENOENT)
		return tr_fail_errno(err, "remove %s", f.path);
	return is_changed && count ? write_file(cdi_dir, f.path, &text, err) : 0;
}

static int exchange_all(const char *cdi_dir, const struct tr_cdi_change *changes,
			struct tr_err *err)
{
	bool is_touched[GPU_FILES] = { false };
	int r = 0;

	for (const struct tr_cdi_change *c = changes; c; c = c->next)
		is_touched[file_of(c->name)] = true;
	for (unsigned i = 0; r == 0 && i < GPU_FILES; i++)
		if (is_touched[i])
			r = exchange(cdi_dir, i, changes, err);
	return r;
}

/* ---- an allocation ---- */

static json_t *slice_mounts(const struct tr_cdi_slice *slice)
{
	json_t *list = json_array();

	if (slice->slice_dir) {
		tr_autofree char *ro = tr_xprintf("%s/ro", slice->slice_dir);
		tr_autofree char *rw = tr_xprintf("%s/rw", slice->slice_dir);

		add(&list, mount_json(ro, TR_SLICE_DIR "/ro", "ro"));
		add(&list, mount_json(rw, TR_SLICE_DIR "/rw", "rw"));
	}
	if (slice->hook_path)
		add(&list, mount_json(slice->hook_path, TR_SLICE_HOOK, "ro"));
	if (slice->preload_path)
		add(&list, mount_json(slice->preload_path, TR_PRELOAD_FILE, "ro"));
	return list;
}

static json_t *slice_nodes(const struct tr_driver_files *driver,
			   const struct tr_cdi_slice *slice)
{
	json_t *list = json_array();

	for (size_t i = 0; slice->minor_count && i < driver->node_count; i++)
		add(&list, node_json(driver->nodes[i].host, driver->nodes[i].container));
	for (size_t i = 0; i < slice->minor_count; i++) {
		tr_autofree char *host = tr_xprintf("%s/nvidia%d", driver->host_dev,
						    slice->minors[i]);
		tr_autofree char *container = tr_xprintf("/dev/nvidia%d", slice->minors[i]);

		add(&list, node_json(host, container));
	}
	return list;
}

static int check_minors(const struct tr_driver_files *driver,
			const struct tr_cdi_slice *slice, struct tr_err *err)
{
	if (slice->minor_count && (!driver || !driver->node_count || !driver->host_dev))
		return tr_fail(err, EINVAL, "a GPU without its driver's device nodes");
	for (size_t i = 0; i < slice->minor_count; i++) {
		if (slice->minors[i] < 0 || slice->minors[i] > MINOR_MAX)
			return tr_fail(err, EINVAL, "there is no /dev/nvidia%d",
				       slice->minors[i]);
		for (size_t k = 0; k < i; k++)
			if (slice->minors[k] == slice->minors[i])
				return tr_fail(err, EINVAL, "/dev/nvidia%d comes twice",
					       slice->minors[i]);
	}
	return 0;
}

void tr_cdi_forget(struct tr_cdi_batch *batch, const char *name)
{
	struct tr_cdi_change **link = &batch->first;

	while (*link) {
		struct tr_cdi_change *change = *link;

		if (name && strcmp(change->name, name) != 0) {
			link = &change->next;
			continue;
		}
		*link = change->next;
		free(change->line);
		free(change);
	}
}

/* Takes LINE over. */
static void add_change(struct tr_cdi_batch *batch, const char *name, char *line)
{
	struct tr_cdi_change *change = tr_xcalloc(1, sizeof(*change));

	tr_cdi_forget(batch, name);
	(void)snprintf(change->name, sizeof(change->name), "%s", name);
	change->line = line;
	change->next = batch->first;
	batch->first = change;
}

int tr_cdi_add(struct tr_cdi_batch *batch, const struct tr_driver_files *driver,
	       const struct tr_cdi_slice *slice, struct tr_err *err)
{
	json_t *edits;
	char *line;
	int r = check_name(slice->name, err);

	if (r == 0)
		r = check_minors(driver, slice, err);
	if (r < 0)
		return r;
	/* "void": NVIDIA's own runtime, where it is the default, is to add nothing of its own. */
	edits = json_pack("{s:[s]}", "env", "NVIDIA_VISIBLE_DEVICES=void");
	(void)json_object_set_new(edits, "deviceNodes", slice_nodes(driver, slice));
	(void)json_object_set_new(edits, "mounts", slice_mounts(slice));
	if (json_object_size(edits) != 3) {
		json_decref(edits);
		edits = NULL;
	}
	line = line_of(device_json(slice->name, edits));
	if (!line)
		return tr_fail(err, EINVAL, "slice %s: a path of it is not fit for CDI",
			       slice->name);
	add_change(batch, slice->name, line);
	return 0;
}

int tr_cdi_flush(struct tr_cdi_batch *batch, const char *cdi_dir, struct tr_err *err)
{
	int r = exchange_all(cdi_dir, batch->first, err);

	tr_cdi_forget(batch, NULL);
	return r;
}

int tr_cdi_write(const char *cdi_dir, const struct tr_driver_files *driver,
		 const struct tr_cdi_slice *slice, struct tr_err *err)
{
	struct tr_cdi_batch batch = { 0 };
	int r = tr_cdi_add(&batch, driver, slice, err);

	return r < 0 ? r : tr_cdi_flush(&batch, cdi_dir, err);
}

int tr_cdi_write_driver(const char *cdi_dir, const struct tr_driver_files *driver,
			struct tr_err *err)
{
	tr_autofree char *path = tr_xprintf("%s/" DRIVER_FILE, cdi_dir);
	tr_autofree char *line = NULL, *old = NULL;
	struct tr_buf text tr_auto_buf = { 0 };
	json_t *mounts = json_array(), *edits = NULL;
	size_t n = 0;

	for (size_t i = 0; i < driver->mount_count; i++)
		add(&mounts,
		    mount_json(driver->mounts[i].host, driver->mounts[i].container, "ro"));
	/* Triton looks for libcuda only in the loader's cache, unless it is told. */
	if (mounts)
		edits = json_pack("{s:[s],s:o}", "env",
				  "TRITON_LIBCUDA_PATH=" TR_DRIVER_FOLDER, "mounts",
				  mounts);
	line = line_of(device_json("all", edits));
	if (!line)
		return tr_fail(err, EINVAL, "a path of the driver is not fit for CDI");
	tr_buf_print(&text, HEAD(TR_CDI_DRIVER_KIND) "%s" TAIL, line);
	if (tr_slurp(path, FILE_MAX, &old, &n, NULL) == 0 && n == text.n &&
	    memcmp(old, text.p, n) == 0)
		return 0;
	return write_file(cdi_dir, path, &text, err);
}

int tr_cdi_remove(const char *cdi_dir, const char *name, struct tr_err *err)
{
	struct tr_cdi_batch batch = { 0 };
	int r = check_name(name, err);

	if (r < 0)
		return r;
	add_change(&batch, name, NULL);
	return tr_cdi_flush(&batch, cdi_dir, err);
}

/* ---- what is there ---- */

static void remove_leftovers(const char *cdi_dir, DIR *folder)
{
	const struct dirent *entry;

	while ((entry = readdir(folder))) {
		tr_autofree char *path = NULL;

		if (fnmatch("tranche-*.new", entry->d_name, 0) != 0)
			continue;
		path = tr_xprintf("%s/%s", cdi_dir, entry->d_name);
		(void)unlink(path);
	}
}

int tr_cdi_each(const char *cdi_dir, void (*each)(const char *name, void *arg), void *arg,
		struct tr_err *err)
{
	DIR *folder = opendir(cdi_dir);

	if (!folder && errno == ENOENT)
		return 0;
	if (!folder)
		return tr_fail_errno(err, "open %s", cdi_dir);
	remove_leftovers(cdi_dir, folder);
	(void)closedir(folder);
	for (unsigned i = 0; i < GPU_FILES; i++) {
		struct file f __attribute__((cleanup(close_file))) = { 0 };
		struct device d;
		int r = open_file(&f, cdi_dir, i, err);

		if (r < 0)
			return r;
		while (next_device(&f, &d))
			each(d.name, arg);
	}
	return 0;
}
