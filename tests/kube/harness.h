/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_KUBE_HARNESS_H
#define TESTS_KUBE_HARNESS_H

#include <event2/event.h>

#include "kube/client.h"

/* The server of apiserver.py, one for a test program, and a loop to drive the client with. */
struct kube_server {
	int pid, in;
	int tls_port, plain_port, named_port;
	char dir[64]; /* its certificates: ca.crt, client.crt, client.key, other.crt */
};
extern struct kube_server kube_server;
extern struct event_base *kube_base;

/* Group set-up and tear-down of cmocka. */
int kube_server_start(void **state);
int kube_server_stop(void **state);

/* Access to scene NAME over TLS, or without. */
void kube_access_tls(struct tr_kube_access *out, const char *scene);
void kube_access_plain(struct tr_kube_access *out, const char *scene);
struct tr_kube *kube_client(const char *scene);

/* Runs the loop until *FLAG is not 0; fails the test after 20 seconds. */
void kube_run_until(const int *flag);
/* Runs the loop for so long. */
void kube_run_ms(unsigned ms);

/* What a call ended with. */
struct kube_result {
	int ended, r;
	struct tr_kube_status status;
	unsigned tries;
	json_t *body;
	char *text;
	struct tr_err err;
};
void kube_result_take(void *arg, int r, const struct tr_kube_reply *reply,
		      const struct tr_err *err);
/* Starts, waits and returns the call's r. */
int kube_ask(struct tr_kube *k, const struct tr_kube_ask *ask, struct kube_result *out);
void kube_result_free(struct kube_result *r);

#endif /* TESTS_KUBE_HARNESS_H */
