/* SPDX-License-Identifier: Apache-2.0 */
#include "raw.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tr_test.h"

#define FRAME_HEAD 9u

void raw_open(struct raw *r, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	memset(r, 0, sizeof(*r));
	strcpy(address.sun_path, path);
	r->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(r->fd >= 0);
	assert_int_equal(connect(r->fd, (void *)&address, sizeof(address)), 0);
}

void raw_close(struct raw *r)
{
	close(r->fd);
	r->fd = -1;
}

void raw_bytes(struct raw *r, const void *bytes, size_t n)
{
	assert_true(n <= sizeof(r->out) - r->n);
	memcpy(r->out + r->n, bytes, n);
	r->n += n;
}

void raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t stream,
	       const void *payload, size_t n)
{
	uint8_t head[FRAME_HEAD] = { (uint8_t)(n >> 16),
				     (uint8_t)(n >> 8),
				     (uint8_t)n,
				     type,
				     flags,
				     (uint8_t)(stream >> 24),
				     (uint8_t)(stream >> 16),
				     (uint8_t)(stream >> 8),
				     (uint8_t)stream };

	raw_bytes(r, head, sizeof(head));
	raw_bytes(r, payload, n);
}

void raw_preface(struct raw *r)
{
	raw_bytes(r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	raw_frame(r, RAW_SETTINGS, 0, 0, "", 0);
}

/* HPACK: a literal string without Huffman. */
static size_t put_text(uint8_t *out, const char *text)
{
	size_t n = strlen(text), at = 0, left = n;

	if (n < 127) {
		out[at++] = (uint8_t)n;
	} else {
		out[at++] = 127;
		for (left = n - 127; left > 127; left >>= 7)
			out[at++] = (uint8_t)(0x80 | (left & 0x7f));
		out[at++] = (uint8_t)left;
	}
	memcpy(out + at, text, n);
	return at + n;
}

void raw_call(struct raw *r, uint32_t stream, const char *path, const char *encoding,
	      bool is_last)
{
	const char *const pairs[][2] = {
		{ ":method", "POST" },
		{ ":scheme", "http" },
		{ ":path", path },
		{ ":authority", "localhost" },
		{ "te", "trailers" },
		{ "content-type", "application/grpc" },
		{ "grpc-encoding", encoding },
	};
	static uint8_t block[65536];
	size_t n = 0;

	for (size_t i = 0; i < TR_COUNT(pairs); i++) {
		if (!pairs[i][1])
			continue;
		block[n++] = 0; /* literal, not to be indexed, new name */
		n += put_text(block + n, pairs[i][0]);
		n += put_text(block + n, pairs[i][1]);
	}
	raw_frame(r, RAW_HEADERS,
		  (uint8_t)(RAW_END_HEADERS | (is_last ? RAW_END_STREAM : 0)), stream,
		  block, n);
}

void raw_message(struct raw *r, uint32_t stream, uint8_t compressed, uint32_t length,
		 const void *bytes, size_t n)
{
	static uint8_t payload[65536];

	payload[0] = compressed;
	payload[1] = (uint8_t)(length >> 24);
	payload[2] = (uint8_t)(length >> 16);
	payload[3] = (uint8_t)(length >> 8);
	payload[4] = (uint8_t)length;
	memcpy(payload + 5, bytes, n);
	raw_frame(r, RAW_DATA, RAW_END_STREAM, stream, payload, n + 5);
}

void raw_send(struct raw *r)
{
	ssize_t n = send(r->fd, r->out, r->n, MSG_NOSIGNAL);

	if (n > 0) {
		memmove(r->out, r->out + n, r->n - (size_t)n);
		r->n -= (size_t)n;
	}
}

void raw_read(struct raw *r)
{
	uint8_t rest[4096];

	for (;;) {
		size_t room = sizeof(r->in) - r->got;
		ssize_t n = room ? read(r->fd, r->in + r->got, room)
				 : read(r->fd, rest, sizeof(rest));

		if (n > 0 && room)
			r->got += (size_t)n;
		if (n == 0 || (n < 0 && errno != EAGAIN))
			r->is_closed = 1;
		if (n <= 0)
			return;
	}
}

unsigned raw_ended(const struct raw *r)
{
	unsigned ended = 0;

	for (size_t at = 0; at + FRAME_HEAD <= r->got;) {
		const uint8_t *f = r->in + at;

		ended += f[3] == RAW_RST || (f[3] == RAW_HEADERS && f[4] & RAW_END_STREAM);
		at += FRAME_HEAD + ((size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2]);
	}
	return ended;
}

bool raw_says(const struct raw *r, const char *text)
{
	return memmem(r->in, r->got, text, strlen(text)) != NULL;
}
