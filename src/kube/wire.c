/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/wire.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "rt/file.h"

#define CONNECT_MS  5000u
#define RECHECK_NS  UINT64_C(10000000000)
#define DEAD_PEER_S 20u

struct tr_wire {
	struct event_base *base;
	CURLM *multi;
	struct event *timer; /* curl's own */
	struct event *later; /* starts and removals asked for */
	struct tr_kube_access access;
	uint64_t checked_ns;
	struct tr_wire_job *jobs;
};

struct tr_wire_job {
	struct tr_wire *wire;
	struct tr_wire_job *next, **at;
	struct tr_wire_events events;
	void *arg;
	CURL *easy; /* NULL: not started yet */
	struct curl_slist *headers, *connect_to;
	char *method, *path, *content_type;
	char *body;
	size_t body_bytes, got_bytes, reply_max;
	uint32_t timeout_ms, head_ms;
	struct event *head_timer;
	int stopped; /* -errno that ended it from our side */
	bool has_head, is_cancelled;
	char why[CURL_ERROR_SIZE];
};

/* libevent on the left, curl on the right: one of these for each of curl's sockets. */
struct wire_socket {
	struct event *event;
};

static void take_results(struct tr_wire *w);

static void on_socket_event(evutil_socket_t fd, short what, void *arg)
{
	struct tr_wire *w = arg;
	int mask = (what & EV_READ ? CURL_CSELECT_IN : 0) |
		   (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
	int running;

	(void)curl_multi_socket_action(w->multi, fd, mask, &running);
	take_results(w);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct tr_wire *w = arg;
	int running;

	(void)fd;
	(void)what;
	(void)curl_multi_socket_action(w->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	take_results(w);
}

static int on_curl_timer(CURLM *multi, long ms, void *arg)
{
	struct tr_wire *w = arg;
	struct timeval wait = tr_wire_ms(ms < 0 ? 0 : (uint64_t)ms);

	(void)multi;
	if (ms < 0)
		(void)evtimer_del(w->timer);
	else
		(void)evtimer_add(w->timer, &wait);
	return 0;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *assigned)
{
	struct tr_wire *w = arg;
	struct wire_socket *s = assigned;
	short events = EV_PERSIST;

	(void)easy;
	if (s)
		event_free(s->event);
	if (what == CURL_POLL_REMOVE) {
		free(s);
		return 0;
	}
	if (!s) {
		s = tr_xcalloc(1, sizeof(*s));
		(void)curl_multi_assign(w->multi, fd, s);
	}
	if (what & CURL_POLL_IN)
		events |= EV_READ;
	if (what & CURL_POLL_OUT)
		events |= EV_WRITE;
	s->event = event_new(w->base, fd, events, on_socket_event, w);
	return s->event && event_add(s->event, NULL) == 0 ? 0 : -1;
}

/* A peer that vanished without a word is noticed by TCP, also while a watch is silent for minutes. */
static int on_curl_connect(void *arg, curl_socket_t fd, curlsocktype type)
{
	const unsigned ms = DEAD_PEER_S * 1000;

	(void)arg;
	(void)type;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	return CURL_SOCKOPT_OK;
}

static void tell_head(struct tr_wire_job *job)
{
	long status = 0;

	if (job->has_head)
		return;
	(void)curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return;
	job->has_head = true;
	if (job->head_timer)
		(void)evtimer_del(job->head_timer);
	if (job->events.head)
		job->events.head(job->arg, (int)status);
}

static size_t on_curl_header(char *line, size_t size, size_t n, void *arg)
{
	/* The empty line ends the head, or a 1xx that comes before it. */
	if (n * size == 2 && line[0] == '\r')
		tell_head(arg);
	return size * n;
}

static size_t on_curl_bytes(char *bytes, size_t size, size_t n, void *arg)
{
	struct tr_wire_job *job = arg;

	tell_head(job);
	job->got_bytes += size * n;
	if (job->reply_max && job->got_bytes > job->reply_max)
		job->stopped = -EMSGSIZE;
	else if (!job->is_cancelled && !job->stopped)
		job->stopped = job->events.bytes(job->arg, bytes, size * n);
	return job->stopped || job->is_cancelled ? 0 : size * n;
}

/* What is set here is right by construction: setting it can only fail for want of memory. */
#define SET(option, value)                                                             \
	do {                                                                           \
		if (curl_easy_setopt(job->easy, option, value) == CURLE_OUT_OF_MEMORY) \
			abort();                                                       \
	} while (0)

static void add_header(struct tr_wire_job *job, const char *line)
{
	job->headers = curl_slist_append(job->headers, line);
	if (!job->headers)
		abort();
}

static void set_blob(struct tr_wire_job *job, CURLoption option,
		     const struct tr_kube_secret *secret)
{
	struct curl_blob blob = { secret->text, secret->bytes, CURL_BLOB_COPY };

	if (secret->text)
		SET(option, &blob);
}

static void set_access(struct tr_wire_job *job)
{
	const struct tr_kube_access *a = &job->wire->access;
	tr_autofree char *line = NULL;

	if (a->token.text) {
		line = tr_xprintf("Authorization: Bearer %s", a->token.text);
		add_header(job, line);
		explicit_bzero(line, strlen(line));
	} else if (a->user) {
		SET(CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
		SET(CURLOPT_USERNAME, a->user);
		SET(CURLOPT_PASSWORD, a->password);
	}
	SET(CURLOPT_PROXY, a->proxy ? a->proxy : "");
	/* Only the cluster's own authority counts where one is given: not the machine's (which would
	 * also be read and kept in memory, a megabyte of it). */
	if (a->ca.text) {
		set_blob(job, CURLOPT_CAINFO_BLOB, &a->ca);
		SET(CURLOPT_CAPATH, NULL);
	}
	set_blob(job, CURLOPT_SSLCERT_BLOB, &a->cert);
	set_blob(job, CURLOPT_SSLKEY_BLOB, &a->key);
	if (a->is_insecure) {
		SET(CURLOPT_SSL_VERIFYPEER, 0L);
		SET(CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

/* The certificate is for a name that the address does not have (tls-server-name): the URL has the name,
 * and the connection goes to the address. */
static void set_url(struct tr_wire_job *job)
{
	const struct tr_kube_access *a = &job->wire->access;
	tr_autofree char *url = NULL, *to = NULL;
	const char *host = strstr(a->server, "://") + 3;
	size_t n = strcspn(host, "/");
	const char *colon = memrchr(host, ':', n);

	if (!a->tls_name) {
		url = tr_xprintf("%s%s", a->server, job->path);
		SET(CURLOPT_URL, url);
		return;
	}
	if (colon && memchr(colon, ']', n - (size_t)(colon - host)))
		colon = NULL;
	to = tr_xprintf("::%.*s%s", (int)n, host, colon ? "" : ":443");
	job->connect_to = curl_slist_append(NULL, to);
	url = tr_xprintf("https://%s%s%s", a->tls_name, host + n, job->path);
	SET(CURLOPT_CONNECT_TO, job->connect_to);
	SET(CURLOPT_URL, url);
}

static void set_request(struct tr_wire_job *job)
{
	tr_autofree char *type = NULL;

	set_url(job);
	SET(CURLOPT_PROTOCOLS_STR, "https,http");
	/* A connection of its own for each exchange under way: a watch does not share its fate, or its
	 * window, with anything. */
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_CUSTOMREQUEST, job->method);
	if (job->body) {
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)job->body_bytes);
		SET(CURLOPT_POSTFIELDS, job->body);
		type = tr_xprintf("Content-Type: %s", job->content_type);
		add_header(job, type);
		add_header(job, "Expect:");
	}
	add_header(job, "Accept: application/json");
	add_header(job, "User-Agent: tranche");
	SET(CURLOPT_HTTPHEADER, job->headers);
	SET(CURLOPT_TIMEOUT_MS, (long)job->timeout_ms);
	SET(CURLOPT_CONNECTTIMEOUT_MS,
	    (long)(job->timeout_ms < CONNECT_MS ? job->timeout_ms : CONNECT_MS));
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, (long)DEAD_PEER_S);
	SET(CURLOPT_TCP_KEEPINTVL, (long)DEAD_PEER_S / 4);
	SET(CURLOPT_SOCKOPTFUNCTION, on_curl_connect);
	SET(CURLOPT_ERRORBUFFER, job->why);
	SET(CURLOPT_HEADERFUNCTION, on_curl_header);
	SET(CURLOPT_HEADERDATA, job);
	SET(CURLOPT_WRITEFUNCTION, on_curl_bytes);
	SET(CURLOPT_WRITEDATA, job);
	SET(CURLOPT_PRIVATE, job);
}

static void free_job(struct tr_wire_job *job)
{
	*job->at = job->next;
	if (job->next)
		job->next->at = job->at;
	if (job->easy) {
		(void)curl_multi_remove_handle(job->wire->multi, job->easy);
		curl_easy_cleanup(job->easy);
	}
	curl_slist_free_all(job->headers);
	curl_slist_free_all(job->connect_to);
	if (job->head_timer)
		event_free(job->head_timer);
	free(job->method);
	free(job->path);
	free(job->content_type);
	free(job->body);
	free(job);
}

static int errno_of(CURLcode code)
{
	switch ((int)code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_SSL_CONNECT_ERROR: /* went away during the handshake */
	case CURLE_PARTIAL_FILE:
		return -ECONNRESET;
	default:
		return -EPROTO;
	}
}

static bool was_sent(const struct tr_wire_job *job, CURLcode code)
{
	long bytes = 0;

	(void)curl_easy_getinfo(job->easy, CURLINFO_REQUEST_SIZE, &bytes);
	return code == CURLE_OK || bytes > 0;
}

static void end_job(struct tr_wire_job *job, CURLcode code)
{
	struct tr_wire_end end = { .r = job->stopped ? job->stopped : errno_of(code) };
	struct tr_wire_events events = job->events;
	void *arg = job->arg;
	char why[sizeof(job->why)];
	curl_off_t wait = 0;
	long status = 0;

	if (!job->stopped)
		tell_head(job);
	(void)curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(job->easy, CURLINFO_RETRY_AFTER, &wait);
	end.status = (int)status;
	end.retry_after_s = wait <= 0 ? 0 : wait < 3600 ? (uint32_t)wait : 3600;
	end.was_sent = was_sent(job, code);
	(void)snprintf(why, sizeof(why), "%s",
		       job->stopped == -EMSGSIZE    ? "the reply is too large"
		       : job->stopped == -ETIMEDOUT ? "no reply began in time"
		       : job->why[0]                ? job->why
						    : curl_easy_strerror(code));
	end.why = why;
	if (job->is_cancelled) {
		free_job(job);
		return;
	}
	free_job(job);
	events.end(arg, &end);
}

/* Not from within curl: what a job's end starts or cancels is done later. */
static void take_results(struct tr_wire *w)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(w->multi, &left))) {
		char *job = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &job);
		end_job((struct tr_wire_job *)(void *)job, m->data.result);
	}
}

