# SPDX-License-Identifier: Apache-2.0
"""Cases: what `tranche bench limiter` refuses before it measures, and what it leaves."""
import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time

from harness import *  # noqa: F403

CELL = ["limiter", "--workload", "200us", "--quota", "50", "--neighbours", "0", "--processes", "1", "--seconds", "1"]


def refuses(machine, words, *says):
    """Status 2 and a sentence that has SAYS, before anything was measured."""
    done = machine.run("bench", *words)
    equal((done.returncode, done.stdout), (2, ""), f"{words}: {done.stderr}")
    expect(done.stderr.startswith("tranche: ") and done.stderr.count("\n") == 1, f"{words}: {done.stderr!r}")
    for part in says:
        expect(part in done.stderr, f"{words}: {done.stderr!r} does not say {part!r}")


def need_cells(machine):
    if not os.path.exists(f"{machine.build}/lib/libpeer_idle.so"):
        raise Cannot("a sanitised build measures no cells")


@case
def bench_neighbours_need_a_share(machine):
    for quota in ("99", "100"):
        refuses(machine, ["limiter", "--quota", quota, "--neighbours", "3"], f"--quota {quota}", "--neighbours 3")
    need_cells(machine)
    done = machine.run("bench", "limiter", "--quota", "100", "--neighbours", "0,1", "--workload", "200us",
                       "--processes", "1", "--seconds", "1", "--json")
    equal((done.returncode, done.stdout.count("\n")), (0, 1), done.stderr)
    expect("--neighbours 1: 0 % is left" in done.stderr, done.stderr)


@case
def bench_peer_is_tried_first(machine):
    """What the loader leaves out limits nothing; the numbers would be of no limiter."""
    need_cells(machine)
    foreign, blank = f"{machine.dir}/foreign.so", f"{machine.dir}/a b.so"
    with open(f"{machine.sim}/libcuda.so.1", "rb") as library:
        head = bytearray(library.read())
    head[18:20] = (243).to_bytes(2, "little")  # e_machine: RISC-V
    with open(foreign, "wb") as out:
        out.write(head)
    shutil.copy(f"{machine.build}/lib/libpeer_idle.so", blank)
    for path, says in (("/etc/passwd", "invalid ELF header"), (machine.tranche, "cannot be preloaded"),
                       (foreign, "cannot be preloaded"), (blank, "blank"), (machine.dir, "directory"),
                       ("/dev/null", "not a file"), ("/nowhere.so", "No such file"), ("", "No such file")):
        refuses(machine, ["limiter", "--quick", "--peer", path], f"--peer {path}", says)
    exits = f"{machine.dir}/exits.so"
    build_library(exits, "#include <unistd.h>\n__attribute__((constructor)) static void f(void) { _exit(3); }")
    refuses(machine, ["limiter", "--quick", "--peer", exits], exits, "status 3")
    build_library(exits, "#include <stdlib.h>\n__attribute__((constructor)) static void f(void) { abort(); }")
    refuses(machine, ["limiter", "--quick", "--peer", exits], exits, "Abort")
    done = machine.run("bench", *CELL, "--peer", f"{machine.build}/lib/libpeer_idle.so",
                       env=dict(machine.env, LD_DEBUG="files", LD_DEBUG_OUTPUT=f"{machine.dir}/debug"))
    equal(done.returncode, 0, done.stderr)


def build_library(path, source):
    subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-o", path, "-"], input=source, text=True, check=True)


@case
def bench_plot_is_tried_first(machine):
    path = f"{machine.dir}/plot.svg"
    for wrong, says in (("/nowhere/plot.svg", "No such file"), (machine.dir, "Is a directory")):
        refuses(machine, ["limiter", "--quick", "--svg", wrong], f"--svg {wrong}", says)
    refuses(machine, ["limiter", "--quick", "--svg", ""], '--svg ""')
    refuses(machine, ["limiter", "--quick", "--svg", path, "--peer", "/nowhere.so"], "--peer")
    expect(not os.path.exists(path), "nothing stays of the trial")
    need_cells(machine)
    with open(path, "w", encoding="ascii") as out:
        out.write("what was there before\n" * 1000)
    done = machine.run("bench", *CELL, "--svg", path)
    equal(done.returncode, 0, done.stderr)
    with open(path, encoding="ascii") as plot:
        expect(plot.read().endswith("</svg>\n"), "written over")
    done = machine.run("bench", *CELL, "--svg", "/dev/full")
    equal(done.returncode, 1, done.stderr)
    expect("--svg /dev/full: No space left" in done.stderr, done.stderr)


@case
def bench_wrong_values_are_named(machine):
    for words, says in (
            (["--device", "1"], ["--device 1", "--gpu"]), (["--device", "64", "--gpu"], ['--device "64"', "from 0 to"]),
            (["--jobs", "0"], ['--jobs "0"', "from 1 to 64"]), (["--jobs", "65"], ['--jobs "65"']),
            (["--seconds", "0"], ['--seconds "0"', "from 1 to"]), (["--seconds", " 1"], ['--seconds " 1"']),
            (["--seed", "+1"], ['--seed "+1"']), (["--noise", "51"], ['--noise "51"', "from 0 to 50"]),
            (["--workload", "nothing"], ['--workload "nothing"', "training", "varied:"]),
            (["extra"], ['"extra"']), (["--svg"], ["--svg needs a value"]), (["--peer"], ["--peer needs a value"]),
            (["--svg", "--json"], ["--svg needs a value", '"--json"']), (["--peer", "--quick"], ["--peer needs a value"])):
        refuses(machine, ["limiter", *words], *says)
    refuses(machine, ["limit"], '"limit"', "bench limiter")
    refuses(machine, [], "bench limiter")


