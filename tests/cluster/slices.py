#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Slices on a real kubelet and containerd, with the simulated GPU: what the node agent promises.

usage: slices.py BUILD_DIR CASE     one claim each; exit status 77: cannot run here, and why
       slices.py --list             names of the cases
"""
import json
import os
import signal
import sys
import time

from cluster import case, equal, expect, in_folder, main, wait_for
from sliced import DECISION, RESOURCE, Sliced, container, delete_all, gpu_pod


def spin(cluster, pod, name):
    """A program that wants all of the GPU, started as `kubectl exec` does with an empty environment."""
    cluster.exec(pod, "env", "-i", "/bin/sh", "-c", "/usr/bin/spinner 1000 0 >/dev/null 2>&1 & echo $!", container=name)


def shares(cluster, wanted, seconds):
    """Percent of the GPU that each of the containers {(pod, name)} has in SECONDS, by the machine's books."""
    pids = {which: set(cluster.container_pids(*which)) for which in wanted}
    before_ns, before = cluster.busy()
    time.sleep(seconds)
    now_ns, now = cluster.busy()
    return {which: 100 * sum(now.get(pid, 0) - before.get(pid, 0) for pid in mine) / (now_ns - before_ns)
            for which, mine in pids.items()}


@case
def F17_each_container_is_held_to_its_own(build, state):
    """Memory and time of two containers of one pod, of programs without an environment; and the metrics of both."""
    with Sliced(state, build) as cluster:
        cluster.apply(gpu_pod("p", container("a", 3000, 30), container("b", 5000, 60), container("none")))
        cluster.wait_pod("p")
        for name, mib in (("a", 3000), ("b", 5000)):
            free, total = cluster.info("p", name)
            equal(total, mib, f"memory of {name}")
            expect(total - 1000 < free < total, f"free of {name}: {free}")
            told = cluster.exec("p", "env", "-i", "/usr/bin/tenant", str(mib - 1000), "1000", container=name).stdout
            expect(told.startswith(f"ok {mib - 1000}\nrefused 2 1000\n"), f"{name}: {told!r}")
        equal(cluster.exec("p", "seen", container="none").stdout, "cuda missing\nnvml missing\n", "without a slice")
        told = cluster.exec("p", "sh", "-c", "echo 1 >/run/tranche/slice/ro/policy; rm -f /run/tranche/slice/ro/policy /etc/ld.so.preload; "
                            "mv /run/tranche/slice/libvgpu.so /x; ls -l /run/tranche/slice/ro", container="a", check=False)
        expect("policy" in told.stdout and told.stderr.count("Read-only") + told.stderr.count("busy") >= 3, f"{told}")
        metrics_follow(cluster)


def metrics_follow(cluster):
    """Both spin for a while: shares by the machine's books, GPU seconds of the metrics the same."""
    for name in "ab":
        spin(cluster, "p", name)
    time.sleep(6)

    def gpu_seconds():
        return {name: cluster.metric("tranche_container_gpu_seconds_total", pod="p", container=name) for name in "ab"}

    began, told = time.monotonic(), gpu_seconds()
    got = shares(cluster, [("p", "a"), ("p", "b")], 15)
    seconds, after = time.monotonic() - began, gpu_seconds()
    for name, percent in (("a", 30), ("b", 60)):
        expect(abs(got["p", name] - percent) < 5, f"shares: {got}")
        counted = 100 * (after[name] - told[name]) / seconds
        expect(abs(counted - got["p", name]) < 5, f"{name} had {got['p', name]:.1f} %, the metrics say {counted:.1f} %")
        limit = cluster.metric("hami_vgpu_memory_limit_bytes", pod="p", container=name)
        equal(limit, {"a": 3000, "b": 5000}[name] * 2**20, f"the limit of {name}")
        used = cluster.metric("hami_vgpu_memory_used_bytes", pod="p", container=name)
        expect(0 < used < limit, f"{name} uses {used}")
        equal(cluster.metric("tranche_container_allocations_refused_total", pod="p", container=name), 1, f"refusals of {name}")


