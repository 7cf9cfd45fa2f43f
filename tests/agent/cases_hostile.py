# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: what others may do to it who mean harm, or say nothing."""
import os
import socket

from rig import NODE, Node, case, equal, expect

LONG = 250000  # an API server takes annotations of 256 KiB


@case
def long_annotations_take_no_memory(build):
    with Node(build) as node:
        agent = node.ready_agent()
        node.run_pod("good", {"a": [(0, 1000, 10)]})
        before = agent.rss_anon_kib()
        decision = (f"{node.uuids()[0]},NVIDIA,1000,10:;" * LONG)[:LONG]
        for number in range(100):
            node.api.make_pod(f"none-{number}", [("c", 0)], {"tranche.io/granted": decision})
        made = node.place("asks", {"a": [(0, 1000, 10)]}, annotations={"hami.io/vgpu-devices-allocated": decision})
        told = node.kubelet.call("PreStartContainer", made["a"]["ids"])
        expect(told["code"] != 0 and f"hami.io/vgpu-devices-allocated of pod default/asks has {LONG} bytes: more than "
               "400 are not read" in told["says"], told)
        node.run_pod("behind", {"a": [(0, 1000, 10)]})  # the watch has told of all before it
        after = agent.rss_anon_kib()
        print(f"RssAnon: {before} KiB, then {after} KiB")
        expect(after < 16384, f"RssAnon was {before} KiB and is {after} KiB")
        node.api.patch_pod("good", {"metadata": {"annotations": {"tranche.io/granted": decision}}})
        agent.says(f"tranche.io/granted of pod default/good has {LONG} bytes: more than 400")


def wide_pod(node, name, count, **spec):
    """A pod that asks for one GPU, and has COUNT containers with as long a name, and as much to say, as there may be."""
    limits = {"nvidia.com/gpumem": "1000", "nvidia.com/gpucores": "10", "nvidia.com/priority": "1"}
    containers = [{"name": f"c{number:062}", "resources": {"limits": limits}} for number in range(count)]
    containers[0]["resources"] = {"limits": {**limits, "nvidia.com/gpu": "1"}}
    made = node.api.ask("POST", "/api/v1/namespaces/default/pods", {
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"nodeName": NODE, "containers": containers, **spec}, "status": {"phase": "Pending"}})
    node.api.uids[name] = made["metadata"]["uid"]
    return containers[0]["name"]


@case
def what_110_pods_say_takes_no_memory(build):
    """As many as a node may have, each with a GPU, and its owner means harm."""
    with Node(build) as node:
        agent = node.ready_agent()
        part = f"{node.uuids()[0]},NVIDIA,1000,10:;"
        decision = (part * LONG)[:60000]
        for number in range(110):
            node.api.make_pod(f"long-{number}", [("c", 1)], {"hami.io/vgpu-devices-allocated": decision,
                                                             "tranche.io/granted": f"v1 u 1 {decision}"})
        node.run_pod("behind-1", {"a": [(0, 1000, 10)]})  # the watch has told of all before it
        after = [agent.rss_anon_kib()]
        for number in range(110):
            wide_pod(node, f"wide-{number}", 1024 if number % 2 else 256)
        node.run_pod("behind-2", {"a": [(0, 1000, 10)]})
        after.append(agent.rss_anon_kib())
        for number in range(110):
            wide_pod(node, f"name-{number}", 1, schedulerName="x" * LONG)
        node.run_pod("behind-3", {"a": [(0, 1000, 10)]})
        after.append(agent.rss_anon_kib())
        print(f"RssAnon after long annotations, many containers, long names: {after} KiB")
        expect(max(after) < 16384, f"RssAnon is {after} KiB")
        used = {i for row in node.kubelet.rows for i in row["ids"]}
        ids = [min(i for i in node.kubelet.devices if i not in used)]
        equal(node.kubelet.call("Allocate", ids)["code"], 0, "Allocate")
        name = wide_pod(node, "wide", 300)
        node.kubelet.set_rows([*node.kubelet.rows, {"namespace": "default", "pod": "wide", "container": name, "ids": ids}])
        told = node.kubelet.call("PreStartContainer", ids)
        expect(told["code"] != 0 and "pod default/wide has 300 containers: of so many none is read" in told["says"], told)


@case
def a_kubelet_that_does_not_say_whose_devices_these_are(build):
    with Node(build) as node:
        node.ready_agent()
        made = node.place("p", {"a": [(0, 1000, 10)]})
        os.rename(node.pods_socket, f"{node.pods_socket}.away")
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(node.pods_socket)
            silent.listen(50)
            told = node.kubelet.call("PreStartContainer", made["a"]["ids"])
        equal(told["code"], 14, f"unavailable, for now: {told}")
        expect(f"PodResources ({node.pods_socket}) did not answer within 5 s" in told["says"], told)
        os.rename(f"{node.pods_socket}.away", node.pods_socket)
        told = node.kubelet.call("PreStartContainer", made["a"]["ids"])
        equal(told["code"], 0, f"the kubelet asks again: {told}")


def hears(path, user):
    """Whether USER is answered there."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        os.seteuid(user)  # of the moment when it connects, by which the kernel judges
        try:
            client.connect(path)
        finally:
            os.seteuid(0)
        try:
            client.sendall(b'{"do":"status"}\n')
            return client.recv(10) != b""
        except ConnectionError:
            return False


@case
def only_root_is_heard_at_the_control_socket(build):
    """By the kernel's word on who it is: the socket's mode does not decide it alone."""
    with Node(build) as node:
        node.ready_agent()
        path = f"{node.folder}/run/control"
        for folder in (node.folder, f"{node.folder}/run"):
            os.chmod(folder, 0o755)
        os.chmod(path, 0o666)
        equal([hears(path, user) for user in (0, 65534, 0)], [True, False, True], "who is answered")
