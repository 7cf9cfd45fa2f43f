/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/http_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "deviceplugin/report/http.h"

static int parse_port(const char *text, uint16_t *out)
{
	unsigned port = 0;
	size_t n = strlen(text);

	if (n == 0 || n > 5)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		port = port * 10 + (unsigned)(text[i] - '0');
	}
	*out = (uint16_t)port;
	return port > 65535 ? -EINVAL : 0;
}

/* The host, without the brackets of a v6 address. */
static int parse_host(char *host, struct tr_http_address *out)
{
	size_t n = strlen(host);

	out->v6.sin6_family = AF_INET6;
	if (n == 0) {
		out->is_any = out->is_v6 = true;
		return 0;
	}
	if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		out->is_v6 = true;
		return inet_pton(AF_INET6, host + 1, &out->v6.sin6_addr) == 1 ? 0 : -EINVAL;
	}
	out->v4.sin_family = AF_INET;
	return inet_pton(AF_INET, host, &out->v4.sin_addr) == 1 ? 0 : -EINVAL;
}

int tr_http_address_parse(const char *text, struct tr_http_address *out, struct tr_err *err)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	uint16_t port = 0;
	int r = colon && (size_t)(colon - text) < sizeof(host) ? 0 : -EINVAL;

	memset(out, 0, sizeof(*out));
	if (r == 0) {
		memcpy(host, text, (size_t)(colon - text));
		host[colon - text] = '\0';
		r = parse_host(host, out);
	}
	if (r == 0)
		r = parse_port(colon + 1, &port);
	out->v4.sin_port = out->v6.sin6_port = htons(port);
	return r < 0 ? tr_fail(err, EINVAL,
			       "\"%.80s\" is no address to listen at: \"127.0.0.1:9394\", "
			       "\"[::1]:9394\" or \":9394\"",
			       text)
		     : 0;
}

int tr_http_address_check(const char *address, struct tr_err *err)
{
	struct tr_http_address out;

	return tr_http_address_parse(address, &out, err);
}