@case
def every_kind_of_container_has_its_own_size(build, state):
    """An init container, a sidecar and apps share the kubelet's ids, and not their sizes."""
    with Sliced(state, build) as cluster:
        told = "/usr/bin/tenant >/out/$0; "
        disk = {"volumeMounts": [{"name": "out", "mountPath": "/out"}]}
        pod = gpu_pod("kinds", container("app", 3000, 30, ["sleep", "600"], **disk), container("plain"), container("other", 1200, 10),
                      initContainers=[container("init", 1000, 0, ["sh", "-c", told, "init"], **disk),
                                      container("side", 2000, 20, ["sleep", "600"], restartPolicy="Always"),
                                      container("second", 1500, 0, ["sh", "-c", told, "second"], **disk)],
                      volumes=[{"name": "out", "emptyDir": {}}])
        cluster.apply(pod)
        cluster.wait_pod("kinds", seconds=90)
        for name, mib in (("init", 1000), ("second", 1500)):
            told = cluster.exec("kinds", "cat", f"/out/{name}", container="app").stdout.split()
            equal(int(told[2]) >> 20, mib, f"what {name} was told")
        for name, mib in (("side", 2000), ("app", 3000), ("other", 1200)):
            equal(cluster.info("kinds", name)[1], mib, name)
        series = cluster.metrics("hami_vgpu_memory_limit_bytes", pod="kinds")
        sizes = {dict(labels)["container"]: value / 2**20 for labels, value in series.items()}
        expect({"side": 2000, "app": 3000, "other": 1200}.items() <= sizes.items(), f"F34, series of several containers: {sizes}")


@case
def refused_pods_are_told_why(build, state):
    with Sliced(state, build) as cluster:
        uuid = cluster.registered()[0]["id"]
        one = [container("c", 1000, 10)]
        wrong = {
            "nowhere": ("GPU-00000000-1111-2222-3333-444444444444,NVIDIA,1000,10:;", "GPU-00000000-1111"),
            "garbage": ("no decision at all", "not an identifier"),
            "absent": (None, "no GPU scheduler has decided"),
            "toomuch": (f"{uuid},NVIDIA,900000,10:;", "no room for 878.90 GiB"),
            "twice": (f"{uuid},NVIDIA,1000,10:{uuid},NVIDIA,1000,10:;", "asks for 1 device, the decision gives it"),
            "empty": (";;", "asks for 1 device, the decision gives it"),
        }
        cluster.apply(gpu_pod("right", *one))
        cluster.wait_pod("right")
        for name, (decision, _) in wrong.items():
            cluster.apply(gpu_pod(name, *one, scheduler="nobody"))
            cluster.bind(name, {DECISION: decision} if decision is not None else {})
        for name, (_, says) in wrong.items():
            wait_for(lambda name=name, says=says: any(says in told and "Started" not in told for told in cluster.events(name)), 60,
                     lambda name=name, says=says: f"{name} to be told of {says!r}: {cluster.events(name)}")
            expect(cluster.pod(name)["status"]["phase"] in ("Pending", "Failed"), name)
        equal(cluster.info("right")[1], 1000, "others are not disturbed")
        delete_all(cluster, list(wrong))
        full = f"{uuid},NVIDIA,{cluster.registered()[0]['devmem'] - 500},0:;"
        cluster.apply(gpu_pod("overfull", *one, scheduler="nobody"))
        cluster.bind("overfull", {DECISION: full})
        wait_for(lambda: any("has no room for" in told for told in cluster.events("overfull")), 60,
                 lambda: f"a card that would be overfull: {cluster.events('overfull')}")
        delete_all(cluster, ["right"])
        cluster.wait_pod("overfull", seconds=180)  # asked again by the kubelet, and there is room now


def sizes_of(count):
    return {f"many{i:03}": (1000 + 2 * i, 1001 + 2 * i) for i in range(count)}


@case
def F33_many_pods_at_once_have_their_own(build, state):
    """Each container tells its size in its log. COUNT pods of two; all 100 in the long form."""
    count = int(os.environ.get("SLICES_PODS", "20"))
    with Sliced(state, build, gpus="gpus=4xh100", settings={"split_count": 60}) as cluster:
        cluster.wait_offered(240)
        wanted = sizes_of(count)
        say = ["sh", "-c", "tenant; exec sleep 3000"]
        began = time.monotonic()
        for name, (a, b) in wanted.items():
            cluster.apply(gpu_pod(name, container("a", a, 0, say), container("b", b, 0, say)))
        for name in wanted:
            cluster.wait_pod(name, seconds=600)
        seconds, wrong, failed = time.monotonic() - began, [], 0
        for name, both in wanted.items():
            failed += sum("Error" in told or "Failed" in told for told in cluster.events(name))
            for which, mib in zip("ab", both):
                told = cluster.logs(name, which).split()
                if len(told) != 4 or int(told[2]) >> 20 != mib:
                    wrong.append((name, which, mib, told))
        print(f"{2 * count - len(wrong)} of {2 * count} with exactly their own slice, {failed} errors in events, {seconds:.0f} s")
        equal((wrong, failed), ([], 0), "slices, errors")
        nothing_stays(cluster, list(wanted))


def nothing_stays(cluster, names):
    delete_all(cluster, names)
    wait_for(lambda: not (cluster.slice_folders() or cluster.cdi_devices() or cluster.records()), 120,
             lambda: f"slices to go: {cluster.slice_folders()} {cluster.cdi_devices()} {cluster.records()} {cluster.log('tranched', 30)}")
    expect(not cluster.metrics("hami_vgpu_memory_limit_bytes"), "their series go too")


