/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* The parts of an installation, relative to the directory of this program: of a build tree,
 * and of a prefix (see install.c). */
static const char *const places[] = { "../lib", "../lib/tranche" };

int tr_find_part(const char *name, char *out, size_t room, struct tr_err *err)
{
	const char *override = getenv("TRANCHE_LIBRARY");
	char self[PATH_MAX], tried[2 * PATH_MAX], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (strcmp(name, "libvgpu.so") == 0 && override) {
		if (!realpath(override, self) || access(self, R_OK) < 0)
			return tr_fail_errno(err, "TRANCHE_LIBRARY=%s", override);
		(void)snprintf(out, room, "%s", self);
		return 0;
	}
	if (n <= 0)
		return tr_fail_errno(err, "/proc/self/exe");
	self[n] = '\0';
	slash = strrchr(self, '/');
	*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		char found[PATH_MAX];

		(void)snprintf(tried, sizeof(tried), "%s/%s/%s", self, places[i], name);
		if (realpath(tried, found) && access(found, R_OK) == 0) {
			(void)snprintf(out, room, "%s", found);
			return 0;
		}
	}
	return tr_fail(err, ENOENT,
		       "%s is neither in %s/%s nor in %s/%s: run `tranche install`", name,
		       self, places[0], self, places[1]);
}
