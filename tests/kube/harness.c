/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/slurp.h"
#include "tr_test.h"

#define WAIT_S 20

struct kube_server kube_server;
struct event_base *kube_base;

static void read_ports(int fd)
{
	char line[128] = "";
	size_t n = 0;

	while (n + 1 < sizeof(line) && !strchr(line, '\n') && read(fd, line + n, 1) == 1)
		n++;
	if (sscanf(line, "%d %d %d", &kube_server.tls_port, &kube_server.plain_port,
		   &kube_server.named_port) != 3)
		fail_msg("the server did not start: \"%s\"", line);
}

int kube_server_start(void **state)
{
	int in[2], out[2];
	posix_spawn_file_actions_t actions;
	char script[] = KUBE_SERVER;
	char python[] = "python3";
	char *argv[] = { python, script, kube_server.dir, NULL };
	pid_t pid;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)strcpy(kube_server.dir, "/tmp/tr-kube-XXXXXX");
	assert_non_null(mkdtemp(kube_server.dir));
	assert_int_equal(pipe(in) | pipe(out), 0);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	(void)posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	(void)posix_spawn_file_actions_addclose(&actions, in[1]);
	(void)posix_spawn_file_actions_addclose(&actions, out[0]);
	assert_int_equal(posix_spawnp(&pid, python, &actions, NULL, argv, environ), 0);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)close(in[0]);
	(void)close(out[1]);
	kube_server.pid = pid;
	kube_server.in = in[1];
	read_ports(out[0]);
	(void)close(out[0]);
	kube_base = event_base_new();
	return kube_base ? 0 : -1;
}

int kube_server_stop(void **state)
{
	char *command = tr_xprintf("rm -rf %s", kube_server.dir);

	(void)state;
	(void)close(kube_server.in);
	(void)waitpid(kube_server.pid, NULL, 0);
	event_base_free(kube_base);
	if (system(command) != 0)
		print_message("%s failed\n", command);
	free(command);
	return 0;
}

void kube_access_tls(struct tr_kube_access *out, const char *scene)
{
	char *ca = tr_xprintf("%s/ca.crt", kube_server.dir);
	struct tr_err err = { 0 };

	*out = (struct tr_kube_access){ 0 };
	out->server = tr_xprintf("https://127.0.0.1:%d/%s", kube_server.tls_port, scene);
	if (tr_kube_secret_open(&out->ca, TR_KUBE_PEM, ca, &err) < 0)
		fail_msg("%s", err.msg);
	free(ca);
}

void kube_access_plain(struct tr_kube_access *out, const char *scene)
{
	*out = (struct tr_kube_access){ 0 };
	out->server = tr_xprintf("http://127.0.0.1:%d/%s", kube_server.plain_port, scene);
}

struct tr_kube *kube_client(const char *scene)
{
	struct tr_kube_access access;
	struct tr_kube *k = NULL;
	struct tr_err err = { 0 };

	kube_access_tls(&access, scene);
	if (tr_kube_open(&k, kube_base, &access, &err) < 0)
		fail_msg("%s", err.msg);
	return k;
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(int *)arg = 1;
}

static int run(const int *flag, unsigned ms)
{
	int is_over = 0;
	struct timeval wait = { ms / 1000, ms % 1000 * 1000 };
	struct event *timer = evtimer_new(kube_base, on_timeout, &is_over);

	(void)evtimer_add(timer, &wait);
	while (!is_over && !(flag && *flag))
		(void)event_base_loop(kube_base, EVLOOP_ONCE);
	event_free(timer);
	return is_over;
}

void kube_run_until(const int *flag)
{
	if (run(flag, WAIT_S * 1000) && !*flag)
		fail_msg("nothing happened for %d s", WAIT_S);
}

void kube_run_ms(unsigned ms)
{
	(void)run(NULL, ms);
}

void kube_result_take(void *arg, int r, const struct tr_kube_reply *reply,
		      const struct tr_err *err)
{
	struct kube_result *out = arg;

	out->ended++;
	out->r = r;
	out->status = reply->status;
	out->tries = reply->tries;
	out->body = json_incref((json_t *)(uintptr_t)reply->body);
	out->text = tr_xstrndup(reply->text, reply->bytes);
	out->err = *err;
}

int kube_ask(struct tr_kube *k, const struct tr_kube_ask *ask, struct kube_result *out)
{
	*out = (struct kube_result){ 0 };
	(void)tr_kube_start(k, ask, kube_result_take, out);
	kube_run_until(&out->ended);
	return out->r;
}

void kube_result_free(struct kube_result *r)
{
	json_decref(r->body);
	free(r->text);
	*r = (struct kube_result){ 0 };
}
