#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Agent, kubelet and containerd end and start at random moments while pods come and go: no container with another's
slice, no slice lost, nothing left.

usage: soak.py BUILD_DIR CASE     exit status 77: cannot run here, and why
       soak.py --list             names of the cases
environment: KILLS (of the agent, 10; kubelet and containerd a tenth of it each), SEED (1), SOAK_LIMIT (seconds after which
             no more are ended), SOAK_LOGS (a folder that gets the logs of all programs)
"""
import collections
import http.client
import os
import random
import re
import shutil
import signal
import sys
import time

from churn import Churn
from cluster import ApiError, case, equal, expect, in_folder, main, wait_for
from sliced import Sliced, container, delete_all, gpu_pod

BOOT_ID = "/proc/sys/kernel/random/boot_id"
SAY = ["sh", "-c", "tenant; exec sleep 3000"]
MAX_GROWTH_KIB = 1024
GPUS = {"gpus": "gpus=2xh100", "settings": {"split_count": 100}}


# ---- what stays when all are gone

def leavings(cluster):
    """What is there of slices, by name; {} when there is nothing."""
    series = {"series of " + name: list(cluster.metrics(name)) for name in ("hami_vgpu_memory_limit_bytes",
                                                                            "tranche_container_gpu_seconds_total")}
    told = {"folders": cluster.run("ls", "-A", "/run/tranche/node/slices").stdout.split(),
            "records": cluster.run("ls", "-A", "/var/lib/tranche/records").stdout.split(),
            "CDI": cluster.cdi_devices(), "mounts": mounts(cluster), **series}
    return {what: names for what, names in told.items() if names}


def mounts(cluster):
    lines = cluster.run("cat", "/proc/1/mountinfo").stdout.splitlines()
    return [line for line in lines if "tranche/node/slices" in line]


def nothing_stays(cluster):
    wait_for(lambda: not leavings(cluster), 150, lambda: f"slices to go: {leavings(cluster)}\n{cluster.log('tranched', 30)}")


def cost(cluster):
    """(open files, KiB of anonymous memory) of the agent."""
    return int(cluster.metric("process_open_fds")), int(cluster.metric("tranche_agent_anonymous_memory_bytes")) >> 10


def calm_costs_nothing(cluster, rounds):
    """One life of the agent with many pods: what it holds after the first of them and after the last."""
    costs = []
    for i in range(rounds):
        names = [f"calm{i}-{n}" for n in range(6)]
        for n, name in enumerate(names):
            cluster.apply(gpu_pod(name, container("a", 1000 + n, 0, SAY), container("b", 1100 + n, 0, SAY)))
        for name in names:
            cluster.wait_pod(name, seconds=120)
        delete_all(cluster, names)
        nothing_stays(cluster)
        costs.append(cost(cluster))
    (files, memory), (files_now, memory_now) = costs[0], costs[-1]
    print(f"the agent after each {len(names)} pods: (files, KiB) {costs}")
    expect(files_now <= files + 2, f"open files: {costs}")  # who asks is one, the kubelet's connections come and go
    expect(memory_now <= memory + MAX_GROWTH_KIB, f"anonymous memory, KiB: {costs}")


# ---- ends

class Ends:
    """Services that are ended at random moments. RNG decides when and how, so a seed tells them again."""

    def __init__(self, cluster, rng, kills):
        self.cluster, self.rng, self.count = cluster, rng, collections.Counter()
        others = ["kubelet"] * max(1, kills // 10) + ["containerd"] * max(1, kills // 10)
        rng.shuffle(others)
        self.log, self.seen = f"{cluster.state}/logs/tranched.log", 0
        self.others = {int((i + 0.5) * kills / len(others)): name for i, name in enumerate(others)}

    def wait_registered(self, seconds=60):
        """The kubelet refuses pods for good while no agent is registered, so most of them come when one is."""
        def is_registered():
            with open(self.log, encoding="utf-8") as lines:
                lines.seek(self.seen)
                return "event=registered" in lines.read()
        wait_for(is_registered, seconds, lambda: "the agent to register\n" + self.cluster.log("tranched"))

    def one(self, i):
        """The agent, by SIGKILL; with some of them another one, before or after. None of them may matter."""
        other = self.others.get(i)
        first = other and self.rng.random() < 0.5
        if first:
            self.other(other)
        self.cluster.stop("tranched", signal.SIGKILL)
        if self.rng.random() < 0.3:
            time.sleep(self.rng.uniform(0, 1.5))
        self.seen = os.path.getsize(self.log)
        self.cluster.start("tranched")
        self.count["tranched"] += 1
        if other and not first:
            time.sleep(self.rng.uniform(0, 0.5))
            self.other(other)

    def other(self, name):
        how = self.rng.choice([signal.SIGTERM, signal.SIGKILL])
        print(f"{time.strftime('%H:%M:%S')} {name} {how.name}")
        self.cluster.restart(name, how)
        self.count[name] += 1


@case
def kills_lose_nothing(build, state):
    kills, seed = int(os.environ.get("KILLS", "10")), int(os.environ.get("SEED", "1"))
    rng = random.Random(seed)
    with Sliced(state, build, **GPUS) as cluster, Kept(cluster):
        churn, ends, began = Churn(cluster, rng), Ends(cluster, rng, kills), time.monotonic()
        limit = float(os.environ.get("SOAK_LIMIT", "inf"))
        for i in range(kills):
            if time.monotonic() - began > limit:
                break
            if rng.random() < 0.8:
                ends.wait_registered()
                churn.turn()
            time.sleep(min(rng.expovariate(1), 5))
            ends.one(i)
            if i % 10 == 9:
                settle(cluster)
                churn.check_all()
                wait_for(lambda: not churn.stray_slices(), 100, lambda: f"slices of no pod: {churn.stray_slices()}")
                print(f"{time.strftime('%H:%M:%S')} {i + 1} of {kills}: {churn.told()}", flush=True)
        settle(cluster)
        churn.check_all()
        churn.end_all()
        nothing_stays(cluster)
        print(f"seed {seed}, {dict(ends.count)} ends in {time.monotonic() - began:.0f} s: {churn.told()}")
        print("events: " + ", ".join(f"{count} {what}" for what, count in churn.errors().most_common()))
        calm_costs_nothing(cluster, 2 if kills < 100 else 5)
        equal(churn.wrong, [], "what went wrong")
        expect(churn.count["containers"] > kills, f"something was tested: {churn.told()}")


def settle(cluster):
    """Until the agent serves and the kubelet takes pods again."""
    def is_calm():
        try:
            return cluster.http("/readyz") and cluster.offered() and cluster._takes_pods() and cluster._containerd_answers()
        except (AssertionError, ApiError, OSError, http.client.HTTPException):
            return False
    wait_for(is_calm, 90, lambda: "the node to serve\n" + cluster.log("tranched", 20))


class Kept:
    """Logs, and, at an error, where they are."""

    def __init__(self, cluster):
        self.cluster = cluster

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if folder := os.environ.get("SOAK_LOGS"):
            shutil.copytree(f"{self.cluster.state}/logs", folder, dirs_exist_ok=True)


# ---- what waits long, and a node that was off

@case
def a_slow_start_outlives_restarts(build, state):
    """Allocated long before its first start (a slow image, an init container): the waiting slice stays, also beyond
    the minute after which one that nobody wants is removed, over restarts of agent and kubelet."""
    with Sliced(state, build, **GPUS) as cluster, Kept(cluster):
        slow = gpu_pod("slow", container("a", 3000, 30, SAY), container("b", 5000, 60, SAY),
                       initContainers=[container("wait", command=["sleep", "100"])])
        cluster.apply(slow)
        wait_for(lambda: len(cluster.slice_folders()) == 2, 30, "its allocations")
        had = set(cluster.slice_folders())
        for who, how in (("tranched", signal.SIGKILL), ("kubelet", signal.SIGTERM), ("tranched", signal.SIGTERM)):
            cluster.restart(who, how)
            time.sleep(25)
            expect(had <= set(cluster.slice_folders()), lambda who=who: f"after {who}: {had}, now {cluster.slice_folders()}")
        cluster.wait_pod("slow", seconds=90)
        equal([cluster.info("slow", name)[1] for name in "ab"], [3000, 5000], "sizes")
        delete_all(cluster, ["slow"])
        nothing_stays(cluster)


def power_off(cluster):
    """All that runs on the node ends; what lies in memory of the agent's is gone."""
    for name in ("kubelet", "tranched"):
        cluster.stop(name, signal.SIGKILL)
    cluster.run("sh", "-c", "for t in $(ctr -n k8s.io tasks ls -q); do ctr -n k8s.io tasks kill -s SIGKILL $t; done", check=False)
    wait_for(lambda: "RUNNING" not in cluster.run("ctr", "-n", "k8s.io", "tasks", "ls").stdout, 30, "containers to end")
    cluster.stop("containerd", signal.SIGKILL)
    cluster.run("sh", "-c", "rm -rf /run/tranche/node /var/run/cdi/tranche*")


