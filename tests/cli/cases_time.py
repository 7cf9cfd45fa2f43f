# SPDX-License-Identifier: Apache-2.0
"""Cases: a share of a GPU's time, as the command takes and shows it."""
import glob
import json
import re
import signal
import struct
import subprocess
import time

from cases_values import wait_for
from harness import *  # noqa: F403

ALL = 1 << 32
# Offsets of the two files' ABI (tranche/policy.h, tranche/state.h).
PAGE_FLAGS, PAGE_RATE, PAGE_PRIORITY = 28, 512 + 64, 512 + 124
STATE_GATE_WAITS, STATE_USAGE, USAGE_BYTES = 1152 + 80, 266240, 56


def file_of(name, part):
    found = glob.glob(f"/run/tranche/slices/{name}/{part}") + glob.glob(f"/dev/shm/tranche-*/{name}/{part}")
    found += glob.glob(f"{os.environ.get('XDG_RUNTIME_DIR', '/nowhere')}/tranche/{name}/{part}")  # noqa: F405
    equal(len(found), 1, f"{part} of {name}")
    return found[0]


def words_of_page(name):
    """(flags, guaranteed and most in 2^-32, priority) of the first device."""
    with open(file_of(name, "ro/policy"), "rb") as page:
        data = page.read(1024)
    return (struct.unpack_from("<I", data, PAGE_FLAGS)[0], *struct.unpack_from("<QQ", data, PAGE_RATE),
            struct.unpack_from("<I", data, PAGE_PRIORITY)[0])


def start(machine, what, *options, **more):
    """A slice with a program that holds a context and waits."""
    child = machine.start("run", "--name", name_of(what), *options, "--", machine.tenant, "-", "64", **more)
    equal(child.stdout.readline().strip(), "ok 64")
    child.stdout.readline()
    return child


