/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_STATUS_H
#define TR_KUBE_STATUS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* What an API server says when it refuses: the Status object, or what a proxy before it says. */
struct tr_kube_status {
	int code;          /* HTTP status; 0: none */
	char reason[64];   /* "NotFound", "AlreadyExists", ...; "" when it is not given */
	char message[320]; /* one line, printable; "" when it is not given */
	uint32_t retry_after_s; /* 0: not given */
};

/* BODY is the reply as JSON or NULL; TEXT its N bytes as they came. Pure. */
void tr_kube_status_read(struct tr_kube_status *out, int http, const json_t *body,
			 const char *text, size_t n);

/*
 * A positive errno for a reply that is not 2xx:
 *   ENOENT 404 | EACCES 401, 403 | EEXIST 409 AlreadyExists | ESTALE 409 otherwise |
 *   EINVAL 400, 405, 413, 415, 422 | EKEYEXPIRED 410 | EAGAIN 408, 429, 500, 502, 503, 504 |
 *   EPROTO anything else
 */
int tr_kube_status_errno(const struct tr_kube_status *s);

#endif /* TR_KUBE_STATUS_H */