static void on_head_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct tr_wire_job *job = arg;

	(void)fd;
	(void)what;
	job->stopped = -ETIMEDOUT;
	end_job(job, CURLE_OPERATION_TIMEDOUT);
}

static void recheck(struct tr_wire *w)
{
	uint64_t now = tr_clock_ns();

	if (now - w->checked_ns < RECHECK_NS)
		return;
	w->checked_ns = now;
	(void)tr_kube_access_refresh(&w->access);
}

static void begin_job(struct tr_wire_job *job)
{
	struct timeval wait = tr_wire_ms(job->head_ms);

	recheck(job->wire);
	job->easy = curl_easy_init();
	if (!job->easy)
		abort();
	set_access(job);
	set_request(job);
	if (job->head_ms) {
		job->head_timer = evtimer_new(job->wire->base, on_head_timeout, job);
		(void)evtimer_add(job->head_timer, &wait);
	}
	if (curl_multi_add_handle(job->wire->multi, job->easy) != CURLM_OK)
		abort();
}

static void on_later(evutil_socket_t fd, short what, void *arg)
{
	struct tr_wire *w = arg;
	struct tr_wire_job *next;

	(void)fd;
	(void)what;
	for (struct tr_wire_job *job = w->jobs; job; job = next) {
		next = job->next;
		if (job->is_cancelled)
			free_job(job);
		else if (!job->easy)
			begin_job(job);
	}
}

