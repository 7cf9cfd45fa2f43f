/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/agent/revision.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "deviceplugin/agent/lock.h"
#include "deviceplugin/report/log.h"
#include "rt/file.h"

#define NVML_END_MS 2000 /* a driver that hangs is left behind after it */

/* ---- signals ---- */

static void on_end(evutil_socket_t number, short what, void *arg)
{
	struct tr_agent *a = arg;

	(void)what;
	tr_log(TR_LOG_INFO, "ending", "signal", number == SIGTERM ? "TERM" : "INT", NULL);
	(void)event_base_loopbreak(a->base);
}

static void log_lines(const char *event, const struct tr_buf *notes)
{
	const char *at = notes->p ? notes->p : "";

	while (*at) {
		size_t n = strcspn(at, "\n");
		tr_autofree char *line = tr_xstrndup(at, n);

		tr_log(TR_LOG_WARN, event, "what", line, NULL);
		at += n + (at[n] ? 1 : 0);
	}
}

static void on_renew(evutil_socket_t number, short what, void *arg)
{
	struct tr_agent *a = arg;
	struct tr_config config;
	struct tr_config_start start;
	tr_auto_buf struct tr_buf notes = { 0 };
	struct tr_err err = { 0 };

	(void)number;
	(void)what;
	if (tr_config_load(&config, &start, a->inputs, &notes, &err) < 0) {
		tr_log(TR_LOG_ERROR, "settings_refused", "reason", err.msg, NULL);
	} else {
		tr_config_renew(&a->config, &config, &notes);
		tr_agent_offers_renew(a, &notes);
		log_lines("settings", &notes);
		tr_agent_log_renew(&a->config);
		tr_log(TR_LOG_INFO, "settings_read", NULL);
	}
	tr_config_free(&config);
	tr_agent_library_renew(a);
	tr_agent_files_renew(a);
}

static int open_loop(struct tr_agent *a, struct tr_err *err)
{
	static const struct {
		int number;
		event_callback_fn act;
	} signals[] = { { SIGTERM, on_end }, { SIGINT, on_end }, { SIGHUP, on_renew } };

	a->base = event_base_new();
	if (!a->base)
		return tr_fail(err, ENOMEM, "no event loop");
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		a->signals[i] = evsignal_new(a->base, signals[i].number, signals[i].act, a);
		if (!a->signals[i] || event_add(a->signals[i], NULL) < 0)
			return tr_fail(err, ENOMEM, "no event loop");
	}
	return 0;
}

/* ---- start and end ---- */

/* CDI files that are not in its book an agent removes, so two with one folder would take each other's
 * away. A folder that cannot be written is told when it is needed: containers that run go on. */
static int lock_cdi(struct tr_agent *a, struct tr_err *err)
{
	struct tr_err why = { 0 };
	int r = tr_folder_make(a->config.cdi_dir, &why);

	if (r == 0)
		r = tr_agent_lock(a->config.cdi_dir, "tranche.lock", &a->cdi_lock, &why);
	return r == -EBUSY ? tr_fail(err, EBUSY, "%s", why.msg) : 0;
}

static int open_dirs(struct tr_agent *a, struct tr_err *err)
{
	const struct tr_config *c = &a->config;
	const char *const dirs[] = { c->run_dir, c->state_dir };
	int r = tr_agent_dir(c->run_dir, 0755, "run_dir, slices of running containers",
			     err);

	if (r == 0)
		r = tr_agent_dir(c->state_dir, 0700, "state_dir, who was given what", err);
	for (size_t i = 0; r == 0 && i < 2; i++)
		r = tr_agent_lock(dirs[i], "lock", &a->locks[i], err);
	if (r == 0)
		r = lock_cdi(a, err);
	if (r == 0)
		r = tr_agent_dir_is_memory(c->run_dir, err);
	if (r == 0)
		tr_log(TR_LOG_WARN, "run_dir_on_disk", "path", c->run_dir, NULL);
	if (r >= 0 && tr_agent_dir_has_devices(c->run_dir))
		tr_log(TR_LOG_WARN, "run_dir_lets_devices", "path", c->run_dir, "reason",
		       "containers can make device nodes there: mount it "
		       "nodev,nosuid,noexec",
		       NULL);
	return r < 0 ? r : 0;
}

/* In this order: what containers that run need comes before what new ones need, and both before what
 * is told about them. */
static int open_all(struct tr_agent *a, struct tr_err *err)
{
	int r = open_loop(a, err);

	if (r == 0)
		r = open_dirs(a, err);
	if (r < 0)
		return r;
	r = tr_agent_library_open(a, err);
	if (r == 0)
		r = tr_agent_slices_open(a, err);
	if (r == 0)
		r = tr_agent_offers_open(a, err);
	if (r < 0)
		return r;
	tr_agent_slices_block(a);
	tr_agent_cluster_open(a);
	return tr_agent_tell_open(a, err);
}

/* 0, or -EBUSY: a thread hangs in the driver, and exit handlers would wait for it. */
static int close_all(struct tr_agent *a)
{
	int r;

	tr_agent_tell_close(a);
	tr_agent_cluster_close(a);
	tr_agent_offers_close(a);
	r = tr_nvml_close(a->nvml, NVML_END_MS);
	a->nvml = NULL;
	tr_agent_slices_close(a);
	tr_agent_library_close(a);
	tr_agent_files_close(a);
	for (size_t i = 0; i < 3; i++)
		if (a->signals[i])
			event_free(a->signals[i]);
	if (a->base)
		event_base_free(a->base);
	for (size_t i = 0; i < 2; i++)
		if (a->locks[i] >= 0)
			(void)close(a->locks[i]);
	if (a->cdi_lock >= 0)
		(void)close(a->cdi_lock);
	tr_config_free(&a->config);
	return r;
}

int tr_agent_run(struct tr_config *config, const struct tr_config_inputs *inputs)
{
	struct tr_agent *a = tr_xcalloc(1, sizeof(*a));
	struct tr_err err = { 0 };
	int r;

	a->config = *config;
	*config = (struct tr_config){ 0 };
	a->inputs = inputs;
	a->locks[0] = a->locks[1] = a->cdi_lock = -1;
	a->started_ns = tr_clock_ns();
	(void)signal(SIGPIPE, SIG_IGN);
	tr_agent_log_renew(&a->config);
	tr_log(TR_LOG_INFO, "starting", "version", TR_VERSION, "revision",
	       tr_agent_revision, "node", a->config.node_name, NULL);
	r = open_all(a, &err);
	if (r < 0)
		tr_log(TR_LOG_ERROR, "cannot_start", "reason", err.msg, NULL);
	else
		(void)event_base_dispatch(a->base);
	a->status = r < 0 ? 1 : 0;
	if (close_all(a) < 0) {
		tr_log(TR_LOG_WARN, "driver_hangs", "reason",
		       "a thread does not come back from NVML", NULL);
		_exit(a->status);
	}
	r = a->status;
	free(a);
	return r;
}
