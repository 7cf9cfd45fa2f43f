/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/cdi.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
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

/* DEVICES is taken over. */
static json_t *file_json(const char *kind, json_t *devices)
{
	return json_pack("{s:s,s:s,s:o}", "cdiVersion", VERSION, "kind", kind, "devices",
			 devices);
}

/* EDITS is taken over. */
static json_t *device_json(const char *name, json_t *edits)
{
	return json_pack("{s:s,s:o}", "name", name, "containerEdits", edits);
}

/* ---- files ---- */

/* Takes JSON over. */
static int write_json(const char *cdi_dir, const char *path, json_t *json,
		      bool only_changed, struct tr_err *err)
{
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

static char *path_of(const char *cdi_dir, const char *name)
{
	unsigned hash = 0;

	for (; *name; name++)
		hash = 31 * hash + (unsigned char)*name;
	return tr_xprintf("%s/" GPU_FILE, cdi_dir, hash % GPU_FILES);
}

/* The devices of a file of ours; none when it is not there, or is not as we write them. */
static int read_devices(const char *path, json_t **out, struct tr_err *err)
{
	tr_autofree char *text = NULL;
	size_t n = 0;
	int r = tr_slurp(path, FILE_MAX, &text, &n, err);
	json_t *file, *devices;

	*out = NULL;
	if (r < 0 && r != -ENOENT && r != -EFBIG)
		return r;
	file = r == 0 ? json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	devices = json_object_get(file, "devices");
	*out = json_is_array(devices) ? json_incref(devices) : json_array();
	json_decref(file);
	return 0;
}

static const char *name_at(const json_t *devices, size_t i)
{
	const char *name =
		json_string_value(json_object_get(json_array_get(devices, i), "name"));

	return name && is_name(name) ? name : NULL;
}

/* True when it was there. What has no name of ours goes too. */
static bool take_out(json_t *devices, const char *name)
{
	bool was_there = false;

	for (size_t i = json_array_size(devices); i-- > 0;) {
		const char *its = name_at(devices, i);

		if (its && strcmp(its, name) != 0)
			continue;
		was_there |= its != NULL;
		(void)json_array_remove(devices, i);
	}
	return was_there;
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

int tr_cdi_write(const char *cdi_dir, const struct tr_driver_files *driver,
		 const struct tr_cdi_slice *slice, struct tr_err *err)
{
	tr_autofree char *path = NULL;
	json_t *edits, *devices;
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
	path = path_of(cdi_dir, slice->name);
	r = read_devices(path, &devices, err);
	if (r < 0) {
		json_decref(edits);
		return r;
	}
	(void)take_out(devices, slice->name);
	add(&devices, device_json(slice->name, edits));
	return write_json(cdi_dir, path, file_json(TR_CDI_KIND, devices), false, err);
}

int tr_cdi_write_driver(const char *cdi_dir, const struct tr_driver_files *driver,
			struct tr_err *err)
{
	tr_autofree char *path = tr_xprintf("%s/" DRIVER_FILE, cdi_dir);
	json_t *mounts = json_array(), *edits = NULL, *devices = json_array();

	for (size_t i = 0; i < driver->mount_count; i++)
		add(&mounts,
		    mount_json(driver->mounts[i].host, driver->mounts[i].container, "ro"));
	/* Triton looks for libcuda only in the loader's cache, unless it is told. */
	if (mounts)
		edits = json_pack("{s:[s],s:o}", "env",
				  "TRITON_LIBCUDA_PATH=" TR_DRIVER_FOLDER, "mounts",
				  mounts);
	add(&devices, device_json("all", edits));
	return write_json(cdi_dir, path, file_json(TR_CDI_DRIVER_KIND, devices), true, err);
}

int tr_cdi_remove(const char *cdi_dir, const char *name, struct tr_err *err)
{
	tr_autofree char *path = NULL;
	json_t *devices;
	int r = check_name(name, err);

	if (r < 0)
		return r;
	path = path_of(cdi_dir, name);
	r = read_devices(path, &devices, err);
	if (r < 0)
		return r;
	if (take_out(devices, name) && json_array_size(devices) > 0)
		return write_json(cdi_dir, path, file_json(TR_CDI_KIND, devices), false,
				  err);
	/* CDI knows no file without devices. */
	if (json_array_size(devices) == 0 && unlink(path) < 0 && errno != ENOENT)
		r = tr_fail_errno(err, "remove %s", path);
	json_decref(devices);
	return r;
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
	for (unsigned file = 0; file < GPU_FILES; file++) {
		tr_autofree char *path = tr_xprintf("%s/" GPU_FILE, cdi_dir, file);
		json_t *devices;
		int r = read_devices(path, &devices, err);

		if (r < 0)
			return r;
		for (size_t i = 0; i < json_array_size(devices); i++)
			if (name_at(devices, i))
				each(name_at(devices, i), arg);
		json_decref(devices);
	}
	return 0;
}
