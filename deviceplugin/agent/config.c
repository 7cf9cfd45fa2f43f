/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/agent/config.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/slurp.h"
#include "deviceplugin/agent/config_key.h"
#include "kube/words.h"

/* Where settings come from, in which order, and what must fit together. */

#define FILE_MAX ((size_t)1 << 20)

typedef int read_text(struct tr_config_making *m, const char *where, const char *text,
		      size_t n, struct tr_err *err);

static int read_path(struct tr_config_making *m, const char *path, read_text *read,
		     struct tr_err *err)
{
	tr_autofree char *text = NULL;
	size_t n;
	int r = tr_slurp(path, FILE_MAX, &text, &n, err);

	return r < 0 ? r : read(m, path, text, n, err);
}

/* ---- what must hold ---- */

static void fill_text(char **text, char *value)
{
	if (**text) {
		free(value);
		return;
	}
	free(*text);
	*text = value;
}

/* As the kubelet names its node unless told otherwise. */
static char *own_name(void)
{
	char name[256] = "";

	(void)gethostname(name, sizeof(name) - 1);
	for (char *at = name; *at; at++)
		*at = (char)tolower((unsigned char)*at);
	return tr_xstrdup(name);
}

static int check_socket(const char *key, const char *dir, const char *name,
			struct tr_err *err)
{
	size_t n = strlen(dir) + strlen(name);

	if (n < sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return 0;
	return tr_fail(err, EINVAL, "%s: %s%s is too long for a socket's path (%zu bytes)",
		       key, dir, name, n);
}

/* The same place, however many slashes and dots it is written with? Not through links. */
static bool is_same_path(const char *a, const char *b)
{
	for (;;) {
		size_t x, y;

		/* Past "/", "//", "/./" and a "/." at the end. */
		while (*a == '/')
			a += a[1] == '.' && (!a[2] || a[2] == '/') ? 2 : 1;
		while (*b == '/')
			b += b[1] == '.' && (!b[2] || b[2] == '/') ? 2 : 1;
		x = strcspn(a, "/");
		y = strcspn(b, "/");
		if (x != y || strncmp(a, b, x) != 0)
			return false;
		if (!x)
			return true;
		a += x;
		b += y;
	}
}

/* What the agent keeps, and takes away what it does not know in: each in a place of its own. */
static int check_folders(const struct tr_config *c, struct tr_err *err)
{
	const struct {
		const char *key, *dir;
	} folders[] = {
		{ "run_dir", c->run_dir },         { "state_dir", c->state_dir },
		{ "cdi_dir", c->cdi_dir },         { "lib_dir", c->lib_dir },
		{ "kubelet_dir", c->kubelet_dir },
	};

	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
		for (size_t k = 0; k < i; k++)
			if (is_same_path(folders[i].dir, folders[k].dir))
				return tr_fail(err, EINVAL,
					       "%s and %s are both %s: each needs a "
					       "directory of its own",
					       folders[k].key, folders[i].key,
					       folders[k].dir);
	return 0;
}

/* Without the marks, the lock and the pod's word that it is being allocated are not followed. */
static int check_identity(const struct tr_config *c, struct tr_err *err)
{
	if (c->identity != TR_IDENTITY_INFER || c->hami_protocol)
		return 0;
	return tr_fail(err, EINVAL,
		       "identity: infer finds a container's pod by HAMi's marks, and "
		       "hami_protocol is false: set it to true, or identity to cdi");
}

static int check_all(struct tr_config *c, struct tr_err *err)
{
	int r = check_identity(c, err);

	if (r == 0)
		r = check_folders(c, err);
	if (r == 0)
		r = check_socket("kubelet_dir", c->kubelet_dir, "/kubelet.sock", err);
	if (r == 0)
		r = check_socket("pod_resources_socket", c->pod_resources_socket, "", err);
	if (r == 0)
		r = check_socket("control_socket", c->control_socket, "", err);
	return r;
}

int tr_config_finish(struct tr_config_making *m, struct tr_err *err)
{
	struct tr_config *c = m->config;

	for (size_t k = 0; k < TR_CONFIG_KEYS; k++) {
		const char *fallback = tr_config_keys[k].fallback;
		int r = m->is_given[k] ? 0 : tr_config_set_text(m, k, fallback, err);

		if (r < 0)
			return r;
	}
	fill_text(&c->node_name, own_name());
	fill_text(&c->driver_root_seen, tr_xstrdup(c->driver_root));
	fill_text(&c->dev_root, tr_xstrdup(c->driver_root));
	fill_text(&c->control_socket, tr_xprintf("%s/control", c->run_dir));
	return check_all(c, err);
}

/* ---- all of it ---- */

static int read_files(struct tr_config_making *m, const struct tr_config_start *start,
		      struct tr_err *err)
{
	int r = start->config ? read_path(m, start->config, tr_config_read_file, err) : 0;

	if (r == 0 && m->config->device_config && *m->config->device_config)
		r = read_path(m, m->config->device_config, tr_config_read_hami, err);
	return r;
}

int tr_config_load(struct tr_config *out, struct tr_config_start *start,
		   const struct tr_config_inputs *inputs, struct tr_buf *notes,
		   struct tr_err *err)
{
	struct tr_config_making m = { .config = out, .notes = notes };
	int r;

	*out = (struct tr_config){ 0 };
	*start = (struct tr_config_start){ 0 };
	r = tr_config_read_words(&m, start, inputs, err);
	if (start->is_help || start->is_version || start->is_reference)
		return 0;
	if (r == 0)
		r = tr_config_read_env(&m, inputs->env, err);
	if (r == 0)
		r = read_files(&m, start, err);
	return r < 0 ? r : tr_config_finish(&m, err);
}

void tr_config_free(struct tr_config *config)
{
	for (size_t k = 0; k < TR_CONFIG_KEYS; k++)
		tr_config_free_value(config, k);
}

static bool is_same(const struct tr_config *a, const struct tr_config *b, size_t key)
{
	tr_auto_buf struct tr_buf left = { 0 }, right = { 0 };

	tr_config_print_value(a, key, &left);
	tr_config_print_value(b, key, &right);
	return left.n == right.n && memcmp(left.p, right.p, left.n) == 0;
}

void tr_config_renew(struct tr_config *old, struct tr_config *new, struct tr_buf *notes)
{
	for (size_t k = 0; k < TR_CONFIG_KEYS; k++) {
		const struct tr_config_key *key = &tr_config_keys[k];

		if (is_same(old, new, k))
			continue;
		if (!key->is_live) {
			tr_buf_print(notes, "%s has changed: that needs a restart\n",
				     key->name);
			continue;
		}
		tr_config_free_value(old, k);
		memcpy((char *)old + key->offset, (char *)new + key->offset, key->bytes);
		memset((char *)new + key->offset, 0, key->bytes);
	}
}
