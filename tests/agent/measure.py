#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the agent costs: time to be registered, memory and processor time idle and with slices, latencies of its calls.

usage: measure.py BUILD_DIR [--slices N] [--seconds S] [--check]
       --check: exit status 1 when a number is beyond its bound (not for sanitized builds)
"""
import argparse
import sys
import time

from rig import NODE, Cannot, Node, equal

BOUNDS = {"start to registered, ms": 300, "RssAnon idle, MiB": 8, "RssAnon with slices, MiB": 16,
          "processor with slices, %": 2, "Allocate p99, ms": 5, "PreStartContainer p99, ms": 20}


def median(values):
    return sorted(values)[len(values) // 2]


def p99(values):
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


def start_times(node, times):
    """Milliseconds from exec to a kubelet that has registered us; the simulated NVML's start is in them."""
    out = []
    for _ in range(times):
        agent = node.ready_agent(len(node.gpus_list) * 200)
        out.append((node.kubelet.registered_at - agent.started_at) * 1000)
        agent.stop()
    return out


def fill(node, count):
    """COUNT pods with a container each, every one with another size; allocated together, then started together."""
    uuids = node.uuids()
    free = sorted(node.kubelet.devices)
    rows, all_ids = [], []
    for i in range(count):
        name, uuid = f"p{i:03}", uuids[i % len(uuids)]
        node.api.make_pod(name, [("a", 1)], {"hami.io/vgpu-devices-allocated": f"{uuid},NVIDIA,{200 + i},0:;"})
        all_ids.append([free[i]])
        rows.append({"namespace": "default", "pod": name, "container": "a", "ids": [free[i]]})
    # One at a time, as the kubelet does it.
    allocated = [node.kubelet.call("Allocate", ids)["us"] / 1000 for ids in all_ids]
    node.kubelet.set_rows(rows)
    time.sleep(2)
    started = node.kubelet.replay("PreStartContainer", all_ids)
    equal([granted for _, granted in started], [True] * count, "starts that were granted")
    return allocated, [ms for ms, _ in started]


def cpu_percent(agent, seconds):
    before = agent.cpu_s()
    time.sleep(seconds)
    return (agent.cpu_s() - before) / seconds * 100


def measure(build, slices, seconds):
    found = {}
    with Node(build, gpus="2xh100", split_count=200, log_level="info") as node:
        node.gpus_list = [0, 1]
        found["start to registered, ms"] = median(start_times(node, 5))
        agent = node.ready_agent(400)
        time.sleep(3)
        found["RssAnon idle, MiB"] = agent.rss_anon_kib() / 1024
        found["processor idle, %"] = cpu_percent(agent, seconds)
        allocated, started = fill(node, slices)
        found["Allocate p99, ms"] = p99(allocated)
        found["PreStartContainer p99, ms"] = p99(started)
        time.sleep(3)
        agent.page("/metrics")
        found["RssAnon with slices, MiB"] = agent.rss_anon_kib() / 1024
        found["processor with slices, %"] = cpu_percent(agent, seconds)
        equal(agent.ask(do="status")["slices"], slices, f"slices of {NODE}")
        agent.stop()
        agent = node.ready_agent(400)
        found["start with slices to registered, ms"] = (node.kubelet.registered_at - agent.started_at) * 1000
        time.sleep(3)
        found["RssAnon with slices after a restart, MiB"] = agent.rss_anon_kib() / 1024
    return found


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("build")
    words.add_argument("--slices", type=int, default=200)
    words.add_argument("--seconds", type=float, default=10)
    words.add_argument("--check", action="store_true")
    asked = words.parse_args()
    try:
        found = measure(asked.build, asked.slices, asked.seconds)
    except Cannot as why:
        print(f"skipped: {why}")
        return 77
    beyond = False
    for what, value in found.items():
        bound = BOUNDS.get(what)
        beyond |= bound is not None and value > bound
        print(f"{what:<42} {value:8.2f}{f'   at most {bound}' if bound else ''}")
    return 1 if beyond and asked.check else 0


if __name__ == "__main__":
    sys.exit(main())
