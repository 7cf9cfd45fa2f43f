# SPDX-License-Identifier: Apache-2.0
"""Cases: wrong values, machines that lack something, and the rest of the command."""
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time

from harness import *  # noqa: F403


# ---- wrong values ---------------------------------------------------------------------------------

BAD = [
    (["run", "--mem", "0", "--", "true"], ["0"]),
    (["run", "--mem", "-1", "--", "true"], ["-1"]),
    (["run", "--mem", "4Gx", "--", "true"], ["4Gx", "4Gi"]),
    (["run", "--mem", "99999999999999999999G", "--", "true"], ["99999999999999999999G"]),
    (["run", "--mem", "900Gi", "--", "true"], ["900Gi", "GiB"]),
    (["run", "--mem", "0%", "--", "true"], ["0%"]),
    (["run", "--mem", "101%", "--", "true"], ["101%"]),
    (["run", "--mem", "x%", "--", "true"], ["x%"]),
    (["run", "--mem", "", "--", "true"], ['""']),
    (["run", "--mem"], ["--mem"]),
    (["run", "--device", "7", "--", "true"], ["7", "0"]),
    (["run", "--device", "GPU-ffffffff", "--", "true"], ["GPU-ffffffff", "GPU-"]),
    (["run", "--device", "0,0", "--", "true"], ["0,0", "twice"]),
    (["run", "--device", "", "--", "true"], ['""']),
    (["run", "--name", "a/b", "--", "true"], ["a/b"]),
    (["run", "--name", "", "--", "true"], ['""']),
    (["run", "--name", "x" * 64, "--", "true"], ["xxxx", "63"]),
    (["run", "--nme", "a", "--", "true"], ["--nme"]),
    (["run", "--sim=yes", "--", "true"], ["--sim"]),
    (["run", "--mem", "1Gi", "--mem", "2Gi", "--", "true"], ["--mem", "twice"]),
    (["run", "--cores", "0", "--", "true"], ['"0"', "1 to 100"]),
    (["run", "--cores", "0.9", "--", "true"], ['"0.9"', "1 to 100"]),
    (["run", "--cores", "100.1", "--", "true"], ['"100.1"']),
    (["run", "--cores", "101", "--", "true"], ['"101"']),
    (["run", "--cores", "4294967346", "--", "true"], ['"4294967346"']),
    (["run", "--cores", "-5", "--", "true"], ['"-5"']),
    (["run", "--cores", "+5", "--", "true"], ['"+5"']),
    (["run", "--cores", "abc", "--", "true"], ['"abc"']),
    (["run", "--cores", "30 %", "--", "true"], ['"30 %"']),
    (["run", "--cores", "12.55", "--", "true"], ['"12.55"', "0.1"]),
    (["run", "--cores", "30.", "--", "true"], ['"30."']),
    (["run", "--cores", "1e1", "--", "true"], ['"1e1"']),
    (["run", "--cores", "", "--", "true"], ['""']),
    (["run", "--cores", "%", "--", "true"], ['"%"']),
    (["run", "--cores", "30", "--cores=30", "--", "true"], ["--cores", "twice"]),
    (["run", "--cores-max", "0", "--", "true"], ["--cores-max", '"0"']),
    (["run", "--cores", "30", "--cores-max", "20", "--", "true"], ["--cores-max", '"20"', '"30"']),
    (["run", "--cores-max", "20", "--cores", "x", "--", "true"], ['--cores "x"']),
    (["run", "--priority", "urgent", "--", "true"], ['"urgent"', "high, normal or low"]),
    (["run", "--priority", "2", "--", "true"], ['"2"']),
    (["run", "--priority", "HIGH", "--", "true"], ['"HIGH"']),
    (["run", "--priority", "", "--", "true"], ['""']),
    (["run", "--cores"], ["--cores needs a value"]),
    (["run", "--cores", "--", "true"], ["--cores needs a value"]),
    (["set", "nobody", "--cores", "50"], ["nobody"]),
    (["set", "nobody", "--cores", "500"], ["500"]),
    (["set", "nobody", "--priority", "x"], ['"x"']),
    (["run"], ["PROGRAM"]),
    (["run", "--mem", "1Gi", "--"], ["PROGRAM"]),
    (["set", "nobody", "--mem", "1Gi"], ["nobody"]),
    (["set", "nobody"], ["--mem"]),
    (["set", "--mem", "1Gi"], ["NAME"]),
    (["ps", "extra"], ["extra"]),
    (["top", "--interval", "0"], ["0"]),
    (["completion", "tcsh"], ["tcsh", "bash"]),
    (["install", "--prefix", "relative"], ["relative"]),
    (["sim", "--gpus", "3xnothing", "--", "true"], ["nothing"]),
    (["sim", "--gpus", "99xh100", "--", "true"], ["99"]),
    (["sim", "--driver", "9.9", "--", "true"], ["9.9"]),
    (["sim", "--pids", "some", "--", "true"], ["some"]),
    (["sim"], ["PROGRAM"]),
    (["frobnicate"], ["frobnicate"]),
    (["--frobnicate"], ["--frobnicate"]),
]


