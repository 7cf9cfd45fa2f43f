/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/text.h"

unsigned tr_utf8_step(const char *p, size_t n, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *at = (const unsigned char *)p;
	unsigned bytes;
	uint32_t c;

	if (n == 0)
		return 0;
	c = at[0];
	bytes = c < 0x80   ? 1
		: c < 0xc0 ? 0
		: c < 0xe0 ? 2
		: c < 0xf0 ? 3
		: c < 0xf8 ? 4
			   : 0;
	if (bytes == 0 || bytes > n)
		return 0;
	if (bytes > 1)
		c &= 0x7fu >> bytes;
	for (unsigned i = 1; i < bytes; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (at[i] & 0x3f);
	}
	if (c < least[bytes] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*code = c;
	return bytes;
}
