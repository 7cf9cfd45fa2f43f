/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "rt/bytes.h"
#include "rt/cleanup.h"
#include "tranche/paths.h"

#define REPLY_MAX  ((size_t)16 << 20)
#define DEADLINE_S 20

/* ---- one question to the agent ---- */

static int connect_to(const char *path, struct tr_err *err)
{
	static const struct timeval deadline = { .tv_sec = DEADLINE_S };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	tr_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(at.sun_path))
		return tr_fail(err, EINVAL, "--socket \"%s\" is too long", path);
	memcpy(at.sun_path, path, strlen(path));
	if (fd < 0)
		return tr_fail_errno(err, "socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline));
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
		return tr_take_fd(&fd);
	if (errno == ENOENT || errno == ECONNREFUSED)
		return tr_fail(
			err, errno,
			"no node agent answers at %s: is tranched running on this node, "
			"with this run_dir?",
			path);
	if (errno == EACCES)
		return tr_fail(err, EACCES, "%s: only root may ask the node agent", path);
	return tr_fail_errno(err, "%s", path);
}

static int send_all(int fd, const char *text, size_t n, struct tr_err *err)
{
	while (n > 0) {
		ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);

		if (sent < 0)
			return tr_fail_errno(err, "the node agent does not listen");
		text += sent;
		n -= (size_t)sent;
	}
	return 0;
}

static int receive_all(int fd, json_t **out, struct tr_err *err)
{
	size_t n = 0, room = 4096;
	char *text = malloc(room);
	bool is_late;
	ssize_t got = 1;

	while (text && got > 0 && n < REPLY_MAX) {
		if (n == room) {
			char *more = realloc(text, room *= 2);

			if (!more)
				free(text);
			text = more;
			continue;
		}
		got = recv(fd, text + n, room - n, 0);
		n += got > 0 ? (size_t)got : 0;
	}
	*out = text && got == 0 ? json_loadb(text, n, 0, NULL) : NULL;
	is_late = got < 0 && errno == EAGAIN;
	free(text);
	if (*out)
		return 0;
	if (is_late)
		return tr_fail(
			err, ETIMEDOUT,
			"the node agent has not answered for %d seconds: it hangs, or "
			"is stopped",
			DEADLINE_S);
	return tr_fail(err, EIO, "the node agent %s",
		       n == 0 ? "gives no answer: only root may ask, 8 at a time"
			      : "did not answer in full");
}

/* REQUEST is taken. -EIO and others; what the agent refuses is -EPROTO with its sentence. */
static int ask(const char *path, json_t *request, json_t **reply, struct tr_err *err)
{
	char *text = json_dumps(request, JSON_COMPACT);
	tr_autoclose int fd = connect_to(path, err);
	const char *refusal;
	int r = fd < 0 ? fd : 0;

	json_decref(request);
	if (r == 0 && !text)
		r = tr_fail(err, EINVAL, "a value is not UTF-8");
	if (r == 0)
		r = send_all(fd, text, strlen(text), err);
	if (r == 0)
		r = send_all(fd, "\n", 1, err);
	free(text);
	if (r == 0)
		r = receive_all(fd, reply, err);
	if (r < 0 || json_is_true(json_object_get(*reply, "ok")))
		return r;
	refusal = json_string_value(json_object_get(*reply, "error"));
	r = tr_fail(err, EPROTO, "%s", refusal ? refusal : "refused");
	json_decref(*reply);
	*reply = NULL;
	return r;
}

/* ---- what it says, for people ---- */

static const char *text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static uint64_t number_at(const json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (uint64_t)n : 0;
}

static const char *size_text(char out[static TR_BYTES_TEXT], uint64_t bytes)
{
	tr_bytes_print(out, bytes);
	return out;
}

static void print_card(const json_t *card)
{
	char given[TR_BYTES_TEXT], give[TR_BYTES_TEXT];

	(void)printf("%-3" PRIu64 "%-12.12s %-26.26s %10s of %-10s %5" PRIu64
		     "%% of %-5" PRIu64 "%3" PRIu64 " of %-4" PRIu64 " %s\n",
		     number_at(card, "index"), text_at(card, "uuid"), text_at(card, "type"),
		     size_text(given, number_at(card, "given_bytes")),
		     size_text(give, number_at(card, "give_bytes")),
		     number_at(card, "given_cores"), number_at(card, "give_cores"),
		     number_at(card, "containers"), number_at(card, "split"),
		     json_is_true(json_object_get(card, "healthy"))
			     ? "healthy"
			     : text_at(card, "reason"));
}

