# SPDX-License-Identifier: Apache-2.0
"""Cases: a program in its slice, and on a simulated machine."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from harness import *  # noqa: F403


# ---- transparency ---------------------------------------------------------------------------------


@case
def arguments_and_streams_pass(machine):
    words = ["a b", "", "--mem", "*", "ü"]
    script = "import sys, json; print(json.dumps(sys.argv[1:])); sys.stdout.write(sys.stdin.read())"
    done = machine.run("run", "--mem", "2Gi", "--", sys.executable, "-c", script, *words, input="in\n")
    first, rest = done.stdout.split("\n", 1)
    equal(json.loads(first), words, "arguments")
    equal(rest, "in\n", "standard input to output")
    equal(done.returncode, 0, done.stderr)


@case
def exit_status_is_the_programs(machine):
    for status in (0, 1, 2, 42, 255):
        equal(machine.run("run", "--", "sh", "-c", f"exit {status}").returncode, status, "status")
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT):
        done = machine.run("run", "--", "sh", "-c", f"kill -{int(number)} $$")
        equal(done.returncode, -number, "ended by the same signal")


@case
def signals_reach_the_program(machine):
    script = "trap 'echo got-term; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    child = machine.start("run", "--", "sh", "-c", script)
    equal(child.stdout.readline().strip(), "ready")
    child.terminate()
    equal(child.stdout.readline().strip(), "got-term")
    equal(child.wait(20), 7, "status")


@case
def dispositions_are_inherited(machine):
    """nohup's ignored SIGHUP and an empty signal mask arrive as they were."""
    done = machine.run("run", "--", "sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status",
                       preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    bare = subprocess.run(["sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status"], capture_output=True, text=True,
                          check=False, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    equal(done.stdout, bare.stdout, "signal state")


@case
def descriptors_are_the_programs_own(machine):
    list_them = [sys.executable, "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"]
    done = machine.run("run", "--", *list_them)
    bare = subprocess.run(list_them, capture_output=True, text=True, check=False)
    equal(done.stdout, bare.stdout, "open descriptors")


@case
def missing_program_is_127(machine):
    done = machine.run("run", "--name", name_of("x"), "--", "/no/such/program")
    equal(done.returncode, 127, done.stderr)
    expect("/no/such/program" in done.stderr, done.stderr)
    equal(machine.run("run", "--", "/etc/passwd").returncode, 126, "not runnable")
    expect(name_of("x") not in slices(machine), "nothing stays")


# ---- the slice ------------------------------------------------------------------------------------


@case
def limit_holds_and_the_end_is_told(machine):
    done = machine.run("run", "--mem", "4Gi", "--name", name_of("a"), "--", machine.tenant, "1024", "1024", "4096",
                       "512")
    lines = done.stdout.splitlines()
    equal(lines[:4], ["ok 1024", "ok 1024", "refused 2 4096", "ok 512"], done.stderr)
    free, total = map(int, lines[4].split()[1:3])
    equal(total, 4 << 30, "total as told")
    expect(0 < free < (4 << 30) - 2560 * MIB, f"free {free}")
    equal(done.returncode, 0)
    expect(re.search(rf"^tranche: slice {name_of('a')} on device 0: peak [0-9.]+ GiB of 4 GiB, 1 allocation refused$",
                     done.stderr, re.M), done.stderr)
    expect(name_of("a") not in slices(machine), "the slice is gone")


@case
def quiet_says_nothing(machine):
    done = machine.run("run", "--mem", "4Gi", "--quiet", "--", machine.tenant, "64")
    equal(done.stderr, "", "standard error")


@case
def percent_of_the_device(machine):
    done = machine.run("run", "--mem", "25%", "--", machine.tenant)
    total = int(done.stdout.split()[2])
    whole = int(subprocess.run([machine.tenant], env=machine.env, capture_output=True, text=True,
                               check=True).stdout.split()[2])
    equal(total, whole * 25 // 100, "a quarter")


@case
def two_slices_share_one_device(machine):
    a = machine.start("run", "--mem", "2Gi", "--name", name_of("a"), "--", machine.tenant, "-", "1024")
    b = machine.start("run", "--mem", "3Gi", "--name", name_of("b"), "--", machine.tenant, "-", "2048")
    equal(a.stdout.readline().strip(), "ok 1024")
    equal(b.stdout.readline().strip(), "ok 2048")
    equal(a.stdout.readline().split()[2], str(2 << 30), "a sees its slice")
    equal(b.stdout.readline().split()[2], str(3 << 30), "b sees its slice")
    equal(ask(a, "1024"), "refused 2 1024", "a ends where it ends")
    equal(ask(b, "64"), "ok 64", "b is not disturbed")
    seen = slices(machine)
    equal(seen[name_of("a")]["devices"][0]["limit_bytes"], 2 << 30)
    equal(seen[name_of("a")]["devices"][0]["refused"], 1)
    equal(seen[name_of("b")]["devices"][0]["used_bytes"], 2112 * MIB)
    equal(len(seen[name_of("b")]["processes"]), 1)


@case
def children_share_the_slice(machine):
    done = machine.run("run", "--mem", "4Gi", "--", "sh", "-c",
                       f"(sleep 3 | {machine.tenant} - 2000) & sleep 1; {machine.tenant} 2000; wait")
    equal(sorted(line for line in done.stdout.splitlines() if "2000" in line), ["ok 2000", "refused 2 2000"], done.stderr)


@case
def resize_while_it_runs(machine):
    a = machine.start("run", "--mem", "2Gi", "--name", name_of("a"), "--", machine.tenant, "-", "1024")
    a.stdout.readline()
    a.stdout.readline()
    equal(ask(a, "2048"), "refused 2 2048")
    done = machine.run("set", name_of("a"), "--mem", "6Gi")
    equal(done.returncode, 0, done.stderr)
    expect("2 GiB -> 6 GiB" in done.stdout, done.stdout)
    equal(ask(a, "2048"), "ok 2048", "grown")
    equal(ask(a, "info").split()[2], str(6 << 30), "told the new size")
    done = machine.run("set", name_of("a"), "--mem", "1Gi")
    expect("wait until it has fallen" in done.stdout, done.stdout)
    equal(ask(a, "1"), "refused 2 1", "below present use new allocations are held")
    equal(ask(a, "info").split()[1], "0", "free is 0, not negative")
    equal(ask(a, "free"), "freed 0", "what it has stays its own")
    machine.run("set", name_of("a"), "--mem", "3Gi")
    equal(ask(a, "512"), "ok 512", "use has fallen")


@case
def several_devices(machine):
    done = machine.run("run", "--mem", "2Gi", "--device", "0,1", "--", machine.tenant, "64")
    equal(done.returncode, 0, done.stderr)
    uuid = slices_of_two(machine)
    done = machine.run("run", "--mem", "2Gi", "--device", uuid[:14], "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    equal(done.stdout.strip(), uuid, "the program sees its device only")


def slices_of_two(machine):
    name = name_of("d")
    child = machine.start("run", "--device", "1,0", "--name", name, "--", "sleep", "30")
    for _ in range(100):
        seen = slices(machine)
        if name in seen:
            uuids = [d["uuid"] for d in seen[name]["devices"]]
            child.terminate()
            expect(len(set(uuids)) == 2, str(uuids))
            return uuids[0]
        time.sleep(0.05)
    raise AssertionError("the slice does not show")


@case
def keeper_may_die(machine):
    a = machine.start("run", "--mem", "4Gi", "--name", name_of("a"), "--", machine.tenant, "-", "1024")
    a.stdout.readline()
    a.stdout.readline()
    children = open(f"/proc/{a.pid}/task/{a.pid}/children", encoding="ascii").read().split()
    keepers = [int(p) for p in children if open(f"/proc/{p}/comm", encoding="ascii").read().strip() == "tranche-keeper"]
    equal(len(keepers), 1, "one keeper")
    os.kill(keepers[0], signal.SIGKILL)
    equal(ask(a, "1024"), "ok 1024")
    equal(ask(a, "4096"), "refused 2 4096")
    a.stdin.close()
    equal(a.wait(20), 0, "status")


@case
def overhead_is_published(machine):
    """The keeper's number replaces the floor: used and overhead are what NVML shows."""
    a = machine.start("run", "--mem", "8Gi", "--name", name_of("a"), "--", machine.tenant, "-", "1000")
    a.stdout.readline()
    a.stdout.readline()
    want = None
    for _ in range(60):
        device = slices(machine)[name_of("a")]["devices"][0]
        memory = subprocess.run([f"{machine.sim}/sim-ctl", "memory", "--json"], env=machine.env, capture_output=True,
                                text=True, check=True).stdout
        want = json.loads(memory)["devices"][0]["used"]
        if device["used_bytes"] + device["overhead_bytes"] == want:
            return
        time.sleep(0.1)
    raise AssertionError(f"{device} but the device holds {want}")


@case
def ordinary_user(machine):
    before, more = as_user(machine)
    env = dict(machine.env, **more)
    env.pop("XDG_RUNTIME_DIR", None)
    done = subprocess.run([*before, machine.tranche, "run", "--mem", "2Gi", "--", machine.tenant, "512", "2048"], env=env,
                          capture_output=True, text=True, timeout=60, check=False)
    equal(done.stdout.splitlines()[:2], ["ok 512", "refused 2 2048"], done.stderr)


@case
def F17_cleared_environment_stays_limited(machine):
    need_root()
    words = ["run", "--sim", "--mem", "2Gi", "--", "env", "-i", machine.tenant, "512", "2048"]
    done = machine.run(*words)
    equal(done.stdout.splitlines()[:2], ["ok 512", "refused 2 2048"], done.stderr)
    # and the environment cannot raise it
    done = machine.run("run", "--sim", "--mem", "2Gi", "--", "env", "-i", "CUDA_DEVICE_MEMORY_LIMIT=64g",
                       "TRANCHE_POLICY=/dev/null", "CUDA_DISABLE_CONTROL=true", machine.tenant, "512", "2048")
    equal(done.stdout.splitlines()[:2], ["ok 512", "refused 2 2048"], done.stderr)
    # but lower it
    done = machine.run("run", "--sim", "--mem", "4Gi", "--", "env", "-i", "CUDA_DEVICE_MEMORY_LIMIT=1500m",
                       machine.tenant, "512", "2048")
    equal(done.stdout.splitlines()[:2], ["ok 512", "refused 2 2048"], done.stderr)


@case
def F17_set_uid_program_is_limited(machine):
    """The loader drops LD_PRELOAD and LD_LIBRARY_PATH for it, but not the file."""
    need_root()
    before, _ = as_user(machine)
    tenant = f"{machine.dir}/tenant"
    shutil.copy(machine.tenant, tenant)
    os.chmod(tenant, 0o4755)
    if os.statvfs(machine.dir).f_flag & os.ST_NOSUID:
        raise Cannot("temporary files cannot be set-uid here")
    done = machine.run("run", "--sim", "--mem", "2Gi", "--quiet", "--", *before, tenant, "512", "2048")
    equal(done.stdout.splitlines()[:2], ["ok 512", "refused 2 2048"], done.stderr)
    equal(done.stderr, "", "the loader says nothing")


@case
def F17_policy_cannot_be_written_from_inside(machine):
    need_root()
    done = machine.run("run", "--mem", "2Gi", "--", "sh", "-c",
                       "echo x >>/run/tranche/slice/ro/policy; echo $?; rm /run/tranche/slice/ro/policy; echo $?")
    expect("0" not in done.stdout.split(), done.stdout + done.stderr)


@case
def preload_of_the_host_is_kept(machine):
    need_root()
    done = machine.run("run", "--mem", "2Gi", "--", "cat", "/etc/ld.so.preload")
    expect(done.stdout.splitlines()[0].endswith("/libvgpu.so"), done.stdout + done.stderr)
    with open("/etc/ld.so.preload", encoding="utf-8") as host:
        expect("libvgpu" not in host.read(), "the host's own file is untouched")


@case
def what_a_killed_run_leaves_is_cleared(machine):
    a = machine.start("run", "--mem", "2Gi", "--name", name_of("a"), "--", machine.tenant, "-", "512")
    a.stdout.readline()
    a.stdout.readline()
    program = slices(machine)[name_of("a")]["processes"][0]["pid"]
    a.kill()
    a.wait()
    seen = slices(machine)[name_of("a")]
    equal((seen["running"], seen["devices"][0]["used_bytes"]), (False, 512 * MIB), "its program runs on in the slice")
    os.kill(program, signal.SIGKILL)
    for _ in range(100):
        if name_of("a") not in slices(machine):
            return
        time.sleep(0.05)
    raise AssertionError("the slice of a dead run and a dead program still shows")


# ---- tranche sim ----------------------------------------------------------------------------------

DRIVERS = ("10.2", "11.2", "11.4", "12.0", "12.4", "13.5", "newer")


def symbols_of(machine, driver, *names):
    script = "import ctypes, sys; d = ctypes.CDLL('libcuda.so.1'); print(*[hasattr(d, n) for n in sys.argv[1:]])"
    done = machine.run("sim", "--driver", driver, "--", sys.executable, "-c", script, *names)
    equal(done.returncode, 0, done.stderr)
    return [word == "True" for word in done.stdout.split()]


@case
def F03_old_driver_lacks_what_came_later(machine):
    names = ("cuMemAlloc_v2", "cuGetProcAddress", "cuMemAllocAsync", "cuGetProcAddress_v2", "cuCtxCreate_v4",
             "cuFutureThing")
    equal(symbols_of(machine, "10.2", *names), [True, False, False, False, False, False], "10.2")
    equal(symbols_of(machine, "11.4", *names), [True, True, True, False, False, False], "11.4")
    equal(symbols_of(machine, "12.4", *names), [True, True, True, True, False, False], "12.4")
    equal(symbols_of(machine, "newer", *names), [True] * 6, "newer")


@case
def F02_F03_limit_holds_on_every_driver(machine):
    for driver in DRIVERS:
        done = machine.run("sim", "--driver", driver, "--", machine.tranche, "run", "--mem", "2Gi", "--quiet", "--",
                           machine.tenant, "512", "2048")
        lines = done.stdout.splitlines()
        equal(lines[:2], ["ok 512", "refused 2 2048"], f"{driver}: {done.stderr}")
        equal(lines[2].split()[2], str(2 << 30), f"{driver}: total")
        equal((done.returncode, done.stderr), (0, ""), driver)


def machine_of(child):
    """The directory of the machine that a `tranche sim` made."""
    path = child.stdout.readline().strip()
    expect(os.path.isdir(path), f"{path!r}: {child.stderr.read() if not path else ''}")
    return path


def wait_gone(path):
    for _ in range(100):
        if not os.path.exists(path):
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} stays: {os.listdir(path)}")


@case
def sim_leaves_nothing(machine):
    script = "echo $TRANCHE_SIM; read x; echo wrong >$TRANCHE_SIM/faults; sleep 0.3; ls $TRANCHE_SIM; read x"
    child = machine.start("sim", "--gpus", "l4", "--driver", "12.4", "--", "sh", "-c", script)
    path = machine_of(child)
    out, _ = child.communicate("\n\n", timeout=20)
    expect({"socket", "faults.error", "libcuda.so.1"} <= set(out.split()), out)
    equal(os.path.exists(path), False, "after its end")


@case
def killed_sim_leaves_nothing(machine):
    child = machine.start("sim", "--gpus", "l4", "--driver", "12.4", "--", "sh", "-c",
                          f"echo $TRANCHE_SIM; exec {machine.tenant} - 64")
    path = machine_of(child)
    equal(child.stdout.readline().strip(), "ok 64")
    child.kill()
    time.sleep(0.2)
    equal(os.path.exists(path), True, "its program runs on, and so does its machine")
    child.stdin.close()  # ends the program
    wait_gone(path)


@case
def what_outlives_run_stays_limited(machine):
    """A daemon that first uses the GPU after `run` has ended finds its slice, or is refused: never more."""
    out = f"{machine.dir}/late"
    for words in ([], ["--sim"]):
        done = machine.run("run", *words, "--mem", "1Gi", "--", "sh", "-c",
                           f"(sleep 1; {machine.tenant} 3000) >{out} 2>&1 </dev/null &")
        equal(done.returncode, 0, done.stderr)
        time.sleep(2)
        with open(out, encoding="utf-8") as late:
            text = late.read()
        expect("refused" in text and "ok 3000" not in text, text)


@case
def what_sits_in_it_keeps_the_slice(machine):
    out = f"{machine.dir}/late"
    done = machine.run("run", "--mem", "2Gi", "--name", name_of("a"), "--", "sh", "-c",
                       f"(sleep 3 | {machine.tenant} - 512) >/dev/null 2>&1 & sleep 0.7; "
                       f"(sleep 1; {machine.tenant} 900 100) >{out} 2>&1 </dev/null &")
    expect("still run in slice" in done.stderr, done.stderr)
    expect(name_of("a") in slices(machine), "the slice is there as long as somebody sits in it")
    time.sleep(1.5)
    with open(out, encoding="utf-8") as late:
        equal(late.read().splitlines()[:2], ["refused 2 900", "ok 100"], "counted together")


@case
def no_slice_inside_a_slice(machine):
    done = machine.run("run", "--sim", "--mem", "2Gi", "--", machine.tranche, "run", "--sim", "--mem", "1Gi", "--",
                       "echo", "ran")
    equal((done.returncode, done.stdout), (1, ""), done.stderr)
    expect("inside a slice" in done.stderr, done.stderr)


@case
def umask_does_not_matter(machine):
    need_root()
    before, _ = as_user(machine)
    done = machine.run("run", "--mem", "1Gi", "--", *before, machine.tenant, "3000", preexec_fn=lambda: os.umask(0o077))
    equal(done.stdout.splitlines()[:1], ["refused 2 3000"], done.stderr)


@case
def library_that_cannot_be_loaded(machine):
    blank = f"{machine.dir}/a b"
    os.makedirs(blank)
    shutil.copy(f"{machine.build}/lib/libvgpu.so", f"{blank}/libvgpu.so")
    before, more = as_user(machine)
    env = dict(machine.env, TRANCHE_LIBRARY=f"{blank}/libvgpu.so")
    done = machine.run("run", "--mem", "1Gi", "--", machine.tenant, "3000", env=env)
    expect("ok 3000" not in done.stdout, done.stdout)
    done = subprocess.run([*before, machine.tranche, "run", "--mem", "1Gi", "--", machine.tenant, "3000"],
                          env=dict(env, **more), capture_output=True, text=True, timeout=60, check=False)
    equal((done.returncode, done.stdout), (1, ""), done.stderr)
    expect("blank" in done.stderr, done.stderr)
    done = machine.run("run", "--mem", "1Gi", "--", "echo", "ran", env=dict(machine.env, TRANCHE_LIBRARY="/etc/passwd"))
    equal((done.returncode, done.stdout), (1, ""), done.stderr)


@case
def contexts_count_after_a_sweep(machine):
    """What the keeper has measured covers the contexts of then, not those made since."""
    script = """
import ctypes, time
cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0
made, context = 0, ctypes.c_void_p()
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
time.sleep(2.5)
while made < 100 and cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0:
    made += 1
print(made)
"""
    done = machine.run("run", "--mem", "2Gi", "--", sys.executable, "-c", script)
    expect(done.stdout.strip() and int(done.stdout) < 5, done.stdout + done.stderr)


@case
def closed_streams(machine):
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f'exec "$0" "$@" {closed}', machine.tranche, "run", "--mem", "1Gi", "--", "sh",
                               "-c", "exit 3"], env=machine.env, capture_output=True, text=True, timeout=60, check=False)
        equal(done.returncode, 3, f"{closed}: {done.stderr}")


@case
def what_cannot_be_written_fails(machine):
    with open("/dev/full", "w", encoding="ascii") as full:
        for words in (["--help"], ["ps"], ["ps", "--json"], ["manual"]):
            done = subprocess.run([machine.tranche, *words], env=machine.env, stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=60, check=False)
            equal(done.returncode, 1, str(words))
            expect("No space left" in done.stderr, done.stderr)
    for words in ("--help", "ps", "manual"):
        done = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', machine.tranche, words], env=machine.env,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        equal(done.returncode, 1, f"{words}: {done.stderr}")
        expect("standard output" in done.stderr, done.stderr)


@case
def smaller_than_a_context_is_said(machine):
    done = machine.run("run", "--mem", "4", "--", machine.tenant)
    expect("4 B is less than one context takes" in done.stderr, done.stderr)
    equal(done.stdout.strip(), "refused 2 start", done.stderr)
