#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""On a glibc whose dlsym lives in libdl.so.2: what it finds is the hook's, and the slice holds."""
import ctypes
import sys

OUT_OF_MEMORY = 2
driver = ctypes.CDLL("libcuda.so.1")  # ctypes itself asks dlsym@GLIBC_2.2.5 of libdl.so.2
scope = ctypes.CDLL(None)
for name in ("dlsym", "dlvsym"):
    getattr(scope, name).restype = ctypes.c_void_p
scope.dlsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
scope.dlvsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]


def owner(address):
    with open("/proc/self/maps", encoding="ascii") as maps:
        for line in maps:
            low, high = (int(x, 16) for x in line.split()[0].split("-"))
            if low <= address < high:
                return line.split()[-1]
    return None


def check(truth, what):
    if not truth:
        sys.exit(f"not so: {what}")


with open("/proc/self/maps", encoding="ascii") as maps:
    check("/libdl-2.31.so" in maps.read(), "libdl.so.2 is a library of its own")
alloc = scope.dlsym(driver._handle, b"cuMemAlloc_v2")
check(owner(alloc) == "/tranche/libvgpu.so", f"dlsym found cuMemAlloc_v2 in {owner(alloc)}")
check(ctypes.cast(driver.cuMemAlloc_v2, ctypes.c_void_p).value == alloc, "one function, one address")
other = scope.dlsym(driver._handle, b"cuDeviceGetName")
check(owner(other).endswith("libcuda.so.1"), f"dlsym found cuDeviceGetName in {owner(other)}")
check(scope.dlsym(driver._handle, b"no_such_symbol") is None, "what is not there is not found")
check(scope.dlsym(None, b"getpid") is not None, "dlsym(RTLD_DEFAULT)")
check(scope.dlvsym(None, b"getpid", b"GLIBC_9.9") is None, "dlvsym of a version that is not there")

context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
check(driver.cuInit(0) == 0, "cuInit")
check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0, "a context")
check(driver.cuCtxSetCurrent(context) == 0, "the context is current")
call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)(alloc)
check(call(ctypes.addressof(pointer), 128 << 20) == 0, "128 MiB")
check(call(ctypes.addressof(pointer), 1024 << 20) == OUT_OF_MEMORY, "1 GiB more is refused")
print("limited through libdl.so.2")