static int print_status(const json_t *reply)
{
	const json_t *kubelet = json_object_get(reply, "kubelet");
	const json_t *api = json_object_get(reply, "api"), *entry;
	const json_t *metrics = json_object_get(reply, "metrics");
	bool is_ready = json_is_true(json_object_get(reply, "ready"));
	size_t i;

	(void)printf("node %s: %s%s\n", text_at(reply, "node"),
		     is_ready ? "serves" : "does not serve",
		     json_is_true(json_object_get(reply, "draining")) ? ", draining" : "");
	json_array_foreach (json_object_get(reply, "reasons"), i, entry)
		(void)printf("  %s\n", json_string_value(entry));
	(void)printf("agent      tranched %s, pid %" PRIu64 ", up for %" PRIu64 " s\n",
		     text_at(reply, "version"), number_at(reply, "pid"),
		     number_at(reply, "uptime_s"));
	(void)printf("kubelet    %s%s%s\n", text_at(kubelet, "state"),
		     *text_at(kubelet, "reason") ? ": " : "", text_at(kubelet, "reason"));
	(void)printf("API server %s%s%s\n",
		     json_is_true(json_object_get(api, "watching")) ? "watched" : "away",
		     *text_at(api, "reason") ? ": " : "", text_at(api, "reason"));
	(void)printf("driver     %s\n", text_at(reply, "driver"));
	(void)printf("library    %s\n", text_at(reply, "library"));
	(void)printf("metrics    %s%s\n", *text_at(metrics, "reason") ? "none: " : "",
		     *text_at(metrics, "reason")    ? text_at(metrics, "reason")
		     : *text_at(metrics, "address") ? text_at(metrics, "address")
						    : "off");
	(void)printf("slices     %" PRIu64 "\n", number_at(reply, "slices"));
	if (json_array_size(json_object_get(reply, "cards")))
		(void)printf("\n#  GPU          MODEL                          MEMORY "
			     "GIVEN       "
			     "      TIME GIVEN    CONTAINERS\n");
	json_array_foreach (json_object_get(reply, "cards"), i, entry)
		print_card(entry);
	return is_ready ? 0 : 1;
}

static void print_share(const json_t *device)
{
	double share = json_number_value(json_object_get(device, "time_share"));
	double most = json_number_value(json_object_get(device, "time_share_max"));

	if (most > share)
		(void)printf(" %5.4g-%-4.4g", share * 100, most * 100);
	else
		(void)printf(" %5.4g     ", share * 100);
}

static void print_slice(const json_t *slice)
{
	char limit[TR_BYTES_TEXT], used[TR_BYTES_TEXT], peak[TR_BYTES_TEXT], name[600];
	const json_t *device;
	size_t i;

	(void)snprintf(name, sizeof(name), "%s/%s/%s", text_at(slice, "namespace"),
		       text_at(slice, "pod"), text_at(slice, "container"));
	if (!*text_at(slice, "pod"))
		(void)snprintf(name, sizeof(name), "(%s)", text_at(slice, "state"));
	if (json_array_size(json_object_get(slice, "devices")) == 0)
		(void)printf("%-18s %-40s\n", text_at(slice, "name"), name);
	json_array_foreach (json_object_get(slice, "devices"), i, device) {
		(void)printf("%-18s %-40s %-12.12s %10s %10s %10s", text_at(slice, "name"),
			     name, text_at(device, "uuid"),
			     size_text(limit, number_at(device, "memory_limit_bytes")),
			     size_text(used, number_at(device, "memory_used_bytes")),
			     size_text(peak, number_at(device, "memory_peak_bytes")));
		print_share(device);
		(void)printf(" %7" PRIu64 " %5" PRIu64 "\n", number_at(device, "refused"),
			     number_at(device, "processes"));
	}
}

static int print_slices(const json_t *reply)
{
	const json_t *slice;
	size_t i;

	(void)printf("%-18s %-40s %-12s %10s %10s %10s %11s %7s %5s\n", "SLICE",
		     "CONTAINER", "GPU", "LIMIT", "USED", "PEAK", "CORES", "REFUSED",
		     "PROCS");
	json_array_foreach (json_object_get(reply, "slices"), i, slice)
		print_slice(slice);
	return 0;
}

static void print_cores(char out[static 64], const json_t *part)
{
	uint64_t cores = number_at(part, "cores"), most = number_at(part, "cores_max");

	if (!cores)
		(void)snprintf(out, 64, "no limit");
	else if (most > cores)
		(void)snprintf(out, 64, "%" PRIu64 "-%" PRIu64 "%%", cores, most);
	else
		(void)snprintf(out, 64, "%" PRIu64 "%%", cores);
}

