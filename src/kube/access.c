/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/slurp.h"

#define SECRET_MAX ((size_t)1 << 20)
#define TOKEN_MAX  ((size_t)64 << 10)

static int check_token(const char *text, size_t n, struct tr_err *err)
{
	if (n == 0 || n > TOKEN_MAX)
		return tr_fail(err, EINVAL, "a token of %zu bytes", n);
	/* It goes into a header line as it is. */
	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return tr_fail(err, EINVAL,
				       "the token has a blank or control character");
	return 0;
}

int tr_kube_secret_set(struct tr_kube_secret *s, enum tr_kube_secret_kind kind,
		       const char *text, size_t bytes, struct tr_err *err)
{
	int r = 0;

	if (kind == TR_KUBE_TOKEN) {
		while (bytes && strchr(" \r\n\t", text[bytes - 1]))
			bytes--;
		r = check_token(text, bytes, err);
	} else if (!memmem(text, bytes, "-----BEGIN ", 11)) {
		r = tr_fail(err, EINVAL, "not in PEM form");
	}
	if (r < 0)
		return r;
	free(s->text);
	s->text = tr_xstrndup(text, bytes);
	s->bytes = bytes;
	return 0;
}

static bool read_sign(const char *path, uint64_t sign[5])
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	sign[0] = st.st_dev;
	sign[1] = st.st_ino;
	sign[2] = (uint64_t)st.st_size;
	sign[3] = (uint64_t)st.st_mtim.tv_sec;
	sign[4] = (uint64_t)st.st_mtim.tv_nsec;
	return true;
}

int tr_kube_secret_open(struct tr_kube_secret *s, enum tr_kube_secret_kind kind,
			const char *path, struct tr_err *err)
{
	tr_autofree char *text = NULL;
	uint64_t sign[5] = { 0 };
	size_t n = 0;
	int r;

	/* First the sign, then the bytes: a file exchanged in between is read once more. */
	(void)read_sign(path, sign);
	r = tr_slurp(path, SECRET_MAX, &text, &n, err);
	if (r == 0) {
		r = tr_kube_secret_set(s, kind, text, n, err);
		if (r < 0)
			return tr_wrap(err, r, "%s", path);
	}
	if (r < 0)
		return r;
	if (s->path != path) {
		free(s->path);
		s->path = tr_xstrdup(path);
	}
	memcpy(s->sign, sign, sizeof(sign));
	return 0;
}

static bool refresh(struct tr_kube_secret *s, enum tr_kube_secret_kind kind)
{
	uint64_t sign[5];
	tr_autofree char *old = NULL;

	if (!s->path || !read_sign(s->path, sign) || !memcmp(sign, s->sign, sizeof(sign)))
		return false;
	old = tr_xstrdup(s->text);
	return tr_kube_secret_open(s, kind, s->path, NULL) == 0 &&
	       strcmp(old, s->text) != 0;
}

bool tr_kube_access_refresh(struct tr_kube_access *a)
{
	bool is_new = refresh(&a->ca, TR_KUBE_PEM);

	is_new |= refresh(&a->cert, TR_KUBE_PEM);
	is_new |= refresh(&a->key, TR_KUBE_PEM);
	is_new |= refresh(&a->token, TR_KUBE_TOKEN);
	return is_new;
}

static void free_secret(struct tr_kube_secret *s)
{
	if (s->text)
		explicit_bzero(s->text, s->bytes);
	free(s->text);
	free(s->path);
}

void tr_kube_access_free(struct tr_kube_access *a)
{
	free_secret(&a->ca);
	free_secret(&a->cert);
	free_secret(&a->key);
	free_secret(&a->token);
	free(a->server);
	free(a->tls_name);
	free(a->proxy);
	free(a->space);
	free(a->user);
	free(a->password);
	*a = (struct tr_kube_access){ 0 };
}

int tr_kube_access_check(struct tr_kube_access *a, struct tr_err *err)
{
	bool is_tls = strncmp(a->server, "https://", 8) == 0;
	size_t n = strlen(a->server);

	if (!is_tls && strncmp(a->server, "http://", 7) != 0)
		return tr_fail(err, EINVAL, "server \"%.200s\" is not an https:// address",
			       a->server);
	for (const char *at = a->server; *at; at++)
		if (*at <= ' ' || *at > '~' || strchr("@?#\\", *at))
			return tr_fail(err, EINVAL, "server \"%.200s\": no such address",
				       a->server);
	while (n && a->server[n - 1] == '/')
		a->server[--n] = '\0';
	if (!is_tls && (a->token.text || a->user || a->cert.text))
		return tr_fail(err, EINVAL,
			       "credentials are not sent to %.200s: it has no TLS",
			       a->server);
	if (!a->cert.text != !a->key.text)
		return tr_fail(err, EINVAL,
			       "a client certificate needs its key, and a key "
			       "its certificate");
	if (!a->user != !a->password)
		return tr_fail(err, EINVAL, "a username needs its password");
	return 0;
}

int tr_kube_access_in_cluster(struct tr_kube_access *out, const char *dir, const char *host,
			      const char *port, struct tr_err *err)
{
	struct tr_kube_access a = { 0 };
	tr_autofree char *token = tr_xprintf("%s/token", dir);
	tr_autofree char *ca = tr_xprintf("%s/ca.crt", dir);
	tr_autofree char *space = tr_xprintf("%s/namespace", dir);
	size_t n;
	int r;

	if (!host || !*host || !port || !*port)
		return tr_fail(err, ENOENT,
			       "KUBERNETES_SERVICE_HOST and _PORT are not set");
	/* An IPv6 address stands in brackets. */
	a.server = strchr(host, ':') ? tr_xprintf("https://[%s]:%s", host, port)
				     : tr_xprintf("https://%s:%s", host, port);
	r = tr_kube_secret_open(&a.token, TR_KUBE_TOKEN, token, err);
	if (r == 0)
		r = tr_kube_secret_open(&a.ca, TR_KUBE_PEM, ca, err);
	if (r == 0 && tr_slurp(space, 253, &a.space, &n, NULL) == 0)
		a.space[strcspn(a.space, " \r\n\t")] = '\0';
	if (r == 0 && !a.space)
		a.space = tr_xstrdup("default");
	if (r == 0)
		r = tr_kube_access_check(&a, err);
	if (r < 0) {
		tr_kube_access_free(&a);
		return tr_wrap(err, r, "the pod's service account");
	}
	*out = a;
	return 0;
}

int tr_kube_access_find(struct tr_kube_access *out, const char *path, struct tr_err *err)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *home = getenv("HOME");
	tr_autofree char *at_home = NULL;

	if (!path)
		path = getenv("KUBECONFIG");
	if (path && *path) {
		if (strchr(path, ':') && access(path, F_OK) < 0)
			return tr_fail(err, EINVAL,
				       "KUBECONFIG names several files: only one is read");
		return tr_kube_access_kubeconfig(out, path, NULL, err);
	}
	if (host && *host)
		return tr_kube_access_in_cluster(out, TR_KUBE_SERVICE_ACCOUNT, host,
						 getenv("KUBERNETES_SERVICE_PORT"), err);
	if (!home || !*home)
		return tr_fail(err, ENOENT,
			       "no kubeconfig is given and this is not a pod of a cluster");
	at_home = tr_xprintf("%s/.kube/config", home);
	return tr_kube_access_kubeconfig(out, at_home, NULL, err);
}
