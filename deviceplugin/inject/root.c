/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/root.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40

struct walk {
	const char *root;
	char *out; /* of PATH_MAX: what is resolved, "" is the root */
	size_t n;
	char rest[2 * PATH_MAX]; /* what is not */
	unsigned links;
};

static void step_up(struct walk *w)
{
	while (w->n > 0 && w->out[w->n - 1] != '/')
		w->n--;
	w->n -= w->n > 0;
	w->out[w->n] = '\0';
}

/* The link at the end of what is resolved gives way to what it says. */
static int follow(struct walk *w, const char *at, const char *behind)
{
	char target[PATH_MAX], joined[2 * PATH_MAX];
	ssize_t n = readlink(at, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	target[n] = '\0';
	if (snprintf(joined, sizeof(joined), "%s/%s", target, behind) >=
	    (int)sizeof(joined))
		return -ENAMETOOLONG;
	memcpy(w->rest, joined, strlen(joined) + 1);
	step_up(w);
	if (target[0] == '/')
		w->out[w->n = 0] = '\0';
	return 0;
}

static int step(struct walk *w, const char *name, const char *behind)
{
	char at[2 * PATH_MAX];
	size_t n = strlen(name);
	struct stat st;

	if (w->n + n + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	w->out[w->n] = '/';
	memcpy(w->out + w->n + 1, name, n + 1);
	w->n += n + 1;
	if (snprintf(at, sizeof(at), "%s%s", w->root, w->out) >= (int)sizeof(at))
		return -ENAMETOOLONG;
	if (lstat(at, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return follow(w, at, behind);
	memmove(w->rest, behind, strlen(behind) + 1);
	return 0;
}

int tr_root_resolve(const char *root, const char *path, char out[static PATH_MAX])
{
	struct walk w = { .root = root, .out = out };

	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return path[0] == '/' ? -ENAMETOOLONG : -EINVAL;
	memcpy(w.rest, path, strlen(path) + 1);
	out[0] = '\0';
	for (;;) {
		char name[NAME_MAX + 1];
		const char *from = w.rest + strspn(w.rest, "/");
		size_t n = strcspn(from, "/");
		int r = 0;

		if (n == 0)
			break;
		if (n > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, from, n);
		name[n] = '\0';
		if (strcmp(name, "..") == 0)
			step_up(&w);
		if (strcmp(name, "..") == 0 || strcmp(name, ".") == 0)
			memmove(w.rest, from + n, strlen(from + n) + 1);
		else
			r = step(&w, name, from + n);
		if (r < 0)
			return r;
	}
	if (w.n == 0)
		memcpy(out, "/", 2);
	return 0;
}
