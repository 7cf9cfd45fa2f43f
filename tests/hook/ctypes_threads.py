# SPDX-License-Identifier: Apache-2.0
"""The driver opened by ctypes from many threads at once, as NCCL's bindings do: everybody gets
through, everybody is in the slice. Slice: 1 GiB, floor 100 MiB."""
import ctypes
import sys
import threading

THREADS = 12
MIB = 1 << 20
gate = threading.Barrier(THREADS)
results = []


def one():
    gate.wait()
    cuda = ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL if len(results) % 2 else 0)
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    total, free = ctypes.c_size_t(), ctypes.c_size_t()
    ctx, pointer = ctypes.c_void_p(), ctypes.c_uint64()
    codes = [cuda.cuInit(0), nvml.nvmlInit_v2(),
             cuda.cuDevicePrimaryCtxRetain(ctypes.byref(ctx), 0), cuda.cuCtxSetCurrent(ctx)]
    for _ in range(50):
        codes.append(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(4 * MIB)))
        codes.append(cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
        codes.append(cuda.cuMemFree_v2(pointer))
    results.append((codes, total.value, free.value))


threads = [threading.Thread(target=one, daemon=True) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
if len(results) != THREADS:
    sys.exit(f"{THREADS - len(results)} of {THREADS} threads hang or failed")
for codes, total, free in results:
    if any(codes) or total != 1024 * MIB or not 0 < free <= 1024 * MIB - 104 * MIB:
        sys.exit(f"codes {set(codes)}, total {total}, free {free}")
