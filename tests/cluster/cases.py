#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tests/cluster promises to other tests: a real cluster, a simulated GPU in its containers, nothing left.

usage: cases.py BUILD_DIR CASE     one claim each; exit status 77: cannot run here, and why
       cases.py --list             names of the cases
"""
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys

import config
import image
import node
from cluster import PLUGIN_RESOURCE as GPU
from cluster import ApiError, Cannot, Cluster, case, equal, expect, in_folder, main, obstacle, pod_of, wait_for

NS_GET_PARENT = 0xB702
SEEN_IMAGE = "tranche.test/seen:1"


# ---- what is there, seen from this machine

FOLDERS = ("/dev", "/etc", "/etc/cdi", "/etc/cni", "/run", "/run/containerd", "/run/netns", "/var/lib", "/var/lib/kubelet",
           "/var/log", "/var/log/pods", "/usr/lib", "/opt", "/sys/class/net")


def here():
    """What a cluster could leave in places that others use too. They come and go: only names that look like ours."""
    def ours(name):
        return any(part in name for part in ("kube", "cni", "containerd", "cdi", "nvidia", "tranche-sim", "node0", "veth"))

    found = {f"{folder}/{name}" for folder in FOLDERS if os.path.isdir(folder) for name in os.listdir(folder) if ours(name)}
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        found |= {"mount " + " ".join(line.split()[3:5]) for line in lines if ours(line)}
    return found


def is_below(pid, space):
    """Is PID in the pid namespace SPACE (a descriptor, so that its number stays its own), or in one made there?"""
    at = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
    try:
        while os.fstat(at).st_ino != os.fstat(space).st_ino:
            above = fcntl.ioctl(at, NS_GET_PARENT)
            os.close(at)
            at = above
        return True
    except PermissionError:
        return False  # above is what we are in, or more
    finally:
        os.close(at)


def processes_of(space):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if is_below(pid, space):
                with open(f"/proc/{pid}/comm", encoding="utf-8") as name:
                    yield f"{name.read().strip()} ({pid})"
        except (FileNotFoundError, PermissionError):
            pass  # gone, or a zombie, or with more rights than this process and all that it started


def pid_space_of(cluster):
    return os.open(f"/proc/{cluster.running()['node']}/ns/pid", os.O_RDONLY)


def left_of(cluster, space, before):
    """What is there of a cluster that has ended, whose pid namespace was SPACE."""
    left = sorted(here() - before) + list(processes_of(space))
    left += [f"{root}/{cluster.cgroup}" for root in node.cgroup_roots() if os.path.exists(f"{root}/{cluster.cgroup}")]
    for table in ("/proc/self/mountinfo", "/proc/net/unix"):
        with open(table, encoding="utf-8") as lines:
            left += [line.strip() for line in lines if cluster.state in line or cluster.cgroup in line]
    return left + ([cluster.state] if os.path.exists(cluster.state) else [])


# ---- the cases

def restart_all(cluster, how):
    pod = cluster.pod("sleeper")["status"]["containerStatuses"][0]
    cluster.restart("containerd", how)
    cluster.restart("kubelet", how)
    cluster.apply(pod_of(f"after-{how.name.lower()}", {"name": "a", "command": ["sleep", "600"]}))
    cluster.wait_pod(f"after-{how.name.lower()}")
    now = cluster.pod("sleeper")["status"]["containerStatuses"][0]
    equal((now["containerID"], now["restartCount"]), (pod["containerID"], 0), "the container after restarts")
    equal(cluster.exec("sleeper", "cat", "/proc/1/comm").stdout, "sleep\n", "exec after restarts")


@case
def pods_outlive_restarts_and_nothing_is_left(build, state):
    before = here()
    cluster = Cluster(state, build, gpus=())
    with cluster:
        space = pid_space_of(cluster)
        cluster.apply(pod_of("sleeper", {"name": "a", "command": ["sh", "-c", "echo said; exec sleep 600"]}))
        cluster.wait_pod("sleeper")
        equal(cluster.logs("sleeper"), "said\n", "logs")
        equal(cluster.exec("sleeper", "cat", input="in\n").stdout, "in\n", "exec with input")
        expect(cluster.exec("sleeper", "false", check=False).returncode == 1, "exec tells the exit status")
        expect(any("Started container" in one for one in cluster.events("sleeper")), cluster.events("sleeper"))
        for how in (signal.SIGTERM, signal.SIGKILL):
            restart_all(cluster, how)
        expect(cluster.kubectl("get", "nodes", "-o", "name").stdout == "node/node1\n", "kubectl from this machine")
        found = [root for root in node.cgroup_roots() if os.path.isdir(f"{root}/{cluster.cgroup}/kubepods")]
        expect(found, "the pods' control groups are below the cluster's own")
        expect(any(one.startswith("sleep (") for one in processes_of(space)), "containers are looked for where they are")
    equal(left_of(cluster, space, before), [], "left")


@case
def a_binding_carries_annotations(build, state):
    with Cluster(state, build, gpus=()) as cluster:
        pod = pod_of("bound", {"name": "a", "command": ["true"]}, schedulerName="nobody")
        cluster.apply(pod)
        try:
            cluster.bind("bound", {"a": "b"}, uid="0-0-0-0")
        except ApiError as refused:
            equal(refused.status, 409, "a binding for another pod of that name")
        expect("a" not in cluster.pod("bound")["metadata"].get("annotations", {}), "and changes nothing")
        cluster.bind("bound", {"tranche.test/decision": "x;y"}, uid=cluster.pod("bound")["metadata"]["uid"])
        done = cluster.wait_pod("bound", "Succeeded")
        equal(done["metadata"]["annotations"]["tranche.test/decision"], "x;y", "the annotation")


def cdi_file(cluster):
    """What an agent would write: for each GPU its node, and for all of them the libraries of the node's driver."""
    known = "ldconfig -p | grep -oE '/.*/(libcuda|libnvidia-ml).so.1$'"
    listed = cluster.run("sh", "-c", f"readlink -f $({known})").stdout.split()
    nodes = cluster.run("sh", "-c", "ls /dev/nvidia[0-9]*").stdout.split()
    mounts = [{"hostPath": path, "containerPath": path.split(".so.")[0] + ".so.1",
               "options": ["ro", "nosuid", "nodev", "bind"]} for path in listed]
    equal(len(mounts), 2, f"libraries that the node's loader knows: {listed}")
    cluster.write("/etc/cdi/tranche-test.json", json.dumps({
        "cdiVersion": "0.6.0", "kind": GPU,
        "containerEdits": {"deviceNodes": [{"path": "/dev/nvidiactl"}], "mounts": mounts},
        "devices": [{"name": path[len("/dev/nvidia"):], "containerEdits": {"deviceNodes": [{"path": path}]}}
                    for path in nodes]}))
    return [f"{GPU}={path[len('/dev/nvidia'):]}" for path in nodes]


