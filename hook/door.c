/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What dlsym and dlvsym answer for the names of our rows. Every other name never gets
 * further than tr_door_dlsym(): door_*.S jumps on to the real function. Three rules:
 *
 *   a handle's symbol   ask the real function, exchange a driver's pointer for its hook
 *   found in us         natural, but only where somebody else defines it too: without the
 *                       library the answer would have been NULL
 *   RTLD_NEXT behind us found without us: jump on, unless the next one is the driver
 */
#include "route.h"
#include "tr_elf.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct tr_answer {
	uintptr_t is_answered; /* 0: POINTER is where to go on */
	void *pointer;
};
struct tr_answer tr_door_dlsym(void *handle, const char *name, const void *caller);
struct tr_answer tr_door_dlvsym(void *handle, const char *name, const char *version,
				const void *caller);

/* Our exports by names that nobody can stand before (door_*.S). */
void *tr_own_dlsym(void *handle, const char *name);
void *tr_own_dlvsym(void *handle, const char *name, const char *version);

/* "cuX..." with a capital, or "nvml...": curl_easy_init and cublasCreate are not the
 * driver's. */
static int row_of(const char *name)
{
	if (!name)
		return -1;
	if (name[0] == 'c' && name[1] == 'u' && name[2] >= 'A' && name[2] <= 'Z')
		return tr_row_find(name);
	if (name[0] == 'n' && name[1] == 'v' && name[2] == 'm' && name[3] == 'l')
		return tr_row_find(name);
	return -1;
}

static struct tr_answer answer(void *pointer)
{
	return (struct tr_answer){ 1, pointer };
}

/* The real functions, one shape for both. Calls from here count as ours: RTLD_NEXT is what
 * comes after this library. That they fail sets what dlerror() says, as the caller expects
 * of a NULL. */
static void *ask(void *handle, const char *name, const char *version)
{
	void *found;

	if (version)
		found = tr_libc()->dlvsym ? tr_libc()->dlvsym(handle, name, version) : NULL;
	else
		found = tr_libc()->dlsym ? tr_libc()->dlsym(handle, name) : NULL;
	/* Not a tail call, or the real function would take our caller for the asking one.
	 */
	__asm__ volatile("" : "+r"(found));
	return found;
}

static void *ask_handle(void *handle, const char *name, const char *version)
{
	void *(*next)(void *, const char *) = NULL;
	void *found;

	if (version)
		return ask(handle, name, version);
	*(void **)&next = tr_libc()->next_dlsym;
	found = next ? next(handle, name) : NULL;
	__asm__ volatile("" : "+r"(found));
	return found;
}

/* The real look-up came to our own export. Right if another object of the scope defines the
 * name: we stand before it. Else nobody does, and NULL it is. */
static void *only_if_natural(int row, const char *name, const char *version,
			     const void *caller)
{
	struct tr_elf object;
	void *handle, *local;

	if (ask(RTLD_NEXT, name, version))
		return tr_row_export(row);
	/* A plug-in opened RTLD_LOCAL with a driver of its own behind it. */
	if (caller && tr_elf_of(caller, &object, &handle)) {
		local = ask(handle, name, version);
		if (local && local != tr_row_export(row))
			return tr_row_export(row);
	}
	return ask(RTLD_NEXT, name, version); /* NULL, and dlerror() says so */
}

static bool is_in_scope(const char *name, const char *version, const void *caller)
{
	struct tr_elf object;
	void *handle;

	return ask(RTLD_NEXT, name, version) ||
	       (tr_elf_of(caller, &object, &handle) && ask(handle, name, version));
}

static struct tr_answer look_up_next(int row, const char *name, const char *version,
				     const void *caller, void *go_on)
{
	struct tr_elf object;
	void *symbol;

	switch (tr_elf_next(caller, name, &object, &symbol)) {
	case TR_NEXT_US:
		return answer(only_if_natural(row, name, version, NULL));
	case TR_NEXT_OTHER:
		if (tr_route_is_driver(symbol) && is_in_scope(name, version, caller))
			return answer(tr_route_exchange(symbol));
		break;
	case TR_NEXT_NONE:
		break;
	}
	return (struct tr_answer){ 0, go_on };
}