@case
def wrong_values_are_named(machine):
    before = set(slices(machine))
    for words, says in BAD:
        done = machine.run(*words)
        equal(done.returncode, 2, f"{words}: {done.stderr}")
        equal(done.stdout, "", f"{words}")
        expect(done.stderr.startswith("tranche: ") or words[0] == "sim", f"{words}: {done.stderr!r}")
        for part in says:
            expect(part in done.stderr, f"{words}: {done.stderr!r} does not say {part!r}")
    equal(set(slices(machine)), before, "nothing was created")


@case
def set_beyond_the_device(machine):
    machine.start("run", "--mem", "2Gi", "--name", name_of("a"), "--", "sleep", "30")
    wait_for(machine, name_of("a"))
    for value in ("900Gi", "0", "x"):
        done = machine.run("set", name_of("a"), "--mem", value)
        equal(done.returncode, 2, done.stderr)
        expect(value in done.stderr, done.stderr)
    equal(machine.run("set", name_of("a"), "--mem", "1Gi", "--device", "3").returncode, 2)
    equal(slices(machine)[name_of("a")]["devices"][0]["limit_bytes"], 2 << 30, "unchanged")


def wait_for(machine, name):
    for _ in range(200):
        if name in slices(machine):
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} does not show")


@case
def two_slices_of_one_name(machine):
    a = machine.start("run", "--mem", "2Gi", "--name", name_of("a"), "--", "sh", "-c", "echo $$; exec sleep 30")
    program = int(a.stdout.readline())
    done = machine.run("run", "--mem", "1Gi", "--name", name_of("a"), "--", "echo", "ran")
    equal((done.returncode, done.stdout), (2, ""), done.stderr)
    expect(name_of("a") in done.stderr and "running" in done.stderr, done.stderr)
    equal(slices(machine)[name_of("a")]["devices"][0]["limit_bytes"], 2 << 30, "the first is untouched")
    a.kill()  # not even a chance to clean up: the name is free again
    a.wait()
    os.kill(program, signal.SIGKILL)
    done = machine.run("run", "--mem", "1Gi", "--name", name_of("a"), "--", "echo", "ran")
    equal(done.stdout, "ran\n", done.stderr)


@case
def no_driver(machine):
    env = dict(machine.env)
    env.pop("LD_LIBRARY_PATH")
    done = machine.run("run", "--mem", "1Gi", "--", "echo", "ran", env=env)
    if done.stdout == "ran\n":
        raise Cannot("this machine has a real driver")
    equal(done.returncode, 1, done.stderr)
    expect("no NVIDIA driver" in done.stderr, done.stderr)


@case
def driver_that_fails(machine):
    env = dict(machine.env, TRANCHE_SIM_FAULT="nvmlInit_v2=999")
    done = machine.run("run", "--mem", "1Gi", "--", "echo", "ran", env=env)
    equal((done.returncode, done.stdout), (1, ""), done.stderr)
    expect("does not answer" in done.stderr, done.stderr)


@case
def nvml_that_fails_later_harms_nobody(machine):
    env = dict(machine.env, TRANCHE_SIM_FAULT="nvmlDeviceGetComputeRunningProcesses_v3=999")
    done = machine.run("run", "--mem", "2Gi", "--", machine.tenant, "512", "2048", env=env)
    equal(done.stdout.splitlines()[:2], ["ok 512", "refused 2 2048"], done.stderr)


