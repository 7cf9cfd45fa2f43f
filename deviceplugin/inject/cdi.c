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
#define CAPS        "nvidia-caps/nvidia-cap"

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

/* ---- JSON, printed as it comes: a slice's is made for every container that starts ---- */

struct text {
	struct tr_buf buf;
	bool is_bad; /* a path that cannot be */
};

static void free_text(struct text *t)
{
	tr_buf_free(&t->buf);
}

#define auto_text __attribute__((cleanup(free_text)))

static bool needs_quoting(const char *path)
{
	for (; *path; path++)
		if (*path == '"' || *path == '\\' || (unsigned char)*path > '~')
			return true;
	return false;
}

static void put_quoted(struct text *t, const char *path)
{
	json_t *string = json_string(path); /* NULL: not UTF-8 */
	tr_autofree char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;

	json_decref(string);
	t->is_bad |= !quoted;
	tr_buf_text(&t->buf, quoted ? quoted : "");
}

static void put_path(struct text *t, const char *key, const char *path)
{
	t->is_bad |= !is_path(path);
	tr_buf_print(&t->buf, "\"%s\":", key);
	if (needs_quoting(path))
		put_quoted(t, path);
	else
		tr_buf_print(&t->buf, "\"%s\"", path);
}

/* Begins an object of a list. */
static void put_item(struct text *t)
{
	tr_buf_text(&t->buf, t->buf.p[t->buf.n - 1] == '[' ? "{" : ",{");
}

/* Nothing that is mounted brings device nodes or set-user-id programs along. */
static void put_mount(struct text *t, const char *host, const char *container,
		      const char *access)
{
	put_item(t);
	put_path(t, "hostPath", host);
	tr_buf_text(&t->buf, ",");
	put_path(t, "containerPath", container);
	tr_buf_print(&t->buf, ",\"options\":[\"%s\",\"nosuid\",\"nodev\",\"bind\"]}",
		     access);
}

static void put_node(struct text *t, const char *host, const char *container)
{
	put_item(t);
	put_path(t, "path", container);
	if (strcmp(host, container) != 0) {
		tr_buf_text(&t->buf, ",");
		put_path(t, "hostPath", host);
	}
	tr_buf_text(&t->buf, "}");
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

static void put_slice_mounts(struct text *t, const struct tr_cdi_slice *slice)
{
	if (slice->slice_dir) {
		tr_autofree char *ro = tr_xprintf("%s/ro", slice->slice_dir);
		tr_autofree char *rw = tr_xprintf("%s/rw", slice->slice_dir);

		put_mount(t, ro, TR_SLICE_DIR "/ro", "ro");
		put_mount(t, rw, TR_SLICE_DIR "/rw", "rw");
	}
	if (slice->hook_path)
		put_mount(t, slice->hook_path, TR_SLICE_HOOK, "ro");
	if (slice->preload_path)
		put_mount(t, slice->preload_path, TR_PRELOAD_FILE, "ro");
}

/* The node N of those that are called NAME and its number. */
static void put_numbered(struct text *t, const struct tr_driver_files *driver,
			 const char *name, int n)
{
	tr_autofree char *host = tr_xprintf("%s/%s%d", driver->host_dev, name, n);
	tr_autofree char *container = tr_xprintf("/dev/%s%d", name, n);

	put_node(t, host, container);
}

static void put_slice_nodes(struct text *t, const struct tr_driver_files *driver,
			    const struct tr_cdi_slice *slice)
{
	for (size_t i = 0; slice->minor_count && i < driver->node_count; i++)
		put_node(t, driver->nodes[i].host, driver->nodes[i].container);
	for (size_t i = 0; i < slice->minor_count; i++)
		put_numbered(t, driver, "nvidia", slice->minors[i]);
	for (size_t i = 0; i < slice->cap_count; i++)
		put_numbered(t, driver, CAPS, slice->caps[i]);
}

static int check_numbers(const char *name, const int *numbers, size_t count, int most,
			 struct tr_err *err)
{
	for (size_t i = 0; i < count; i++) {
		if (numbers[i] < 0 || numbers[i] > most)
			return tr_fail(err, EINVAL, "there is no /dev/%s%d", name,
				       numbers[i]);
		for (size_t k = 0; k < i; k++)
			if (numbers[k] == numbers[i])
				return tr_fail(err, EINVAL, "/dev/%s%d comes twice", name,
					       numbers[i]);
	}
	return 0;
}

static int check_nodes(const struct tr_driver_files *driver,
		       const struct tr_cdi_slice *slice, struct tr_err *err)
{
	int r;

	if (slice->minor_count && (!driver || !driver->node_count || !driver->host_dev))
		return tr_fail(err, EINVAL, "a GPU without its driver's device nodes");
	if (slice->cap_count && !slice->minor_count)
		return tr_fail(err, EINVAL, "an instance without its GPU");
	r = check_numbers("nvidia", slice->minors, slice->minor_count, MINOR_MAX, err);
	return r < 0 ? r
		     : check_numbers(CAPS, slice->caps, slice->cap_count, TR_CAP_MINOR_MAX,
				     err);
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
	struct text t auto_text = { 0 };
	int r = check_name(slice->name, err);

	if (r == 0)
		r = check_nodes(driver, slice, err);
	if (r < 0)
		return r;
	/* "void": NVIDIA's own runtime, where it is the default, is to add nothing of its own. */
	tr_buf_print(&t.buf,
		     BEFORE_NAME
		     "%s" BEHIND_NAME
		     "\"env\":[\"NVIDIA_VISIBLE_DEVICES=void\"],\"deviceNodes\":[",
		     slice->name);
	put_slice_nodes(&t, driver, slice);
	tr_buf_text(&t.buf, "],\"mounts\":[");
	put_slice_mounts(&t, slice);
	tr_buf_text(&t.buf, "]}}");
	if (t.is_bad)
		return tr_fail(err, EINVAL, "slice %s: a path of it is not fit for CDI",
			       slice->name);
	add_change(batch, slice->name, tr_buf_take(&t.buf));
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
	tr_autofree char *old = NULL;
	struct text t auto_text = { 0 };
	size_t n = 0;

	/* Triton looks for libcuda only in the loader's cache, unless it is told. */
	tr_buf_text(&t.buf, HEAD(TR_CDI_DRIVER_KIND) BEFORE_NAME
		    "all" BEHIND_NAME "\"env\":[\"TRITON_LIBCUDA_PATH=" TR_DRIVER_FOLDER
		    "\"],\"mounts\":[");
	for (size_t i = 0; i < driver->mount_count; i++)
		put_mount(&t, driver->mounts[i].host, driver->mounts[i].container, "ro");
	tr_buf_text(&t.buf, "]}}" TAIL);
	if (t.is_bad)
		return tr_fail(err, EINVAL, "a path of the driver is not fit for CDI");
	if (tr_slurp(path, FILE_MAX, &old, &n, NULL) == 0 && n == t.buf.n &&
	    memcmp(old, t.buf.p, n) == 0)
		return 0;
	return write_file(cdi_dir, path, &t.buf, err);
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
