# SPDX-License-Identifier: Apache-2.0
"""What the cases of `tranche` share: a simulated machine, and how to say what is expected."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from claims import Cannot, case, equal, expect, main  # noqa: E402,F401 (some for who imports this)

MIB = 1 << 20
FLOOR_SLACK_MIB = 1024  # contexts and blocks: no case depends on their exact size


class Machine:
    """A simulated machine and the environment that leads to it."""

    def __init__(self, build, gpus="h100"):
        self.build = os.path.abspath(build)
        self.dir = tempfile.mkdtemp(prefix="tr-cli-")
        os.chmod(self.dir, 0o777)
        self.tranche = f"{self.build}/bin/tranche"
        self.tenant = f"{self.build}/bin/cli.tenant"
        self.sim = f"{self.build}/lib/sim"
        self.env = dict(os.environ, LD_LIBRARY_PATH=self.sim, TRANCHE_SIM=self.dir, TRANCHE_SIM_GPUS=gpus)
        for name in ("LD_PRELOAD", "TRANCHE_POLICY", "CUDA_VISIBLE_DEVICES"):
            self.env.pop(name, None)
        self.children = []

    def move_within_reach(self):
        """Other users may not see where this was built (a home): the parts they need, copied."""
        to = f"{self.dir}/b"
        shutil.copytree(self.sim, f"{to}/lib/sim", symlinks=True)
        os.makedirs(f"{to}/bin")
        shutil.copy(f"{self.build}/lib/libvgpu.so", f"{to}/lib/")
        for program in (self.tranche, self.tenant):
            shutil.copy(program, f"{to}/bin/")
        self.build, self.sim = to, f"{to}/lib/sim"
        self.tranche, self.tenant = f"{to}/bin/tranche", f"{to}/bin/cli.tenant"
        self.env["LD_LIBRARY_PATH"] = self.sim

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        subprocess.run([f"{self.sim}/sim-ctl", "stop", self.dir], capture_output=True, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def run(self, *words, text=True, **more):
        more.setdefault("env", self.env)
        return subprocess.run([self.tranche, *words], capture_output=True, text=text, timeout=60, check=False, **more)

    def start(self, *words, **more):
        more.setdefault("env", self.env)
        child = subprocess.Popen([self.tranche, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, **more)
        self.children.append(child)
        return child


def name_of(what):
    return f"t{os.getpid()}-{what}"


def ask(child, line):
    child.stdin.write(line + "\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def slices(machine, **more):
    done = machine.run("ps", "--json", **more)
    equal(done.returncode, 0, done.stderr)
    return {one["name"]: one for one in json.loads(done.stdout)}


def as_user(machine):
    """The environment and the words before a command that make it an ordinary user's."""
    if os.geteuid() != 0:
        return [], {}
    if not shutil.which("setpriv"):
        raise Cannot("setpriv is not on this machine")
    home = f"{machine.dir}/home"
    os.makedirs(home, exist_ok=True)
    os.chown(home, 65534, 65534)
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*words, "test", "-x", machine.tranche], check=False).returncode:
        machine.move_within_reach()
    return words, {"HOME": home, "LD_LIBRARY_PATH": machine.sim}


def need_root():
    if os.geteuid() != 0:
        raise Cannot("only root can make a mount namespace")
