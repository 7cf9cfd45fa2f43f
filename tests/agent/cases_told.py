# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: what its metrics and its log tell of what went wrong."""
import json
import os
import re
import signal
import subprocess
import time

from rig import NODE, Node, case, equal, expect, wait_for


def samples(agent, family):
    """{labels: value} of a family"""
    out = {}
    for line in agent.page("/metrics")[1].splitlines():
        name, _, rest = line.partition("{")
        if name == family and rest:
            labels, _, value = rest.rpartition("} ")
            out[labels] = float(value)
    return out


@case
def refused_calls_are_counted(build):
    with Node(build) as node:
        agent = node.ready_agent()
        for what, count in (("Allocate", 2), ("PreStartContainer", 3)):
            for _ in range(count):
                expect(node.kubelet.call(what, ["GPU-none-0"])["code"] != 0, f"{what} of ids that nobody offered")
        errors = samples(agent, "tranche_rpc_errors_total")
        equal((errors['method="Allocate"'], errors['method="PreStartContainer"']), (2, 3), "errors")
        node.place("p", {"a": [(0, 1024, 0)]})
        # Who scrapes again at once is told the same.
        wait_for(lambda: samples(agent, "tranche_rpc_duration_seconds_count")['method="Allocate"'] == 3, 10, "a call")
        equal(samples(agent, "tranche_rpc_duration_seconds_count")['method="PreStartContainer"'], 3, "calls")
        equal(samples(agent, "tranche_rpc_errors_total"), errors, "errors after one that went well")


@case
def what_is_refused_later_is_counted(build):
    with Node(build, identity="infer") as node:
        agent = node.ready_agent()
        ids = sorted(node.kubelet.devices)
        for one in ids[:3]:
            expect(node.kubelet.call("Allocate", [one])["code"] != 0, "no pod waits")
        equal(samples(agent, "tranche_rpc_errors_total")['method="Allocate"'], 3, "errors")
        equal(samples(agent, "tranche_rpc_duration_seconds_count")['method="Allocate"'], 3, "calls")
        took = samples(agent, "tranche_rpc_duration_seconds_sum")['method="Allocate"']
        expect(took > 0.0003, f"{took} s for three questions to the kubelet and the API server")


@case
def a_refusal_says_whose_it_is(build):
    with Node(build, log_format="json") as node:
        agent = node.ready_agent()
        ids = sorted(node.kubelet.devices)[:2]

        def last_refusal():
            lines = [line for line in map(json.loads, agent.text().splitlines()) if line["event"] == "slice_refused"]
            return lines[-1] if lines else {}

        for what in ("Allocate", "PreStartContainer"):
            expect(node.kubelet.call(what, [f"GPU-{what}", ids[0]])["code"] != 0, "an id that nobody offers")
            wait_for(lambda what=what: last_refusal().get("device") == f"GPU-{what}", 5, last_refusal)
            equal(last_refusal()["device_count"], "2", "how many")
            expect(f"GPU-{what}" in last_refusal()["reason"], last_refusal())
        node.api.make_pod("p", [("a", 2)], {"hami.io/vgpu-devices-allocated": "junk"})
        equal(node.kubelet.call("Allocate", ids)["code"], 0, "Allocate")
        node.kubelet.set_rows([{"namespace": "default", "pod": "p", "container": "a", "ids": ids}])
        expect(node.kubelet.call("PreStartContainer", ids)["code"] != 0, "no decision")
        wait_for(lambda: last_refusal().get("pod") == "p", 5, last_refusal)
        told = last_refusal()
        equal((told["namespace"], told["container"], told["device"], told["device_count"]),
              ("default", "a", ids[0], "2"), "whose it is")
        made, = [line for line in map(json.loads, agent.text().splitlines()) if line["event"] == "slice_made"]
        equal((made["device"], made["device_count"]), (ids[0], "2"), "what was allocated before anybody knew for whom")


@case
def a_preference_that_is_refused_is_told(build):
    with Node(build, log_format="json", preferred_allocation=True) as node:
        agent = node.ready_agent()
        ids = sorted(node.kubelet.devices)
        equal(node.kubelet.call("GetPreferredAllocation", ids[:2])["code"], 0, "one of two")

        def told():
            return [line for line in map(json.loads, agent.text().splitlines()) if line["event"] == "preference_refused"]

        equal(told(), [], "nothing to say")
        expect(node.kubelet.call("GetPreferredAllocation", ["GPU-none-0", ids[0]])["code"] != 0, "nobody offers it")
        wait_for(told, 5, agent.text)
        line = told()[0]
        equal((line["device"], line["device_count"]), ("GPU-none-0", "2"), line)
        expect("GPU-none-0" in line["reason"], line)


@case
def faults_of_a_gpu_in_mig_mode_are_told(build):
    with Node(build, gpus="2xa100-40") as node:
        subprocess.run([f"{node.libs}/sim-ctl", "device", "1", "mig=3"], check=True, env=node.env)
        agent = node.agent()
        node.kubelet.wait_devices(lambda d: all(d.values()) and sum(name.startswith("MIG-") for name in d) == 3, 20)
        node.wait_control()
        whole = next(uuid for uuid in node.uuids() if uuid.startswith("GPU-"))
        node.ctl("device", "0", "xid=31")
        node.ctl("device", "1", "xid=48")
        wait_for(lambda: len(samples(agent, "tranche_device_xids_total")) == 2, 15,
                 lambda: samples(agent, "tranche_device_xids_total"))
        told = samples(agent, "tranche_device_xids_total")
        equal(list(told.values()), [1, 1], told)
        for labels in told:
            mine = 'device_index="0"' in labels
            equal(('xid="31"' in labels, f'device_uuid="{whole}"' in labels), (mine, mine), labels)
            expect('device_uuid="GPU-' in labels and " MIG " not in labels, labels)


