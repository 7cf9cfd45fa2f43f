/* SPDX-License-Identifier: Apache-2.0 */
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/inject/probe.h"

/* The probe's own side: a file of its own, for programs that are linked with nothing else of ours. */

static int is_wanted(struct dl_phdr_info *object, size_t size, void *wanted)
{
	(void)size;
	return object->dlpi_name && strcmp(object->dlpi_name, wanted) == 0;
}

bool tr_probe_answer(int argc, char **argv, int *status)
{
	char *wanted;

	if (argc != 2 || strcmp(argv[1], TR_PROBE_WORD) != 0)
		return false;
	wanted = getenv("LD_PRELOAD");
	*status = wanted && dl_iterate_phdr(is_wanted, wanted) == 1 ? EXIT_SUCCESS
								    : EXIT_FAILURE;
	return true;
}
