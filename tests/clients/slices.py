#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tests clients.slice.*: the real clients inside slices that `tranche run` makes, on a simulated
machine of their own. Arguments and exit status as check.py's.
"""

import contextlib
import json
import re
import shutil
import subprocess

import check
from check import BIN, BUILD, DEPS, HERE, MIB, PYTHON, cudarc, expect, need, screen_of, skip

TRANCHE = f"{BUILD}/bin/tranche"
OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
# What a context and the remainders of blocks take of a slice, at most.
OVERHEAD_MIB = 1024


def in_slice(mib, *command, name=None):
    named = ["--name", name] if name else ["--quiet"]
    return [TRANCHE, "run", "--mem", f"{mib}Mi", *named, "--", *map(str, command)]


def two_at_once(machine, sizes, command):
    """COMMAND in slices of SIZES on one GPU; what each printed, both having run side by side."""
    both = [subprocess.Popen(in_slice(mib, *command), env=machine.env, stdout=subprocess.PIPE, text=True)
            for mib in sizes]
    texts = []
    for process in both:
        try:
            texts.append(process.communicate(timeout=120)[0])
        finally:
            process.kill()
    expect(all(process.returncode == 0 for process in both), [p.returncode for p in both], texts)
    return texts


def expect_filled(mib, total, got_bytes):
    expect(total == mib * MIB, "total", total, "of a slice of", mib, "MiB")
    expect((mib - OVERHEAD_MIB) * MIB <= got_bytes < mib * MIB, "got", got_bytes, "of", mib, "MiB")


# ---- CUDA ---------------------------------------------------------------------------------------


def check_cuda_bindings(machine):
    need(BIN, "venv.sh")
    sizes = (2048, 3072)
    command = (PYTHON, HERE / "alloc.py", "--quiet", "--step-mib", "64", "--hold-s", "3")
    for mib, text in zip(sizes, two_at_once(machine, sizes, command)):
        told = json.loads(text.splitlines()[-1])
        expect(told["refused"] == OUT_OF_MEMORY, told)
        expect(told["total_seen"] == told["total"] and told["free_last"] < 64 * MIB, told)
        # The keeper's number replaces the guess of a context meanwhile.
        expect(abs(told["free_first"] - told["free_last"] - told["got_bytes"]) < 256 * MIB, told)
        expect_filled(mib, told["total"], told["got_bytes"])


def check_numba(machine):
    need(BIN, "venv.sh")
    sizes = (2048, 3072)
    command = (PYTHON, HERE / "numba_demo.py", "--mib", "64", "--until-full", "--hold-s", "3")
    for mib, text in zip(sizes, two_at_once(machine, sizes, command)):
        told = json.loads(text.splitlines()[-1])
        expect(OUT_OF_MEMORY in told["refused"], told)
        expect(told["copies"] == "ok" and told["launches"] == 3 and told["free"] < 64 * MIB, told)
        expect_filled(mib, told["total"], told["arrays_bytes"])


def check_cudarc(machine):
    """It allocates from the stream-ordered pool."""
    sizes = (2048, 3072)
    for mib, text in zip(sizes, two_at_once(machine, sizes, (cudarc(), "fill", "64", "3"))):
        told = dict(word.split("=") for word in text.split())
        expect(told["refused"] == OUT_OF_MEMORY, told)
        expect(int(told["free"]) < 64 * MIB, told)
        expect_filled(mib, int(told["total"]), int(told["pieces"]) * 64 * MIB)


FFMPEG = ("-loglevel", "error", "-init_hw_device", "cuda=gpu", "-filter_hw_device", "gpu", "-f", "lavfi", "-i",
          "color=size=3840x2160", "-frames:v", "2000", "-vf", "format=nv12,hwupload_cuda,reverse", "-f", "null", "-")


def check_ffmpeg(machine):
    """It uploads 4K frames and keeps them all until its slice is full."""
    ffmpeg = shutil.which("ffmpeg")
    if not ffmpeg:
        skip("ffmpeg is not installed: run scripts/setup.sh demo")
    sizes = (1024, 2048)
    both = [subprocess.Popen(in_slice(mib, ffmpeg, *FFMPEG, name=f"video{mib}-{machine.dir[-6:]}"), env=machine.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for mib in sizes]
    for mib, process in zip(sizes, both):
        text = process.communicate(timeout=120)[0]
        expect(process.returncode != 0 and OUT_OF_MEMORY in text, process.returncode, text)
        line = re.search(r"peak ([0-9.]+) ([MG])iB of (\d) GiB, (\d+) allocations? refused", text)
        expect(line is not None, text)
        peak_mib = float(line[1]) * (1024 if line[2] == "G" else 1)
        expect(int(line[3]) * 1024 == mib and int(line[4]) >= 1, line[0])
        expect(mib - OVERHEAD_MIB < peak_mib <= mib and peak_mib > mib / 3, line[0])


# ---- NVML: the slice's size, its use, its processes and nobody else's ------------------------------


@contextlib.contextmanager
def stranger(machine):
    """A program in another slice of the same GPU; yields its pid."""
    command = in_slice(3072, PYTHON, HERE / "beside.py", "1024", "sleep", "60")
    process = subprocess.Popen(command, env=machine.env, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        expect(line.startswith("holder "), line)
        yield int(line.split()[1])
    finally:
        process.terminate()
        process.communicate()


def beside(machine, *command):
    """COMMAND in a slice of 2 GiB beside a program that holds 512 MiB; its output, that pid."""
    done = subprocess.run(in_slice(2048, PYTHON, HERE / "beside.py", "512", *command), env=machine.env, timeout=120,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    expect(done.returncode == 0, done.returncode, done.stdout, done.stderr)
    return done.stdout, int(re.search(r"^holder (\d+)$", done.stderr, re.M)[1])


def check_F18_F19_nvidia_ml_py(machine):
    need(BIN, "venv.sh")
    with stranger(machine):
        text, pid = beside(machine, PYTHON, HERE / "nvml_basics.py")
    (device,) = json.loads(text.splitlines()[-1])["devices"]
    expect(device["total"] == 2048 * MIB and device["used"] + device["free"] == 2048 * MIB, device)
    expect(512 * MIB < device["used"] < (512 + OVERHEAD_MIB) * MIB, device)
    expect(device["compute"] == [{"pid": pid, "bytes": device["used"]}], device["compute"], pid, device["used"])
    expect(device["compute_v2"] == device["compute"] and device["graphics"] == device["mps"] == [], device)


def check_F18_F19_gpustat(machine):
    need(BIN, "venv.sh")
    with stranger(machine):
        text, pid = beside(machine, BIN / "gpustat", "--json")
    device = json.loads(text)["gpus"][0]
    expect(device["memory.total"] == 2048 and 512 < device["memory.used"] < 512 + OVERHEAD_MIB, device)
    (process,) = device["processes"]
    expect(process["pid"] == pid and process["gpu_memory_usage"] == device["memory.used"], process)


def check_F18_F19_nvitop(machine):
    need(BIN, "venv.sh")
    with stranger(machine) as other:
        text, pid = beside(machine, BIN / "nvitop", "-1", "--ascii")
    used = re.search(r"(\d+)MiB / 2048MiB", text)
    expect(used is not None and 512 < int(used[1]) < 512 + OVERHEAD_MIB, text)
    expect(re.search(rf"\b0\s+{pid} C\b.*\b{used[1]}MiB", text), f"no row of process {pid}:\n{text}")
    expect(not re.search(rf"\b{other}\b", text), f"a row of process {other} of another slice:\n{text}")


def check_F18_F19_nvtop(machine):
    nvtop = DEPS / "debs/root/usr/bin/nvtop"
    need(nvtop, "debs.sh")
    need(BIN, "venv.sh")
    command = in_slice(2048, PYTHON, HERE / "beside.py", "512", nvtop)
    with stranger(machine) as other:
        text, status = screen_of(machine, command, lambda t: re.search(r"holder (\d+)\b(?s:.)*\b\1\b", t))
    pid = re.search(r"holder (\d+)\b", text)[1]
    expect(re.search(rf"holder {pid}\b(?s:.)*\b{pid}\b", text), f"no row of process {pid}:\n{text}")
    expect("/2.000Gi" in text, f"not the size of the slice:\n{text}")
    expect(not re.search(rf"\b{other}\b", text), f"a row of process {other} of another slice:\n{text}")
    expect(status == 0, "exit status", status)


check.main(globals(), gpus="h100")
