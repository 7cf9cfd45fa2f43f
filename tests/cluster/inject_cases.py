#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the agent writes for containers, tried with a real containerd: driver files, devices, slice, library.

usage: as cases.py
"""
import os
import sys

import image
from cluster import PLUGIN_RESOURCE as GPU
from cluster import Cluster, case, equal, expect, in_folder, main, pod_of, wait_for

IMAGE = "tranche.test/inject:1"
MUSL_IMAGE = "tranche.test/inject-musl:1"
DRIVER, SLICE = "tranche.io/driver=all", "tranche.io/gpu=s1"
CDI, PREFIX, SLICE_DIR = "/var/run/cdi", "/opt/tranche of the node", "/run/tranche/node/slices/s1"


def make_slice(cluster, build, uuid):
    made = "/run/tranche/slice/rw"  # the page says where the state file is, in the container
    cluster.run("mkdir", "-p", made, f"{SLICE_DIR}/ro", f"{SLICE_DIR}/rw")
    cluster.run(f"{build}/bin/mkslice", made, "1Gi", "256Mi", "-", uuid)
    cluster.run("mv", f"{made}/policy", f"{SLICE_DIR}/ro/")
    cluster.run("mv", f"{made}/state", f"{SLICE_DIR}/rw/")
    cluster.run("rm", "-r", os.path.dirname(made))


def both(name, from_image, **more):
    """A container that is given the driver and the slice."""
    return {"name": name, "image": from_image, "command": ["sleep", "600"], "resources": {"limits": {GPU: 2}}, **more}


def quiet(cluster, pod, *argv):
    """What a command of the container says; it has no environment and does not complain (F32)."""
    done = cluster.exec(pod, "env", "-i", *argv)
    equal(done.stderr, "", f"{argv} complains")
    return done.stdout


def prepare(cluster, build, state):
    import_images(cluster, build, state)
    device = cluster.sim("info")["devices"][1]
    make_slice(cluster, build, device["uuid"])
    told = cluster.run(f"{build}/bin/cluster.inject", CDI, PREFIX, f"{build}/lib/libvgpu.so", "s1", SLICE_DIR,
                       str(device["minor"]))
    expect(f" {PREFIX}/libvgpu.so." in told.stdout, told.stdout)
    cluster.service("cdi-plugin", "cdi-plugin", GPU, DRIVER, SLICE)
    wait_for(lambda: cluster.api("GET", "/api/v1/nodes/node1")["status"]["allocatable"].get(GPU) == "2", 30,
             lambda: "the plugin's devices; it says " + cluster.log("cdi-plugin"))
    return device


def import_images(cluster, build, state):
    """One of glibc without a loader's cache, one of nothing but static programs and, where there is one, of musl."""
    tars = [f"{state}/images/{name}.tar" for name in ("inject", "musl")]
    image.make(tars[0], IMAGE, packages=["libc6"], busybox=True,
               copies=[(f"{build}/bin/sim_test_seen", "/usr/bin/seen"), (f"{build}/bin/cli.tenant", "/usr/bin/tenant"),
                       ("/usr/bin/cat", "/usr/bin/glibc-cat")])
    musl = "/usr/lib/x86_64-linux-musl/libc.so"
    has_musl = os.path.exists(musl) and os.path.exists(f"{build}/bin/inject.musl")
    image.make(tars[1], MUSL_IMAGE, busybox=True,
               copies=[(musl, "/lib/ld-musl-x86_64.so.1"), (f"{build}/bin/inject.musl", "/usr/bin/maps")] if has_musl else [
                   (image.BUSYBOX, "/usr/bin/maps")])
    cluster.import_image(*tars)
    return has_musl


@case
def generated_files_start_containers(build, state):
    with Cluster(state, build, gpus=["gpus=2xh100"]) as cluster:
        device = prepare(cluster, build, state)
        user = {"readOnlyRootFilesystem": True, "runAsUser": 1000, "allowPrivilegeEscalation": False}
        cluster.apply(pod_of("held", both("a", IMAGE, securityContext=user)))
        cluster.wait_pod("held")
        seen = quiet(cluster, "held", "/usr/bin/seen").splitlines()
        equal([line.split()[:2] for line in seen if " GPU-" in line],
              [["cuda", device["uuid"]], ["nvml", device["uuid"]]], "the container's GPUs")
        nodes = quiet(cluster, "held", "sh", "-c", "cd /dev; echo nvidia*").split()
        expect("nvidiactl" in nodes and f"nvidia{device['minor']}" in nodes, nodes)
        equal([node for node in nodes if node[6:].isdigit()], [f"nvidia{device['minor']}"], "nodes of GPUs")
        # Held to its slice, also without an environment (F17).
        lines = quiet(cluster, "held", "/usr/bin/tenant", "512", "1024", "128").splitlines()
        equal(lines[:3], ["ok 512", "refused 2 1024", "ok 128"], "a slice of 1 GiB")
        expect("libvgpu.so" in quiet(cluster, "held", "glibc-cat", "/proc/self/maps"), "every program has the library")
        for path in ("/etc/ld.so.preload", "/run/tranche/slice/libvgpu.so", "/run/tranche/slice/ro/policy",
                     "/usr/lib64/libcuda.so.1"):
            expect(cluster.exec("held", "sh", "-c", f"echo x >>{path}", check=False).returncode != 0, f"{path} is written to")
        cluster.delete_pod("held")


@case
def containers_of_another_libc_are_left_alone(build, state):
    with Cluster(state, build, gpus=["gpus=2xh100"]) as cluster:
        prepare(cluster, build, state)
        cluster.apply(pod_of("other", both("a", MUSL_IMAGE)))
        cluster.wait_pod("other")
        expect("libvgpu" not in quiet(cluster, "other", "/usr/bin/maps"), "not preloaded")
        equal(quiet(cluster, "other", "ls", "/run/tranche/slice/ro"), "policy\n", "the slice is there")


@case
def without_its_file_a_container_does_not_start(build, state):
    with Cluster(state, build, gpus=["gpus=2xh100"]) as cluster:
        prepare(cluster, build, state)
        cluster.run("sh", "-c", f"rm {CDI}/tranche-gpu-*.json")
        cluster.apply(pod_of("none", both("a", IMAGE)))
        wait_for(lambda: any(SLICE in one for one in cluster.events("none")), 60,
                 lambda: f"an event that names the device: {cluster.events('none')}")
        expect(cluster.pod("none")["status"]["phase"] == "Pending", "it does not run")


if __name__ == "__main__":
    sys.exit(main(in_folder))