@case
def bench_measures_nothing_twice(machine):
    need_cells(machine)
    done = machine.run("bench", "limiter", "--workload", "200us,200us", "--quota", "50,50", "--neighbours", "0,0",
                       "--processes", "1,1", "--gpus", "1,1", "--seconds", "1", "--json")
    equal((done.returncode, done.stdout.count("\n")), (0, 1), done.stderr)


@case
def bench_that_nobody_can_read_fails(machine):
    need_cells(machine)
    for out in (">&-", ">/dev/full"):
        for words in (CELL, [*CELL, "--json"]):
            done = subprocess.run(["sh", "-c", f'exec "$0" "$@" {out}', machine.tranche, "bench", *words],
                                  env=machine.env, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
            equal(done.returncode, 1, f"{out}: {done.stderr}")
            expect("tranche: standard output: " in done.stderr, f"{out}: {done.stderr!r}")



def runs_of(bench):
    """Names of slices begin so: the processes that measure."""
    with open(f"/proc/{bench.pid}/task/{bench.pid}/children", encoding="ascii") as children:
        return [f"bench-{pid}-" for pid in children.read().split()]


@case
def bench_slices_are_its_own(machine):
    """They live by another machine's clock: the user's `ps` does not show them, and nothing stays of them."""
    need_cells(machine)
    bench = machine.start("bench", *CELL[:-1], "60", "--json", "--jobs", "1")
    own, shown, roots = [], {}, set()
    while bench.poll() is None:
        names = runs_of(bench)
        mine = [name for name in slices(machine) if any(name.startswith(run) for run in names)]
        equal(mine, [], "among the user's slices")
        own = [path for name in names for path in glob.glob(f"/dev/shm/tranche-*/*/slices/{name}*/ro/policy")]
        for path in own:
            root = path.split("/bench-")[0]
            roots.add(root)
            shown.update(slices(machine, env=dict(machine.env, TRANCHE_SLICES=root)))
    equal(bench.returncode, 0, bench.stderr.read())
    equal((len(roots), len(shown)), (1, 1), "who names the directory sees it")
    expect(not os.path.exists(os.path.dirname(roots.pop())), "removed at the end")


@case
def slices_of_a_directory(machine):
    """TRANCHE_SLICES: neither side sees the other's, each has its keeper."""
    root = tempfile.mkdtemp(prefix="tr-cli-", dir="/dev/shm")
    try:
        env = dict(machine.env, TRANCHE_SLICES=f"{root}/slices")
        for name, where in (("a", machine.env), ("b", env)):
            child = machine.start("run", "--name", name_of(name), "--", "sh", "-c", "echo; exec sleep 30", env=where)
            child.stdout.readline()
        expect(name_of("a") in slices(machine) and name_of("b") not in slices(machine), "the user's own")
        equal(list(slices(machine, env=env)), [name_of("b")])
        expect(glob.glob(f"{root}/slices/.keeper-*"), "its own keeper")
        for wrong, says in (("relative", "whole path"), ("/dev/shm/" + "x" * 80, "80"), ("/proc/no", "/proc/no")):
            done = machine.run("run", "--", "true", env=dict(machine.env, TRANCHE_SLICES=wrong))
            expect(done.returncode != 0 and says in done.stderr, f"{wrong}: {done.returncode} {done.stderr}")
    finally:
        for child in machine.children:
            child.kill()
            child.wait()
        shutil.rmtree(root)


def machines_of(pid):
    """The simulated machines of a bench: of its processes, which it has in groups of their own."""
    found, todo = set(), [pid]
    while todo:
        at = todo.pop()
        try:
            with open(f"/proc/{at}/environ", "rb") as words:
                found |= {os.fsdecode(word[12:]) for word in words.read().split(b"\0") if word.startswith(b"TRANCHE_SIM=/dev/shm/tranche-bench")}
            with open(f"/proc/{at}/task/{at}/children", encoding="ascii") as children:
                todo += [int(child) for child in children.read().split()]
        except OSError:
            pass  # gone
    return found


@case
def bench_interrupted_leaves_nothing(machine):
    need_cells(machine)
    for end, whole_group in ((signal.SIGINT, True), (signal.SIGKILL, False)):
        bench = subprocess.Popen([machine.tranche, "bench", *CELL[:-1], "60", "--real-time"], env=machine.env,
                                 stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            until = time.monotonic() + 60
            while not (machines := machines_of(bench.pid)):
                expect(time.monotonic() < until and bench.poll() is None, "no machine has been started")
                time.sleep(0.01)
        finally:
            (os.killpg if whole_group else os.kill)(bench.pid, end)
            equal(bench.wait(30), -end, "its end")
        folder = os.path.dirname(os.path.dirname(machines.pop()))
        expect(folder.startswith("/dev/shm/tranche-bench."), folder)
        while os.path.exists(folder):
            expect(time.monotonic() < until, f"{folder} stays after {end.name}: {os.listdir(folder)}")
            time.sleep(0.01)