@case
def restarts_lose_nothing(build, state):
    with Sliced(state, build) as cluster:
        again = gpu_pod("p", container("a", 3000, 30), container("b", 5000, 60), restartPolicy="Always")
        cluster.apply(again)
        cluster.wait_pod("p")
        spin(cluster, "p", "a")
        ids = [one["containerID"] for one in cluster.pod("p")["status"]["containerStatuses"]]
        for who, how in (("tranched", signal.SIGKILL), ("kubelet", signal.SIGTERM), ("containerd", signal.SIGKILL), ("tranched", signal.SIGTERM),
                         ("kubelet", signal.SIGKILL)):
            cluster.restart(who, how)
            cluster.wait_offered()
            time.sleep(2)
            equal([one["containerID"] for one in cluster.pod("p")["status"]["containerStatuses"]], ids, f"after {who} {how.name}")
            equal((cluster.info("p", "a")[1], cluster.info("p", "b")[1]), (3000, 5000), f"after {who} {how.name}")
        expect(abs(shares(cluster, [("p", "a")], 10)["p", "a"] - 30) < 5, "time too")
        restarted_container(cluster)
        nothing_stays(cluster, ["p"])


def restarted_container(cluster):
    """A container that starts again is armed from the record: also without the API server, also after a new agent."""
    for without in (None, "kube-apiserver"):
        before = cluster.pod("p")["status"]["containerStatuses"][1]["restartCount"]
        pid = cluster.container_pids("p", "b")[0]
        if without:
            cluster.restart("tranched", signal.SIGKILL)
            cluster.stop(without)
        cluster.run("kill", "-9", str(pid))
        time.sleep(25 if without else 0)
        if without:
            cluster.start(without)
            wait_for(lambda: cluster._is_ready("/readyz"), 60, "the API server again")
        wait_for(lambda before=before: (now := cluster.pod("p")["status"]["containerStatuses"][1])["restartCount"] > before and now["ready"],
                 90, lambda: f"b to start again {cluster.events('p')}")
        equal(cluster.info("p", "b")[1], 5000, "the restarted container")


@case
def a_runtime_without_cdi_gives_no_gpu(build, state):
    """What fails, fails closed: no GPU, and not all of them."""
    with Sliced(state, build) as cluster:
        text = cluster.run("cat", "/etc/containerd/config.toml").stdout
        cluster.write("/etc/containerd/config.toml", text + '\n[plugins."io.containerd.cri.v1.runtime"]\nenable_cdi = false\n'
                      if "enable_cdi" not in text and '[plugins."io.containerd.cri.v1.runtime"]' not in text
                      else text.replace('[plugins."io.containerd.cri.v1.runtime"]\n', '[plugins."io.containerd.cri.v1.runtime"]\nenable_cdi = false\n'))
        cluster.restart("containerd")
        cluster.restart("kubelet")
        cluster.wait_offered()
        cluster.apply(gpu_pod("p", container("a", 3000, 30)))
        wait_for(lambda: cluster.pod("p")["status"].get("phase") == "Running" or
                 any("Error" in told or "Failed" in told for told in cluster.events("p")), 60, "the pod to be started or refused")
        if cluster.pod("p")["status"]["phase"] == "Running":
            told = cluster.exec("p", "seen", check=False)
            expect("GPU-" not in told.stdout, f"a container without CDI sees {told.stdout}")
            equal(cluster.exec("p", "sh", "-c", "ls /dev/nvidia* 2>/dev/null | wc -l").stdout.strip(), "0", "device nodes")
            equal(cluster.exec("p", "sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES").stdout.strip(), "void")


def in_patch(cluster, name, annotations):
    cluster.api("PATCH", f"/api/v1/namespaces/default/pods/{name}", {"metadata": {"annotations": annotations}},
                kind="application/merge-patch+json")


