/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/inject/cdi.h"
#include "deviceplugin/report/log.h"
#include "rt/file.h"

#define DRIVER_LOOK_NS UINT64_C(5000000000)
#define INJECTED_NS    UINT64_C(2000000000)
#define CDI_TRY_NS     UINT64_C(5000000000)

void tr_agent_files_close(struct tr_agent *a)
{
	tr_cdi_forget(&a->cdi, NULL);
	tr_driver_free(&a->driver);
}

/* ---- the driver ---- */

/* "/" of the host, seen as SEEN here, is not part of paths in it. */
static int find_driver(struct tr_agent *a, struct tr_driver_files *out, struct tr_err *err)
{
	const struct tr_config *c = &a->config;
	bool is_same_root = strcmp(c->dev_root, c->driver_root) == 0;
	const struct tr_driver_where where = {
		.root = c->driver_root_seen,
		.host_root = c->driver_root,
		.dev = is_same_root ? c->driver_root_seen : c->dev_root,
		.host_dev = c->dev_root,
	};

	a->driver_looked_ns = tr_clock_ns();
	return tr_driver_find(&where, out, err);
}

static int note_cdi(struct tr_agent *a, int r, const struct tr_err *err)
{
	a->cdi_tried_ns = tr_clock_ns();
	(void)snprintf(a->cdi_says, sizeof(a->cdi_says), "%s", r < 0 ? err->msg : "");
	return r;
}

/* At most every five seconds: a driver may be installed after us. */
static int need_driver(struct tr_agent *a, struct tr_err *err)
{
	struct tr_driver_files found = { 0 };
	int r;

	if (a->has_driver)
		return 0;
	if (a->driver_looked_ns && tr_clock_ns() - a->driver_looked_ns < DRIVER_LOOK_NS)
		return tr_fail(err, ENOENT, "%s", a->driver_says);
	r = find_driver(a, &found, err);
	if (r == 0)
		r = note_cdi(a, tr_cdi_write_driver(a->config.cdi_dir, &found, err), err);
	if (r < 0) {
		tr_driver_free(&found);
		(void)snprintf(a->driver_says, sizeof(a->driver_says), "%s", err->msg);
		return r;
	}
	tr_driver_free(&a->driver);
	a->driver = found;
	a->has_driver = true;
	tr_log(TR_LOG_INFO, "driver_found", "version", found.version, "files",
	       tr_log_u64(found.mount_count), NULL);
	return 0;
}

void tr_agent_files_renew(struct tr_agent *a)
{
	struct tr_err err = { 0 };

	a->has_driver = false;
	a->driver_looked_ns = 0;
	if (need_driver(a, &err) < 0)
		tr_log(TR_LOG_ERROR, "driver_not_found", "reason", err.msg, NULL);
	else if (a->arm)
		tr_arm_inject_all(a->arm);
}

/* ---- whether containers can get them ---- */

/* A write that failed is tried again with the file that is the same for all. */
static int look_at_cdi(struct tr_agent *a, struct tr_err *err)
{
	const char *dir = a->config.cdi_dir;
	tr_autofree char *inside = tr_xprintf("%s/.", dir);
	struct tr_err why = { 0 };

	if (*a->cdi_says && a->has_driver && tr_clock_ns() - a->cdi_tried_ns >= CDI_TRY_NS)
		(void)note_cdi(a, tr_cdi_write_driver(dir, &a->driver, &why), &why);
	if (*a->cdi_says)
		return tr_fail(err, EIO, "%s", a->cdi_says);
	/* One that is not there is made when it is needed. */
	if (access(inside, W_OK | X_OK) < 0 && errno != ENOENT)
		return tr_fail_errno(err, "%s cannot be written to", dir);
	return 0;
}

void tr_agent_files_unready(struct tr_agent *a, struct tr_buf *reasons)
{
	bool is_known = a->nvml && tr_nvml_cards(a->nvml)->count;
	struct tr_err err = { 0 };
	int r;

	if (a->config.identity == TR_IDENTITY_INFER)
		return; /* the runtime's own hook brings them */
	r = is_known ? need_driver(a, &err) : 0;
	if (look_at_cdi(a, &err) < 0)
		tr_buf_print(reasons, "cdi_dir: %s\n", err.msg);
	else if (r < 0)
		tr_buf_print(reasons, "driver: %s\n", a->driver_says);
}

/* ---- CDI files ---- */

/* The N of /dev/nvidiaN; before NVML has answered, what the kernel says. */
static int minor_of(const struct tr_agent *a, const char *uuid, struct tr_err *err)
{
	const struct tr_card *card = a->nvml ? tr_card_find(tr_nvml_cards(a->nvml), uuid)
					     : NULL;
	struct tr_proc_gpu gpus[TR_GPUS_MAX];
	int n;

	if (card && card->minor >= 0)
		return card->minor;
	n = tr_proc_gpus(NULL, gpus, TR_GPUS_MAX, err);
	for (int i = 0; i < n; i++)
		if (strcmp(gpus[i].uuid, uuid) == 0)
			return gpus[i].minor;
	return n < 0 ? n
		     : tr_fail(err, ENODEV, "the driver does not show GPU %s on this node",
			       uuid);
}

