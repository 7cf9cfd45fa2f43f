#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A driver-API client (NVIDIA's own cuda-bindings): allocates in steps until the device, or the
slice it is given, is full, and tells what it saw. Every step is written at both ends and read
back. Arguments and environment (ALLOC_STEP_MIB, ALLOC_HOLD_S ...) say how much and how long.
"""

import argparse
import ctypes
import json
import os
import sys
import time

from cuda.bindings import driver

MIB = 1 << 20


class DriverError(Exception):
    def __init__(self, call, code):
        super().__init__(f"{call}: {driver.cuGetErrorName(code)[1].decode()}")
        self.code = code


def call(function, *args):
    code, *values = function(*args)
    if code != driver.CUresult.CUDA_SUCCESS:
        raise DriverError(function.__name__, code)
    return values[0] if len(values) == 1 else tuple(values)


def arguments():
    env = os.environ.get
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--device", type=int, default=int(env("ALLOC_DEVICE", "0")))
    p.add_argument("--step-mib", type=int, default=int(env("ALLOC_STEP_MIB", "256")))
    p.add_argument("--max-mib", type=int, default=int(env("ALLOC_MAX_MIB", "0")), help="0: until refused")
    p.add_argument("--hold-s", type=float, default=float(env("ALLOC_HOLD_S", "0")), help="keep it all that long")
    p.add_argument("--again", action="store_true",
                   help="after the hold, allocate on: for a slice that was resized meanwhile")
    p.add_argument("--quiet", action="store_true", help="only the closing JSON line")
    return p.parse_args()


def take_step(step):
    """One allocation, proved by its first and last bytes."""
    at = int(call(driver.cuMemAlloc, step))
    sent = bytes(range(64))
    for offset in (0, step - len(sent)):
        received = ctypes.create_string_buffer(len(sent))
        call(driver.cuMemcpyHtoD, at + offset, sent, len(sent))
        call(driver.cuMemcpyDtoH, ctypes.addressof(received), at + offset, len(sent))
        if received.raw != sent:
            sys.exit(f"what came back from {at + offset:#x} is not what went")
    return at


def fill(args, held):
    """Allocates until refused or enough; the code of the refusal, or None."""
    step = args.step_mib * MIB
    while not args.max_mib or (len(held) + 1) * step <= args.max_mib * MIB:
        try:
            held.append(take_step(step))
        except DriverError as e:
            if e.code != driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
                raise
            return e.code.name
    return None


def main():
    args = arguments()
    call(driver.cuInit, 0)
    device = call(driver.cuDeviceGet, args.device)
    name = call(driver.cuDeviceGetName, 96, device).split(b"\0")[0].decode()
    total = call(driver.cuDeviceTotalMem, device)
    context = call(driver.cuDevicePrimaryCtxRetain, device)
    call(driver.cuCtxSetCurrent, context)
    free_first, total_seen = call(driver.cuMemGetInfo)

    def say(text):
        if not args.quiet:
            print(text, flush=True)

    say(f"{name}: {total // MIB} MiB in all, {free_first // MIB} MiB free")
    held = []
    refused = fill(args, held)
    say(f"got {len(held)} x {args.step_mib} MiB, then {refused or 'had enough'}")
    if args.hold_s:
        time.sleep(args.hold_s)
    first = len(held)
    if args.again:
        refused = fill(args, held)
        say(f"later {len(held) - first} x {args.step_mib} MiB more, then {refused or 'had enough'}")
    free_last, _ = call(driver.cuMemGetInfo)
    for at in held:
        call(driver.cuMemFree, at)
    free_end, _ = call(driver.cuMemGetInfo)
    call(driver.cuDevicePrimaryCtxRelease, device)
    print(json.dumps({
        "name": name, "total": total, "total_seen": total_seen, "free_first": free_first,
        "free_last": free_last, "free_end": free_end, "got_bytes": len(held) * args.step_mib * MIB,
        "later_bytes": (len(held) - first) * args.step_mib * MIB, "refused": refused,
    }), flush=True)


main()
