/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/cdi.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/slurp.h"
#include "rt/file.h"
#include "tranche/paths.h"

/* The lowest that knows a device node under another path on the host; every runtime that a kubelet
 * gives CDI names to reads it. */
#define VERSION     "0.5.0"
#define DRIVER_FILE "tranche-driver.json"
#define GPU_FILE    "tranche-gpu-"
#define FILE_MAX    (1u << 20)
#define MINOR_MAX   254

static bool is_name(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= TR_CDI_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == n;
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

/* {"cdiVersion", "kind", "devices": [{"name", "containerEdits"}]}; EDITS is taken over. */
static json_t *file_json(const char *kind, const char *name, json_t *edits)
{
	return json_pack("{s:s,s:s,s:[{s:s,s:o}]}", "cdiVersion", VERSION, "kind", kind,
			 "devices", "name", name, "containerEdits", edits);
}

/* ---- writing ---- */

/* Takes JSON over. */
static int write_json(const char *cdi_dir, const char *file, json_t *json,
		      bool only_changed, struct tr_err *err)
{
	tr_autofree char *path = tr_xprintf("%s/%s", cdi_dir, file);
	tr_autofree char *text = json ? json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER)
				      : NULL;
	tr_autofree char *old = NULL;
	size_t n = text ? strlen(text) : 0, old_n = 0;
	int r;

	json_decref(json);
	if (!text)
		return tr_fail(err, EINVAL, "%s: a path in it is not fit for CDI", path);
	if (only_changed && tr_slurp(path, FILE_MAX, &old, &old_n, NULL) == 0 &&
	    old_n == n && memcmp(old, text, n) == 0)
		return 0;
	r = tr_folder_make(cdi_dir, err);
	return r < 0 ? r : tr_file_replace(path, text, n, 0644, err);
}

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

int tr_cdi_write(const char *cdi_dir, const struct tr_driver_files *driver,
		 const struct tr_cdi_slice *slice, struct tr_err *err)
{
	tr_autofree char *file = NULL;
	json_t *edits;
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
	file = tr_xprintf(GPU_FILE "%s.json", slice->name);
	return write_json(cdi_dir, file, file_json(TR_CDI_KIND, slice->name, edits), false,
			  err);
}

int tr_cdi_write_driver(const char *cdi_dir, const struct tr_driver_files *driver,
			struct tr_err *err)
{
	json_t *mounts = json_array(), *edits = NULL;

	for (size_t i = 0; i < driver->mount_count; i++)
		add(&mounts,
		    mount_json(driver->mounts[i].host, driver->mounts[i].container, "ro"));
	/* Triton looks for libcuda only in the loader's cache, unless it is told. */
	if (mounts)
		edits = json_pack("{s:[s],s:o}", "env",
				  "TRITON_LIBCUDA_PATH=" TR_DRIVER_FOLDER, "mounts",
				  mounts);
	return write_json(cdi_dir, DRIVER_FILE, file_json(TR_CDI_DRIVER_KIND, "all", edits),
			  true, err);
}

int tr_cdi_remove(const char *cdi_dir, const char *name, struct tr_err *err)
{
	tr_autofree char *path = NULL;
	int r = check_name(name, err);

	if (r < 0)
		return r;
	path = tr_xprintf("%s/" GPU_FILE "%s.json", cdi_dir, name);
	if (unlink(path) < 0 && errno != ENOENT)
		return tr_fail_errno(err, "remove %s", path);
	return 0;
}

/* ---- what is there ---- */

static bool ends_in(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

static void meet(const char *cdi_dir, const char *file,
		 void (*each)(const char *name, void *arg), void *arg)
{
	char name[NAME_MAX + 1];
	size_t n = strlen(file);

	if (strncmp(file, "tranche-", 8) == 0 && ends_in(file, ".new")) {
		tr_autofree char *path = tr_xprintf("%s/%s", cdi_dir, file);

		(void)unlink(path);
		return;
	}
	if (strncmp(file, GPU_FILE, sizeof(GPU_FILE) - 1) != 0 || !ends_in(file, ".json") ||
	    n < sizeof(GPU_FILE) + 5)
		return;
	n -= sizeof(GPU_FILE) - 1 + 5;
	memcpy(name, file + sizeof(GPU_FILE) - 1, n);
	name[n] = '\0';
	if (is_name(name))
		each(name, arg);
}

int tr_cdi_each(const char *cdi_dir, void (*each)(const char *name, void *arg), void *arg,
		struct tr_err *err)
{
	DIR *folder = opendir(cdi_dir);
	const struct dirent *entry;

	if (!folder && errno == ENOENT)
		return 0;
	if (!folder)
		return tr_fail_errno(err, "open %s", cdi_dir);
	while ((entry = readdir(folder)))
		meet(cdi_dir, entry->d_name, each, arg);
	(void)closedir(folder);
	return 0;
}
