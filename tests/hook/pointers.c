/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pointers SYMBOLS ROWS [BUT]: through dlsym, a row's name gives one of the hook's functions,
 * another one each, and every other name the driver's own pointer. BUT: rows that this slice
 * does not route. ROWS "-": no slice, all
 * are the driver's.
 */
#include <dlfcn.h>
#include <string.h>

#include "check.h"

#define ROWS_MAX 256

static char rows[ROWS_MAX][96];
static void *seen[ROWS_MAX];
static int row_count, seen_count;

static int is_row(const char *name)
{
	int i;

	for (i = 0; i < row_count; i++)
		if (strcmp(rows[i], name) == 0)
			return 1;
	return 0;
}

static const char *file_of(const void *pointer)
{
	Dl_info info;

	CHECK(dladdr(pointer, &info));
	return info.dli_fname;
}

static void strike_rows(const char *path)
{
	FILE *file = fopen(path, "r");
	char name[96];

	CHECK(file);
	while (fscanf(file, "%95s", name) == 1)
		for (int i = 0; i < row_count; i++)
			if (strcmp(rows[i], name) == 0)
				rows[i][0] = 0;
	fclose(file);
}

static void read_rows(const char *path)
{
	FILE *file = fopen(path, "r");

	CHECK(file);
	while (row_count < ROWS_MAX && fscanf(file, "%95s", rows[row_count]) == 1)
		row_count++;
	fclose(file);
}

int main(int argc, char **argv)
{
	void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	int own = 0, i;
	char name[96];
	FILE *file;

	CHECK(argc >= 3 && driver);
	if (strcmp(argv[2], "-") != 0)
		read_rows(argv[2]);
	if (argc > 3)
		strike_rows(argv[3]);
	file = fopen(argv[1], "r");
	CHECK(file);
	while (fscanf(file, "%95s %*d", name) == 1) {
		void *pointer = dlsym(driver, name);
		void *versioned = dlvsym(driver, name, "NO_SUCH_VERSION");

		if (!pointer)
			continue;
		CHECK(!versioned || versioned == pointer);
		if (!is_row(name)) {
			CHECK(strstr(file_of(pointer), "/libcuda.so.1"));
			own++;
			continue;
		}
		CHECK(strstr(file_of(pointer), "/libvgpu.so"));
		for (i = 0; i < seen_count; i++)
			CHECK(seen[i] != pointer);
		seen[seen_count++] = pointer;
	}
	fclose(file);
	printf("%d hooked, %d the driver's own\n", seen_count, own);
	CHECK((seen_count > 50 || !row_count) && own > 500);
	return 0;
}
