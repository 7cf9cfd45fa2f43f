/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks every export of the library (argv[1]: the list that the header gave) and calls it
 * with nothing but zeros: uninitialised, each answers so; initialised, none crashes and
 * none calls nonsense a success.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"
#include "nvml/sim_nvml.h"

/* More zeros than any of them takes, passed as a machine word each. */
typedef nvmlReturn_t (*any_call)(void *, void *, void *, void *, void *, void *, void *,
				 void *);

static int failures;

static void walk(FILE *names, void *library, bool is_initialised)
{
	char name[128];

	rewind(names);
	while (fgets(name, sizeof(name), names)) {
		any_call call;
		nvmlReturn_t r;

		name[strcspn(name, "\n")] = '\0';
		call = (any_call)(uintptr_t)dlsym(library, name);
		if (!call) {
			printf("%s: not exported\n", name);
			failures++;
			continue;
		}
		if (strncmp(name, "nvmlInit", 8) == 0 ||
		    strcmp(name, "nvmlErrorString") == 0 ||
		    strcmp(name, "nvmlShutdown") == 0)
			continue;
		r = call(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
		if (is_initialised ? r != NVML_SUCCESS : r == NVML_ERROR_UNINITIALIZED)
			continue;
		printf("%s(zeros) answers %d (%s), %sinitialised\n", name, (int)r,
		       nvmlErrorString(r), is_initialised ? "" : "un");
		failures++;
	}
}

int main(int argc, char **argv)
{
	FILE *names = argc > 1 ? fopen(argv[1], "re") : NULL;
	void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);

	if (!names || !library) {
		fprintf(stderr, "%s: %s\n", argc > 1 ? argv[1] : "no list of names",
			dlerror());
		return 1;
	}
	machine_prepare("h100,t4", "host");
	walk(names, library, false);
	if (nvmlInit_v2() != NVML_SUCCESS) {
		printf("nvmlInit_v2 fails\n");
		return 1;
	}
	walk(names, library, true);
	if (nvmlShutdown() != NVML_SUCCESS || nvmlShutdown() != NVML_ERROR_UNINITIALIZED) {
		printf("nvmlShutdown does not count\n");
		failures++;
	}
	fclose(names);
	return failures != 0;
}
