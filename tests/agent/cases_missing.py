# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: what it does when something is missing, full, broken or somebody else's."""
import ctypes
import os
import signal
import socket
import struct
import time

from cases_mig import mount_proc
from rig import UUID_TEXT, Node, case, equal, expect, wait_for


@case
def the_second_agent_says_who_is_there(build):
    with Node(build) as node:
        first = node.ready_agent()
        second = node.agent()
        equal(second.child.wait(10), 1, "exit status")
        expect(f"pid {first.child.pid}" in second.text(), second.text())
        expect(first.ask(do="status")["ready"], "the first goes on")
        # Elsewhere, but for CDI files: it would take the first one's for nobody's.
        elsewhere = ["--run-dir", f"{node.folder}/run2", "--state-dir", f"{node.folder}/state2", "--metrics-address", ""]
        second = node.agent(*elsewhere)
        equal(second.child.wait(10), 1, "exit status")
        expect("/cdi" in second.text() and f"pid {first.child.pid}" in second.text(), second.text())
        # Elsewhere, but for the same kubelet: the socket is not taken away from the first.
        third = node.agent(*elsewhere, "--cdi-dir", f"{node.folder}/cdi2")
        third.says("plugin_socket_failed")
        expect(first.ask(do="status")["ready"], "the first still goes on")


@case
def without_an_api_server_containers_start_again(build):
    with Node(build) as node:
        agent = node.ready_agent()
        made = node.run_pod("p", {"a": [(0, 4096, 30)]})
        agent.stop(signal.SIGKILL)
        node.configure(kubeconfig="/nonexistent/kubeconfig")
        agent = node.ready_agent()
        agent.says("no_api_server")
        answer = node.kubelet.call("PreStartContainer", made["a"]["ids"])
        equal(answer["code"], 0, answer["says"])
        other = node.kubelet.call("Allocate", ["x"])
        expect(other["code"] != 0, "an id that was never offered")
        fresh = next(i for i in sorted(node.kubelet.devices) if i not in made["a"]["ids"])
        equal(node.kubelet.call("Allocate", [fresh])["code"], 0, "Allocate")
        node.kubelet.set_rows([*node.kubelet.rows,
                               {"namespace": "default", "pod": "q", "container": "a", "ids": [fresh]}])
        refused = node.kubelet.call("PreStartContainer", [fresh])
        expect("API server" in refused["says"] and "default/q" in refused["says"], refused)


@case
def with_fewer_ids_containers_start_again(build):
    with Node(build) as node:
        agent = node.ready_agent()
        card = node.uuids()[0]
        last = f"{card}-9"
        node.api.make_pod("p", [("a", 1)], {"hami.io/vgpu-devices-allocated": f"{card},NVIDIA,4096,30:;"})
        equal(node.kubelet.call("Allocate", [last])["code"], 0)
        node.kubelet.set_rows([{"namespace": "default", "pod": "p", "container": "a", "ids": [last]}])
        equal(node.kubelet.call("PreStartContainer", [last])["code"], 0)
        agent.stop()
        node.configure(split_count=2)
        offered = dict.fromkeys([f"{uuid}-{n}" for uuid in node.uuids() for n in range(2)], True)
        node.agent()
        wait_for(lambda: node.kubelet.devices == offered | {last: False}, 20, "its id beside the others, for nobody else")
        answer = node.kubelet.call("PreStartContainer", [last])
        equal(answer["code"], 0, answer["says"])
        # As long as the container has it.
        node.end_pod("p")
        wait_for(lambda: node.kubelet.devices == offered, 30, "its id is not offered any more")


@case
def without_nvml_it_stays_and_says_so(build):
    with Node(build, gpus=None) as node:
        node.configure(nvml_library=f"{node.folder}/none/libnvidia-ml.so.1")
        agent = node.agent()
        wait_for(lambda: node.kubelet.registrations, 20, "registration")
        equal(node.kubelet.devices, {}, "devices")
        status, text = agent.page("/readyz")
        expect(status == 503 and "gpus" in text, f"{status} {text}")
        equal(agent.page("/healthz")[0], 200, "alive")
        expect(not agent.ask(do="status")["ready"], "not ready")
        equal(agent.stop(), 0, "exit status")


