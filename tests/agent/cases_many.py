# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: on a node with as many GPUs as there can be."""
import json
import os
import re
import signal
import subprocess

from rig import Node, case, equal, expect, wait_for

GPUS, SPLIT = 64, 10
MOST = 16  # GPUs of one container: devices of a policy page


@case
def a_node_with_64_gpus(build):
    with Node(build, gpus=f"{GPUS}xt4", recover_seconds=5) as node:
        agent = node.ready_agent(GPUS * SPLIT)
        took = node.kubelet.registered_at - agent.started_at
        print(f"start to registered: {took * 1000:.0f} ms; {agent.rss_anon_kib()} KiB of anonymous memory")
        cards = agent.ask(do="status")["cards"]
        uuids = [card["uuid"] for card in cards]
        equal(len(set(uuids)), GPUS, "GPUs of the status")
        all_are_registered(node, uuids)
        the_last_is_armed(node, agent, uuids)
        all_are_measured(agent, uuids)
        agent.stop(signal.SIGKILL)
        agent = node.ready_agent(GPUS * SPLIT)
        equal(agent.ask(do="status")["slices"], 2, "slices after a restart")
        one_falls_ill(node, uuids)


def all_are_registered(node, uuids):
    text = wait_for(lambda: node.api.node_annotations().get("hami.io/node-nvidia-register"), 10, "the register")
    rows = json.loads(text)
    print(f"register annotation: {len(text)} bytes")
    equal(sorted(row["id"] for row in rows), sorted(uuids), "GPUs of the register")
    equal({row["count"] for row in rows}, {SPLIT}, "their split")
    expect(len(text) < 64 << 10, f"an object's annotations have 256 KiB in all; this one takes {len(text)}")


@case
def pair_scores_of_64_gpus(build):
    """Twelve links of each go to switches: as many between any two. Which processor they are at makes the difference."""
    with Node(build, gpus=f"{GPUS}xa100-80", topology_scores=True) as node:
        agent = node.ready_agent(GPUS * SPLIT)
        cards = agent.ask(do="status")["cards"]
        text = wait_for(lambda: node.api.node_annotations().get("hami.io/node-nvidia-score"), 20,
                        lambda: f"the pair scores; the log says {agent.text()[-2000:]}")
        numa = {row["id"]: row.get("numa", 0) for row in json.loads(node.api.node_annotations()["hami.io/node-nvidia-register"])}
        equal(len(set(numa.values())), 2, "processors")
        uuids = [card["uuid"] for card in cards]
        want = [{"uuid": a, "score": {b: 12 * 100 + (20 if numa[a] == numa[b] else 10) for b in uuids if b != a}}
                for a in uuids]
        equal(json.loads(text), want, "scores")
        # The server takes 256 KiB of an object, and else refuses all that was to be written.
        size = sum(len(name) + len(value) for name, value in node.api.node_annotations().items())
        print(f"pair scores: {len(text)} bytes; all annotations: {size} bytes; {agent.rss_anon_kib()} KiB of anonymous memory")


def the_last_is_armed(node, agent, uuids):
    place = {uuid: i for i, uuid in enumerate(node.uuids())}
    node.run_pod("last", {"a": [(place[uuids[-1]], 4096, 30)]})
    node.run_pod("most", {"a": [(place[uuid], 1024, 0) for uuid in uuids[:MOST]]})
    given = [card["given_bytes"] >> 20 for card in agent.ask(do="status")["cards"]]
    equal(given, [1024] * MOST + [0] * (GPUS - MOST - 1) + [4096], "MiB given")
    minors = set()
    for name in os.listdir(f"{node.folder}/cdi"):
        with open(f"{node.folder}/cdi/{name}", encoding="utf-8") as text:
            minors |= {int(minor) for minor in re.findall(r'/dev/nvidia(\d+)"', text.read())}
    equal(minors, {*range(MOST), GPUS - 1}, "device nodes of containers")
    ids = [name for name in sorted(node.kubelet.devices) if name.startswith(uuids[20])]
    ids += [name for name in sorted(node.kubelet.devices) if name.startswith(uuids[21])]
    refused = node.kubelet.call("Allocate", ids[:MOST + 1])
    expect(refused["code"] != 0 and str(MOST) in refused["says"], f"more than a container can have: {refused}")


def all_are_measured(agent, uuids):
    def healthy():
        return dict(re.findall(r'^tranche_device_healthy\{[^}]*device_uuid="([^"]+)"[^}]*\} (\d)', agent.page("/metrics")[1], re.M))

    equal(healthy(), {uuid: "1" for uuid in uuids}, "GPUs of the metrics")
    page = wait_for(lambda: measured(agent), 10, "the temperature of each")
    print(f"metrics: {len(page)} bytes")


def measured(agent):
    page = agent.page("/metrics")[1]
    return page if page.count("\ntranche_device_temperature_celsius{") == GPUS else None


def one_falls_ill(node, uuids):
    def sick(devices):
        return {name.rsplit("-", 1)[0] for name, good in devices.items() if not good}

    def device(*settings):
        subprocess.run([f"{node.libs}/sim-ctl", "device", str(GPUS - 2), *settings], check=True, env=node.env)

    device("answer=15")
    node.kubelet.wait_devices(lambda d: sick(d) == {uuids[GPUS - 2]}, 30, "one sick GPU")
    equal(len(node.kubelet.devices), GPUS * SPLIT, "its ids stay known")
    device("answer=0")
    node.kubelet.wait_devices(lambda d: not sick(d), 90, "all healthy again")