struct tr_wire_job *tr_wire_start(struct tr_wire *w, const struct tr_wire_ask *ask,
				  const struct tr_wire_events *events, void *arg)
{
	struct tr_wire_job *job = tr_xcalloc(1, sizeof(*job));

	job->wire = w;
	job->events = *events;
	job->arg = arg;
	job->method = tr_xstrdup(ask->method);
	job->path = tr_xstrdup(ask->path);
	if (ask->body) {
		job->content_type = tr_xstrdup(ask->content_type);
		job->body = tr_xstrndup(ask->body, ask->body_bytes);
		job->body_bytes = ask->body_bytes;
	}
	job->reply_max = ask->reply_max;
	job->timeout_ms = ask->timeout_ms;
	job->head_ms = ask->head_ms;
	job->at = &w->jobs;
	job->next = w->jobs;
	if (w->jobs)
		w->jobs->at = &job->next;
	w->jobs = job;
	/* Later, since this may be called from within curl. */
	event_active(w->later, EV_TIMEOUT, 0);
	return job;
}

void tr_wire_cancel(struct tr_wire_job *job)
{
	job->is_cancelled = true;
	if (job->head_timer)
		(void)evtimer_del(job->head_timer);
	event_active(job->wire->later, EV_TIMEOUT, 0);
}

