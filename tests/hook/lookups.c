/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lookups SYMBOLS LOOKUPS: every look-up of LOOKUPS (name, version, flags; what cudart asks
 * at its start) and what came: status, and which export of the driver it is, by what dlsym
 * gives. The same lines must come with and without the hook.
 */
#include <dlfcn.h>
#include <string.h>

#include "check.h"

#define EXPORTS_MAX 2048

static struct {
	char name[96];
	void *pointer;
} exports[EXPORTS_MAX];
static int export_count;

typedef CUresult ask_new(const char *, void **, int, cuuint64_t,
			 CUdriverProcAddressQueryResult *);
typedef CUresult ask_old(const char *, void **, int, cuuint64_t);

static const char *name_of(const void *pointer)
{
	int i;

	for (i = 0; i < export_count; i++)
		if (exports[i].pointer == pointer)
			return exports[i].name;
	return pointer ? "another function" : "nothing";
}

static void read_exports(void *driver, const char *path)
{
	FILE *file = fopen(path, "r");

	CHECK(file);
	while (export_count < EXPORTS_MAX &&
	       fscanf(file, "%95s %*d", exports[export_count].name) == 1) {
		exports[export_count].pointer = dlsym(driver, exports[export_count].name);
		if (exports[export_count].pointer)
			export_count++;
	}
	fclose(file);
}

static void ask(ask_new *newer, ask_old *older, const char *name, int version, int flags)
{
	CUdriverProcAddressQueryResult status = 99;
	void *pointer = NULL;
	CUresult res;

	if (newer) {
		res = newer(name, &pointer, version, (cuuint64_t)flags, &status);
		printf("new %s %d %d: %d %d %s\n", name, version, flags, (int)res,
		       (int)status, name_of(pointer));
		pointer = NULL;
		res = newer(name, &pointer, version, (cuuint64_t)flags, NULL);
		printf("bare %s %d %d: %d %s\n", name, version, flags, (int)res,
		       name_of(pointer));
	}
	pointer = NULL;
	if (older) {
		res = older(name, &pointer, version, (cuuint64_t)flags);
		printf("old %s %d %d: %d %s\n", name, version, flags, (int)res,
		       name_of(pointer));
	}
}

int main(int argc, char **argv)
{
	void *driver = dlopen("libcuda.so.1", RTLD_NOW), *pointer = NULL;
	char line[256], name[96];
	ask_new *newer;
	ask_old *older;
	FILE *file;

	CHECK(argc == 3 && driver);
	read_exports(driver, argv[1]);
	*(void **)&newer = dlsym(driver, "cuGetProcAddress_v2");
	*(void **)&older = dlsym(driver, "cuGetProcAddress");
	file = fopen(argv[2], "r");
	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		int version, flags;

		if (line[0] == '#')
			continue;
		if (sscanf(line, "%95s %d %d", name, &version, &flags) != 3) {
			name[0] = '\0'; /* the empty name, which cudart begins with */
			if (sscanf(line, " %d %d", &version, &flags) != 2)
				continue;
		}
		ask(newer, older, name, version, flags);
		ask(newer, older, name, 99990, flags);
		ask(newer, older, name, version - 1, flags);
		ask(newer, older, name, version, 3 - flags);
	}
	fclose(file);
	if (newer)
		printf("null %d %d\n", (int)newer(NULL, &pointer, 12000, 0, NULL),
		       (int)newer("cuInit", NULL, 12000, 0, NULL));
	return 0;
}