@case
def cores_reach_the_page(machine):
    rows = [
        ((), (0, ALL, ALL, 0)),
        (("--cores", "50"), (1, ALL // 2, ALL // 2, 0)),
        (("--cores=25%", "--cores-max", "100"), (1, ALL // 4, ALL, 0)),
        (("--cores-max", "12.5"), (1, ALL // 8, ALL // 8, 0)),
        (("--cores", "100"), (1, ALL, ALL, 0)),
        (("--priority", "high"), (1, ALL, ALL, 1)),
        (("--priority", "low"), (1, ALL, ALL, 2)),
        (("--priority", "normal"), (1, ALL, ALL, 0)),
        (("--priority", "0"), (1, ALL, ALL, 1)),
        (("--priority", "1"), (1, ALL, ALL, 0)),
        (("--cores", "33.3"), (1, round(ALL * 0.333), round(ALL * 0.333), 0)),
    ]
    for i, (options, want) in enumerate(rows):
        child = machine.start("run", "--name", name_of(f"p{i}"), *options, "--", "cat")
        wait_for(machine, name_of(f"p{i}"))
        equal(words_of_page(name_of(f"p{i}")), want, str(options))
        equal(slices(machine)[name_of(f"p{i}")]["armed"], bool(want[0]), str(options))
        child.stdin.close()
        equal(child.wait(20), 0, str(options))


@case
def cores_of_several_devices(machine):
    child = machine.start("run", "--name", name_of("d"), "--device", "0,1", "--cores", "20", "--", "cat")
    wait_for(machine, name_of("d"))
    equal([d["gpu"]["rate"] for d in slices(machine)[name_of("d")]["devices"]], [20, 20])
    done = machine.run("set", name_of("d"), "--cores", "60", "--device", "1")
    equal(done.returncode, 0, done.stderr)
    equal([d["gpu"]["rate"] for d in slices(machine)[name_of("d")]["devices"]], [20, 60], "only that one")
    equal(machine.run("set", name_of("d"), "--cores-max", "50").returncode, 2, "too little for device 1")
    equal([d["gpu"]["rate_max"] for d in slices(machine)[name_of("d")]["devices"]], [20, 60], "none was changed")
    child.stdin.close()
    child.wait(20)


@case
def set_changes_a_share_live(machine):
    name = name_of("a")
    start(machine, "a", "--cores", "30", "--cores-max", "90")
    steps = [
        (("--cores", "50"), (50, 90, "normal"), "cores 30-90 -> 50-90"),
        (("--cores", "100"), (100, 100, "normal"), "cores 50-90 -> 100"),
        (("--cores", "5"), (5, 5, "normal"), "cores 100 -> 5"),
        (("--cores-max", "99.9"), (5, 99.9, "normal"), "cores 5 -> 5-99.9"),
        (("--priority", "low"), (5, 99.9, "low"), "priority normal -> low"),
        (("--cores", "10%", "--cores-max", "20", "--priority", "0"), (10, 20, "high"), "cores 5-99.9 -> 10-20"),
    ]
    for words, want, says in steps:
        done = machine.run("set", name, *words)
        equal(done.returncode, 0, done.stderr)
        expect(says in done.stdout, done.stdout)
        gpu = slices(machine)[name]["devices"][0]["gpu"]
        equal((gpu["rate"], gpu["rate_max"], gpu["priority"]), want, str(words))
    for words, says in (
        (("--cores", "0"), '"0"'), (("--cores", "101"), '"101"'), (("--cores=-5",), '"-5"'), (("--cores", "x"), '"x"'),
        (("--cores", "30"), "ceiling of 20%"), (("--cores-max", "9.9"), "10%"), (("--cores-max", ""), '""'),
        (("--cores", "15", "--cores-max", "12"), "15%"), (("--priority", "2"), '"2"'),
        (("--mem", "1Gi", "--cores", "0.5"), '"0.5"'),
    ):
        done = machine.run("set", name, *words)
        equal((done.returncode, done.stdout), (2, ""), f"{words}: {done.stderr}")
        expect(says in done.stderr, f"{words}: {done.stderr!r} does not say {says!r}")
    gpu = slices(machine)[name]["devices"][0]["gpu"]
    equal((gpu["rate"], gpu["rate_max"], gpu["priority"]), (10, 20, "high"), "unchanged")


@case
def broken_promises_of_several_devices_are_told(machine):
    """More than the device has is allowed, as its owner may know better; but not in silence."""
    def says(*words):
        done = machine.run(*words)
        equal(done.returncode, 0, done.stderr)
        return [line for line in done.stderr.splitlines() if "together" in line or "promised" in line]

    total = machine.run("run", "--mem", "50%", "--cores", "60", "--", "true")
    expect("promised" not in total.stderr and "together" not in total.stderr, total.stderr)
    start(machine, "full", "--cores", "60", "--mem", "60%")
    start(machine, "low", "--cores", "60", "--priority", "low")
    start(machine, "all", "--cores", "100")
    equal(says("run", "--cores", "40", "--mem", "40%", "--", "true"), [], "all of it, and no more")
    told = says("run", "--cores", "40.5", "--mem", "41%", "--", "true")
    expect(len(told) == 2 and "100.5 %" in told[0] and "together" in told[1], told)
    equal(says("run", "--quiet", "--cores", "60", "--", "true"), [])
    equal(says("run", "--cores", "60", "--device", "1", "--", "true"), [], "another device")
    start(machine, "more", "--cores", "30")
    told = says("set", name_of("more"), "--cores-max", "60", "--cores", "50")
    expect(len(told) == 1 and "110.0 %" in told[0], told)


@case
def set_on_an_unarmed_slice_is_refused(machine):
    start(machine, "a", "--mem", "2Gi")
    for words in (["--cores", "50"], ["--cores-max", "50"], ["--priority", "low"], ["--mem", "1Gi", "--cores", "50"]):
        done = machine.run("set", name_of("a"), *words)
        equal((done.returncode, done.stdout), (2, ""), done.stderr)
        expect("tranche run --cores" in done.stderr and name_of("a") in done.stderr, done.stderr)
    equal(slices(machine)[name_of("a")]["devices"][0]["limit_bytes"], 2 << 30, "nothing was changed")
    equal(machine.run("set", name_of("a"), "--mem", "1Gi").returncode, 0, "memory may be")


@case
def F20_unarmed_time_is_unknown_not_zero(machine):
    """F20: usage that nobody counts is null, never 0."""
    start(machine, "a", "--mem", "2Gi")
    start(machine, "b", "--cores", "100")
    seen = slices(machine)
    for gpu in (seen[name_of("a")], seen[name_of("a")]["devices"][0], seen[name_of("a")]["processes"][0]):
        equal(gpu["gpu"], None)
    for gpu in (seen[name_of("b")], seen[name_of("b")]["devices"][0], seen[name_of("b")]["processes"][0]):
        expect(gpu["gpu"]["gpu_ns"] >= 0, gpu)
    rows = {line.split()[0]: line.split()[-2:] for line in machine.run("ps").stdout.splitlines()}
    equal(rows["SLICE"], ["CORES", "GPU-S"])
    equal(rows[name_of("a")], ["-", "-"])
    equal(rows[name_of("b")], ["100", "0.0"])


def write_counters(name, gate_waits, gpu_ns, launches, throttled_ns, usage):
    """What a program of the slice would have counted; USAGE: of the process in slot 0."""
    with open(file_of(name, "rw/state"), "r+b") as state:
        state.seek(STATE_GATE_WAITS)
        state.write(struct.pack("<4Q", gate_waits, gpu_ns, launches, throttled_ns))
        state.seek(STATE_USAGE + 5 * USAGE_BYTES)
        state.write(struct.pack("<7Q", 1 << 8, usage[0], 0, *usage[1:], 0, 0))


@case
def F20_counters_are_shown(machine):
    """F20: usage by slice, device and process, in ps and at the end, limited or not."""
    child = start(machine, "a", "--cores", "100")
    write_counters(name_of("a"), 7, 12_340_000_000, 1000, 4_560_000_000, (2_000_000_000, 900, 1_000_000_000))
    one = slices(machine)[name_of("a")]
    equal(one["gpu"], {"gpu_ns": 12_340_000_000, "launches": 1000, "throttled_ns": 4_560_000_000})
    gpu = one["devices"][0]["gpu"]
    equal([gpu[key] for key in ("gpu_ns", "launches", "throttled_ns", "gate_waits", "gamma", "borrowing", "blocked")],
          [12_340_000_000, 1000, 4_560_000_000, 7, 1.0, False, False])
    process = one["processes"][0]["gpu"]
    device = {"gpu_ns": 2_000_000_000, "launches": 900, "throttled_ns": 1_000_000_000}
    equal(process, dict(device, devices=[device]))
    expect(re.search(rf"^{name_of('a')} .* 100 +12\.3$", machine.run("ps").stdout, re.M), "ps")
    once = machine.run("top", "--once", "--interval", "0.2s").stdout
    expect("of 100%" in once and "12.3 GPU-s" in once and "2.0 GPU-s" in once, once)
    _, told = child.communicate(timeout=20)
    expect(re.search(rf"^tranche: slice {name_of('a')} on device 0: GPU 12\.3 s, waited 4\.6 s$", told, re.M), told)


@case
def garbage_counters_harm_no_reader(machine):
    child = start(machine, "a", "--cores", "40")
    most = (1 << 64) - 1
    write_counters(name_of("a"), most, most, most, most, (most, most, most))
    one = slices(machine)[name_of("a")]
    equal(one["devices"][0]["gpu"]["gpu_ns"], (1 << 63) - 1, "JSON's largest")
    equal(machine.run("top", "--once", "--interval", "0.1").returncode, 0)
    equal(machine.run("ps").returncode, 0)
    child.communicate(timeout=20)
    equal(child.returncode, 0)


@case
def top_shows_the_share_of_the_interval(machine):
    """A counter that grows by 1 ms every 2 ms is half a GPU, whatever it was before."""
    start(machine, "a", "--cores", "30", "--cores-max", "100")
    start(machine, "b", "--mem", "1Gi")
    begin, child = time.monotonic(), None
    while time.monotonic() < begin + 20 and (child is None or child.poll() is None):
        busy = int((time.monotonic() - begin) / 2 * 1e9) + 1_000_000_000_000
        write_counters(name_of("a"), 1, busy, 10, busy // 10, (0, 0, 0))
        child = child or machine.start("top", "--once", "--interval", "1.5")
        time.sleep(0.002)
    once = child.communicate(timeout=20)[0]
    found = re.search(name_of("a") + r"\n.*\n.*\[([#+|.]{24})\] +([0-9.]+)% of 30-100%, ([0-9.]+)% borrowed, "
                      r"waited ([0-9.]+)%, (\d+)\.\d GPU-s", once)
    expect(found, once)
    share, borrowed, waited = (float(found.group(i)) for i in (2, 3, 4))
    expect(45 <= share <= 55 and abs(share - borrowed - 30) < 0.11 and 4 <= waited <= 6, once)
    expect(re.fullmatch(r"#{7}\|\+{3,5}\.+", found.group(1)), found.group(1))
    part = re.search(rf"^{name_of('b')}\n((?: .*\n)+)", once, re.M).group(1)  # others may have slices too
    expect("GPU time" not in part, f"nobody counts it: {part}")


@case
def top_shows_at_most_the_whole_device(machine):
    """Charges come in when submissions end: a short interval may get more than it is long."""
    start(machine, "a", "--cores", "30", "--cores-max", "100")
    begin, child = time.monotonic(), None
    while time.monotonic() < begin + 20 and (child is None or child.poll() is None):
        busy = int((time.monotonic() - begin) * 2e9) + 1_000_000_000_000
        write_counters(name_of("a"), 1, busy, 10, 0, (0, 0, 0))
        child = child or machine.start("top", "--once", "--interval", "1")
        time.sleep(0.002)
    once = child.communicate(timeout=20)[0]
    expect("] 100.0% of 30-100%, 70.0% borrowed, " in once, once)


@case
def state_of_another_version_is_told_once(machine):
    start(machine, "a", "--cores", "40")
    start(machine, "b", "--cores", "60")
    path = file_of(name_of("a"), "rw/state")
    with open(path, "r+b") as state:
        state.seek(4)
        ours = struct.unpack("<I", state.read(4))[0]
        state.seek(4)
        state.write(struct.pack("<I", ours - 1))
    for words in (("ps",), ("top", "--once", "--interval", "0.2")):
        done = machine.run(*words)
        equal(done.returncode, 0, str(words))
        told = [line for line in done.stderr.splitlines() if path in line]  # others may have slices too
        equal(told, [f"tranche: {path} is of another version of tranche: layout {ours - 1}, this one reads {ours}"],
              str(words))
        expect(name_of("b") in done.stdout and name_of("a") not in done.stdout, done.stdout)


@case
def end_line_of_time_is_for_armed_slices(machine):
    for options, has in (((), False), (("--cores", "50"), True), (("--cores", "50", "--quiet"), False)):
        done = machine.run("run", *options, "--", machine.tenant, "64")
        equal(bool(re.search(r"on device 0: GPU \d+\.\d s, waited \d+\.\d s$", done.stderr, re.M)), has, done.stderr)


def bypass_of(machine, name):
    gpu = slices(machine)[name]["devices"][0]["gpu"]
    return gpu["on_bypass"], gpu["bypass_seen"], gpu["gamma"]


def wait_bypass(machine, name, truth, what):
    begin = time.monotonic()
    while not truth(bypass_of(machine, name)):
        expect(time.monotonic() < begin + 25, f"{what}: {bypass_of(machine, name)}")
        time.sleep(0.2)


@case
def work_around_the_library_is_told_and_by_policy_lowered(machine):
    """Every other launch goes by the driver's own symbol table: the GPU works twice what is charged."""
    name = name_of("a")
    child = machine.start("run", "--name", name, "--cores", "100", "--", f"{machine.build}/bin/cli.spinner", "5000",
                          "90", "around")
    wait_for(machine, name)
    wait_bypass(machine, name, lambda seen: seen[1] >= 2, "seen")
    mode, _, gamma = bypass_of(machine, name)
    expect(mode == "tell" and gamma <= 1.3, f"only told: {mode}, gamma {gamma}")
    expect("uncounted work seen" in machine.run("top", "--once", "--interval", "0.1").stdout, "top tells")
    done = machine.run("set", name, "--on-bypass", "lower")
    expect(done.returncode == 0 and "on bypass tell -> lower" in done.stdout, done.stdout + done.stderr)
    wait_bypass(machine, name, lambda seen: seen[0] == "lower" and 1.6 <= seen[2] <= 2.6, "lowered")
    child.terminate()
    told = child.communicate(timeout=20)[1]
    expect(re.search(rf"^tranche: slice {name} on device 0: the GPU worked for it uncounted, seen \d+ times: ", told,
                     re.M), told)


@case
def on_bypass_reaches_the_page(machine):
    start(machine, "a", "--cores", "40", "--on-bypass", "lower")
    equal(bypass_of(machine, name_of("a")), ("lower", 0, 1.0))
    equal(machine.run("set", name_of("a"), "--on-bypass=tell").returncode, 0)
    equal(bypass_of(machine, name_of("a"))[0], "tell")
    start(machine, "b", "--mem", "1Gi")
    for words, says in ((("run", "--cores", "40", "--on-bypass", "kill", "--", "true"), '"kill"'),
                        (("run", "--on-bypass", "lower", "--", "true"), "--cores 100"),
                        (("set", name_of("a"), "--on-bypass", "x"), '"x"'),
                        (("set", name_of("b"), "--on-bypass", "lower"), "tranche run --cores")):
        done = machine.run(*words)
        equal((done.returncode, done.stdout), (2, ""), f"{words}: {done.stderr}")
        expect(says in done.stderr, f"{words}: {done.stderr!r} does not say {says!r}")


@case
def help_of_a_share(machine):
    for command in ("run", "set"):
        told = machine.run(command, "--help").stdout
        for option in ("--cores PERCENT", "--cores-max PERCENT", "--priority high|normal|low",
                       "--on-bypass tell|lower"):
            expect(option in told, f"{command}: {option}")
    page = machine.run("manual").stdout
    for option in ("cores", "cores\\-max", "priority"):
        expect(f"\\-\\-{option} " in page.replace("cores-max", "cores\\-max"), option)


def look_at_gpu(machine):
    """When, and for how long the first device was busy until then, by the simulator's own books, in ns."""
    told = subprocess.run([f"{machine.sim}/sim-ctl", "busy", "--json"], env=machine.env, capture_output=True,
                          text=True, check=True)
    told = json.loads(told.stdout)
    return told["now_ns"], told["devices"][0]["busy_ns"]


def busy_share(machine, seconds):
    """The part of SECONDS in which the first device was busy, in percent."""
    begin, was = look_at_gpu(machine)
    time.sleep(seconds)
    end, now = look_at_gpu(machine)
    return 100 * (now - was) / (end - begin)


def counted(machine, name):
    """GPU time of slice, device and process, with what the GPU had done before and after they were read."""
    _, before = look_at_gpu(machine)
    one = slices(machine)[name]
    _, after = look_at_gpu(machine)
    return before, [part["gpu"]["gpu_ns"] for part in (one, one["devices"][0], one["processes"][0])], after


@case
def F20_counters_are_what_the_gpu_worked(machine):
    """F20: what ps and the end of run say, against the simulator's own books; with a limit and without one."""
    worked = 0
    for cores in ("100", "40"):
        name = name_of(f"c{cores}")
        child = machine.start("run", "--name", name, "--cores", cores, "--", f"{machine.build}/bin/cli.spinner", "5000",
                              "0")
        wait_for(machine, name)
        time.sleep(1.5)
        first = counted(machine, name)
        time.sleep(2.5)
        last = counted(machine, name)
        low, high = last[0] - first[2], last[2] - first[0]  # a run that is not measured yet is 20 ms at most
        for part, was, now in zip(("slice", "device", "process"), first[1], last[1]):
            expect(0.96 * low - 40e6 < now - was < 1.04 * high + 40e6,
                   f"{part} of {cores} %: {(now - was) / 1e9} s counted, {low / 1e9} to {high / 1e9} worked")
        child.terminate()
        told = child.communicate(timeout=30)[1]
        was, (_, worked) = worked, look_at_gpu(machine)
        end = re.search(r"GPU (\d+\.\d) s, waited", told)
        expect(end and abs(float(end.group(1)) - (worked - was) / 1e9) < 0.1 + 0.04 * (worked - was) / 1e9,
               f"{told}, {(worked - was) / 1e9} s worked")


@case
def cores_hold_on_a_real_clock(machine):
    """Coarse, as other work on this machine delays launches; the matrix is exact on a virtual clock."""
    child = machine.start("run", "--name", name_of("a"), "--cores", "30", "--", f"{machine.build}/bin/cli.spinner",
                          "5000", "30")
    wait_for(machine, name_of("a"))
    time.sleep(2)
    before = busy_share(machine, 3)
    expect(15 < before < 36, f"{before} % of 30")
    equal(machine.run("set", name_of("a"), "--cores", "70").returncode, 0)
    time.sleep(0.5)
    after = busy_share(machine, 3)
    expect(before + 15 < after < 76, f"{before} % of 30, then {after} % of 70")
    gpu = slices(machine)[name_of("a")]["devices"][0]["gpu"]
    expect(gpu["launches"] > 100 and gpu["gate_waits"] > 0 and gpu["throttled_ns"] > 10**9, gpu)
    child.terminate()
    told = child.communicate(timeout=20)[1]
    end = re.search(r"GPU (\d+\.\d) s, waited (\d+\.\d) s$", told, re.M)
    expect(end and float(end.group(1)) > 1 and float(end.group(2)) > 1, told)


def state_of(pid):
    """As /proc has it; "-": no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "-"


def program_of(run):
    """The pid of the program that RUN has started."""
    with open(f"/proc/{run.pid}/task/{run.pid}/children", encoding="ascii") as children:
        return next(pid for pid in map(int, children.read().split())
                    if open(f"/proc/{pid}/comm", encoding="ascii").read().strip() == "cli.tenant")


def wait_state(pid, states, what):
    until = time.monotonic() + 10
    while state_of(pid) not in states:
        expect(time.monotonic() < until, f"{what}: state {state_of(pid)}")
        time.sleep(0.005)


@case
def run_wakes_with_its_program(machine):
    for i, stop in enumerate((signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)):
        # As a shell's job, with a group of its own: one that has no shell does not stop by job control.
        child = start(machine, f"w{i}", preexec_fn=os.setpgrp)  # noqa: F405
        program = program_of(child)
        os.kill(program, stop)
        wait_state(program, "T", stop.name)
        if stop == signal.SIGSTOP:
            time.sleep(0.3)
            equal(state_of(child.pid), "S", "a stop from elsewhere is the program's alone")
        else:
            wait_state(child.pid, "T", f"{stop.name}: run stops with it")
        os.kill(program, signal.SIGCONT)
        wait_state(child.pid, "SR", f"{stop.name}: run wakes with it")
        child.stdin.close()
        equal(child.wait(20), 0, stop.name)
    # Killed while both are stopped: run ends by the same signal.
    child = start(machine, "k", preexec_fn=os.setpgrp)  # noqa: F405
    program = program_of(child)
    os.kill(child.pid, signal.SIGTSTP)
    wait_state(child.pid, "T", "asked to stop")
    os.kill(program, signal.SIGKILL)
    equal(child.wait(20), -signal.SIGKILL, "killed")
