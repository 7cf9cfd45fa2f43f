/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_ACCESS_H
#define TR_KUBE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tranche/err.h"

/*
 * Where the API server is and who we are there. Text that came from a file is read again when the
 * file changes (tokens and client certificates are rotated under us). Plain data: one owner, one
 * thread.
 */
struct tr_kube_secret {
	char *path; /* where TEXT is read from; NULL: it does not change */
	char *text; /* NULL: not given */
	size_t bytes;
	/* the file that TEXT came from: device, inode, size, modification time */
	uint64_t sign[5];
};

struct tr_kube_access {
	char *server;   /* "https://10.0.0.1:443", no slash at the end */
	char *tls_name; /* the name in the server's certificate; NULL: that of `server` */
	char *proxy;    /* NULL: none; the environment's proxies are never used */
	char *space;    /* the namespace meant where none is given */
	char *user, *password;
	struct tr_kube_secret ca, cert, key, token; /* PEM, PEM, PEM, bearer token */
	bool is_insecure; /* the server's certificate is not verified */
};

#define TR_KUBE_SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"

/* A pod's own: token, ca.crt and namespace in DIR, the server at HOST and PORT. */
int tr_kube_access_in_cluster(struct tr_kube_access *out, const char *dir, const char *host,
			      const char *port, struct tr_err *err);

/* A kubeconfig in JSON or YAML; CONTEXT NULL: its current one. -EINVAL with a sentence for what
 * cannot be used here: exec and auth-provider plugins, impersonation, credentials without TLS. */
int tr_kube_access_kubeconfig(struct tr_kube_access *out, const char *path,
			      const char *context, struct tr_err *err);

/* PATH when not NULL, else $KUBECONFIG, else the pod's own, else ~/.kube/config. */
int tr_kube_access_find(struct tr_kube_access *out, const char *path, struct tr_err *err);

/* Reads again what has changed. True when anything is new. A file that cannot be read or makes no
 * sense leaves what was there (it may be about to be replaced). */
bool tr_kube_access_refresh(struct tr_kube_access *a);

void tr_kube_access_free(struct tr_kube_access *a);

/* For access.c and kubeconfig.c. What a secret must look like. */
enum tr_kube_secret_kind { TR_KUBE_PEM, TR_KUBE_TOKEN };
int tr_kube_secret_set(struct tr_kube_secret *s, enum tr_kube_secret_kind kind,
		       const char *text, size_t bytes, struct tr_err *err);
int tr_kube_secret_open(struct tr_kube_secret *s, enum tr_kube_secret_kind kind,
			const char *path, struct tr_err *err);
/* Checks what stands in OUT as a whole. */
int tr_kube_access_check(struct tr_kube_access *a, struct tr_err *err);

#endif /* TR_KUBE_ACCESS_H */