@case
def faults_of_a_gpu_that_is_not_offered_are_told(build):
    with Node(build, filter_indexes=[1]) as node:
        agent = node.ready_agent(10)
        node.ctl("device", "1", "xid=48")
        wait_for(lambda: samples(agent, "tranche_device_xids_total"), 15, agent.text)
        labels, = samples(agent, "tranche_device_xids_total")
        expect('device_index="",device_uuid="GPU-' in labels and node.uuids()[0] not in labels and 'xid="48"' in labels, labels)


@case
def nvlinks_that_do_not_match_are_an_event(build):
    with Node(build, topology_scores=True, nvml_library=f"{os.path.abspath(build)}/bin/oddlinks.so") as node:
        agent = node.ready_agent()

        def events():
            items = node.api.ask("GET", "/api/v1/namespaces/default/events")["items"]
            return [event for event in items if event["reason"] == "GPULinksDiffer"]

        wait_for(events, 10, agent.text)
        event = events()[0]
        equal((event["type"], event["involvedObject"]["kind"], event["involvedObject"]["name"]), ("Warning", "Node", NODE), event)
        expect(all(uuid in event["message"] for uuid in node.uuids()) and "different NVLinks" in event["message"], event)
        scores = json.loads(node.api.node_annotations()["hami.io/node-nvidia-score"])
        equal([list(line["score"].values()) for line in scores], [[0], [0]], scores)


@case
def a_grant_that_is_refused_is_told_once(build):
    """It is tried again every five seconds, and anybody may have written it."""
    with Node(build) as node:
        agent = node.ready_agent()
        node.run_pod("p", {"a": [(0, 1000, 10)]})

        def told():
            return [line for line in agent.text().splitlines() if "event=grant_refused" in line]

        for number, grant in enumerate(("junk", "more junk of another form"), 1):
            node.api.patch_pod("p", {"metadata": {"annotations": {"tranche.io/granted": grant}}})
            wait_for(lambda number=number: len(told()) >= number, 5, agent.text)
            time.sleep(11)
            equal(len(told()), number, told())
        expect("pod=p" in told()[0], told())


@case
def it_says_what_it_was_built_from(build):
    with Node(build) as node:
        agent = node.ready_agent()
        labels = next(iter(samples(agent, "tranche_build_info")))
        expect(re.search(r'revision="([0-9a-f]{12}(-dirty)?|unknown)",build_date="(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|unknown)"',
                         labels), labels)
        told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        says = subprocess.run([f"{node.build}/bin/tranched", "--version"], capture_output=True, text=True, check=True).stdout
        equal(says, f"tranched {told['version']} ({told['revision']}, {told['build_date']})\n", "--version")
        agent.says(f"event=starting version={told['version']} revision={told['revision']} ")


@case
def a_kubelet_that_dies_is_missed_at_once(build):
    with Node(build) as node:
        agent = node.ready_agent()

        def is_listened_to():
            return next(line.split()[1] == "1" for line in agent.page("/metrics")[1].splitlines()
                        if line.startswith("tranche_kubelet_registered"))

        expect(is_listened_to(), "registered")
        # Its socket stays.
        node.kubelet.child.send_signal(signal.SIGKILL)
        node.kubelet.child.wait()
        # A page is a second old at most; that it has to be asked again shows after three.
        wait_for(lambda: agent.page("/readyz")[0] == 503 and not is_listened_to(), 2.5,
                 lambda: f"/readyz: {agent.page('/readyz')}, registered: {is_listened_to()}")
        expect("kubelet: " in agent.page("/readyz")[1], agent.page("/readyz"))
        told = agent.ask(do="status")
        expect(not told["ready"] and told["kubelet"]["state"] != "registered", told)


@case
def F36_series_of_what_waits_come_soon(build):
    """All of a container's, zeros too, from soon after its allocation: the agent asks who it is for at once, not at its
    next look five seconds later."""
    with Node(build) as node:
        agent = node.ready_agent()

        def armed(name):
            told = samples(agent, "tranche_container_armed")
            return {labels: value for labels, value in told.items() if f'pod="{name}"' in labels}

        node.place("first", {"a": [(0, 1000, 10)]})
        wait_for(lambda: armed("first"), 15, "its series")
        took = []
        for number in range(3):  # each right behind a look; a machine may be slow once
            began = time.monotonic()
            node.place(f"p{number}", {"a": [(0, 1000, 10)]})
            wait_for(lambda number=number: armed(f"p{number}"), 15, "its series")
            took.append(time.monotonic() - began)
        expect(min(took) < 3.5, f"series after {took} s")
        equal(set(armed("p2").values()), {0}, "not armed")
        node.run_pod("q", {"a": [(0, 1000, 10)]})
        wait_for(lambda: any('pod="q"' in labels for labels in samples(agent, "tranche_container_gpu_busy_seconds_total")), 3,
                 "NVML's view of an idle container")