def in_namespace(machine, script, *words):
    """A shell script in a mount namespace of its own, then the command."""
    need_root()
    return subprocess.run(["unshare", "-m", "sh", "-c", script + ' && exec "$@"', "sh", machine.tranche, *words],
                          env=machine.env, capture_output=True, text=True, timeout=60, check=False)


@case
def full_disk(machine):
    done = in_namespace(machine, "mount -t tmpfs -o size=64k none /dev/shm && { [ ! -d /run/tranche ] || mount -t tmpfs "
                        "-o size=64k none /run/tranche; }", "run", "--mem", "1Gi", "--", "echo", "ran")
    equal((done.returncode, done.stdout), (1, ""), done.stderr)
    expect("No space left" in done.stderr, done.stderr)


@case
def read_only_file_system(machine):
    done = in_namespace(machine, "mount -t tmpfs none /dev/shm && mount -o remount,ro /dev/shm && "
                        "{ [ ! -d /run/tranche ] || mount -t tmpfs -o ro none /run/tranche; }",
                        "run", "--mem", "1Gi", "--", "echo", "ran")
    equal((done.returncode, done.stdout), (1, ""), done.stderr)
    expect("Read-only file system" in done.stderr, done.stderr)


@case
def no_tmpfs(machine):
    under = f"{machine.dir}/o"
    for part in ("l", "u", "w"):
        os.makedirs(f"{under}/{part}")
    done = in_namespace(machine, f"mount -t tmpfs none {under} && mkdir {under}/l {under}/u {under}/w && mount -t overlay "
                        f"-o lowerdir={under}/l,upperdir={under}/u,workdir={under}/w none /dev/shm", "run", "--mem",
                        "1Gi", "--", "echo", "ran")
    if "wrong fs type" in done.stderr or "unknown filesystem" in done.stderr:
        raise Cannot("this kernel has no overlayfs")
    equal((done.returncode, done.stdout), (1, ""), done.stderr)
    expect("tmpfs" in done.stderr, done.stderr)


@case
def no_permission(machine):
    """Somebody else was in /dev/shm first."""
    need_root()
    before, more = as_user(machine)
    path = "/dev/shm/tranche-65533"
    os.makedirs(path, exist_ok=True)
    try:
        before = [w.replace("65534", "65533") for w in before]
        env = dict(machine.env, **more)
        env.pop("XDG_RUNTIME_DIR", None)
        done = subprocess.run([*before, machine.tranche, "run", "--mem", "1Gi", "--", "echo", "ran"], env=env,
                              capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.rmdir(path)
    equal((done.returncode, done.stdout), (1, ""), done.stderr)
    expect(path in done.stderr, done.stderr)


@case
def users_do_not_touch_each_others_slices(machine):
    need_root()
    before, more = as_user(machine)
    machine.start("run", "--mem", "2Gi", "--name", name_of("roots"), "--", "sleep", "30")
    wait_for(machine, name_of("roots"))
    done = subprocess.run([*before, machine.tranche, "set", name_of("roots"), "--mem", "1Gi"],
                          env=dict(machine.env, **more), capture_output=True, text=True, timeout=60, check=False)
    equal(done.returncode, 1, done.stderr)
    expect("Permission denied" in done.stderr, done.stderr)
    equal(slices(machine)[name_of("roots")]["devices"][0]["limit_bytes"], 2 << 30)


# ---- the rest of the command ------------------------------------------------------------------------


@case
def help_teaches(machine):
    done = machine.run("--help")
    equal(done.returncode, 0)
    for word in ("run", "ps", "top", "set", "sim", "install", "doctor"):
        expect(re.search(rf"^  {word} +\w", done.stdout, re.M), word)
        one = machine.run(word, "--help")
        equal(one.returncode, 0, word)
        expect(f"tranche {word}" in one.stdout, one.stdout)
    expect("tranche run --mem 4Gi -- python train.py" in machine.run("run", "--help").stdout, "an example")


@case
def completion_is_a_script(machine):
    done = machine.run("completion", "bash")
    subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)
    words = subprocess.run(["bash", "-c", done.stdout + "\nCOMP_WORDS=(tranche run --d); COMP_CWORD=2; _tranche; "
                            "echo ${COMPREPLY[@]}"], capture_output=True, text=True, check=True).stdout
    equal(words.strip(), "--device", "completes an option")


