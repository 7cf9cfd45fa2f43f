#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tests clients.*: programs that nobody here wrote, on a simulated machine of their own.

usage: check.py SIMULATOR_DIR BUILD_DIR NAME, NAME being one of the functions check_* below.
Exit status: 0, 1, or 77 with the reason when something is not on this machine; on CI ($CI is
set) nothing is skipped.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

HERE = pathlib.Path(__file__).resolve().parent
DEPS = HERE.parent.parent / ".deps"
BIN = DEPS / "clients/bin"
PYTHON = str(BIN / "python")
MIB = 1 << 20


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(1 if os.environ.get("CI") else 77)


def need(path, script):
    if not pathlib.Path(path).exists():
        skip(f"{path.name} is not in .deps: run tests/clients/{script}")


def expect(condition, *what):
    if not condition:
        print("expected otherwise:", *what)
        sys.exit(1)


class Machine:
    """A simulated machine in a directory of its own; ends with its last client."""

    def __init__(self, gpus):
        self.dir = tempfile.mkdtemp(prefix="sim-clients-")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("TRANCHE_", "CUDA_"))}
        self.env.update(LD_LIBRARY_PATH=SIM, TRANCHE_SIM=self.dir, TRANCHE_SIM_GPUS=gpus,
                        TRANCHE_SIM_LINGER_MS="300", TMPDIR=self.dir, HOME=self.dir,
                        NUMBA_CACHE_DIR=self.dir, CUDA_DEVICE_ORDER="PCI_BUS_ID")

    def run(self, *command, timeout_s=120, **kwargs):
        done = subprocess.run(command, env=self.env, timeout=timeout_s, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)
        if done.returncode != 0:
            print(done.stdout)
        return done

    def output(self, *command, **kwargs):
        done = self.run(*command, **kwargs)
        expect(done.returncode == 0, command, "exit status", done.returncode)
        return done.stdout

    def told(self, *command):
        """The JSON of the last line: libraries may warn before it."""
        return json.loads(self.output(*command).splitlines()[-1])

    @contextlib.contextmanager
    def holder(self, mib):
        """A process that holds MIB; yields its pid once it does."""
        process = subprocess.Popen([PYTHON, HERE / "alloc.py", "--step-mib", str(mib), "--max-mib", str(mib),
                                    "--hold-s", "60"], env=self.env, stdout=subprocess.PIPE, text=True)
        try:
            for line in process.stdout:
                if line.startswith("got"):
                    break
            expect(process.poll() is None, "the holder ended by itself")
            yield process.pid
        finally:
            process.kill()
            process.wait()

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- NVML ---------------------------------------------------------------------------------------


def check_nvidia_ml_py(machine):
    need(BIN, "venv.sh")
    told = machine.told(PYTHON, HERE / "nvml_basics.py")
    h100, other, gaming = told["devices"]
    expect(told["cuda"] == 13050 and told["nvml"] == f"13.{told['driver']}", told["cuda"], told["nvml"])
    expect(h100["name"] == "NVIDIA H100 80GB HBM3" and h100["cc"] == [9, 0], h100)
    expect(h100["uuid"] != other["uuid"] and h100["bus_id"] != other["bus_id"], "two devices, one name")
    expect(h100["total"] == 81559 * MIB and h100["used"] == 0 and h100["compute"] == [], h100)
    expect(h100["nvlink"] == 1 and h100["mig"] == [0, 0] and h100["fan_percent"] is None, h100)
    expect(gaming["serial"] is None and gaming["ecc"] is None and gaming["fan_percent"] == 0, gaming)
    expect(told["topology"][0][0] == 0 and told["topology"][0][1] > 0, told["topology"])


def check_gpustat(machine):
    need(BIN, "venv.sh")
    with machine.holder(512) as pid:
        told = json.loads(machine.output(BIN / "gpustat", "--json"))
    expect(len(told["gpus"]) == 3 and told["gpus"][0]["memory.total"] == 81559, told)
    (process,) = told["gpus"][0]["processes"]
    expect(process["pid"] == pid and process["gpu_memory_usage"] > 512, process)
    expect(told["gpus"][1]["processes"] == [], told["gpus"][1])


def check_nvitop(machine):
    need(BIN, "venv.sh")
    with machine.holder(2048) as pid:
        text = machine.output(BIN / "nvitop", "-1", "--ascii")
    expect(text.count("H100 80GB HBM3") == 2 and "GeForce RTX 4090" in text, text)
    expect(re.search(rf"\b0\s+{pid} C\b.*\b2\d\d\dMiB", text), f"no row of process {pid}:\n{text}")