static int print_set(const json_t *reply)
{
	const json_t *before = json_object_get(reply, "before"), *after;
	char old[TR_BYTES_TEXT], new[TR_BYTES_TEXT], was[64], is[64];
	size_t i;

	json_array_foreach (json_object_get(reply, "after"), i, after) {
		const json_t *part = json_array_get(before, i);

		print_cores(was, part);
		print_cores(is, after);
		(void)printf("%s: %s -> %s, cores %s -> %s on %s\n",
			     text_at(reply, "slice"),
			     size_text(old, number_at(part, "limit_bytes")),
			     size_text(new, number_at(after, "limit_bytes")), was, is,
			     text_at(after, "device"));
	}
	return 0;
}

static int print_drain(const json_t *reply)
{
	if (!json_is_true(json_object_get(reply, "draining")))
		(void)printf("GPUs are offered again\n");
	else
		(void)printf("no GPU is offered; %" PRIu64 " slices go on\n",
			     number_at(reply, "slices"));
	return 0;
}

/* ---- what is asked ---- */

struct wishes {
	const char *mem, *cores, *cores_max, *device, *socket;
	bool off, json;
};

static int add_percent(json_t *request, const char *key, const char *option,
		       const char *text, struct tr_err *err)
{
	char *end = NULL;
	unsigned long number = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || (*end && strcmp(end, "%") != 0) ||
	    number > 100)
		return tr_fail(
			err, EINVAL,
			"--%s \"%s\": a whole number of percent from 0 to 100 is wanted",
			option, text);
	json_object_set_new(request, key, json_integer((json_int_t)number));
	return 0;
}

static int add_set(json_t *request, const struct wishes *w, const char *name,
		   struct tr_err *err)
{
	int r = 0;

	if (!w->mem && !w->cores && !w->cores_max)
		return tr_fail(
			err, EINVAL,
			"node set: nothing to change; --mem SIZE, --cores PERCENT or "
			"--cores-max PERCENT");
	json_object_set_new(request, "slice", json_string(name));
	if (w->mem)
		json_object_set_new(request, "memory", json_string(w->mem));
	if (w->device)
		json_object_set_new(request, "device", json_string(w->device));
	if (w->cores)
		r = add_percent(request, "cores", "cores", w->cores, err);
	if (r == 0 && w->cores_max)
		r = add_percent(request, "cores_max", "cores-max", w->cores_max, err);
	return r;
}

static const struct {
	const char *name;
	int words; /* after it */
	int (*print)(const json_t *reply);
} parts[] = {
	{ "status", 0, print_status },
	{ "slices", 0, print_slices },
	{ "set", 1, print_set },
	{ "drain", 0, print_drain },
};

/* Which of PARTS; -EINVAL. */
static int find_part(const struct tr_args *args, struct tr_err *err)
{
	for (size_t i = 0; args->rest_count > 0 && i < TR_COUNT(parts); i++) {
		if (strcmp(args->rest[0], parts[i].name) != 0)
			continue;
		if (args->rest_count == parts[i].words + 1)
			return (int)i;
		return tr_fail(err, EINVAL, "node %s: %s", parts[i].name,
			       parts[i].words ? "name one slice, or NAMESPACE/POD/CONTAINER"
					      : "nothing may follow it but options");
	}
	return tr_fail(err, EINVAL, "node: which of status, slices, set, drain?");
}

static int tell(const json_t *reply, int part, bool as_json)
{
	if (!as_json)
		return parts[part].print(reply);
	if (json_dumpf(reply, stdout, JSON_INDENT(2)) < 0)
		return 1;
	(void)putchar('\n');
	return 0;
}

int tr_cli_node(int argc, char **argv)
{
	struct wishes w = { .socket = TR_NODE_CONTROL };
	const struct tr_option options[] = {
		{ "mem", &w.mem, NULL },
		{ "cores", &w.cores, NULL },
		{ "cores-max", &w.cores_max, NULL },
		{ "device", &w.device, NULL },
		{ "socket", &w.socket, NULL },
		{ "off", NULL, &w.off },
		{ "json", NULL, &w.json },
	};
	struct tr_args args;
	struct tr_err err = { 0 };
	json_t *request, *reply = NULL;
	int part = -1,
	    r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), true, &err);

	if (r == 0)
		r = part = find_part(&args, &err);
	if (r < 0)
		return tr_cli_usage(&err, r);
	request = json_pack("{s:s}", "do", parts[part].name);
	r = parts[part].words ? add_set(request, &w, args.rest[1], &err) : 0;
	if (w.off)
		json_object_set_new(request, "off", json_true());
	if (r < 0) {
		json_decref(request);
		return tr_cli_usage(&err, r);
	}
	r = ask(w.socket, request, &reply, &err);
	if (r < 0)
		return tr_cli_fail(&err, 1);
	r = tell(reply, part, w.json);
	json_decref(reply);
	return r;
}
