# tr_warnings: what every source of ours is compiled with. Warnings are errors on both compilers.
add_library(tr_warnings INTERFACE)
set(flags
  -Werror -Wall -Wextra -Wshadow -Wundef -Wstrict-prototypes -Wmissing-prototypes
  -Wold-style-definition -Wwrite-strings -Wcast-qual -Wcast-align -Wpointer-arith -Wformat=2
  -Wconversion -Wsign-conversion -Wvla -Wimplicit-fallthrough -Wswitch-enum
  -Wdouble-promotion -Wfloat-equal -Wredundant-decls -Wno-missing-field-initializers)
if(CMAKE_C_COMPILER_ID STREQUAL GNU)
  list(APPEND flags
    -Wformat-signedness -Wduplicated-cond -Wduplicated-branches -Wlogical-op
    -Wjump-misses-init -Wtrampolines)
else()
  list(APPEND flags
    -Wmissing-variable-declarations -Wcomma -Wunreachable-code -Wthread-safety)
endif()
# C only: an assembler has no prototypes.
target_compile_options(tr_warnings INTERFACE "$<$<COMPILE_LANGUAGE:C>:${flags}>")
