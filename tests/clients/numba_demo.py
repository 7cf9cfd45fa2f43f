#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""numba-cuda: a kernel written in Python, compiled by NVVM, loaded and launched through the
driver API, with arrays of --mib MiB going there and back. On the simulated driver a kernel runs
for no time and computes nothing, so --computes says whether its result is to be checked too.
"""

import argparse
import json
import os
import time
import warnings

import numpy as np
from numba import cuda
from numba.core.errors import NumbaPerformanceWarning

warnings.simplefilter("ignore", NumbaPerformanceWarning)
# Without nvjitlink (46 MB) it links with the driver, and tells so.
warnings.filterwarnings("ignore", "cuda.bindings.nvjitlink is not available")


@cuda.jit
def add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


def main():
    env = os.environ.get
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--mib", type=int, default=int(env("NUMBA_MIB", "16")), help="per array; there are three")
    p.add_argument("--launches", type=int, default=int(env("NUMBA_LAUNCHES", "3")))
    p.add_argument("--hold-s", type=float, default=float(env("NUMBA_HOLD_S", "0")))
    p.add_argument("--until-full", action="store_true", help="then arrays of that size until refused")
    p.add_argument("--computes", action="store_true")
    args = p.parse_args()

    n = args.mib * (1 << 20) // 4
    a = np.arange(n, dtype=np.float32)
    b = np.full(n, 2, dtype=np.float32)
    device = cuda.get_current_device()
    on_a, on_b = cuda.to_device(a), cuda.to_device(b)
    on_out = cuda.device_array_like(on_a)
    for _ in range(args.launches):
        add[(n + 255) // 256, 256](on_a, on_b, on_out)
    cuda.synchronize()
    assert np.array_equal(on_a.copy_to_host(), a), "the first array changed on its way"
    assert np.array_equal(on_b.copy_to_host(), b), "the second array changed on its way"
    if args.computes:
        assert np.array_equal(on_out.copy_to_host(), a + b), "the kernel computed something else"

    more, refused = [], None
    while args.until_full and not refused:
        try:
            more.append(cuda.device_array(n, dtype=np.float32))
        except cuda.cudadrv.driver.CudaAPIError as e:
            refused = str(e)
    free, total = cuda.current_context().get_memory_info()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    if args.hold_s:
        time.sleep(args.hold_s)
    print(json.dumps({
        "name": name, "cc": list(device.compute_capability), "total": total, "free": free,
        "launches": args.launches, "arrays_bytes": (3 + len(more)) * n * 4, "copies": "ok",
        "refused": refused,
    }), flush=True)


main()
