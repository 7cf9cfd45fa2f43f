/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that no container should be given: BAD says which. */
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void tr_bad_start(void) __attribute__((constructor));

#define HANGS     1
#define HIDES     2
#define DIES      3
#define ENDS      4
#define UNDEFINED 5
#define NEWER     6

#if BAD == UNDEFINED
void nobody_has_this(void);
#elif BAD == NEWER
/* Of glibc 2.36. */
size_t arc4random_is_newer(void);
__asm__(".symver arc4random_is_newer, arc4random@GLIBC_2.36");
#endif

void tr_bad_start(void)
{
#if BAD == HIDES
	(void)close(1);
	(void)close(2);
#endif
#if BAD == HANGS || BAD == HIDES
	for (;;)
		(void)syscall(SYS_pause);
#elif BAD == DIES
	abort();
#elif BAD == ENDS
	static const char words[] = "no thanks\n";

	(void)!write(2, words, sizeof(words) - 1);
	_exit(7);
#elif BAD == UNDEFINED
	nobody_has_this();
#elif BAD == NEWER
	(void)arc4random_is_newer();
#endif
}
