/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the pseudo handles find, one line each: the same with and without the hook where no
 * driver is loaded, for names of ours and of others. Built with DLSYM_VERSION it binds
 * dlsym in that version, as programs of older systems do.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#ifdef DLSYM_VERSION
__asm__(".symver dlsym, dlsym@" DLSYM_VERSION);
#endif

static void look(const char *what, void *handle, const char *name)
{
	const char *slash, *error;
	void *found;
	Dl_info info;

	(void)dlerror();
	found = dlsym(handle, name);
	error = dlerror();
	if (!found) {
		/* Who is blamed may differ; that the name is undefined does not. */
		error = error ? strstr(error, "undefined symbol: ") : NULL;
		printf("%s %s: none, %s\n", what, name, error ? error : "and no error");
		return;
	}
	if (!dladdr(found, &info)) {
		printf("%s %s: nowhere\n", what, name);
		return;
	}
	slash = strrchr(info.dli_fname, '/');
	printf("%s %s: %s of %s%s\n", what, name, info.dli_sname ? info.dli_sname : "?",
	       slash ? slash + 1 : info.dli_fname, error ? " and an error" : "");
}

int main(void)
{
	static const char *const names[] = {
		"cuInit",
		"cuMemAlloc_v2",
		"cuGetProcAddress_v2",
		"nvmlDeviceGetMemoryInfo",
		"cuNoSuchThing",
		"curl_easy_init",
		"cublasCreate_v2",
		"malloc",
		"dlclose",
		"environ",
		"main",
		"",
	};
	void *own = dlopen(NULL, RTLD_NOW);
	unsigned i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		look("default", RTLD_DEFAULT, names[i]);
		look("next", RTLD_NEXT, names[i]);
		look("own", own, names[i]);
	}
	return 0;
}