bool tr_wire_refresh(struct tr_wire *w)
{
	w->checked_ns = tr_clock_ns();
	return tr_kube_access_refresh(&w->access);
}

const struct tr_kube_access *tr_wire_access(const struct tr_wire *w)
{
	return &w->access;
}

struct event_base *tr_wire_base(const struct tr_wire *w)
{
	return w->base;
}

int tr_wire_open(struct tr_wire **out, struct event_base *base,
		 struct tr_kube_access *access, struct tr_err *err)
{
	struct tr_wire *w;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return tr_fail(err, ENOMEM, "libcurl does not start");
	w = tr_xcalloc(1, sizeof(*w));
	w->base = base;
	w->multi = curl_multi_init();
	w->timer = evtimer_new(base, on_timer, w);
	w->later = event_new(base, -1, 0, on_later, w);
	if (!w->multi || !w->timer || !w->later)
		abort();
	(void)curl_multi_setopt(w->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
	(void)curl_multi_setopt(w->multi, CURLMOPT_SOCKETDATA, w);
	(void)curl_multi_setopt(w->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	(void)curl_multi_setopt(w->multi, CURLMOPT_TIMERDATA, w);
	/* Idle connections kept: each costs some 50 KiB of TLS state. */
	(void)curl_multi_setopt(w->multi, CURLMOPT_MAXCONNECTS, 8L);
	w->access = *access;
	*access = (struct tr_kube_access){ 0 };
	w->checked_ns = tr_clock_ns();
	*out = w;
	return 0;
}

void tr_wire_close(struct tr_wire *w)
{
	if (!w)
		return;
	for (struct tr_wire_job *job = w->jobs, *next; job; job = next) {
		next = job->next;
		free_job(job);
	}
	(void)curl_multi_cleanup(w->multi);
	event_free(w->timer);
	event_free(w->later);
	tr_kube_access_free(&w->access);
	curl_global_cleanup();
	free(w);
}