@case
def limits_change_while_it_runs(build, state):
    """By a grant, and by root's hand; a wish and a changed decision change nothing."""
    with Sliced(state, build) as cluster:
        cluster.apply(gpu_pod("p", container("a", 3000, 30), container("b", 5000, 60)))
        cluster.wait_pod("p")
        pod = cluster.pod("p")
        uid, uuid = pod["metadata"]["uid"], cluster.registered()[0]["id"]

        def becomes(a, b, what):
            wait_for(lambda: (cluster.info("p", "a")[1], cluster.info("p", "b")[1]) == (a, b), 20, lambda: f"{what}: {cluster.log('tranched')}")

        in_patch(cluster, "p", {"tranche.io/resize": f"{uuid},NVIDIA,9000,90:;{uuid},NVIDIA,5000,60:;",
                                DECISION: f"{uuid},NVIDIA,9000,90:;{uuid},NVIDIA,5000,60:;"})
        in_patch(cluster, "p", {"tranche.io/granted": f"v1 {uid} 1 {uuid},NVIDIA,4000,20:;{uuid},NVIDIA,5000,50:;"})
        becomes(4000, 5000, "the grant")
        in_patch(cluster, "p", {"tranche.io/granted": f"v1 {uid} 2 {uuid},NVIDIA,400000,20:;{uuid},NVIDIA,5000,50:;"})
        in_patch(cluster, "p", {"tranche.io/granted": f"v1 {uid} 1 {uuid},NVIDIA,6000,20:;{uuid},NVIDIA,5000,50:;"})
        in_patch(cluster, "p", {"tranche.io/granted": "v1 0-0 9 " + f"{uuid},NVIDIA,6000,20:;"})
        tranche = f"{build}/bin/tranche"
        told = cluster.run(tranche, "node", "set", "default/p/b", "--mem", "2000Mi", "--cores", "70")
        becomes(4000, 2000, "by hand: " + told.stdout)
        too_much = cluster.run(tranche, "node", "set", "default/p/b", "--mem", "900Gi", check=False)
        expect(too_much.returncode != 0 and "room" in too_much.stderr, f"{too_much}")
        spin(cluster, "p", "b")
        time.sleep(5)
        expect(abs(shares(cluster, [("p", "b")], 10)["p", "b"] - 70) < 5, "time as well")
        cluster.restart("tranched", signal.SIGKILL)
        cluster.wait_offered()
        time.sleep(3)
        becomes(4000, 2000, "over a restart of the agent, with stale grants on the pod")


@case
def F35_a_card_comes_back(build, state):
    with Sliced(state, build, gpus="gpus=2xh100", settings={"recover_seconds": 3}) as cluster:
        cluster.wait_offered(20)
        sim = [f"{build}/lib/sim/sim-ctl", "device", "1"]
        cluster.run(*sim, "xid=32", env={"TRANCHE_SIM": "/run/tranche-sim"})
        wait_for(lambda: cluster.offered() == 10, 30, lambda: f"one card less: {cluster.offered()} {cluster.log('tranched')}")
        wait_for(lambda: [one.get("health", False) for one in cluster.registered()] == [True, False], 30, "the register to tell it")
        wait_for(lambda: cluster.offered() == 20, 60, lambda: f"it to come back: {cluster.log('tranched')}")
        wait_for(lambda: all(one.get("health") for one in cluster.registered()), 30, "the register again")


@case
def a_drained_node_offers_nothing(build, state):
    with Sliced(state, build) as cluster:
        cluster.apply(gpu_pod("p", container("a", 3000, 30), restartPolicy="Always"))
        cluster.wait_pod("p")
        tranche = f"{build}/bin/tranche"
        cluster.run(tranche, "node", "drain")
        wait_for(lambda: cluster.offered() == 0, 30, "nothing to be offered")
        cluster.restart("tranched", signal.SIGKILL)
        time.sleep(3)
        equal((cluster.offered(), cluster.info("p")[1]), (0, 3000), "over a restart; who runs goes on")
        cluster.run("kill", "-9", str(cluster.container_pids("p", "a")[0]))
        wait_for(lambda: (now := cluster.pod("p")["status"]["containerStatuses"][0])["restartCount"] and now["ready"], 60,
                 lambda: f"the container to start again: {cluster.events('p')}")
        cluster.run(tranche, "node", "drain", "--off")
        cluster.wait_offered(10)
        told = cluster.run(tranche, "node", "status").stdout
        expect("GPU-" in told, told)
        slices = cluster.run(tranche, "node", "slices").stdout
        expect("default" in slices and "p" in slices, slices)


@case
def F36_series_are_there_before_the_program(build, state):
    with Sliced(state, build) as cluster:
        cluster.apply(gpu_pod("p", container("a", 3000, 30)))
        cluster.wait_pod("p")
        equal(len(cluster.cdi_devices()), 1, "what is looked for when it is gone")
        wait_for(lambda: cluster.metrics("hami_vgpu_memory_limit_bytes", pod="p", container="a"), 5, "series without a program")
        equal(cluster.metric("hami_vgpu_memory_used_bytes", pod="p", container="a"), 0)
        equal(cluster.metric("tranche_container_gpu_seconds_total", pod="p", container="a"), 0)
        slices = cluster.debug_slices()
        expect("p" in json.dumps(slices), f"/debug/slices: {slices}")
        nothing_stays(cluster, ["p"])
        equal(cluster.offered(), 10, RESOURCE)


if __name__ == "__main__":
    sys.exit(main(in_folder))
