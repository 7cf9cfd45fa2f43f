# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: while somebody sets the node's clock (wallclock.c, preloaded into the agent)."""
import contextlib
import re
import signal
import struct
import subprocess
import time

from rig import NODE, Node, case, equal, expect, wait_for

HOUR = 3600
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{NODE}"


class Clock:
    """The time of day as the agents of NODE see it, seconds beside ours."""

    def __init__(self, node):
        self.path, self.offset = f"{node.folder}/clock", 0
        self.step(0)
        node.env |= {"LD_PRELOAD": f"{node.build}/bin/wallclock.so", "WALL_CLOCK_OFFSET": self.path}

    def step(self, seconds):
        self.offset += seconds
        with open(self.path, "r+b" if self.offset or seconds else "wb", buffering=0) as out:
            out.write(struct.pack("q", self.offset * 10**9))

    def is_near(self, text):
        """Whether TEXT, a time as in a Lease or in the log, is now."""
        then = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", text)
        return abs(seconds_of(then[1]) - time.time() - self.offset) < 20


def seconds_of(text):
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")) - time.timezone


@contextlib.contextmanager
def clock_node(build, **settings):
    with Node(build, lease_seconds=10, recover_seconds=2, **settings) as node:
        yield node, Clock(node)


def renewed(node):
    lease = node.api.ask("GET", LEASE)
    return lease["spec"]["renewTime"] if lease else None


def wait_renewals(node, clock, count=2):
    """The lease goes on by the agent's clock."""
    for _ in range(count):
        before = renewed(node)
        told = wait_for(lambda before=before: (now := renewed(node)) != before and now, 8, "another renewal")
    expect(clock.is_near(told), f"renewed at {told}, the agent's clock is {clock.offset} s beside ours")


def slices_of(agent):
    """What containers have, without what moves."""
    return sorted([row["pod"], row["container"], row["name"], row["made_unix_seconds"],
                   [(d["uuid"], d["memory_limit_bytes"]) for d in row["devices"]]] for row in agent.ask(do="slices")["slices"])


def complaints(agent):
    """Of the log, but for what this machine lacks: a folder of the driver's, a mount of its own."""
    return [line for line in agent.text().splitlines() if re.search("level=(warn|error)", line)
            and "run_dir_lets_devices" not in line and "open /proc/driver/nvidia/gpus" not in line]


@case
def the_clock_is_set_while_pods_run(build):
    with clock_node(build) as (node, clock):
        agent = node.ready_agent()
        made = node.run_pod("p", {"a": [(0, 4096, 30)], "b": [(1, 2048, 0)]})
        wait_renewals(node, clock, 1)
        before = slices_of(agent)
        for turn, hours in enumerate((6, -12, 6, 24 * 365, -24 * 365 * 2)):
            clock.step(hours * HOUR)
            wait_renewals(node, clock)
            equal(slices_of(agent), before, f"slices after {hours} hours")
            expect(all(node.kubelet.devices.values()) and len(node.kubelet.devices) == 20, "all GPUs stay healthy")
            equal(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"], 0, "who runs starts again")
            node.run_pod(f"q{turn}", {"c": [(0, 1024, 0)]})
            node.end_pod(f"q{turn}")
            wait_for(lambda: agent.ask(do="status")["slices"] == 2, 20, "the end of a pod's slice")
            equal(agent.page("/readyz")[0], 200, "ready")
        expect(clock.is_near(agent.text().splitlines()[-1].removeprefix("ts=")), "the log has the agent's time")
        equal(complaints(agent), [], "complaints")


@case
def the_agent_restarts_across_a_step_of_the_clock(build):
    with clock_node(build) as (node, clock):
        agent = node.ready_agent()
        made = node.run_pod("p", {"a": [(0, 4096, 30)], "b": [(1, 2048, 0)]})
        before = slices_of(agent)
        for turn, (how, hours) in enumerate(((signal.SIGKILL, -6), (signal.SIGTERM, 12), (signal.SIGKILL, -12))):
            agent.stop(how)
            clock.step(hours * HOUR)
            agent = node.ready_agent()
            equal(slices_of(agent), before, f"slices after {hours} hours")
            equal(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"], 0, "who ran starts again")
            # The order in which containers were allocated decides who gets which of a pod's parts.
            fresh = node.run_pod(f"q{turn}", {"c": [(0, 1024, 0)], "d": [(0, 3072, 0)]})
            rows = {row["container"]: row["devices"][0]["memory_limit_bytes"] >> 20
                    for row in agent.ask(do="slices")["slices"] if row["pod"] == f"q{turn}"}
            equal(rows, {"c": 1024, "d": 3072}, f"of {fresh.keys()}")
            node.end_pod(f"q{turn}")
            wait_for(lambda: agent.ask(do="status")["slices"] == 2, 20, "the end of a pod's slice")
            wait_renewals(node, clock, 1)
            equal(complaints(agent), [], "complaints")


@case
def the_kubelet_comes_back_after_the_clock_was_set_back(build):
    """Whatever waits for a time waits by a clock that nobody sets."""
    with clock_node(build) as (node, clock):
        node.ready_agent()
        made = node.run_pod("p", {"a": [(0, 4096, 30)]})
        node.kubelet.tell(do="leave")
        time.sleep(2)
        clock.step(-6 * HOUR)
        time.sleep(2)
        node.kubelet.tell(do="come")
        wait_for(lambda: len(node.kubelet.registrations) == 2, 10, "the registration")
        node.kubelet.wait_devices(lambda d: len(d) == 20, 10)
        equal(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"], 0, "who runs starts again")
        node.run_pod("q", {"a": [(0, 1024, 0)]})


@case
def a_gpu_recovers_after_the_clock_was_set_back(build):
    with clock_node(build) as (node, clock):
        node.ready_agent()

        def answer(code):
            subprocess.run([f"{node.libs}/sim-ctl", "device", "1", f"answer={code}"], check=True, env=node.env)

        answer(15)
        node.kubelet.wait_devices(lambda d: sum(d.values()) == 10, 20, "one sick GPU")
        clock.step(-6 * HOUR)
        answer(0)
        node.kubelet.wait_devices(lambda d: all(d.values()), 20, "healthy again")


@case
def hamis_lock_is_released_though_clocks_differ(build):
    """The scheduler says when it bound the pod, by its clock."""
    with clock_node(build) as (node, clock):
        clock.step(-6 * HOUR)
        node.ready_agent()
        for name in ("p", "q"):
            now = int(time.time())
            node.api.ask("PATCH", f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {
                "hami.io/mutex.lock": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)) + f",default,{name}"}}})
            decision = f"{node.uuids()[0]},NVIDIA,1024,10:;"
            node.run_pod(name, {"a": [(0, 1024, 10)]}, annotations={
                "hami.io/vgpu-devices-allocated": decision, "hami.io/vgpu-devices-to-allocate": decision,
                "hami.io/bind-phase": "allocating", "hami.io/bind-time": str(now), "hami.io/vgpu-node": NODE})
            wait_for(lambda: "hami.io/mutex.lock" not in node.api.node_annotations(), 8, "the lock's end")
            clock.step(12 * HOUR)
