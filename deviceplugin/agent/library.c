/* SPDX-License-Identifier: Apache-2.0 */
/* The library that containers are given, and why they cannot have it. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/inject/probe.h"
#include "deviceplugin/report/log.h"
#include "rt/file.h"

#define PROBE_MS 5000
#define LOOK_S   5
#define AGAIN_NS UINT64_C(4000000000) /* each look is a try: timers come early by a bit */
#define SHARE    12 /* of the loop's time that tries may take: one in so many */

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

static int install(const struct tr_agent *a, struct tr_installed *out, struct tr_err *err)
{
	char own[PATH_MAX];
	const char *source = a->config.hook_source;
	int r = 0;

	if (!*source) {
		r = find_own_library(own, err);
		source = own;
	}
	return r < 0 ? r : tr_install(a->config.lib_dir, source, probe, out, err);
}

static void tell(const struct tr_agent *a)
{
	const char *path = *a->installed.hook ? a->installed.hook : NULL;

	if (*a->library_trouble)
		tr_log(TR_LOG_ERROR, "library_unusable", "reason", a->library_trouble,
		       "restarts_with", path, NULL);
	else
		tr_log(TR_LOG_INFO, "library_installed", "path", path, NULL);
}

/* All zero bits: there is none. */
static struct tr_agent_stamp stamp_of(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return (struct tr_agent_stamp){ 0 };
	return (struct tr_agent_stamp){
		.dev = st.st_dev,
		.inode = st.st_ino,
		.bytes = (uint64_t)st.st_size,
		.mode = st.st_mode,
		/* Whoever writes, cuts or changes the mode sets it, and cannot set it back. */
		.changed_s = (uint64_t)st.st_ctim.tv_sec,
		.changed_ns = (uint64_t)st.st_ctim.tv_nsec,
	};
}

static bool is_as_it_was(const struct tr_agent *a)
{
	const struct tr_agent_stamp now[] = { stamp_of(a->installed.hook),
					      stamp_of(a->installed.preload) };

	return memcmp(now, a->library_stamps, sizeof(now)) == 0;
}

/* What has been injected names another one. */
static void doubt_injected(struct tr_agent *a)
{
	memset(a->injected, 0, sizeof(a->injected));
	if (a->arm)
		tr_arm_doubt_injected(a->arm);
}

static void forget(struct tr_agent *a)
{
	a->installed = (struct tr_installed){ 0 };
	memset(a->library_stamps, 0, sizeof(a->library_stamps));
	doubt_injected(a);
}

static void try_it(struct tr_agent *a)
{
	tr_autofree struct tr_installed *now = tr_xcalloc(1, sizeof(*now));
	uint64_t start_ns = tr_clock_ns(), took_ns;
	struct tr_err err = { 0 };
	bool is_other, is_news;
	int r = install(a, now, &err);

	if (r == 0)
		*err.msg = '\0';
	else if (tr_installed_last(a->config.lib_dir, probe, now, NULL) < 0)
		*now = (struct tr_installed){ 0 };
	is_other = strcmp(now->hook, a->installed.hook) != 0;
	is_news = is_other || !*a->library_trouble ||
		  strcmp(err.msg, a->library_trouble) != 0;
	a->installed = *now;
	a->library_stamps[0] = stamp_of(now->hook);
	a->library_stamps[1] = stamp_of(now->preload);
	(void)snprintf(a->library_trouble, sizeof(a->library_trouble), "%s", err.msg);
	if (is_news)
		tell(a);
	if (is_other) {
		doubt_injected(a);
		a->is_library_other = true;
	}
	took_ns = tr_clock_ns() - start_ns;
	/* The loop stands still meanwhile, and a library that hangs is waited for. */
	a->library_again_ns = start_ns + took_ns +
			      (took_ns > AGAIN_NS / SHARE ? SHARE * took_ns : AGAIN_NS);
	if (a->arm)
		tr_agent_slices_block(a);
}

void tr_agent_library_look(struct tr_agent *a)
{
	bool is_same = is_as_it_was(a);

	if (!*a->library_trouble && !is_same)
		tr_log(TR_LOG_WARN, "library_changed", "path", a->installed.hook, NULL);
	if (*a->library_trouble ? tr_clock_ns() >= a->library_again_ns : !is_same)
		try_it(a);
	else if (!is_same)
		forget(a); /* what was to be restarted with, until the next try */
}

static void look_and_tell_all(struct tr_agent *a)
{
	tr_agent_library_look(a);
	/* Not from within a call, which may be of one of those that are injected again. */
	if (a->is_library_other && a->arm && *a->installed.hook)
		tr_arm_inject_all(a->arm);
	a->is_library_other = false;
}

void tr_agent_library_renew(struct tr_agent *a)
{
	a->library_again_ns = 0;
	look_and_tell_all(a);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	look_and_tell_all(arg);
}

int tr_agent_library_open(struct tr_agent *a, struct tr_err *err)
{
	static const struct timeval period = { .tv_sec = LOOK_S };

	try_it(a);
	a->is_library_other = false; /* who has been armed is injected again anyway */
	a->library_timer = event_new(a->base, -1, EV_PERSIST, on_look, a);
	if (!a->library_timer || event_add(a->library_timer, &period) < 0)
		return tr_fail(err, ENOMEM, "out of memory");
	return 0;
}

void tr_agent_library_close(struct tr_agent *a)
{
	if (a->library_timer)
		event_free(a->library_timer);
}
