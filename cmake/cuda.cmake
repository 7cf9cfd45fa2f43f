# tr_cuda: the pinned driver headers, fetched by scripts/setup.sh. Never those of a toolkit that
# happens to be on the machine: the tables are generated from exactly this version.
set(TR_CUDA_INCLUDE ${PROJECT_SOURCE_DIR}/.deps/cuda/include)
if(NOT EXISTS ${TR_CUDA_INCLUDE}/cuda.h OR NOT EXISTS ${TR_CUDA_INCLUDE}/nvml.h)
  message(FATAL_ERROR "the CUDA headers are not in .deps: run scripts/setup.sh")
endif()
add_library(tr_cuda INTERFACE)
target_include_directories(tr_cuda SYSTEM INTERFACE ${TR_CUDA_INCLUDE})
