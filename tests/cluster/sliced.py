# SPDX-License-Identifier: Apache-2.0
"""A cluster whose node runs `tranched`: what its cases share."""
import contextlib
import json
import re
import sys

import config
import image
from cluster import Cluster, expect, pod_of, wait_for

TENANT_IMAGE = "tranche.test/tenant:1"
AGENT_CONFIG = "/etc/tranche/agent.yaml"
ADMIN = {"KUBECONFIG": f"{config.INSIDE}/admin.conf"}
RESOURCE = "nvidia.com/gpu"
GET = """import sys, urllib.request as u
u.install_opener(u.build_opener(u.ProxyHandler({})))
print(u.urlopen(u.Request(sys.argv[1], headers={"Accept": sys.argv[2]}), timeout=5).read().decode(), end="")"""
DECISION = "hami.io/vgpu-devices-allocated"


def container(name, mib=None, cores=0, command=("sleep", "600"), gpus=1, **more):
    limits = {}
    if mib is not None:
        limits = {"resources": {"limits": {RESOURCE: gpus, "nvidia.com/gpumem": mib, "nvidia.com/gpucores": cores}}}
    return {"name": name, "image": TENANT_IMAGE, "command": list(command), **limits, **more}


def gpu_pod(name, *containers, scheduler="binder", **spec):
    return pod_of(name, *containers, schedulerName=scheduler, **spec)


class Sliced(Cluster):
    """Cluster, with tranched and the binder as services of its node."""

    def __init__(self, state, build, gpus="gpus=h100", settings=None):
        super().__init__(state, build, gpus=[gpus] if isinstance(gpus, str) else gpus)
        self.settings = {"node_name": "node1", "hook_source": f"{self.build}/lib/libvgpu.so", **(settings or {})}

    def up(self, tied=False):
        super().up(tied)
        tar = f"{self.state}/images/tenant.tar"
        image.make(tar, TENANT_IMAGE, packages=["libc6"], busybox=True,
                   copies=[(f"{self.build}/bin/cli.tenant", "/usr/bin/tenant"), (f"{self.build}/bin/cli.spinner", "/usr/bin/spinner"),
                           (f"{self.build}/bin/sim_test_seen", "/usr/bin/seen")])
        self.import_image(tar)
        self.service("binder", f"{self.build}/bin/binder", "node1", "binder", env=ADMIN, again=True)
        self.configure()
        self.service("tranched", f"{self.build}/bin/tranched", "--config", AGENT_CONFIG, env=ADMIN, again=True)
        self.wait_offered()

    def configure(self, **changes):
        self.settings.update(changes)
        self.write(AGENT_CONFIG, "".join(f"{key}: {json.dumps(value)}\n" for key, value in self.settings.items()))

    def offered(self):
        return int(self.api("GET", "/api/v1/nodes/node1")["status"]["allocatable"].get(RESOURCE, "0"))

    def registered(self):
        text = self.api("GET", "/api/v1/nodes/node1")["metadata"].get("annotations", {}).get("hami.io/node-nvidia-register")
        return json.loads(text) if text else []

    def wait_offered(self, count=None, seconds=60):
        wait_for(lambda: self.registered() and (self.offered() == count if count is not None else self.offered()), seconds,
                 lambda: f"GPUs to be offered ({self.offered()}) and registered; the agent says\n" + self.log("tranched", 30))

    def tell_logs(self):
        super().tell_logs()
        for name in ("tranched", "binder"):
            print(f"---- {name}\n{self.log(name, 40)}")

    # ---- what its slices are

    def info(self, pod, name=None):
        """(MiB free, MiB in all) as the driver tells a program that starts now with an empty environment."""
        told = self.exec(pod, "env", "-i", "/usr/bin/tenant", container=name).stdout
        found = re.fullmatch(r"info (\d+) (\d+) 0\n", told)
        expect(found, f"{pod} {name}: {told!r}")
        return int(found[1]) >> 20, int(found[2]) >> 20

    def http(self, path, accept="text/plain"):
        """The agent's own, on its node."""
        return self.run(sys.executable, "-c", GET, f"http://127.0.0.1:9394{path}", accept).stdout

    def metrics(self, name, **labels):
        """{labels: value} of the family's series that have LABELS."""
        found = {}
        for line in self.http("/metrics").splitlines():
            told = re.fullmatch(r'(\w+)(?:\{(.*)\})? (\S+)', line)
            if told and told[1] == name:
                has = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', told[2] or ""))
                if labels.items() <= has.items():
                    found[frozenset(has.items())] = float(told[3])
        return found

    def metric(self, name, **labels):
        found = self.metrics(name, **labels)
        expect(len(found) == 1, lambda: f"one series of {name} with {labels}: {found}")
        return next(iter(found.values()))

    def debug_slices(self):
        return json.loads(self.http("/debug/slices", "application/json"))

    def slice_folders(self):
        done = self.run("ls", "/run/tranche/node/slices", check=False)
        return [name for name in done.stdout.split() if not name.startswith(".")]

    def cdi_devices(self):
        """The allocations that the runtime could give to a container."""
        told = self.run("sh", "-c", "cat /var/run/cdi/tranche-gpu-*.json 2>/dev/null", check=False).stdout
        return re.findall(r'"name": ?"(s[0-9a-f]+)"', told)

    def records(self):
        return self.run("ls", "/var/lib/tranche/records", check=False).stdout.split()

    def busy(self):
        """Nanoseconds that each process used of device 0, by the machine's own books; pids are the node's."""
        told = self.sim("busy")
        return told["now_ns"], {one["pid"]: one["busy_ns"] for one in told["devices"][0]["processes"]}

    def container_pids(self, pod, name):
        """All processes of a container, as the node numbers them."""
        status = self.pod(pod)["status"]
        each = status.get("containerStatuses", []) + status.get("initContainerStatuses", [])
        ident = next(one["containerID"] for one in each if one["name"] == name).removeprefix("containerd://")
        told = self.run("ctr", "-n", "k8s.io", "tasks", "ps", ident).stdout.splitlines()[1:]
        return [int(line.split()[0]) for line in told]

    @contextlib.contextmanager
    def without(self, service):
        self.stop(service)
        try:
            yield
        finally:
            self.start(service)


def delete_all(cluster, names):
    for name in names:
        cluster.api("DELETE", f"/api/v1/namespaces/default/pods/{name}", {"gracePeriodSeconds": 0})
    for name in names:
        wait_for(lambda name=name: not cluster._exists(f"/api/v1/namespaces/default/pods/{name}"), 120, f"the end of {name}")
