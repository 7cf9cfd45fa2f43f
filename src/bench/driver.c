/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/driver.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

struct tr_driver tr_driver;

/* The result goes nowhere, but the assembler cannot know: 2^64 rounds never happen. */
#define LOOP(name)                                                          \
	".visible .entry " name "(.param .u64 n)\n"                         \
	"{\n"                                                               \
	"	.reg .pred %p<3>;\n"                                              \
	"	.reg .b64 %r<5>;\n"                                               \
	"	ld.param.u64 %r1, [n];\n"                                         \
	"	mov.u64 %r2, 0;\n"                                                \
	"	mov.u64 %r3, %r1;\n"                                              \
	"	setp.eq.u64 %p1, %r1, 0;\n"                                       \
	"	@%p1 bra done;\n"                                                 \
	"again:\n"                                                          \
	"	mad.lo.u64 %r3, %r3, 6364136223846793005, 1442695040888963407;\n" \
	"	add.u64 %r2, %r2, 1;\n"                                           \
	"	setp.lt.u64 %p2, %r2, %r1;\n"                                     \
	"	@%p2 bra again;\n"                                                \
	"	setp.ne.u64 %p1, %r2, %r1;\n"                                     \
	"	@!%p1 bra done;\n"                                                \
	"	st.global.u64 [tranche_sink], %r3;\n"                             \
	"done:\n"                                                           \
	"	ret;\n"                                                           \
	"}\n"

const char tr_driver_ptx[] =
	".version 6.0\n.target sm_50\n.address_size 64\n"
	".visible .global .align 8 .u64 tranche_sink;\n" LOOP("tranche_loop")
		LOOP("tranche_loop_0") LOOP("tranche_loop_1") LOOP("tranche_loop_2")
			LOOP("tranche_loop_3") LOOP("tranche_loop_4") LOOP("tranche_loop_5")
				LOOP("tranche_loop_6") LOOP("tranche_loop_7");

int tr_driver_open(struct tr_err *err)
{
	static const struct {
		const char *name;
		size_t offset;
	} rows[] = {
#define TR_DRIVER(symbol) { #symbol, offsetof(struct tr_driver, symbol) },
#include "bench/driver.def"
#undef TR_DRIVER
	};
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return tr_fail(err, ENOENT, "no CUDA driver: %s", dlerror());
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		void *symbol = dlsym(library, rows[i].name);

		if (!symbol)
			return tr_fail(err, ENOSYS, "libcuda.so.1 has no %s", rows[i].name);
		memcpy((char *)&tr_driver + rows[i].offset, &symbol, sizeof(symbol));
	}
	return 0;
}