static struct tr_answer look_up(int row, void *handle, const char *name,
				const char *version, const void *caller, void *go_on)
{
	struct tr_elf object;
	void *own_handle, *found;

	if (handle == RTLD_NEXT)
		return look_up_next(row, name, version, caller, go_on);
	if (handle == RTLD_DEFAULT) {
		found = ask(handle, name, version);
		if (found == tr_row_export(row))
			found = only_if_natural(row, name, version, caller);
		return answer(found ? tr_route_exchange(found) : NULL);
	}
	found = ask_handle(handle, name, version);
	if (found != tr_row_export(row))
		return answer(found ? tr_route_exchange(found) : NULL);
	if (tr_elf_of(found, &object, &own_handle) && own_handle == handle)
		return answer(found); /* somebody opened this very library */
	return answer(only_if_natural(row, name, version, NULL));
}

enum own { NOT_OWN, OWN_DLSYM, OWN_DLVSYM };

static enum own own_of(const char *name)
{
	if (!name || name[0] != 'd' || name[1] != 'l')
		return NOT_OWN;
	if (strcmp(name, "dlsym") == 0)
		return OWN_DLSYM;
	return strcmp(name, "dlvsym") == 0 ? OWN_DLVSYM : NOT_OWN;
}

static void *own_pointer(enum own which)
{
	void *(*by_name)(void *, const char *) = tr_own_dlsym;
	void *(*by_version)(void *, const char *, const char *) = tr_own_dlvsym;
	void *own;

	if (which == OWN_DLSYM)
		memcpy(&own, &by_name, sizeof(own));
	else
		memcpy(&own, &by_version, sizeof(own));
	return own;
}

/* libc's own look-up, taken by name from a handle of libc (ctypes does it), would hand out
 * the driver's functions: it is ours. Anybody else's stays. */
static bool is_real_look_up(const void *found)
{
	struct tr_elf object;
	void *handle;

	return found && tr_elf_of(found, &object, &handle) &&
	       (strcmp(object.soname, "libc.so.6") == 0 ||
		strcmp(object.soname, "libdl.so.2") == 0);
}

static struct tr_answer look_up_own(enum own which, void *handle, const char *name,
				    const char *version)
{
	void *found = ask_handle(handle, name, version);

	return answer(is_real_look_up(found) ? own_pointer(which) : found);
}

static bool is_handle(const void *handle)
{
	return handle != RTLD_NEXT && handle != RTLD_DEFAULT;
}

struct tr_answer tr_door_dlsym(void *handle, const char *name, const void *caller)
{
	enum own which = is_handle(handle) ? own_of(name) : NOT_OWN;
	int row = row_of(name);

	if (which != NOT_OWN)
		return look_up_own(which, handle, name, NULL);
	if (row < 0)
		return (struct tr_answer){ 0, tr_libc()->next_dlsym };
	return look_up(row, handle, name, NULL, caller, tr_libc()->next_dlsym);
}

/* A library before us that asks for the next dlsym in a version, as interposers do: ours
 * has none, so the loader would pass us over, and with us the slice. */
static void *own_next(enum own which, const char *name, const char *version,
		      const void *caller)
{
	struct tr_elf object;
	void *symbol;

	if (tr_elf_next(caller, name, &object, &symbol) != TR_NEXT_US ||
	    !ask(RTLD_NEXT, name, version))
		return NULL;
	return own_pointer(which);
}

struct tr_answer tr_door_dlvsym(void *handle, const char *name, const char *version,
				const void *caller)
{
	enum own which = version ? own_of(name) : NOT_OWN;
	int row = row_of(name);
	void *own = NULL;

	if (which != NOT_OWN && is_handle(handle))
		return look_up_own(which, handle, name, version);
	if (which != NOT_OWN && handle == RTLD_NEXT)
		own = own_next(which, name, version, caller);
	if (own)
		return answer(own);
	if (row < 0 || !version)
		return (struct tr_answer){ 0, tr_libc()->next_dlvsym };
	return look_up(row, handle, name, version, caller, tr_libc()->next_dlvsym);
}
