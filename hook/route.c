/* SPDX-License-Identifier: Apache-2.0 */
#include "route.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "attach.h"
#include "hook.h"
#include "nvml_hook.h"
#include "tr_elf.h"

struct tr_real tr_real;
struct tr_nvml tr_nvml;

/* ---- rows ---------------------------------------------------------------------------- */

enum family { DRIVER, NVML, FAMILY_COUNT };

enum {
#define TR_CALL(symbol, ...) ROW_##symbol,
#include "calls.def"
	CUDA_ROW_COUNT,
	LAST_CUDA_ROW = CUDA_ROW_COUNT - 1,
#include "nvml_calls.def"
#undef TR_CALL
	ROW_COUNT
};

/* exports.S: hooks as distances from the table, so that a program that never asks pays no
 * relocation. Words of tr_real and tr_nvml stand in the order of the rows, and so do the exports. */
extern const int32_t tr_row_hooks[ROW_COUNT];
extern const uint16_t tr_row_name_ats[ROW_COUNT];
extern const char tr_row_names[];
extern const struct row_code {
	_Alignas(16) char code[16];
} tr_row_exports[ROW_COUNT];

static const char *name_of(int row)
{
	return tr_row_names + tr_row_name_ats[row];
}

static enum family family_of(int row)
{
	return row < CUDA_ROW_COUNT ? DRIVER : NVML;
}

static void **words_of(enum family family)
{
	return family == DRIVER ? (void **)&tr_real : (void **)&tr_nvml;
}

static int rows_before(enum family family)
{
	return family == DRIVER ? 0 : CUDA_ROW_COUNT;
}

static int rows_end(enum family family)
{
	return family == DRIVER ? CUDA_ROW_COUNT : ROW_COUNT;
}

static void **word_of(int row)
{
	enum family family = family_of(row);

	return words_of(family) + (row - rows_before(family));
}

/* What is called and not hooked: names one after the other, in the order of the words that
 * follow the rows' in tr_real and tr_nvml. */
static const char *const uses[FAMILY_COUNT] = {
#define TR_USE(symbol) #symbol "\0"
#include "uses.def"
#undef TR_USE
	,
	"nvmlDeviceGetUUID\0nvmlDeviceGetIndex\0",
};

