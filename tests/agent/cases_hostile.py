# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: what others may do to it who mean harm, or say nothing."""
import os
import socket

from rig import Node, case, equal, expect

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
        expect(told["code"] != 0 and f"hami.io/vgpu-devices-allocated of pod default/asks has {LONG} bytes" in told["says"] and
               "65536" in told["says"], told)
        node.run_pod("behind", {"a": [(0, 1000, 10)]})  # the watch has told of all before it
        after = agent.rss_anon_kib()
        print(f"RssAnon: {before} KiB, then {after} KiB")
        expect(after < 16384, f"RssAnon was {before} KiB and is {after} KiB")
        node.api.patch_pod("good", {"metadata": {"annotations": {"tranche.io/granted": decision}}})
        agent.says(f"tranche.io/granted of pod default/good has {LONG} bytes: more than 65536")


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
