/* SPDX-License-Identifier: Apache-2.0 */
/* A program that has nothing to do with a GPU: says what it was given, its exit status is 3. */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		(void)printf("%s %zu\n", argv[i], strlen(argv[i]));
	return argc;
}
