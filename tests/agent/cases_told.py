# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: what its metrics and its log tell of what went wrong."""
from rig import Node, case, equal, expect, wait_for


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
