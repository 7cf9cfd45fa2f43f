# TR_SANITIZE: "" (plain), "address,undefined" or "thread". It applies to our static libraries and
# to the test programs; what is preloaded or opened by strangers (libvgpu.so, the simulator's
# libraries) is never sanitised, because a sanitiser run-time cannot be loaded into a plain program.
set(TR_SANITIZE "" CACHE STRING "sanitizers for libraries and test programs")
add_library(tr_sanitize INTERFACE)
if(TR_SANITIZE)
  target_compile_options(tr_sanitize INTERFACE
    -fsanitize=${TR_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(tr_sanitize INTERFACE -fsanitize=${TR_SANITIZE})
endif()
