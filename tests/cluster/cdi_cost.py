#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What CDI files cost containerd: its processor time for a pod of many containers, by how the devices of other containers
lie in files. containerd reads all files of the folder for each container that it makes.

usage: cdi_cost.py BUILD_DIR [--containers N] [--others N] [--rounds N]
"""
import argparse
import json
import os
import sys
import time

from cluster import PLUGIN_RESOURCE as GPU
from cluster import Cannot, Cluster, expect, in_folder, pod_of, wait_for
from inject_cases import CDI, prepare

SHARED = 8  # files, as the agent has them
DRIVER_MOUNTS = 60
WRITE = ("import json, os, sys\nfiles = json.load(sys.stdin)\n"
         "for name in os.listdir({0!r}):\n    name.startswith('tranche-gpu-') and os.unlink('{0}/' + name)\n"
         "for name, text in files.items():\n    open('{0}/' + name, 'w').write(text)").format(CDI)


def spec_of(cluster, name):
    return json.loads(cluster.run("cat", f"{CDI}/{name}").stdout)


def with_driver(device, driver):
    """The device, and what all containers have of the driver in it too."""
    edits = dict(driver["containerEdits"] if "containerEdits" in driver else driver["devices"][0]["containerEdits"])
    mounts = edits.get("mounts", [])
    more = [{**mounts[i % len(mounts)], "containerPath": f"/usr/lib64/more-{i}"} for i in range(DRIVER_MOUNTS - len(mounts))]
    own = device["containerEdits"]
    return {**device, "containerEdits": {**own, "mounts": own["mounts"] + mounts + more}}


def lay(cluster, spec, devices, count):
    """DEVICES in COUNT files."""
    files = {f"tranche-gpu-{i}.json": json.dumps({**spec, "devices": devices[i::count]}) for i in range(min(count, len(devices)))}
    cluster.run(sys.executable, "-c", WRITE, input=json.dumps(files))
    return sum(map(len, files.values()))


def cpu_s(cluster):
    pid = cluster.ask("status")["running"]["containerd"]
    fields = cluster.run("cat", f"/proc/{pid}/stat").stdout.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_pod(cluster, containers):
    """Seconds of containerd's processor time until all of a pod's containers run."""
    before = cpu_s(cluster)
    cluster.apply(pod_of("many", *[{"name": f"c{i}", "command": ["sleep", "600"], "resources": {"limits": {GPU: 1}}}
                                   for i in range(containers)]))
    cluster.wait_pod("many", seconds=300)
    took = cpu_s(cluster) - before
    cluster.delete_pod("many", seconds=120)
    time.sleep(1)
    return took


def measure(build, state, asked):
    with Cluster(state, build, gpus=["gpus=2xh100"]) as cluster:
        prepare(cluster, build, state)
        cluster.stop("cdi-plugin")
        wanted = [f"s{i}" for i in range(asked.containers)]
        cluster.service("cdi-plugin-many", "cdi-plugin", GPU, *[f"tranche.io/gpu={name}" for name in wanted])
        wait_for(lambda: cluster.api("GET", "/api/v1/nodes/node1")["status"]["allocatable"].get(GPU) == str(len(wanted)), 60,
                 lambda: "the plugin's devices; it says " + cluster.log("cdi-plugin-many"))
        names = cluster.run("sh", "-c", f"cd {CDI}; echo tranche-gpu-*.json").stdout.split()
        spec, driver = spec_of(cluster, names[0]), spec_of(cluster, "tranche-driver.json")
        one = spec["devices"][0]
        expect(one["containerEdits"].get("mounts"), f"the slice's mounts: {one}")
        few = [{**one, "name": name} for name in wanted]
        all_of_them = few + [{**one, "name": f"other{i}"} for i in range(asked.others)]
        whole = [with_driver(device, driver) for device in all_of_them]
        for what, devices, count in (("no others", few, SHARED),
                                     (f"{asked.others} others in {SHARED} files", all_of_them, SHARED),
                                     (f"{asked.others} others, a file each", all_of_them, len(all_of_them)),
                                     ("the same, the driver's mounts in each", whole, len(whole))):
            size = lay(cluster, spec, devices, count)
            took = [start_pod(cluster, asked.containers) for _ in range(asked.rounds)]
            print(f"{what:<40} {size >> 10:6} KiB   {' '.join(f'{seconds:6.2f}' for seconds in took)} s", flush=True)


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("build")
    words.add_argument("--containers", type=int, default=20)
    words.add_argument("--others", type=int, default=180)
    words.add_argument("--rounds", type=int, default=2)
    asked = words.parse_args()
    try:
        in_folder(lambda build, state: measure(build, state, asked), asked.build)
    except Cannot as why:
        print(f"skipped: {why}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