def screen_of(machine, command, is_enough, limit_s=30):
    """What COMMAND draws on a terminal until IS_ENOUGH(text), then `q`; its exit status."""
    pid, fd = pty.fork()
    if pid == 0:
        libraries = DEPS / "debs/root/lib" / f"{os.uname().machine}-linux-gnu"
        os.execve(command[0], command, dict(machine.env, TERM="xterm-256color",
                                           LD_LIBRARY_PATH=f"{SIM}:{libraries}"))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    os.kill(pid, signal.SIGWINCH)
    text, until, asked = "", time.monotonic() + limit_s, False
    while time.monotonic() < until:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                piece = os.read(fd, 65536)
            except OSError:
                piece = b""
            if not piece:
                break
            text += re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])", " ", piece.decode(errors="replace"))
        if not asked and is_enough(text):
            os.write(fd, b"q")
            asked = True
    if not asked:
        os.kill(pid, signal.SIGKILL)
    os.close(fd)
    return text, os.waitpid(pid, 0)[1]


def check_nvtop(machine):
    nvtop = DEPS / "debs/root/usr/bin/nvtop"
    need(nvtop, "debs.sh")
    need(BIN, "venv.sh")
    with machine.holder(1024) as pid:
        text, status = screen_of(machine, [str(nvtop)], lambda t: "H100" in t and str(pid) in t)
    expect("NVIDIA H100 80GB HBM3" in text and "RTX 4090" in text, text)
    expect(str(pid) in text, f"no row of process {pid}:\n{text}")
    expect(status == 0, "nvtop's exit status", status)


def check_nvidia_smi(machine):
    """It asks for private tables before anything public. They are not served, and it says so."""
    smi = DEPS / "debs/root/usr/lib/nvidia/current/nvidia-smi"
    need(smi, "debs.sh")
    done = machine.run(smi)
    expect(done.returncode > 0 and "Mismatch in versions" in done.stdout, done.returncode, done.stdout)


# ---- CUDA ---------------------------------------------------------------------------------------


def check_cuda_bindings(machine):
    need(BIN, "venv.sh")
    told = machine.told(PYTHON, HERE / "alloc.py", "--quiet", "--step-mib", "2048")
    expect(told["name"] == "NVIDIA H100 80GB HBM3" and told["refused"] == "CUDA_ERROR_OUT_OF_MEMORY", told)
    expect(told["free_first"] - told["free_last"] >= told["got_bytes"], told)
    expect(told["free_last"] < 2048 * MIB and told["free_end"] == told["free_first"], told)


def check_one_story(machine):
    """What cuda-bindings took is what NVML shows, byte by byte."""
    need(BIN, "venv.sh")
    idle = machine.told(PYTHON, HERE / "nvml_basics.py")["devices"][0]
    with machine.holder(4096) as pid:
        busy = machine.told(PYTHON, HERE / "nvml_basics.py")["devices"][0]
    after = machine.told(PYTHON, HERE / "nvml_basics.py")["devices"][0]
    expect(busy["used"] > 4096 * MIB and busy["used"] == idle["free"] - busy["free"], busy)
    expect(busy["compute"] == [{"pid": pid, "bytes": busy["used"]}], busy["compute"], busy["used"])
    expect(busy["compute"] == busy["compute_v2"] and busy["graphics"] == busy["mps"] == [], busy)
    expect(after["used"] == 0 and after["compute"] == [], "a killed process leaves something", after)


def check_numba(machine):
    need(BIN, "venv.sh")
    told = machine.told(PYTHON, HERE / "numba_demo.py")
    expect(told["copies"] == "ok" and told["cc"] == [9, 0] and told["launches"] == 3, told)
    expect(told["total"] - told["free"] >= told["arrays_bytes"], told)


def cudarc():
    """The Rust client, built in the build directory: its lock file is made there too."""
    cargo = shutil.which("cargo")
    if not cargo:
        skip("no cargo here to build the Rust client with")
    version = subprocess.run([cargo, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.search(r"(\d+)\.(\d+)", version).groups())) < (1, 88):
        skip(f"{version.strip()} is too old for the Rust client's crates")
    tree = pathlib.Path(BUILD) / "cudarc"
    tree.mkdir(exist_ok=True)
    with open(tree / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.copytree(HERE / "cudarc", tree, dirs_exist_ok=True)
        subprocess.run([cargo, "build", "--release", "--quiet", "--target-dir", tree / "target"], cwd=tree, check=True,
                       timeout=240)
    return tree / "target/release/tranche-cudarc"


def check_cudarc(machine):
    text = machine.output(cudarc())
    expect('device="NVIDIA H100 80GB HBM3" devices=3' in text and "copied=ok" in text, text)


def check_setup(_):
    for script in ("venv.sh", "debs.sh"):
        if subprocess.run([HERE / script]).returncode != 0:
            skip(f"tests/clients/{script} failed, see above")


def main(functions, gpus="2xh100,rtx4090"):
    checks = {k[len("check_"):]: v for k, v in functions.items() if k.startswith("check_")}
    machine = Machine(gpus)
    try:
        checks[sys.argv[3]](machine)
    finally:
        machine.close()


SIM, BUILD = sys.argv[1:3]
if __name__ == "__main__":
    main(globals())
