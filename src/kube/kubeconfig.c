/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "base/slurp.h"
#include "base/yaml.h"
#include "kube/access.h"

#define KUBECONFIG_MAX ((size_t)4 << 20)

struct file {
	const char *path;
	json_t *root;
	struct tr_err *err;
};

/* The text KEY of OBJECT; NULL when absent, null or empty. -EBADMSG when it is something else. */
static int get_text(const struct file *f, const json_t *object, const char *key,
		    const char **out)
{
	const json_t *value = json_object_get(object, key);

	*out = NULL;
	if (!value || json_is_null(value))
		return 0;
	if (!json_is_string(value))
		return tr_fail(f->err, EBADMSG, "%s: %s is not a text", f->path, key);
	if (json_string_length(value))
		*out = json_string_value(value);
	return 0;
}

static int copy_text(const struct file *f, const json_t *object, const char *key,
		     char **out)
{
	const char *text;
	int r = get_text(f, object, key, &text);

	if (r == 0 && text)
		*out = tr_xstrdup(text);
	return r;
}

/* The object called NAME in the list LIST, e.g. clusters: [{name: NAME, cluster: {...}}]. */
static int find_entry(const struct file *f, const char *list, const char *inner,
		      const char *name, const json_t **out)
{
	const json_t *entries = json_object_get(f->root, list);
	const json_t *entry;
	size_t i;

	json_array_foreach ((json_t *)(uintptr_t)entries, i, entry) {
		const char *called = json_string_value(json_object_get(entry, "name"));

		if (!called || strcmp(called, name) != 0)
			continue;
		*out = json_object_get(entry, inner);
		if (json_is_object(*out))
			return 0;
		return tr_fail(f->err, EBADMSG, "%s: %s \"%s\" has no %s", f->path, list,
			       name, inner);
	}
	return tr_fail(f->err, ENOENT, "%s: no \"%s\" among its %s", f->path, name, list);
}

/* KEY-data (base64 in the file) or KEY (a path, relative to the file). */
static int get_secret(const struct file *f, const json_t *object, const char *key,
		      struct tr_kube_secret *out)
{
	tr_autofree char *inline_key = tr_xprintf("%s-data", key);
	tr_autofree char *bytes = NULL;
	const char *text, *slash = strrchr(f->path, '/');
	size_t n = 0;
	int r = get_text(f, object, inline_key, &text);

	if (r < 0)
		return r;
	if (text) {
		bytes = tr_xmalloc(strlen(text) + 3);
		r = tr_base64_decode(text, strlen(text), bytes, &n);
		if (r < 0)
			return tr_fail(f->err, EBADMSG, "%s: %s is not base64", f->path,
				       inline_key);
		r = tr_kube_secret_set(out, TR_KUBE_PEM, bytes, n, f->err);
		explicit_bzero(bytes, n);
		return r < 0 ? tr_wrap(f->err, r, "%s: %s", f->path, inline_key) : 0;
	}
	r = get_text(f, object, key, &text);
	if (r < 0 || !text)
		return r;
	bytes = *text == '/' || !slash
			? tr_xstrdup(text)
			: tr_xprintf("%.*s/%s", (int)(slash - f->path), f->path, text);
	return tr_kube_secret_open(out, TR_KUBE_PEM, bytes, f->err);
}

static int get_token(const struct file *f, const json_t *user, struct tr_kube_access *a)
{
	const char *path = NULL, *text = NULL, *slash = strrchr(f->path, '/');
	tr_autofree char *full = NULL;
	int r = get_text(f, user, "tokenFile", &path);

	if (r == 0)
		r = get_text(f, user, "token", &text);
	if (r < 0)
		return r;
	if (path) {
		full = *path == '/' || !slash
			       ? tr_xstrdup(path)
			       : tr_xprintf("%.*s/%s", (int)(slash - f->path), f->path,
					    path);
		return tr_kube_secret_open(&a->token, TR_KUBE_TOKEN, full, f->err);
	}
	if (!text)
		return 0;
	return tr_kube_secret_set(&a->token, TR_KUBE_TOKEN, text, strlen(text), f->err);
}

static int refuse_plugins(const struct file *f, const char *name, const json_t *user)
{
	const json_t *exec = json_object_get(user, "exec");
	const char *command = json_string_value(json_object_get(exec, "command"));

	if (exec && !json_is_null(exec))
		return tr_fail(
			f->err, EINVAL,
			"%s: user \"%s\" gets its credentials from the program \"%s\" "
			"(exec); programs are not started here: give a token, a "
			"tokenFile or a client certificate",
			f->path, name, command ? command : "?");
	if (json_is_object(json_object_get(user, "auth-provider")))
		return tr_fail(
			f->err, EINVAL,
			"%s: user \"%s\" has an auth-provider, which is not supported: "
			"give a token, a tokenFile or a client certificate",
			f->path, name);
	if (json_object_get(user, "as") || json_object_get(user, "as-uid") ||
	    json_object_get(user, "as-groups") || json_object_get(user, "as-user-extra"))
		return tr_fail(f->err, EINVAL,
			       "%s: user \"%s\" impersonates another (as), which is not "
			       "supported",
			       f->path, name);
	return 0;
}