def gpu_container(name, count):
    limits = {"resources": {"limits": {GPU: count}}} if count else {}
    return {"name": name, "image": SEEN_IMAGE, "command": ["sleep", "600"], **limits}


def seen_by(cluster, name):
    """(UUIDs that the driver lists, UUIDs that NVML lists), with an empty environment."""
    lines = cluster.exec("gpus", "env", "-i", "/usr/bin/seen", container=name).stdout.splitlines()
    return tuple(sorted(line.split()[1] for line in lines if line.startswith(f"{kind} GPU-")) for kind in ("cuda", "nvml"))


@case
def simulated_gpus_reach_containers(build, state):
    with Cluster(state, build, gpus=["gpus=4xh100"]) as cluster:
        tar = f"{state}/images/seen.tar"
        image.make(tar, SEEN_IMAGE, packages=["libc6"], busybox=True,
                   copies=[(f"{build}/bin/sim_test_seen", "/usr/bin/seen"), (f"{build}/bin/cli.tenant", "/usr/bin/tenant")])
        cluster.import_image(tar)
        cluster.service("cdi-plugin", "cdi-plugin", GPU, *cdi_file(cluster))
        wait_for(lambda: cluster.api("GET", "/api/v1/nodes/node1")["status"]["allocatable"].get(GPU) == "4", 30,
                 lambda: "the plugin's devices; it says " + cluster.log("cdi-plugin"))
        cluster.apply(pod_of("gpus", gpu_container("one", 1), gpu_container("two", 2), gpu_container("none", 0)))
        cluster.wait_pod("gpus")
        one, two = seen_by(cluster, "one"), seen_by(cluster, "two")
        equal((len(one[0]), len(two[0])), (1, 2), "GPUs of the containers")
        equal((one[0], two[0]), (one[1], two[1]), "the driver and NVML agree")
        expect(not set(one[0]) & set(two[0]), "no GPU is in both")
        equal(cluster.exec("gpus", "seen", container="none").stdout, "cuda missing\nnvml missing\n", "without a GPU")
        uses_memory(cluster, one[0][0])