@case
def manual_is_a_page(machine):
    page = machine.run("manual").stdout
    expect(page.startswith(".TH TRANCHE 1"), page[:40])
    for option in ("mem", "device", "name"):
        expect(f"\\-\\-{option} " in page, option)


@case
def top_draws(machine):
    machine.start("run", "--mem", "2Gi", "--name", name_of("a"), "--", machine.tenant, "-", "1024")
    wait_for(machine, name_of("a"))
    time.sleep(0.5)
    once = machine.run("top", "--once").stdout
    expect(name_of("a") in once and "of 2 GiB" in once and "cli.tenant" in once, once)
    parent, child = pty.openpty()
    live = subprocess.Popen([machine.tranche, "top", "--interval", "0.2"], env=machine.env, stdin=child, stdout=child)
    seen, is_asked, end = "", False, time.monotonic() + 60
    # read all the time: a terminal that nobody reads fills, and who draws on it waits
    while live.poll() is None and time.monotonic() < end:
        if select.select([parent], [], [], 0.1)[0]:
            seen += os.read(parent, 65536).decode(errors="replace")
        if not is_asked and name_of("a") in seen:
            os.write(parent, b"q")
            is_asked = True
    if live.poll() is None:
        live.kill()
    equal(live.wait(10), 0, "q ends it")
    expect(is_asked and "\x1b[?1049h" in seen, "drawn on the other screen")
    os.close(child)
    os.close(parent)


@case
def doctor_knows(machine):
    done = machine.run("doctor")
    equal(done.returncode, 0, done.stdout)
    expect("Nothing is missing" in done.stdout, done.stdout)
    env = dict(machine.env)
    env.pop("LD_LIBRARY_PATH")
    done = machine.run("doctor", env=env)
    if "Nothing is missing" in done.stdout:
        raise Cannot("this machine has a real driver")
    equal(done.returncode, 1, done.stdout)
    expect("MISSING  GPU" in done.stdout and "->" in done.stdout, done.stdout)


@case
def F30_install_keeps_running_programs(machine):
    """F30: a versioned name, an atomic rename; a program that runs keeps its file. F31: any prefix."""
    prefix = f"{machine.dir}/pre fix"
    library = f"{prefix}/lib/tranche/libvgpu.so"
    equal(machine.run("install", "--prefix", prefix).returncode, 0)
    name = os.readlink(library)
    expect(re.fullmatch(r"libvgpu\.so\.\d+\.\d+\.\d+-[0-9a-f]{8}", name), name)
    old_inode = os.stat(library).st_ino
    child = subprocess.Popen(["sleep", "30"], env=dict(os.environ, LD_PRELOAD=library.replace("pre fix", "pre")))
    child.kill()
    child.wait()
    os.makedirs(f"{machine.dir}/plain", exist_ok=True)
    link = f"{machine.dir}/plain/libvgpu.so"
    os.symlink(library, link)
    child = subprocess.Popen(["sleep", "30"], env=dict(os.environ, LD_PRELOAD=link))
    machine.children.append(child)
    wait_mapped(child.pid, name)
    # the same build again is the same name; another build is another name, and the link moves at once
    equal(machine.run("install", "--prefix", prefix).returncode, 0)
    equal(os.readlink(library), name)
    other = f"{machine.dir}/other.so"
    shutil.copy(library, other)
    with open(other, "ab") as out:
        out.write(b"\0")
    done = machine.run("install", "--prefix", prefix, env=dict(machine.env, TRANCHE_LIBRARY=other))
    equal(done.returncode, 0, done.stderr)
    expect(os.readlink(library) != name, "the link moved")
    expect(os.stat(library).st_ino != old_inode, "a new file")
    with open(f"/proc/{child.pid}/maps", encoding="utf-8") as maps:
        lines = [line for line in maps if name in line]
    expect(lines and lines[0].split()[4] != str(os.stat(library).st_ino), "the running program keeps the old file")
    leftovers = [f for f in os.listdir(f"{prefix}/lib/tranche") if f.endswith(".new")]
    equal(leftovers, [], "no temporary files")


def wait_mapped(pid, name):
    for _ in range(200):
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            if name in maps.read():
                return
        time.sleep(0.02)
    raise AssertionError("the library was not loaded")