static int read_user(const struct file *f, const char *name, struct tr_kube_access *a)
{
	const json_t *user = NULL;
	int r = find_entry(f, "users", "user", name, &user);

	if (r == 0)
		r = refuse_plugins(f, name, user);
	if (r == 0)
		r = get_secret(f, user, "client-certificate", &a->cert);
	if (r == 0)
		r = get_secret(f, user, "client-key", &a->key);
	if (r == 0)
		r = get_token(f, user, a);
	if (r == 0)
		r = copy_text(f, user, "username", &a->user);
	if (r == 0)
		r = copy_text(f, user, "password", &a->password);
	return r;
}

static int read_cluster(const struct file *f, const char *name, struct tr_kube_access *a)
{
	const json_t *cluster = NULL, *insecure;
	int r = find_entry(f, "clusters", "cluster", name, &cluster);

	if (r == 0)
		r = copy_text(f, cluster, "server", &a->server);
	if (r == 0 && !a->server)
		r = tr_fail(f->err, EBADMSG, "%s: cluster \"%s\" has no server", f->path,
			    name);
	if (r == 0)
		r = get_secret(f, cluster, "certificate-authority", &a->ca);
	if (r == 0)
		r = copy_text(f, cluster, "tls-server-name", &a->tls_name);
	if (r == 0)
		r = copy_text(f, cluster, "proxy-url", &a->proxy);
	if (r < 0)
		return r;
	insecure = json_object_get(cluster, "insecure-skip-tls-verify");
	if (insecure && !json_is_boolean(insecure) && !json_is_null(insecure))
		return tr_fail(f->err, EBADMSG,
			       "%s: insecure-skip-tls-verify is not true or false",
			       f->path);
	a->is_insecure = json_is_true(insecure);
	if (a->is_insecure && a->ca.text)
		return tr_fail(f->err, EINVAL,
			       "%s: cluster \"%s\" has a certificate-authority and "
			       "insecure-skip-tls-verify: which?",
			       f->path, name);
	return 0;
}

static int read_context(const struct file *f, const char *wanted, struct tr_kube_access *a)
{
	const json_t *context = NULL;
	const char *cluster = NULL, *user = NULL;
	int r = 0;

	if (!wanted)
		r = get_text(f, f->root, "current-context", &wanted);
	if (r < 0)
		return r;
	if (!wanted)
		return tr_fail(f->err, EINVAL, "%s: no current-context", f->path);
	r = find_entry(f, "contexts", "context", wanted, &context);
	if (r == 0)
		r = get_text(f, context, "cluster", &cluster);
	if (r == 0)
		r = get_text(f, context, "user", &user);
	if (r == 0)
		r = copy_text(f, context, "namespace", &a->space);
	if (r < 0)
		return r;
	if (!cluster)
		return tr_fail(f->err, EBADMSG, "%s: context \"%s\" has no cluster",
			       f->path, wanted);
	r = read_cluster(f, cluster, a);
	if (r == 0 && user)
		r = read_user(f, user, a);
	if (r == 0 && !a->space)
		a->space = tr_xstrdup("default");
	return r;
}

static int parse(struct file *f)
{
	tr_autofree char *text = NULL;
	size_t n = 0;
	int r = tr_slurp(f->path, KUBECONFIG_MAX, &text, &n, f->err);

	if (r < 0)
		return r;
	r = tr_yaml_parse(text, n, &f->root, f->err);
	explicit_bzero(text, n);
	if (r < 0)
		return tr_wrap(f->err, r, "%s", f->path);
	return json_is_object(f->root)
		       ? 0
		       : tr_fail(f->err, EBADMSG, "%s is not a kubeconfig", f->path);
}

int tr_kube_access_kubeconfig(struct tr_kube_access *out, const char *path,
			      const char *context, struct tr_err *err)
{
	struct tr_kube_access a = { 0 };
	struct file f = { .path = path, .err = err };
	int r = parse(&f);

	if (r == 0)
		r = read_context(&f, context, &a);
	if (r == 0) {
		r = tr_kube_access_check(&a, err);
		if (r < 0)
			(void)tr_wrap(err, r, "%s", path);
	}
	json_decref(f.root);
	if (r < 0)
		tr_kube_access_free(&a);
	else
		*out = a;
	return r;
}
