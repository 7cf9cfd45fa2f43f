/* SPDX-License-Identifier: Apache-2.0 */
/* The agent as far as a probe is concerned, without sanitizers: they do not let anybody be loaded before them. */
#include <stdlib.h>

#include "deviceplugin/inject/probe.h"

int main(int argc, char **argv)
{
	int status;

	return tr_probe_answer(argc, argv, &status) ? status : EXIT_FAILURE;
}