/* Of a container: two instances may be of one GPU, and two compute instances of one GPU instance. */
struct nodes {
	int minors[TR_DEVICES_MAX], caps[2 * TR_DEVICES_MAX];
	size_t minor_count, cap_count;
};

static void add_once(int *numbers, size_t *count, int number)
{
	for (size_t i = 0; i < *count; i++)
		if (numbers[i] == number)
			return;
	numbers[(*count)++] = number;
}

/* What a runtime would say of a node that is missing names no cause. The runtime is told the host's path,
 * which is not ours to look at. */
static int check_cap(const struct tr_agent *a, const char *uuid, int cap,
		     struct tr_err *err)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/nvidia-caps/nvidia-cap%d", a->driver.dev,
		       cap);
	return access(path, F_OK) < 0
		       ? tr_fail_errno(err,
				       "MIG instance %s: %s, which nvidia-modprobe makes",
				       uuid, path)
		       : 0;
}

/* The device nodes of one card. */
static int add_nodes(const struct tr_agent *a, const char *uuid, struct nodes *nodes,
		     struct tr_err *err)
{
	const struct tr_card *card = a->nvml ? tr_card_find(tr_nvml_cards(a->nvml), uuid)
					     : NULL;
	struct tr_mig_instance instance;
	int caps[2], r = minor_of(a, uuid, err);

	if (r < 0)
		return r;
	add_once(nodes->minors, &nodes->minor_count, r);
	if (!card || !card->parent[0])
		return 0;
	instance = (struct tr_mig_instance){ r, card->gpu_instance,
					     card->compute_instance };
	r = tr_proc_caps(NULL, &instance, caps, err);
	for (size_t i = 0; r == 0 && i < 2; i++) {
		add_once(nodes->caps, &nodes->cap_count, caps[i]);
		r = check_cap(a, uuid, caps[i], err);
	}
	return r;
}

int tr_agent_inject(const struct tr_alloc *alloc, const char *slice_dir, void *arg,
		    struct tr_err *err)
{
	struct tr_agent *a = arg;
	struct nodes nodes = { 0 };
	struct tr_cdi_slice slice = { .name = alloc->name, .slice_dir = slice_dir };
	int r = *a->installed.hook ? need_driver(a, err)
				   : tr_fail(err, ENOENT, "%s", a->library_trouble);

	if (r < 0)
		return r;
	slice.hook_path = a->installed.hook;
	slice.preload_path = a->installed.preload;
	for (size_t i = 0; i < alloc->part_count && i < TR_DEVICES_MAX; i++) {
		r = add_nodes(a, alloc->parts[i].uuid, &nodes, err);
		a->is_minor_missing |= r < 0;
		if (r < 0)
			return r;
	}
	slice.minors = nodes.minors;
	slice.minor_count = nodes.minor_count;
	slice.caps = nodes.caps;
	slice.cap_count = nodes.cap_count;
	r = tr_cdi_add(&a->cdi, &a->driver, &slice, err);
	if (r < 0)
		return r;
	a->injected[a->injected_next].serial = alloc->serial;
	a->injected[a->injected_next].at_ns = tr_clock_ns();
	a->injected_next = (a->injected_next + 1) % TR_AGENT_INJECTED;
	return 0;
}

int tr_agent_flush(void *arg, struct tr_err *err)
{
	struct tr_agent *a = arg;
	int r = note_cdi(a, tr_cdi_flush(&a->cdi, a->config.cdi_dir, err), err);

	if (r < 0)
		memset(a->injected, 0,
		       sizeof(a->injected)); /* which of them is not known */
	return r;
}

/* Somebody may have emptied the folder since: only what was written a moment ago is there for certain. */
bool tr_agent_is_injected(const char *name, void *arg)
{
	struct tr_agent *a = arg;
	uint64_t serial, now_ns = tr_clock_ns();

	if (tr_alloc_name_parse(name, &serial) < 0)
		return false;
	for (size_t i = 0; i < TR_AGENT_INJECTED; i++)
		if (a->injected[i].serial == serial &&
		    now_ns - a->injected[i].at_ns < INJECTED_NS)
			return true;
	return false;
}

void tr_agent_eject(const char *name, void *arg)
{
	struct tr_agent *a = arg;
	struct tr_err err = { 0 };

	tr_cdi_forget(&a->cdi, name);
	if (tr_cdi_remove(a->config.cdi_dir, name, &err) < 0)
		tr_log(TR_LOG_WARN, "cdi_file_stays", "slice", name, "reason", err.msg,
		       NULL);
}

void tr_agent_each_injected(void (*each)(const char *name, void *each_arg), void *each_arg,
			    void *arg)
{
	struct tr_agent *a = arg;
	struct tr_err err = { 0 };

	if (tr_cdi_each(a->config.cdi_dir, each, each_arg, &err) < 0)
		tr_log(TR_LOG_WARN, "cdi_dir_unreadable", "reason", err.msg, NULL);
}
