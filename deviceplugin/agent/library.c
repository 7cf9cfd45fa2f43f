/* SPDX-License-Identifier: Apache-2.0 */
/* The library that containers are given, and why they cannot have it. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "deviceplugin/agent/agent.h"
#include "deviceplugin/inject/probe.h"
#include "deviceplugin/report/log.h"

#define PROBE_MS 5000

/* PREFIX/bin/tranched has PREFIX/lib/tranche/libvgpu.so, build/bin/tranched has build/lib/libvgpu.so. */
static int find_own_library(char out[static PATH_MAX], struct tr_err *err)
{
	static const char *const places[] = { "../lib/tranche/libvgpu.so",
					      "../lib/libvgpu.so" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = '\0';
	if (strrchr(self, '/'))
		strrchr(self, '/')[1] = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		int length = snprintf(out, PATH_MAX, "%s%s", self, places[i]);

		if (length < PATH_MAX && access(out, R_OK) == 0)
			return 0;
	}
	return tr_fail(
		err, ENOENT,
		"no libvgpu.so in %s../lib/tranche or ../lib: hook_source can name it",
		self);
}

static int probe(const char *path, const char *source, struct tr_err *err)
{
	return tr_probe(path, source, NULL, PROBE_MS, err);
}

static int install(struct tr_agent *a, struct tr_err *err)
{
	char own[PATH_MAX];
	const char *source = a->config.hook_source;
	int r = 0;

	if (!*source) {
		r = find_own_library(own, err);
		source = own;
	}
	return r < 0 ? r : tr_install(a->config.lib_dir, source, probe, &a->installed, err);
}

void tr_agent_library_open(struct tr_agent *a)
{
	struct tr_err err = { 0 };
	bool is_last;

	*a->library_trouble = '\0';
	if (install(a, &err) == 0) {
		tr_log(TR_LOG_INFO, "library_installed", "path", a->installed.hook, NULL);
		return;
	}
	(void)snprintf(a->library_trouble, sizeof(a->library_trouble), "%s", err.msg);
	is_last = tr_installed_last(a->config.lib_dir, probe, &a->installed, NULL) == 0;
	if (!is_last)
		a->installed = (struct tr_installed){ 0 };
	tr_log(TR_LOG_ERROR, "library_unusable", "reason", a->library_trouble,
	       "restarts_with", is_last ? a->installed.hook : NULL, NULL);
}
