#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: what it does at its start, while containers come and go, and at its end.

usage: cases.py BUILD_DIR CASE     one claim each; exit status 77: cannot run here, and why
       cases.py --list             names of the cases
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cases_clock  # noqa: F401
import cases_hostile  # noqa: F401
import cases_library  # noqa: F401
import cases_limits  # noqa: F401
import cases_many  # noqa: F401
import cases_mig  # noqa: F401
import cases_missing  # noqa: F401
import cases_told  # noqa: F401
from rig import GIB, NODE, Node, case, equal, expect, main, wait_for


@case
def starts_and_registers_at_once(build):
    with Node(build) as node:
        agent = node.ready_agent()
        # How long it takes is measured by measure.py.
        print(f"start to registered: {(node.kubelet.registered_at - agent.started_at) * 1000:.0f} ms")
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
def energy_is_power_over_time(build):
    """An idle board of the simulator draws the same all the time."""
    with Node(build) as node:
        agent = node.ready_agent()

        def told(family):
            page = agent.page("/metrics")[1]
            found = re.findall(rf"^{family}{{[^}}]*}} ([0-9.]+)$", page, re.M)
            return [float(value) for value in found] if len(found) == 2 else None

        watts = wait_for(lambda: told("tranche_device_power_watts"), 10, "power")
        first, began = told("tranche_device_energy_joules_total"), time.monotonic()
        time.sleep(8)
        last, took = told("tranche_device_energy_joules_total"), time.monotonic() - began
        for i in range(2):  # both are up to a second old
            drawn = (last[i] - first[i]) / watts[i]
            expect(abs(drawn - took) < 2.5, f"{drawn:.1f} s of {watts[i]} W in {took:.1f} s")


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


def settings_of(build):
    """{key: (what it may be, its default, whether it is live, what it is)}, by the reference."""
    text = subprocess.run([f"{build}/bin/tranched", "--config-reference"], capture_output=True, text=True, check=True).stdout
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): (row[1], row[2].strip("`"), row[4] == "yes", row[5]) for row in rows if len(row) == 6}


def another(key, kind, now, path):
    """A value of KEY that is not NOW; PATH is a file that may be any of those that are named."""
    if kind == "bool":
        return now in ("false", False)
    if kind.startswith(("integer", "number")):
        return next(float(word) if "." in word else int(word) for word in re.findall(r"[\d.]+", kind) if word != str(now))
    if "|" in kind:
        return next(word for word in reversed(kind.replace("\\", "").split(" | ")) if word.strip() != now).strip()
    if kind.startswith("list"):
        return [79] if "integers" in kind else ["79"] if key.startswith("xid") else ["GPU-00000000-0000-0000-0000-000000000000"]
    return path if kind == "path" else ":1" if key == "metrics_address" else "example.com/other" if "resource" in key else "other"


def read_again(agent):
    """SIGHUP, and the lines of the log from there on."""
    before = agent.text()
    agent.child.send_signal(signal.SIGHUP)
    wait_for(lambda: "settings_read" in agent.text()[len(before):], 10, lambda: f"the settings: {agent.text()[-1000:]}")
    return agent.text()[len(before):]


@case
def each_setting_is_taken_or_told(build):
    with Node(build) as node:
        path = f"{node.folder}/other"
        with open(path, "w", encoding="utf-8") as out:
            out.write("{}")
        node.configure(node_config=f"{node.folder}/nodes.json")
        shutil.copy(path, node.settings["node_config"])
        agent = node.ready_agent()
        settings = settings_of(build)
        expect(len(settings) > 40 and sum(is_live for *_, is_live, _ in settings.values()) >= 3, f"the reference: {settings}")
        for key, (kind, default, is_live, _) in settings.items():
            before = node.settings.get(key)
            node.configure(**{key: another(key, kind, default if before is None else before, path)})
            told = re.findall(r"what=\"(.+?) has changed: that needs a restart", read_again(agent))
            follow = [one for one, (*_, what) in settings.items() if re.search(rf"\(default: [^)]*\b{key}\b", what)]
            equal(set(told), set() if is_live else {key, *follow}, f"{key} = {node.settings[key]}: what the log tells")
            node.configure(**{key: before})
            equal(re.findall("has changed", read_again(agent)), [], f"{key} as it was")
        with open(node.settings["node_config"], "w", encoding="utf-8") as out:
            json.dump({"nodeconfig": [{"name": "another", "devicesplitcount": 3}]}, out)
        equal(re.findall("has changed", read_again(agent)), [], "of another node")
        with open(node.settings["node_config"], "w", encoding="utf-8") as out:
            json.dump({"nodeconfig": [{"name": NODE, "devicesplitcount": 3}]}, out)
        expect("what node_config says of this node has changed: that needs a restart" in read_again(agent), agent.text()[-1000:])
        equal(len(node.kubelet.devices), 20, "devices, as before")


@case
def live_settings_take_effect(build):
    with Node(build, log_level="error") as node:
        agent = node.ready_agent()
        equal(agent.text(), "", "the log")
        expect("vGPU_device_memory_usage_in_bytes" not in agent.page("/metrics")[1], "older names")
        node.configure(log_level="debug", log_format="json", legacy_metrics=True)
        line = read_again(agent).splitlines()[0]
        equal(json.loads(line)["event"], "settings_read", line)
        node.run_pod("p", {"a": [(0, 1024, 0)]})
        agent.says("slice_made")
        wait_for(lambda: "vGPU_device_memory_usage_in_bytes" in agent.page("/metrics")[1], 10, "older names")


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
                                  (("set", "default/p/b", "--mem", "200%"), 1, "neither a size"),
                                  (("set", "default/p/a", "--cores-max", "10"), 1, "below cores 50"),
                                  (("set", "default/p/a", "--cores", "20", "--cores-max", "10"), 1, "below cores 20"),
                                  (("set", "default/p/b", "--cores-max", "10"), 1, "below cores 100")):
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
def a_promised_card_is_nobody_elses(build):
    """A pod that the scheduler has given a card has not started yet: a pod that bypassed it gets another one."""
    for promised in range(2):
        with Node(build, unscheduled_pods="whole-card") as node:
            node.ready_agent()
            uuids = node.uuids()
            node.place("slow", {"c": [(promised, 1024, 0)]})
            time.sleep(1)  # the watch tells it
            node.run_pod("p", {"a": [(0, 0, 0)]}, annotations={})
            told = wait_for(lambda node=node: node.api.pod("p")["metadata"]["annotations"].get("hami.io/vgpu-devices-allocated"),
                            5, "what it got")
            expect(told.startswith(f"{uuids[1 - promised]},NVIDIA,"), f"{promised} of {uuids} is promised: {told}")


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
    for is_behind in (False, True):
        infer(build, is_behind)


def infer(build, is_behind):
    with Node(build, identity="infer") as node:
        node.ready_agent()
        if is_behind:  # the agent's watch, as it may be for a moment
            node.api.ask("POST", "/stage/blind")
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


@case
def the_kubelet_restarts(build):
    with Node(build) as node:
        node.ready_agent()
        node.run_pod("p", {"a": [(0, 4096, 30)]})
        node.kubelet.tell(do="restart")
        wait_for(lambda: len(node.kubelet.registrations) == 2, 3, "the second registration")


if __name__ == "__main__":
    sys.exit(main())
