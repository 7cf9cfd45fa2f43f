/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

#include <errno.h>
#include <stdint.h>

static int sextet(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int tr_base64_decode(const char *text, size_t n, void *out, size_t *bytes_out)
{
	unsigned char *to = out;
	size_t bytes = 0;
	uint32_t group = 0;
	unsigned have = 0, pads = 0;

	for (size_t i = 0; i < n; i++) {
		char c = text[i];

		if (c == ' ' || c == '\n' || c == '\r' || c == '\t')
			continue;
		if (c == '=' && have + pads < 4 && have >= 2) {
			pads++;
			continue;
		}
		if (sextet(c) < 0 || pads)
			return -EBADMSG;
		group = group << 6 | (uint32_t)sextet(c);
		if (++have < 4)
			continue;
		to[bytes++] = (unsigned char)(group >> 16);
		to[bytes++] = (unsigned char)(group >> 8);
		to[bytes++] = (unsigned char)group;
		group = 0;
		have = 0;
	}
	if (have + pads != 0 && have + pads != 4)
		return -EBADMSG;
	if (have) {
		group <<= 6 * pads;
		to[bytes++] = (unsigned char)(group >> 16);
		if (have == 3)
			to[bytes++] = (unsigned char)(group >> 8);
	}
	*bytes_out = bytes;
	return 0;
}