def uses_memory(cluster, uuid):
    """A client of the driver API holds memory in a container: the machine's books, read from outside, say where."""
    client = subprocess.Popen([*cluster.kubectl_words(), "exec", "-i", "gpus", "-c", "one", "--", "tenant", "-", "256"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        equal(client.stdout.readline(), "ok 256\n", "the client")
        books, info = cluster.sim("live"), cluster.sim("info")
        index = [device["index"] for device in info["devices"] if device["uuid"] == uuid]
        blocks = [(device["device"], device["kinds"]["block"]["bytes"]) for process in books["processes"]
                  for device in process["devices"] if "block" in device["kinds"]]
        equal(blocks, [(index[0], 256 << 20)], "what the machine holds")
    finally:
        client.communicate(timeout=30)


def gpus_of(name, *slices, scheduler="binder"):
    """A pod whose containers c0, c1, ... ask for (MiB, percent) each; None: for nothing."""
    def limits(one):
        return {"nvidia.com/gpu": 1, "nvidia.com/gpumem": one[0], "nvidia.com/gpucores": one[1]}
    return pod_of(name, *[{"name": f"c{i}", "command": ["sleep", "600"], **({"resources": {"limits": limits(one)}} if one else {})}
                          for i, one in enumerate(slices)], schedulerName=scheduler)


def decided(cluster, name, seconds=20):
    wait_for(lambda: cluster.pod(name)["spec"].get("nodeName"), seconds,
             lambda: f"the binding of {name}; the binder says {cluster.log('binder')}")
    return cluster.pod(name)["metadata"]["annotations"]["hami.io/vgpu-devices-allocated"]


@case
def a_client_binds_through_the_real_api_server(build, state):
    def register(mib):
        cards = [{"id": f"GPU-{i}", "index": i, "count": 10, "devmem": mib, "devcore": 100, "type": "NVIDIA T", "health": True}
                 for i in range(2)]
        cluster.api("PATCH", "/api/v1/nodes/node1", {"metadata": {"annotations": {"hami.io/node-nvidia-register": json.dumps(cards)}}},
                    kind="application/merge-patch+json")

    with Cluster(state, build, gpus=()) as cluster:
        cluster.service("binder", f"{build}/bin/binder", "node1", "binder", env={"KUBECONFIG": f"{config.INSIDE}/admin.conf"})
        cluster.apply(gpus_of("first", (600, 30), None, (500, 0)))
        cluster.apply(gpus_of("stranger", (1, 1), scheduler="nobody"))
        register(1000)  # seen by the watch of nodes
        equal(decided(cluster, "first"), "GPU-0,NVIDIA,600,30:;;GPU-1,NVIDIA,500,0:;", "by free memory, in place")
        cluster.apply(gpus_of("large", (700, 0)))
        cluster.apply(gpus_of("cores", (100, 71)))
        equal(decided(cluster, "cores"), "GPU-1,NVIDIA,100,71:;", "by free time")
        cluster.restart("kube-apiserver", signal.SIGKILL)
        wait_for(lambda: cluster._is_ready("/readyz"), 60, "the API server again")
        expect(not cluster.pod("large")["spec"].get("nodeName"), "what does not fit waits")
        cluster.delete_pod("first")
        equal(decided(cluster, "large", 60), "GPU-0,NVIDIA,700,0:;", "and is placed when there is room, after a restart too")
        expect(not cluster.pod("stranger")["spec"].get("nodeName"), "another scheduler's pod is left alone")


@case
def machines_that_cannot_are_told_why(build, state):
    if why := obstacle():
        raise Cannot(why)

    ctl = f"{os.path.dirname(os.path.abspath(__file__))}/ctl.py"

    def says(words, *before):
        told = subprocess.run([*before, sys.executable, ctl, "--state", state, "--build", build, "up"], capture_output=True,
                              text=True, check=False)
        expect(told.returncode == 77 and words in told.stderr and not os.path.exists(state), f"{words}: {told}")

    def changed(script):
        """The command that follows, on a machine that SCRIPT has made another one."""
        return ["unshare", "-m", "sh", "-c", script + '; "$@"; r=$?; [ -z "$!" ] || kill $!; exit $r', "-"]

    kubelet = "/var/lib/kubelet/device-plugins/kubelet.sock"
    says(f"is a node of a cluster already ({kubelet})",
         *changed(f"mount -t tmpfs none /var/lib; mkdir -p {os.path.dirname(kubelet)}; touch {kubelet}"))
    sleep = shutil.which("sleep")
    says("a kubelet runs on this machine (pid ",
         *changed(f"mount -t tmpfs none /mnt; cp {sleep} /mnt/kubelet; {{ /mnt/kubelet 60 & }}; "
                  "until grep -q kubelet /proc/$!/comm; do :; done"))
    says("only root", "unshare", "--user")
    os.makedirs(state)
    with open(f"{state}/somebody's", "w", encoding="utf-8"):
        pass
    try:
        Cluster(state, build).up()
    except Cannot as why:
        expect("is not empty" in str(why), why)
    Cluster(state, build).down()
    equal(os.listdir(state), ["somebody's"], "a folder that is no cluster's")


@case
def a_killed_test_takes_its_cluster_with_it(build, state):
    before, cluster = here(), Cluster(state, build, gpus=["gpus=h100"])
    hear, tell = os.pipe()
    test = os.fork()
    if test == 0:
        try:
            with cluster:
                os.write(tell, b"+")
                signal.pause()
        except Cannot as why:
            os.write(tell, str(why).encode())
        finally:
            os._exit(1)
    os.close(tell)
    heard = os.read(hear, 1000)
    if heard != b"+":
        os.waitpid(test, 0)
        raise Cannot(heard.decode()) if heard else AssertionError("it did not start, see above")
    space = pid_space_of(cluster)
    os.kill(test, signal.SIGKILL)
    os.waitpid(test, 0)
    wait_for(lambda: not cluster.running(), 30, "the keeper's end")
    equal([one for one in left_of(cluster, space, before) if one != state], [], "left but for the files")
    cluster.down()
    equal(left_of(cluster, space, before), [], "left after down")


@case
def a_killed_keeper_takes_all_with_it(build, state):
    before = here()
    cluster = Cluster(state, build, gpus=["gpus=h100"])
    with cluster:
        space = pid_space_of(cluster)
        cluster.apply(pod_of("sleeper", {"name": "a", "command": ["sleep", "600"]}))
        cluster.wait_pod("sleeper")
        os.kill(cluster.running()["keeper"], signal.SIGKILL)
        cluster.keeper.wait(30)
        wait_for(lambda: not list(processes_of(space)), 30, lambda: f"the end of {list(processes_of(space))}")
    equal(left_of(cluster, space, before), [], "left")


if __name__ == "__main__":
    sys.exit(main(in_folder))
