/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ctl.h"
#include "rm/time.h"

/* busy: how long kernels ran, by device and by process, since the machine started. */

#define MS 1e6

static void print_process(const struct rm_client *c, const struct rm_busy *busy,
			  bool as_json, bool first)
{
	if (!as_json) {
		printf("  pid %d (own %d) %s: busy %.3f ms, %" PRIu64 " kernels\n",
		       c->host_pid, c->own_pid, c->name, (double)busy->process_ns / MS,
		       busy->kernels);
		return;
	}
	printf("%s{\"pid\":%d,\"own_pid\":%d,\"name\":", first ? "" : ",", c->host_pid,
	       c->own_pid);
	ctl_json_text(c->name);
	printf(",\"busy_ns\":%" PRIu64 ",\"kernels\":%" PRIu64 "}", busy->process_ns,
	       busy->kernels);
}

/* Those that ran a kernel, or run one. */
static int print_processes(const struct ctl_look *look, uint32_t device,
			   const struct rm_client *clients, size_t n)
{
	bool first = true;

	for (size_t i = 0; i < n; i++) {
		struct rm_busy busy;
		int r;

		if (clients[i].serial == 0 || clients[i].host_pid <= 0 ||
		    !ctl_is_shown(clients, i, look->pid))
			continue;
		r = rm_busy(device, clients[i].host_pid, &busy);
		if (r != 0)
			return r;
		if (busy.process_ns == 0 && busy.kernels == 0)
			continue;
		print_process(&clients[i], &busy, look->as_json, first);
		first = false;
	}
	return 0;
}

static int print_device(const struct ctl_look *look, uint32_t device,
			const struct rm_client *clients, size_t n)
{
	struct rm_busy busy;
	int r = rm_busy(device, 0, &busy);

	if (r != 0)
		return r;
	if (look->as_json) {
		if (device == 0)
			printf("{\"now_ns\":%" PRIu64 ",\"devices\":[", busy.now_ns);
		printf("%s{\"device\":%" PRIu32 ",\"busy_ns\":%" PRIu64 ",\"processes\":[",
		       device ? "," : "", device, busy.device_ns);
	} else {
		printf("device %" PRIu32 ": busy %.3f ms\n", device,
		       (double)busy.device_ns / MS);
	}
	r = print_processes(look, device, clients, n);
	if (r == 0 && look->as_json)
		fputs("]}", stdout);
	return r;
}

int ctl_busy(const struct ctl_look *look)
{
	struct rm_client *clients;
	size_t n;
	int r = ctl_clients(&clients, &n);

	for (uint32_t i = 0; r == 0 && i < rm_machine()->device_count; i++)
		r = print_device(look, i, clients, n);
	if (r == 0 && look->as_json)
		puts("]}");
	free(clients);
	return r ? ctl_fail(r) : 0;
}