/* The columns by which cuGetProcAddress knows a row. */
static const struct column {
	uint8_t base_chars; /* the base name is the exported one's beginning */
	bool is_per_thread;
	uint16_t version;
} columns[CUDA_ROW_COUNT] = {
#define TR_CALL(symbol, base, version, per_thread) \
	{ sizeof(#base) - 1, per_thread, version },
#include "calls.def"
#undef TR_CALL
};

extern _Atomic(void *) tr_export_next[ROW_COUNT]; /* exports.S */
void *tr_export_resolve(unsigned row);

int tr_row_find(const char *name)
{
	int i;

	for (i = 0; i < ROW_COUNT; i++)
		if (strcmp(name_of(i), name) == 0)
			return i;
	return -1;
}

void *tr_row_export(int row)
{
	return (void *)(uintptr_t)&tr_row_exports[row];
}

static void *hook_of(int row)
{
	uintptr_t table = (uintptr_t)tr_row_hooks;

	return (void *)(table + (uintptr_t)(intptr_t)tr_row_hooks[row]);
}

/* In an unarmed slice the driver's own functions stand for the last rows of calls.def. */
static bool is_hooked(int row)
{
	bool is_paced = row >= ROW_cuLaunchKernel && row < CUDA_ROW_COUNT;

	return is_paced ? tr_attach_is_armed() : tr_attach_is_active();
}

/* The words of tr_real are written again and again with the same values, by any thread. */
static void *real_of(int row)
{
	void *real;

	__atomic_load(word_of(row), &real, __ATOMIC_RELAXED);
	return real;
}

/* ---- the two libraries --------------------------------------------------------------- */

/* A library is bound when its first pointer is met. All threads that bind it find the same,
 * so none waits for another. */
static struct bound {
	_Atomic uintptr_t base; /* 0: not yet; written last */
	_Atomic(const ElfW(Dyn) *) dyn;
	_Atomic bool has_aliases; /* the second column is filled */
	_Atomic(void *)
		alias[CUDA_ROW_COUNT]; /* what cuGetProcAddress gives, where it differs */
} bound[FAMILY_COUNT];

static const char *const sonames[FAMILY_COUNT] = { "libcuda.so.1", "libnvidia-ml.so.1" };

/* Under another soname, the functions that an interposer has no reason to have all of. */
static const char *const marks[FAMILY_COUNT][4] = {
	{ "cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuCtxSynchronize" },
	{ "nvmlInit_v2", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount_v2",
	  "nvmlDeviceGetHandleByIndex_v2" },
};

static bool is_family(const struct tr_elf *object, enum family family)
{
	unsigned i;

	if (object->dyn == _DYNAMIC)
		return false;
	if (strcmp(object->soname, sonames[family]) == 0)
		return true;
	for (i = 0; i < 4; i++)
		if (!tr_elf_symbol(object, marks[family][i]))
			return false;
	return true;
}

static bool is_bound_to(enum family family, const struct tr_elf *object)
{
	return atomic_load_explicit(&bound[family].base, memory_order_acquire) ==
		       object->base &&
	       atomic_load_explicit(&bound[family].dyn, memory_order_relaxed) ==
		       object->dyn;
}

static void fill(void **word, const struct tr_elf *object, const char *name)
{
	void *value = tr_elf_symbol(object, name);

	__atomic_store(word, &value, __ATOMIC_RELAXED);
}

/* Makes OBJECT the library that rows of FAMILY lead to. False when another one is and still
 * lives (a second driver, of dlmopen): its pointers stay as they are. */
static bool bind(enum family family, const struct tr_elf *object)
{
	struct bound *b = &bound[family];
	uintptr_t base = atomic_load_explicit(&b->base, memory_order_acquire);
	void **word = words_of(family);

	if (is_bound_to(family, object))
		return true;
	if (base &&
	    tr_elf_is_loaded(base, atomic_load_explicit(&b->dyn, memory_order_relaxed)))
		return false;
	for (int row = rows_before(family); row < rows_end(family); row++)
		fill(word++, object, name_of(row));
	for (const char *name = uses[family]; *name; name += strlen(name) + 1)
		fill(word++, object, name);
	atomic_store_explicit(&b->has_aliases, false, memory_order_relaxed);
	atomic_store_explicit(&b->dyn, object->dyn, memory_order_relaxed);
	atomic_store_explicit(&b->base, object->base, memory_order_release);
	return true;
}

static void *symbol_of(enum family family, const char *name)
{
	uintptr_t base = atomic_load_explicit(&bound[family].base, memory_order_acquire);
	struct tr_elf object;

	if (!base ||
	    !tr_elf_read(&object, base,
			 atomic_load_explicit(&bound[family].dyn, memory_order_relaxed)))
		return NULL;
	return tr_elf_symbol(&object, name);
}

void *tr_driver_symbol(const char *name)
{
	return symbol_of(DRIVER, name);
}

void *tr_nvml_symbol(const char *name)
{
	return symbol_of(NVML, name);
}

/* ---- exchanging ---------------------------------------------------------------------- */

static int row_of_pointer(const void *pointer)
{
	int i;

	for (i = 0; i < ROW_COUNT; i++)
		if (real_of(i) == pointer)
			return i;
	return -1;
}

static bool learn(const void *pointer)
{
	struct tr_elf object;
	void *handle;
	int family;

	if (!tr_elf_of(pointer, &object, &handle))
		return false;
	for (family = 0; family < FAMILY_COUNT; family++)
		if (is_family(&object, (enum family)family))
			return bind((enum family)family, &object);
	return false;
}

bool tr_route_is_driver(const void *pointer)
{
	struct tr_elf object;
	void *handle;

	return tr_elf_of(pointer, &object, &handle) &&
	       (is_family(&object, DRIVER) || is_family(&object, NVML));
}

void *tr_route_exchange(void *pointer)
{
	int saved_errno = errno;
	int row = row_of_pointer(pointer);

	if (row < 0 && learn(pointer))
		row = row_of_pointer(pointer);
	if (row >= 0 && is_hooked(row))
		pointer = hook_of(row);
	errno = saved_errno;
	return pointer;
}

/* ---- the exports --------------------------------------------------------------------- */

static CUresult no_driver(void)
{
	return CUDA_ERROR_NOT_INITIALIZED;
}

static nvmlReturn_t no_nvml(void)
{
	return NVML_ERROR_UNINITIALIZED;
}

static void *nobody(enum family family)
{
	CUresult (*cuda)(void) = no_driver;
	nvmlReturn_t (*nvml)(void) = no_nvml;
	void *at;

	if (family == DRIVER)
		memcpy(&at, &cuda, sizeof(at));
	else
		memcpy(&at, &nvml, sizeof(at));
	return at;
}

/* Who comes next for a program that bound the export of ROW: another interposer behind us,
 * whose own look-up of the next one comes through our door; else the hook, or in a
 * transparent process the driver itself. A driver that is not there yet may come: that is
 * not written down. */
void *tr_export_resolve(unsigned row)
{
	int saved_errno = errno;
	enum family family = family_of((int)row);
	struct tr_elf object;
	void *target = NULL;

	if (tr_elf_next(tr_row_export((int)row), name_of((int)row), &object, &target) !=
	    TR_NEXT_OTHER)
		target = NULL;
	if (!target || is_family(&object, family)) {
		if (!target && tr_elf_named(sonames[family], &object))
			target = tr_elf_symbol(&object, name_of((int)row));
		if (target)
			(void)bind(family, &object);
		if (!target || row_of_pointer(target) < 0)
			target = real_of((int)row);
		if (target && is_hooked((int)row))
			target = hook_of((int)row);
	}
	if (target)
		atomic_store_explicit(&tr_export_next[row], target, memory_order_release);
	else
		target = nobody(family);
	errno = saved_errno;
	return target;
}

/* ---- cuGetProcAddress ---------------------------------------------------------------- */

static bool is_base(const char *name)
{
	int i;

	for (i = 0; i < CUDA_ROW_COUNT; i++)
		if (strncmp(name_of(i), name, columns[i].base_chars) == 0 &&
		    !name[columns[i].base_chars])
			return true;
	return false;
}

/* What the driver answers for a row's own name, version and stream. Asked only when a
 * pointer of such a name turned up that dlsym does not give. */
static void *ask_driver(int row)
{
	const struct column *c = &columns[row];
	char base[64] = { 0 };
	cuuint64_t flags = c->is_per_thread ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
					    : CU_GET_PROC_ADDRESS_LEGACY_STREAM;
	CUdriverProcAddressQueryResult status;
	void *found = NULL;
	CUresult res = CUDA_ERROR_NOT_FOUND;

	memcpy(base, name_of(row), c->base_chars);
	if (tr_real.cuGetProcAddress_v2)
		res = tr_real.cuGetProcAddress_v2(base, &found, c->version, flags, &status);
	else if (tr_real.cuGetProcAddress)
		res = tr_real.cuGetProcAddress(base, &found, c->version, flags);
	return res == CUDA_SUCCESS ? found : NULL;
}

static void fill_aliases(struct bound *b)
{
	int i;

	for (i = 0; i < CUDA_ROW_COUNT; i++) {
		/* A driver without this ABI answers with an older one: that is another
		 * row's. */
		void *alias = real_of(i) ? ask_driver(i) : NULL;

		if (alias && row_of_pointer(alias) >= 0)
			alias = NULL;
		atomic_store_explicit(&b->alias[i], alias, memory_order_relaxed);
	}
	atomic_store_explicit(&b->has_aliases, true, memory_order_release);
}

static void *exchange_proc(const char *symbol, void *pointer)
{
	struct bound *b = &bound[DRIVER];
	int row = row_of_pointer(pointer);
	int i;

	if (row >= 0)
		return is_hooked(row) ? hook_of(row) : pointer;
	if (!symbol || !is_base(symbol))
		return pointer;
	if (!atomic_load_explicit(&b->has_aliases, memory_order_acquire))
		fill_aliases(b);
	for (i = 0; i < CUDA_ROW_COUNT; i++)
		if (atomic_load_explicit(&b->alias[i], memory_order_relaxed) == pointer)
			return is_hooked(i) ? hook_of(i) : pointer;
	return pointer;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int version, cuuint64_t flags)
{
	CUresult res = tr_real.cuGetProcAddress(symbol, pfn, version, flags);

	if (res == CUDA_SUCCESS && pfn && *pfn)
		*pfn = exchange_proc(symbol, *pfn);
	return res;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int version, cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	CUresult res = tr_real.cuGetProcAddress_v2(symbol, pfn, version, flags, status);

	if (res == CUDA_SUCCESS && pfn && *pfn)
		*pfn = exchange_proc(symbol, *pfn);
	return res;
}