def power_on(cluster):
    ident = cluster.run("cat", "/proc/sys/kernel/random/uuid").stdout
    cluster.write("/run/boot_id", ident)
    cluster.run("mount", "--bind", "/run/boot_id", BOOT_ID)
    for name in ("containerd", "tranched", "kubelet"):
        cluster.start(name)
    settle(cluster)


@case
def a_reboot_loses_nothing(build, state):
    """Pods that come back have their slices; those that were deleted meanwhile leave nothing."""
    with Sliced(state, build, **GPUS) as cluster, Kept(cluster):
        sizes = {"a": 3000, "b": 5000}
        for name in ("back", "gone"):
            cluster.apply(gpu_pod(name, *[container(which, mib, 0, SAY) for which, mib in sizes.items()], restartPolicy="Always"))
        cluster.apply(gpu_pod("once", container("a", 2000, 0, SAY)))
        for name in ("back", "gone", "once"):
            cluster.wait_pod(name)
        wait_for(lambda: len(cluster.records()) == 5, 10, "the records on the disk")
        before = {one["name"]: one["restartCount"] for one in cluster.pod("back")["status"]["containerStatuses"]}
        power_off(cluster)
        cluster.api("DELETE", "/api/v1/namespaces/default/pods/gone", {"gracePeriodSeconds": 0})
        power_on(cluster)

        def is_back():
            now = cluster.pod("back")["status"].get("containerStatuses", [])
            return now and all(one["ready"] and one["restartCount"] > before[one["name"]] for one in now)

        wait_for(is_back, 120, lambda: f"back: {cluster.pod('back')['status']} {cluster.events('back')}")
        equal({name: cluster.info("back", name)[1] for name in sizes}, sizes, "after the reboot")
        for name, mib in sizes.items():
            told = re.findall(r"info \d+ (\d+) 0", cluster.logs("back", name))
            equal([int(one) >> 20 for one in told], [mib], f"what {name} was told as it started")
        wait_for(lambda: len(cluster.slice_folders()) == 2, 150, lambda: f"others to go: {cluster.debug_slices()}")
        cluster.apply(gpu_pod("next", container("a", 4000, 0, SAY)))
        cluster.wait_pod("next")
        equal(cluster.info("next", "a")[1], 4000, "a new pod")
        delete_all(cluster, ["back", "next", "once"])
        nothing_stays(cluster)


if __name__ == "__main__":
    sys.exit(main(in_folder))
