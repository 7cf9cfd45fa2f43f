#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: what it does at its start, at its end, and when something is missing.

usage: cases.py BUILD_DIR CASE     one claim each; exit status 77: cannot run here, and why
       cases.py --list             names of the cases
"""
import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

from rig import GIB, NODE, Cannot, Node, equal, expect, wait_for

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


@case
def starts_and_registers_at_once(build):
    with Node(build) as node:
        agent = node.ready_agent()
        took = node.kubelet.registered_at - agent.started_at
        print(f"start to registered: {took * 1000:.0f} ms")
        expect(took < 1.0, f"start to registered took {took:.3f} s")
        equal(len(node.kubelet.registrations), 1, "registrations")
        told = node.kubelet.registrations[0]
        equal((told["endpoint"], told["resource_name"]), ("nvidia-gpu.sock", "nvidia.com/gpu"))
        equal(told["options"]["pre_start_required"], True)
        status = agent.ask(do="status")
        expect(status["ok"] and status["ready"] and len(status["cards"]) == 2, status)
        equal(agent.page("/readyz")[0], 200, "ready")
        register = wait_for(lambda: node.api.node_annotations().get("hami.io/node-nvidia-register"), 10, "the register")
        equal([card["count"] for card in json.loads(register)], [10, 10])
        equal(agent.stop(), 0, "exit status")
        expect(not os.path.exists(f"{node.kubelet_dir}/nvidia-gpu.sock"), "the plugin's socket is gone")
        expect(not os.path.exists(f"{node.folder}/run/control"), "the control socket is gone")


@case
def a_container_gets_its_own_slice(build):
    with Node(build) as node:
        agent = node.ready_agent()
        made = node.run_pod("p", {"a": [(0, 4096, 30)], "b": [(1, 1024, 0), (0, 2048, 10)]})
        env = {pair["key"]: pair["value"] for pair in made["a"]["answer"]["envs"]}
        equal(env.get("NVIDIA_VISIBLE_DEVICES"), "void", "what fails closed")
        rows = agent.ask(do="slices")
        text = json.dumps(rows)
        expect("default" in text and '"a"' in text and '"b"' in text, text)
        status, metrics = agent.page("/metrics")
        equal(status, 200)
        expect(f'{4096 << 20}' in metrics, metrics)
        equal(len(node.injected()), 2, "CDI devices")
        node.end_pod("p")
        wait_for(lambda: agent.ask(do="status")["slices"] == 0, 30, "the slices' end")
        equal(node.injected(), [], "CDI devices")


@case
def slices_end_while_others_come_and_go(build):
    """Each pod that ends is a reason to look soon; so many of them are none to look never."""
    with Node(build) as node:
        agent = node.ready_agent()
        node.run_pod("p", {"a": [(0, 1024, 0)]})
        node.end_pod("p")
        end, i = time.monotonic() + 20, 0
        while agent.ask(do="status")["slices"]:
            expect(time.monotonic() < end, "the slice's end while other pods end all the time")
            node.api.make_pod(f"job{i}", [("a", 1)], {})
            time.sleep(0.2)
            node.api.delete_pod(f"job{i}")
            i += 1


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
def restarts_change_nothing_for_running_pods(build):
    with Node(build) as node:
        agent = node.ready_agent()
        made = node.run_pod("p", {"a": [(0, 4096, 30)]})
        slices = agent.ask(do="slices")
        for how in (signal.SIGTERM, signal.SIGKILL):
            agent.stop(how)
            agent = node.ready_agent()
            equal(json.dumps(agent.ask(do="slices")).count('"a"'), json.dumps(slices).count('"a"'), "slices")
            answer = node.kubelet.call("PreStartContainer", made["a"]["ids"])
            equal(answer["code"], 0, f"the container starts again: {answer['says']}")


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


@case
def bad_settings_are_refused_with_their_line(build):
    with Node(build, gpus=None, with_api=False) as node:
        with open(node.config_path, "a", encoding="utf-8") as out:
            out.write("split_cuont: 3\n")
        lines = len(node.settings) + 1
        agent = node.agent()
        equal(agent.child.wait(10), 2, "exit status")
        expect(f"{node.config_path} line {lines}: \"split_cuont\"" in agent.text(), agent.text())
        node.configure()
        checked = subprocess.run([f"{build}/bin/tranched", "--config", node.config_path, "--check"], capture_output=True,
                                 text=True, check=True, env=node.env)
        expect("split_count: 10\n" in checked.stdout and f'node_name: "{NODE}"' in checked.stdout, checked.stdout)


@case
def settings_are_read_again(build):
    with Node(build) as node:
        node.configure(log_level="info")
        agent = node.ready_agent()
        node.configure(log_level="debug", split_count=3)
        agent.child.send_signal(signal.SIGHUP)
        agent.says("split_count has changed: that needs a restart")
        agent.says("settings_read")
        with open(node.config_path, "a", encoding="utf-8") as out:
            out.write("leases: maybe\n")
        agent.child.send_signal(signal.SIGHUP)
        agent.says("settings_refused")
        expect(agent.ask(do="status")["ready"], "it goes on as it was")


@case
def a_grant_is_obeyed_and_a_wish_is_not(build):
    with Node(build) as node:
        agent = node.ready_agent()
        node.run_pod("p", {"a": [(0, 4096, 30)]})
        pod, uuid = node.api.pod("p"), node.uuids()[0]

        def limit():
            return agent.ask(do="slices")

        def has(mib):
            return str(mib << 20) in json.dumps(limit())

        expect(has(4096), limit())
        decision = f"{uuid},NVIDIA,8192,50:;"
        node.api.patch_pod("p", {"metadata": {"annotations": {"tranche.io/resize": decision,
                                                              "hami.io/vgpu-devices-allocated": decision}}})
        node.api.patch_pod("p", {"metadata": {"annotations": {"tranche.io/granted": f"v1 not-its-uid 1 {decision}"}}})
        agent.says("grant_refused")
        expect(has(4096) and not has(8192), limit())
        grant = f"v1 {pod['metadata']['uid']} 7 {decision}"
        node.api.patch_pod("p", {"metadata": {"annotations": {"tranche.io/granted": grant}}})
        wait_for(lambda: has(8192), 5, "the grant")
        older = f"v1 {pod['metadata']['uid']} 6 {uuid},NVIDIA,1024,50:;"
        node.api.patch_pod("p", {"metadata": {"annotations": {"tranche.io/granted": older}}})
        big = f"v1 {pod['metadata']['uid']} 8 {uuid},NVIDIA,999999,50:;"
        node.api.patch_pod("p", {"metadata": {"annotations": {"tranche.io/granted": big}}})
        wait_for(lambda: agent.text().count("grant_refused") >= 2, 5, "a grant beyond the card")
        expect(has(8192) and "1.00 GiB" not in agent.text(), limit())


@case
def root_resizes_by_hand(build):
    with Node(build) as node:
        agent = node.ready_agent()
        node.run_pod("p", {"a": [(0, 4096, 30)]})
        told = agent.ask(do="set", slice="default/p/a", memory="6Gi", cores=40)
        expect(told["ok"] and told["after"][0]["limit_bytes"] == 6 * GIB and told["after"][0]["cores"] == 40, told)
        expect(str(6 * GIB) in json.dumps(agent.ask(do="slices")), "the page")
        for wrong, words in (({"memory": "9000Gi"}, "no room"), ({"memory": "x"}, "neither a size"), ({}, "nothing to change"),
                             ({"cores": 101}, "cores"), ({"memory": "1Gi", "device": "GPU-x"}, "no device")):
            told = agent.ask(do="set", slice="default/p/a", **wrong)
            expect(not told["ok"] and words in told["error"], f"{wrong}: {told}")
        told = agent.ask(do="set", slice="default/q", memory="1Gi")
        expect(not told["ok"] and "no container" in told["error"], told)
        agent.stop(signal.SIGKILL)
        agent = node.ready_agent()
        expect(str(6 * GIB) in json.dumps(agent.ask(do="slices")), "it outlives the agent")


@case
def draining_offers_nothing_and_ends_nothing(build):
    with Node(build) as node:
        agent = node.ready_agent()
        made = node.run_pod("p", {"a": [(0, 4096, 30)]})
        expect(agent.ask(do="drain")["draining"], "draining")
        node.kubelet.wait_devices(lambda d: len(d) == 20 and not any(d.values()), 5, "no healthy device")
        free = next(i for i in sorted(node.kubelet.devices) if i not in made["a"]["ids"])
        answer = node.kubelet.call("Allocate", [free])
        expect(answer["code"] != 0 and "drained" in answer["says"], answer)
        equal(node.kubelet.call("PreStartContainer", made["a"]["ids"])["code"], 0, "who runs starts again")
        agent.stop()
        agent = node.agent()
        node.kubelet.wait_devices(lambda d: len(d) == 20 and not any(d.values()), 10, "still draining after a restart")
        wait_for(lambda: os.path.exists(f"{node.folder}/run/control"), 5, "the socket")
        equal(agent.ask(do="drain", off=True)["draining"], False)
        node.kubelet.wait_devices(lambda d: all(d.values()), 5, "healthy again")


@case
def a_person_asks(build):
    with Node(build) as node:
        status, text = node.tranche("status")
        expect(status == 1 and "no node agent answers" in text, text)
        node.ready_agent()
        node.run_pod("p", {"a": [(0, 4096, 30)], "b": [(1, 1024, 0)]})
        status, text = node.tranche("status")
        expect(status == 0 and "node node-a: serves" in text and "4 GiB of 79" in text, text)
        status, text = node.tranche("slices")
        expect(status == 0 and "default/p/a" in text and text.count("\n") == 3, text)
        status, text = node.tranche("set", "default/p/a", "--mem", "6Gi", "--cores", "50")
        expect(status == 0 and "4 GiB -> 6 GiB, cores 30% -> 50%" in text, text)
        for words, want, says in ((("set", "default/p", "--mem", "1Gi"), 1, "several containers"),
                                  (("set", "default/p/a", "--cores", "x"), 2, "--cores"),
                                  (("set", "default/p/a"), 2, "nothing to change"), (("frob",), 2, "which of"), ((), 2, "which of"),
                                  (("set", "default/p/b", "--mem", "200%"), 1, "neither a size")):
            status, text = node.tranche(*words)
            expect(status == want and says in text, f"{words}: {status} {text}")
        status, text = node.tranche("drain")
        expect(status == 0 and "2 slices go on" in text, text)
        status, text = node.tranche("status")
        expect(status == 1 and "draining" in text, text)
        status, text = node.tranche("drain", "--off")
        expect(status == 0 and "offered again" in text, text)
        equal(json.loads(node.tranche("status", "--json")[1])["draining"], False)


@case
def who_asks_badly_harms_nobody(build):
    with Node(build) as node:
        agent = node.ready_agent()
        path = f"{node.folder}/run/control"
        equal(os.stat(path).st_mode & 0o777, 0o600, "mode of the socket")
        for line in (b"\n", b"{}\n", b"{\n", b"[1]\n", b'{"do": 3}\n', b'{"do": "frob"}\n', b'{"do":"status"\0}\n',
                     b'{"do":"set"}\n', b'{"do":"set","slice":[]}\n', b"[" * 60000 + b"\n"):
            told = json.loads(node.ask_raw(line))
            expect(told["ok"] is False and told["error"], f"{line[:40]}: {told}")
        equal(node.ask_raw(b"x" * 200000), b"", "more than a request may be")
        open_ones = [node.connect() for _ in range(20)]
        began = time.monotonic()
        wait_for(lambda: agent_answers(agent), 10, "room for another client")
        expect(time.monotonic() - began < 8, "the silent ones are put out")
        for one in open_ones:
            one.close()


def agent_answers(agent):
    try:
        return agent.ask(do="status")["ok"]
    except (OSError, ValueError):
        return False


@case
def a_pod_that_nobody_decided_on(build):
    with Node(build) as node:
        node.ready_agent()
        made = node.place("p", {"a": [(0, 0, 0)]}, annotations={})
        answer = node.kubelet.call("PreStartContainer", made["a"]["ids"])
        expect(answer["code"] != 0 and "default/p" in answer["says"], answer)
    with Node(build, unscheduled_pods="whole-card") as node:
        agent = node.ready_agent()
        every = "".join(f"{uuid},NVIDIA,1,0:" for uuid in node.uuids()) + ";"
        node.api.make_pod("beside", [("c", 0)], {"hami.io/vgpu-devices-allocated": every})  # no GPU is asked for
        time.sleep(1)  # the watch tells it
        node.run_pod("p", {"a": [(0, 0, 0)]}, annotations={})
        told = wait_for(lambda: node.api.pod("p")["metadata"]["annotations"].get("hami.io/vgpu-devices-allocated"), 5,
                        "what it got")
        expect(any(told.startswith(f"{uuid},NVIDIA,") for uuid in node.uuids()), told)
        given = sorted(card["given_bytes"] for card in agent.ask(do="status")["cards"])
        expect(given[0] == 0 and given[1] > 70 * GIB, f"one whole card: {given}")


@case
def an_init_container_runs_again(build):
    """Its pod runs, its sandbox dies: it has what it had, and the card no more than it gives."""
    with Node(build) as node:
        agent = node.ready_agent()
        uuid, ids = node.uuids()[0], sorted(node.kubelet.devices)[:1]
        node.api.make_pod("p", [("app", 1)], {"hami.io/vgpu-devices-allocated": f"{uuid},NVIDIA,70000,0:;{uuid},NVIDIA,1000,0:;"},
                          init=[("init", 1)])
        for _ in range(2):
            equal(node.kubelet.call("Allocate", ids)["code"], 0, "Allocate")
        node.kubelet.set_rows([{"namespace": "default", "pod": "p", "container": "app", "ids": ids}])
        equal(node.kubelet.call("PreStartContainer", ids)["code"], 0, "the first start")
        node.api.patch_pod("p", {"status": {"phase": "Running"}})
        time.sleep(6)  # a sweep
        made = node.place("q", {"c": [(0, 70000, 0)]})
        refused = node.kubelet.call("PreStartContainer", made["c"]["ids"])
        expect(refused["code"] != 0 and "has no room for" in refused["says"], refused)
        equal(node.kubelet.call("PreStartContainer", ids)["code"], 0, "it starts again")
        equal(sorted(card["given_bytes"] for card in agent.ask(do="status")["cards"]), [0, 70000 << 20], "given")
        node.end_pod("p")
        wait_for(lambda: node.kubelet.call("PreStartContainer", made["c"]["ids"])["code"] == 0, 30, "room for the other")


@case
def hamis_scheduler_hears_of_the_last_allocate(build):
    with Node(build) as node:
        node.ready_agent()
        decision = f"{node.uuids()[0]},NVIDIA,1024,10:;"
        node.api.ask("PATCH", f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {
            "hami.io/mutex.lock": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) + ",default,p"}}})
        node.run_pod("p", {"a": [(0, 1024, 10)]}, annotations={
            "hami.io/vgpu-devices-allocated": decision, "hami.io/vgpu-devices-to-allocate": decision,
            "hami.io/bind-phase": "allocating", "hami.io/bind-time": str(int(time.time())), "hami.io/vgpu-node": NODE})
        wait_for(lambda: node.api.pod("p")["metadata"]["annotations"]["hami.io/bind-phase"] == "success", 5, "the phase")
        wait_for(lambda: "hami.io/mutex.lock" not in node.api.node_annotations(), 5, "the lock's end")


@case
def hamis_scheduler_hears_of_a_refusal(build):
    with Node(build) as node:
        agent = node.ready_agent()
        ids, marks = sorted(node.kubelet.devices)[:1], {
            "hami.io/vgpu-devices-allocated": f"{node.uuids()[0]},NVIDIA,1024,10:;", "hami.io/bind-phase": "allocating",
            "hami.io/bind-time": str(int(time.time())), "hami.io/vgpu-node": NODE}
        for name in ("p", "other"):
            node.api.make_pod(name, [("a", 1)], marks)
        node.api.ask("PATCH", f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {
            "hami.io/mutex.lock": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) + ",default,p"}}})
        agent.ask(do="drain")
        expect(node.kubelet.call("Allocate", ids)["code"] != 0, "Allocate")
        failed = {"status": {"phase": "Failed", "reason": "UnexpectedAdmissionError"}}  # as the kubelet does
        node.api.patch_pod("other", failed)
        time.sleep(1)
        expect("hami.io/mutex.lock" in node.api.node_annotations(), "another's lock stays")
        node.api.patch_pod("p", failed)
        wait_for(lambda: "hami.io/mutex.lock" not in node.api.node_annotations(), 5, "the lock's end")
        equal([node.api.pod(name)["metadata"]["annotations"]["hami.io/bind-phase"] for name in ("p", "other")],
              ["failed", "allocating"], "the words")


@case
def without_cdi_the_pod_is_inferred(build):
    with Node(build, identity="infer") as node:
        node.ready_agent()
        decision = f"{node.uuids()[1]},NVIDIA,1024,10:;"
        made = node.run_pod("p", {"a": [(0, 1024, 10)]}, annotations={
            "hami.io/vgpu-devices-allocated": decision, "hami.io/vgpu-devices-to-allocate": decision,
            "hami.io/bind-phase": "allocating", "hami.io/bind-time": str(int(time.time())), "hami.io/vgpu-node": NODE})
        answer = made["a"]["answer"]
        equal(answer["cdi_devices"], [], "CDI names")
        env = {pair["key"]: pair["value"] for pair in answer["envs"]}
        equal(env["NVIDIA_VISIBLE_DEVICES"], node.uuids()[1], "what NVIDIA's hook is told")
        free = next(i for i in sorted(node.kubelet.devices) if i not in made["a"]["ids"])
        refused = node.kubelet.call("Allocate", [free])
        expect(refused["code"] != 0, f"an Allocate of nobody: {refused}")


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
def the_kubelet_restarts(build):
    with Node(build) as node:
        node.ready_agent()
        node.run_pod("p", {"a": [(0, 4096, 30)]})
        node.kubelet.tell(do="restart")
        wait_for(lambda: len(node.kubelet.registrations) == 2, 3, "the second registration")


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(CASES))
        return 0
    try:
        CASES[sys.argv[2]](os.path.abspath(sys.argv[1]))
    except Cannot as why:
        print(f"skipped: {why}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
