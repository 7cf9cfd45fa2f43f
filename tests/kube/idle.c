/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idle SERVER CA SECONDS: one client with one watch of pods and its own node's lease, as the agent has
 * them. Prints its anonymous memory in KiB: at the start, when the list is in, and after SECONDS.
 */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kube/watch.h"
#include "kube/write.h"

static const char *const annotations[] = { "hami.io/*", "tranche.io/*", NULL };
static const char *const resources[] = { "nvidia.com/gpu*", NULL };
static const struct tr_keep keep = { annotations, NULL, resources, NULL };
static struct event_base *base;

static long rss_anon_kib(void)
{
	FILE *in = fopen("/proc/self/status", "re");
	char line[256];
	long kib = -1;

	while (in && fgets(line, sizeof(line), in))
		if (strncmp(line, "RssAnon:", 8) == 0)
			kib = strtol(line + 8, NULL, 10);
	if (in)
		(void)fclose(in);
	return kib;
}

static void on_synced(void *arg)
{
	(void)arg;
	(void)event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
	struct tr_kube_access access = { 0 };
	struct tr_watch_options options = { .kind = &tr_watch_pods,
					    .field_selector = "spec.nodeName=n",
					    .keep = &keep,
					    .synced = on_synced };
	struct tr_lease lease = {
		.space = "a", .name = "n", .holder = "n", .renewed_us = 1
	};
	struct tr_err err = { 0 };
	struct tr_kube *k = NULL;
	struct tr_watch *w = NULL;
	struct timeval wait = { 0 };
	long at_start = rss_anon_kib(), synced;

	if (argc != 4)
		return 2;
	(void)signal(SIGPIPE, SIG_IGN);
	wait.tv_sec = strtol(argv[3], NULL, 10);
	base = event_base_new();
	access.server = tr_xstrdup(argv[1]);
	if (tr_kube_secret_open(&access.ca, TR_KUBE_PEM, argv[2], &err) < 0 ||
	    tr_kube_open(&k, base, &access, &err) < 0 ||
	    tr_watch_open(&w, k, &options, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	(void)event_base_dispatch(base);
	synced = rss_anon_kib();
	(void)tr_lease_write(k, &lease, 0, NULL, NULL, NULL, &err);
	(void)event_base_loopexit(base, &wait);
	(void)event_base_dispatch(base);
	(void)printf("%ld %ld %ld %zu\n", at_start, synced, rss_anon_kib(),
		     tr_watch_state(w).objects);
	tr_watch_close(w);
	tr_kube_close(k);
	event_base_free(base);
	return 0;
}
