/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <strings.h>

#include "deviceplugin/report/http.h"

#define FIELDS_MAX 100

struct text {
	const char *p;
	size_t n;
};

static bool is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct text t)
{
	for (size_t i = 0; i < t.n; i++)
		if (!is_token_char(t.p[i]))
			return false;
	return t.n > 0;
}

static bool is_word(struct text t, const char *word)
{
	return t.n == strlen(word) && strncasecmp(t.p, word, t.n) == 0;
}

/* No control but the tab, and line ends of two bytes: what other readers of the same bytes could take
 * for something else. The last byte may be half of a line end. */
static bool is_clean(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c == '\r' && (i + 1 == n || p[i + 1] == '\n'))
			continue;
		if (c == '\n' && i > 0 && p[i - 1] == '\r')
			continue;
		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* The line at *AT without its end. All of TEXT ends with one. */
static struct text take_line(const char **at, const char *end)
{
	const char *stop = memmem(*at, (size_t)(end - *at), "\r\n", 2);
	struct text line = { *at, (size_t)(stop - *at) };

	*at = stop + 2;
	return line;
}

/* ---- the first line --------------------------------------------------------------------- */

static int copy_target(struct text target, struct tr_http_request *out)
{
	const char *mark;
	struct text path, query = { "", 0 };

	if (target.n > 7 && strncasecmp(target.p, "http://", 7) == 0) {
		mark = memchr(target.p + 7, '/', target.n - 7);
		path = mark ? (struct text){ mark, (size_t)(target.p + target.n - mark) }
			    : (struct text){ "/", 1 };
	} else {
		path = target;
	}
	if (path.n == 0 || path.p[0] != '/')
		return -400;
	for (size_t i = 0; i < path.n; i++)
		if (path.p[i] <= ' ' || path.p[i] >= 0x7f || path.p[i] == '#')
			return -400;
	mark = memchr(path.p, '?', path.n);
	if (mark) {
		query = (struct text){ mark + 1, path.n - (size_t)(mark - path.p) - 1 };
		path.n = (size_t)(mark - path.p);
	}
	if (path.n >= sizeof(out->path) || query.n >= sizeof(out->query))
		return -414;
	memcpy(out->path, path.p, path.n);
	memcpy(out->query, query.p, query.n);
	return 0;
}

static int read_version(struct text version, bool *is_11)
{
	if (version.n != 8 || memcmp(version.p, "HTTP/", 5) != 0 || version.p[6] != '.' ||
	    version.p[5] < '0' || version.p[5] > '9' || version.p[7] < '0' ||
	    version.p[7] > '9')
		return -400;
	if (version.p[5] != '1')
		return -505;
	*is_11 = version.p[7] != '0';
	return 0;
}

static int read_first_line(struct text line, struct tr_http_request *out, bool *is_11)
{
	const char *one = memchr(line.p, ' ', line.n);
	const char *two = one ? memchr(one + 1, ' ', line.n - (size_t)(one + 1 - line.p))
			      : NULL;
	struct text method, target;
	int r;

	if (!two)
		return -400;
	method = (struct text){ line.p, (size_t)(one - line.p) };
	target = (struct text){ one + 1, (size_t)(two - one - 1) };
	r = read_version((struct text){ two + 1, line.n - (size_t)(two + 1 - line.p) },
			 is_11);
	if (r < 0)
		return r;
	if (!is_token(method))
		return -400;
	out->is_head = method.n == 4 && memcmp(method.p, "HEAD", 4) == 0;
	if (!out->is_head && (method.n != 3 || memcmp(method.p, "GET", 3) != 0))
		return -405;
	return copy_target(target, out);
}

/* ---- the fields ------------------------------------------------------------------------- */

struct fields {
	unsigned count, hosts;
	bool says_close, says_keep, is_accept_lost;
};

static void read_connection(struct text value, struct fields *fields)
{
	while (value.n) {
		const char *comma = memchr(value.p, ',', value.n);
		struct text word = { value.p, comma ? (size_t)(comma - value.p) : value.n };
		size_t step = word.n + (comma ? 1 : 0);

		while (word.n && (*word.p == ' ' || *word.p == '\t')) {
			word.p++;
			word.n--;
		}
		while (word.n && (word.p[word.n - 1] == ' ' || word.p[word.n - 1] == '\t'))
			word.n--;
		fields->says_close |= is_word(word, "close");
		fields->says_keep |= is_word(word, "keep-alive");
		value.p += step;
		value.n -= step;
	}
}

static void add_accept(struct tr_http_request *out, struct text value,
		       struct fields *fields)
{
	size_t have = strlen(out->accept), more = have ? 2 : 0;

	if (have + more + value.n >= sizeof(out->accept)) {
		fields->is_accept_lost = true;
		return;
	}
	memcpy(out->accept + have, ", ", more);
	memcpy(out->accept + have + more, value.p, value.n);
	out->accept[have + more + value.n] = '\0';
}

static int check_length(struct text value)
{
	bool is_zero = value.n > 0;

	for (size_t i = 0; i < value.n; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return -400;
		is_zero &= value.p[i] == '0';
	}
	return is_zero ? 0 : value.n ? -413 : -400;
}

static int read_field(struct text line, struct tr_http_request *out, struct fields *fields)
{
	const char *colon = memchr(line.p, ':', line.n);
	struct text name, value;

	if (!colon || ++fields->count > FIELDS_MAX)
		return colon ? -431 : -400;
	name = (struct text){ line.p, (size_t)(colon - line.p) };
	value = (struct text){ colon + 1, line.n - name.n - 1 };
	while (value.n && (*value.p == ' ' || *value.p == '\t')) {
		value.p++;
		value.n--;
	}
	while (value.n && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
		value.n--;
	if (!is_token(name)) /* folded lines and blanks before the colon too */
		return -400;
	if (is_word(name, "Host"))
		fields->hosts++;
	else if (is_word(name, "Content-Length"))
		return check_length(value);
	else if (is_word(name, "Transfer-Encoding"))
		return -413;
	else if (is_word(name, "Connection"))
		read_connection(value, fields);
	else if (is_word(name, "Accept"))
		add_accept(out, value, fields);
	return 0;
}

int tr_http_parse(const char *bytes, size_t n, struct tr_http_request *out)
{
	size_t skip = n >= 2 && memcmp(bytes, "\r\n", 2) == 0 ? 2 : 0;
	const char *at = bytes + skip;
	const char *end = memmem(at, n - skip, "\r\n\r\n", 4);
	struct fields fields = { 0 };
	bool is_11 = false;
	int r;

	memset(out, 0, sizeof(*out));
	if (!is_clean(bytes, end ? (size_t)(end + 4 - bytes) : n))
		return -400;
	if (!end || (size_t)(end + 4 - bytes) > TR_HTTP_REQUEST) {
		if (n < TR_HTTP_REQUEST)
			return 0;
		return memmem(at, n - skip, "\r\n", 2) ? -431 : -414;
	}
	r = read_first_line(take_line(&at, end + 2), out, &is_11);
	while (r == 0 && at < end + 2)
		r = read_field(take_line(&at, end + 2), out, &fields);
	if (r == 0 && (fields.hosts > 1 || (is_11 && fields.hosts == 0)))
		r = -400;
	if (fields.is_accept_lost)
		out->accept[0] = '\0';
	out->keep = !fields.says_close && (is_11 || fields.says_keep);
	return r < 0 ? r : (int)(end + 4 - bytes);
}
