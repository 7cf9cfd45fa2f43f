# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: GPUs in MIG mode, whose instances are given out as whole GPUs."""
import json
import os
import re
import subprocess

from rig import Cannot, Node, case, equal, expect, wait_for

CAPS = "/proc/driver/nvidia/capabilities"


def mount_proc(node):
    """Words that run an agent for which what lies in proc-driver is what the kernel's drivers show."""
    if not os.path.isdir("/proc/driver"):
        raise Cannot("no /proc/driver to put something into")
    return ["unshare", "-m", "sh", "-c", f'mount --bind {node.folder}/proc-driver /proc/driver && exec "$@"', "sh"]


def mount_capabilities(node, minor_of):
    """Words that run an agent where the driver shows capabilities."""
    for (gpu, instance), minor in minor_of.items():
        folder = f"{node.folder}/proc-driver/nvidia/capabilities/gpu{gpu}/mig/gi{instance}"
        os.makedirs(f"{folder}/ci0")
        for path, number in ((f"{folder}/access", minor), (f"{folder}/ci0/access", minor + 1)):
            with open(path, "w", encoding="utf-8") as out:
                out.write(f"DeviceFileMinor: {number}\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
        for number in (minor, minor + 1):
            os.makedirs(f"{node.folder}/driver/dev/nvidia-caps", exist_ok=True)
            os.symlink("/dev/null", f"{node.folder}/driver/dev/nvidia-caps/nvidia-cap{number}")
    return mount_proc(node)


def nodes_of(node, key="path"):
    """{CDI device of a container: its device nodes, without those that all have}"""
    out = {}
    for name in os.listdir(f"{node.folder}/cdi"):
        if re.match(r"tranche-gpu-\d+\.json", name):
            with open(f"{node.folder}/cdi/{name}", encoding="utf-8") as text:
                for device in json.load(text)["devices"]:
                    paths = [one[key] for one in device["containerEdits"]["deviceNodes"]]
                    out[device["name"]] = sorted(path for path in paths if re.search(r"\d$", path))
    return out


def start_with_instances(node):
    """An agent with a GPU and three instances; the places of their cards."""
    subprocess.run([f"{node.libs}/sim-ctl", "device", "1", "mig=3"], check=True, env=node.env)
    # The simulator counts instances as the driver does those of the smallest profile: from 7 on.
    agent = node.agent(before=mount_capabilities(node, {(1, 7): 345, (1, 8): 354}))
    node.kubelet.wait_devices(lambda d: all(d.values()) and sum(name.startswith("MIG-") for name in d) == 3, 20)
    wait_for(lambda: os.path.exists(f"{node.folder}/run/control"), 10, "the control socket")
    wait_for(lambda: agent.ask(do="status")["api"]["watching"], 10, "the watch")
    cards = [card["uuid"] for card in agent.ask(do="status")["cards"]]
    equal([uuid[:4] for uuid in cards], ["GPU-", "MIG-", "MIG-", "MIG-"], "cards")
    return [node.uuids().index(uuid) for uuid in cards]


@case
def an_instance_comes_with_its_nodes(build):
    with Node(build, gpus="2xa100-40") as node:
        place = start_with_instances(node)

        os.unlink(f"{node.folder}/driver/dev/nvidia-caps/nvidia-cap346")
        made = node.place("one", {"a": [(place[1], 1024, 0)]})
        told = node.kubelet.call("PreStartContainer", made["a"]["ids"])
        expect(told["code"] != 0 and "nvidia-cap346" in told["says"] and "nvidia-modprobe" in told["says"],
               f"an instance without its node: {told}")
        os.symlink("/dev/null", f"{node.folder}/driver/dev/nvidia-caps/nvidia-cap346")
        told = node.kubelet.call("PreStartContainer", made["a"]["ids"])
        equal(told["code"], 0, f"the kubelet asks again: {told}")
        equal(list(nodes_of(node).values()), [["/dev/nvidia-caps/nvidia-cap345", "/dev/nvidia-caps/nvidia-cap346",
                                               "/dev/nvidia1"]], f"nodes of one instance ({made['a']['ids']})")
        node.end_pod("one")
        wait_for(lambda: not nodes_of(node), 30, "the end of its nodes")

        node.run_pod("two", {"a": [(place[0], 1024, 0), (place[1], 1024, 0), (place[2], 1024, 0)]})
        equal(list(nodes_of(node).values()), [[f"/dev/nvidia-caps/nvidia-cap{n}" for n in (345, 346, 354, 355)] +
                                              ["/dev/nvidia0", "/dev/nvidia1"]], "nodes of a GPU and two instances")

        made = node.place("three", {"a": [(place[3], 1024, 0)]})
        told = node.kubelet.call("PreStartContainer", made["a"]["ids"])
        expect(told["code"] != 0 and f"{CAPS}/gpu1/mig/gi9/access" in told["says"], f"an instance that the driver hides: {told}")


@case
def an_instance_where_the_driver_is_seen_elsewhere(build):
    """An agent in a container: the host's folders under another name, which a runtime does not know."""
    with Node(build, gpus="2xa100-40") as node:
        node.configure(driver_root="/run/host/driver", driver_root_seen=f"{node.folder}/driver")
        place = start_with_instances(node)
        node.run_pod("one", {"a": [(place[1], 1024, 0)]})
        equal(list(nodes_of(node, "hostPath").values()),
              [[f"/run/host/driver/dev/{name}" for name in ("nvidia-caps/nvidia-cap345", "nvidia-caps/nvidia-cap346",
                                                            "nvidia1")]], "nodes on the host of one instance")
