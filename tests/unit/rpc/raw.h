/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAW_H
#define RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A gRPC peer made of bytes: it says what the test writes, right or wrong. Frames are collected in
 * a buffer and sent by raw_send(); what the server answers is only counted.
 */
struct raw {
	int fd;
	uint8_t out[131072];
	size_t n;
	uint8_t in[262144]; /* the first part of the answer */
	size_t got;
	unsigned is_closed; /* by the server */
};

void raw_open(struct raw *r, const char *path);
void raw_close(struct raw *r);
void raw_bytes(struct raw *r, const void *bytes, size_t n);
void raw_preface(struct raw *r); /* HTTP/2's, with empty settings */
void raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t stream,
	       const void *payload, size_t n);
/* Headers of a call of PATH; ENCODING may be NULL. */
void raw_call(struct raw *r, uint32_t stream, const char *path, const char *encoding,
	      bool is_last);
/* A data frame: gRPC's prefix with LENGTH, then N BYTES. */
void raw_message(struct raw *r, uint32_t stream, uint8_t compressed, uint32_t length,
		 const void *bytes, size_t n);
void raw_send(struct raw *r); /* as much as the socket takes */
void raw_read(struct raw *r); /* what is there */
/* Streams that the server ended: by trailers or a reset. */
unsigned raw_ended(const struct raw *r);
bool raw_says(const struct raw *r, const char *text);

enum { RAW_DATA = 0, RAW_HEADERS = 1, RAW_RST = 3, RAW_SETTINGS = 4, RAW_PING = 6 };
enum { RAW_END_STREAM = 1, RAW_END_HEADERS = 4 };

#endif /* RAW_H */