@case
def folders_that_cannot_be_written_to(build):
    with Node(build) as node:
        for key, words in (("run_dir", "run_dir, slices of running containers"), ("state_dir", "state_dir, who was given")):
            folder = f"{node.folder}/readonly"
            os.makedirs(folder, exist_ok=True)
            before = node.settings[key]
            node.configure(**{key: folder})
            agent = node.agent(before=["unshare", "-m", "sh", "-c",
                                       f'mount -t tmpfs -o ro none {folder} && exec "$@"', "sh"])
            equal(agent.child.wait(10), 1, f"{key}: exit status")
            expect(words in agent.text() and "Read-only" in agent.text(), agent.text())
            node.configure(**{key: before})
        # CDI files and the library: the agent stays, and a pod is told.
        folder = f"{node.folder}/readonly"
        node.configure(lib_dir=folder)
        agent = node.agent(before=["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o ro none {folder} && exec "$@"', "sh"])
        node.kubelet.wait_devices(lambda d: len(d) == 20, 20)
        answer = node.kubelet.call("Allocate", [sorted(node.kubelet.devices)[0]])
        expect(answer["code"] != 0 and "Read-only" in answer["says"], answer)
        expect("library" in agent.page("/readyz")[1], "readyz says why")


def fill(path):
    with open(path, "wb", buffering=0) as out:
        try:
            while out.write(b"x" * 4096):
                pass
        except OSError:
            pass


def agent_on_small(node, folder, size):
    """An agent whose FOLDER is a small tmpfs in a mount namespace of its own, and where that is seen from here."""
    os.makedirs(folder, exist_ok=True)
    agent = node.agent(before=["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} none {folder} && exec "$@"', "sh"])
    node.kubelet.wait_devices(lambda d: len(d) == 20, 20)
    return agent, f"/proc/{agent.child.pid}/root{folder}"


@case
def a_full_tmpfs_refuses_and_recovers(build):
    with Node(build) as node:
        agent, inside = agent_on_small(node, node.settings["run_dir"], "4m")
        first = sorted(node.kubelet.devices)[0]
        fill(f"{inside}/filler")
        answer = node.kubelet.call("Allocate", [first])
        expect(answer["code"] != 0 and "space" in answer["says"], answer)
        expect("slices" not in os.listdir(inside) or os.listdir(f"{inside}/slices") == [], "nothing is half made")
        os.unlink(f"{inside}/filler")
        equal(node.kubelet.call("Allocate", [first])["code"], 0, "Allocate with room")
        expect(agent.child.poll() is None, "it lives")


@case
def a_full_disk_is_told_and_stops_nobody(build):
    with Node(build) as node:
        agent, inside = agent_on_small(node, node.settings["state_dir"], "64k")
        fill(f"{inside}/filler")
        made = node.run_pod("p", {"a": [(0, 4096, 30)]})
        agent.says("records cannot be written", 30)
        os.unlink(f"{inside}/filler")
        wait_for(lambda: len(os.listdir(f"{inside}/records")) == 1, 30, "the record")
        equal(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"], 0, "it starts again")


class Openings:
    """Whether anybody opens PATH."""
    IN_OPEN = 0x20

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        expect(libc.inotify_add_watch(self.fd, path.encode(), self.IN_OPEN) >= 0, os.strerror(ctypes.get_errno()))

    def any(self):
        try:
            told = os.read(self.fd, 4096)
        except BlockingIOError:
            return False
        return any(mask & self.IN_OPEN for _, mask, _, _ in struct.iter_unpack("iIII", told))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)


@case
def what_a_tenant_puts_in_place_of_its_state_is_not_opened(build):
    with Node(build) as node:
        agent = node.ready_agent()
        made = node.run_pod("p", {"a": [(0, 4096, 30)]})
        slices = f"{node.folder}/run/slices"
        state = f"{slices}/{os.listdir(slices)[0]}/rw/state"
        os.unlink(state)
        os.mkfifo(state)
        with Openings(state) as openings:
            equal([agent.page(path)[0] for path in ("/metrics", "/debug/slices")], [200, 200])
            agent.stop()
            agent = node.ready_agent()
            agent.page("/debug/slices")
            equal(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"], 0, "it starts again")
            expect(not openings.any(), "nobody has opened the fifo")
        equal(os.stat(state).st_size > 4096, True, "a state file again")
        os.unlink(state)
        os.mkfifo(state)
        with Openings(state) as openings:
            node.end_pod("p")
            wait_for(lambda: not os.listdir(slices), 30, "the slice's end")
            expect(not openings.any(), "nor at its end")


@case
def a_run_dir_with_device_nodes_is_warned_of(build):
    with Node(build) as node:
        folder = node.settings["run_dir"]
        os.makedirs(folder)
        for option, want in (("dev", True), ("nodev", False)):
            agent = node.agent(before=["unshare", "-m", "sh", "-c",
                                       f'mount -t tmpfs -o {option} none {folder} && exec "$@"', "sh"])
            agent.says("registered")
            equal("run_dir_lets_devices" in agent.text(), want, option)
            agent.stop()


@case
def a_metrics_address_in_use_stops_nobody(build):
    with Node(build) as node:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", node.port))
            other.listen()
            agent = node.ready_agent()
            node.run_pod("p", {"a": [(0, 4096, 30)]})
            agent.says("no_metrics")
            status, text = node.tranche("status")
            expect(status == 0 and "metrics    none: " in text and "in use" in text, text)
        agent.says("metrics_served", 15)
        equal(agent.page("/metrics")[0], 200, "served at last")
        expect(f"metrics    127.0.0.1:{node.port}\n" in node.tranche("status")[1], "status says where")


def not_ready(node, agent, words, seconds=15):
    """All doors say that it does not serve, and why in one line; that is no reason to start it anew."""
    wait_for(lambda: words in agent.page("/readyz")[1], seconds, lambda: f"{words!r} in {agent.page('/readyz')}")
    status, text = agent.page("/readyz")
    equal((status, sum(words in line for line in text.splitlines())), (503, 1), text)
    status, text = node.tranche("status")
    expect(status == 1 and "does not serve" in text and words in text, text)
    equal(agent.page("/healthz")[0], 200, "alive")


def ready_again(agent, seconds=20):
    wait_for(lambda: agent.page("/readyz")[0] == 200, seconds, lambda: f"ready: {agent.page('/readyz')}")


@case
def a_cdi_dir_that_cannot_be_written_to_is_told(build):
    with Node(build) as node:
        agent = node.ready_agent()
        made = node.place("p", {"a": [(0, 1024, 0)]})
        cdi = f"{node.folder}/cdi"
        os.rename(cdi, f"{cdi}.away")
        with open(cdi, "w", encoding="utf-8"):
            pass
        not_ready(node, agent, "cdi_dir", 0.1)
        expect(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"] != 0, "PreStart")
        not_ready(node, agent, "cdi_dir", 0.1)
        os.unlink(cdi)
        os.rename(f"{cdi}.away", cdi)
        ready_again(agent)
        equal(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"], 0, "PreStart")
        ready_again(agent, 0.1)


@case
def a_container_is_started_with_its_cdi_file_or_not_at_all(build):
    """Also at once after a start that was refused for want of it."""
    with Node(build) as node:
        node.ready_agent()
        made = node.place("p", {"a": [(0, 1024, 0)]})
        cdi = f"{node.folder}/cdi"
        os.rename(cdi, f"{cdi}.away")
        with open(cdi, "w", encoding="utf-8"):
            pass
        expect(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"] != 0, "PreStart")
        os.unlink(cdi)
        os.rename(f"{cdi}.away", cdi)
        equal(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"], 0, "PreStart")
        equal(len(node.injected()), 1, "its CDI device")


@case
def nothing_is_taken_away_while_the_api_server_is_away(build):
    """What was last heard of it is no news: looks that count are of an open watch."""
    with Node(build) as node:
        agent = node.ready_agent()
        node.run_pod("p", {"a": [(0, 1024, 0)]})
        node.api.patch_pod("p", {"status": {"phase": "Failed"}})
        node.run_pod("q", {"a": [(0, 1024, 0)]})  # the watch has come as far
        node.api.stop()
        node.api = None
        wait_for(lambda: not agent.ask(do="status")["api"]["watching"], 10, "the watch's end")
        node.kubelet.tell(do="rows", rows=[])
        time.sleep(16)  # three looks
        equal(len(agent.ask(do="slices")["slices"]), 2, "slices")


@case
def an_api_server_that_is_away_is_told(build):
    with Node(build) as node:
        agent = node.ready_agent()
        ready_again(agent, 0.1)
        node.api.stop()
        node.api = None
        not_ready(node, agent, "API server: away for")
    with Node(build, with_api=False) as node:
        agent = node.ready_agent()
        not_ready(node, agent, "API server: ", 0.1)
        agent.stop()


@case
def a_driver_without_files_is_told(build):
    with Node(build) as node:
        files = f"{node.folder}/driver"
        os.rename(files, f"{files}.away")
        agent = node.agent()
        node.kubelet.wait_devices(lambda d: len(d) == 20, 20)
        not_ready(node, agent, "driver: ")
        os.rename(f"{files}.away", files)
        ready_again(agent)


@case
def cards_that_are_all_unhealthy_are_told(build):
    with Node(build, gpus="h100", recover_seconds=3) as node:
        agent = node.ready_agent(10)
        ready_again(agent, 0.1)
        node.ctl("device", "0", "xid=32")
        not_ready(node, agent, "none of 1 is healthy")
        ready_again(agent, 40)


@case
def a_kubelet_that_is_away_is_told(build):
    with Node(build) as node:
        away = f"{node.folder}/no-kubelet"
        os.mkdir(away)
        node.configure(kubelet_dir=away)
        agent = node.agent()
        node.wait_control()
        not_ready(node, agent, "kubelet: ")


def show_gpu(node, uuid):
    """As the kernel module does it, whatever NVML does."""
    folder = f"{node.folder}/proc-driver/nvidia/gpus/0000:01:00.0"
    os.makedirs(folder)
    with open(f"{folder}/information", "w", encoding="utf-8") as out:
        out.write(f"GPU UUID: \t {uuid}\nDevice Minor: \t 0\n")


@case
def an_nvml_whose_start_hangs_is_told(build):
    hangs = "gpus: NVML has not answered yet"
    with Node(build) as node:
        agent = node.ready_agent()
        ids = node.run_pod("p", {"a": [(0, 1024, 0)]})["a"]["ids"]
        agent.stop()
        show_gpu(node, ids[0][:UUID_TEXT])
        node.ctl("fault", "nvmlInit*=hang")
        agent = node.agent(before=mount_proc(node))
        node.wait_control()
        not_ready(node, agent, hangs, 0.1)
        # The kubelet is not kept waiting: it hears of what containers have, so that those can start again.
        node.kubelet.wait_devices(lambda d: d == {i: False for i in ids}, 20)
        equal(node.kubelet.call("PreStartContainer", ids)["code"], 0, "it starts again")
        refused = node.kubelet.call("Allocate", ["GPU-x"])
        expect(refused["code"] != 0, refused)
        equal([agent.page(path)[0] for path in ("/metrics", "/debug/slices")], [200, 200])
        not_ready(node, agent, "gpus: NVML ", 0.1)  # from 15 s on in other words
        node.ctl("fault", "--clear")
        ready_again(agent)
        node.kubelet.wait_devices(lambda d: len(d) == 20 and all(d.values()), 5)
        agent.stop()
        # Nor does its end wait for NVML.
        node.ctl("fault", "nvmlInit*=hang")
        agent = node.agent()
        node.wait_control()
        equal(agent.stop(), 0, "exit status")
        expect("driver_hangs" in agent.text(), agent.text())
