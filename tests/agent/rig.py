# SPDX-License-Identifier: Apache-2.0
"""A node for the agent as a program: a simulated GPU machine with its driver, a kubelet (kubelet.c), an API server
(tests/kube), and tranched between them. All of it in one folder on a tmpfs, on loopback and Unix sockets."""
import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.dirname(HERE))

from claims import Cannot, case, equal, expect, main, wait_for  # noqa: E402,F401 (some for who imports this)
from replay import Connection  # noqa: E402

NODE = "node-a"
RESOURCE = "nvidia.com/gpu"
GIB = 1 << 30
UUID_TEXT = 40  # "GPU-" or "MIG-" and 36 more; ids of a card begin with it


class Kubelet:
    """kubelet.c, driven."""

    def __init__(self, node):
        self.child = subprocess.Popen([f"{node.build}/bin/agent-kubelet", node.kubelet_dir, node.pods_socket, RESOURCE],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.node = node
        self.numbers = itertools.count(1)
        self.answers, self.devices, self.registrations, self.registered_at = {}, {}, [], None
        self.lists = 0
        self.rows = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            told = json.loads(line)
            if told.get("event") == "devices":
                self.devices = {d["ID"]: d["health"] == "Healthy" for d in told["devices"]}
                self.lists += 1
            elif told.get("event") == "registered":
                self.registered_at = time.monotonic()
                self.registrations.append(told)
            else:
                self.answers.setdefault(told["id"], queue.Queue()).put(told)

    def tell(self, **what):
        self.child.stdin.write(json.dumps(what) + "\n")
        self.child.stdin.flush()

    def start(self, what, ids):
        number = next(self.numbers)
        self.answers[number] = queue.Queue()
        self.tell(id=number, do=what, ids=ids)
        return number

    def end(self, number, seconds=40):
        answer = self.answers[number].get(timeout=seconds)
        del self.answers[number]
        return answer

    def call(self, what, ids):
        return self.end(self.start(what, ids))

    def replay(self, what, all_ids):
        """[(milliseconds, whether it was granted)]: calls that go all at once, by a client that works next to nothing."""
        with contextlib.closing(Connection(f"{self.node.kubelet_dir}/{self.registrations[-1]['endpoint']}")) as plugin:
            return plugin.replay(what, all_ids)

    def set_rows(self, rows):
        """What PodResources tells, and, as the kubelet has it before a container starts, the checkpoint."""
        self.rows = rows
        entries = [{"PodUID": self.node.api.uids[row["pod"]], "ContainerName": row["container"], "ResourceName": RESOURCE,
                    "DeviceIDs": {"-1": row["ids"]}, "AllocResp": "x" * 1200}
                   for row in rows if row["pod"] in self.node.api.uids]
        path = f"{self.node.kubelet_dir}/kubelet_internal_checkpoint"
        with open(f"{path}.new", "w", encoding="utf-8") as out:
            json.dump({"Data": {"PodDeviceEntries": entries, "RegisteredDevices": {}}, "Checksum": 0}, out)
        os.rename(f"{path}.new", path)
        self.tell(do="rows", rows=rows)

    def wait_devices(self, truth, seconds, what="devices"):
        return wait_for(lambda: truth(self.devices), seconds, lambda: f"{what}; there are {self.devices}")

    def stop(self):
        self.child.stdin.close()
        self.child.wait(10)


class Api:
    """tests/kube/apiserver.py over HTTP: one scene."""

    def __init__(self, node):
        folder = f"{node.folder}/api"
        os.mkdir(folder)
        self.uids = {}  # by the pod's name; of the latest of that name
        self.child = subprocess.Popen([sys.executable, f"{HERE}/../kube/apiserver.py", folder], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        port = self.child.stdout.readline().split()[1]
        self.server = f"http://127.0.0.1:{port}/agent"
        self.kubeconfig = f"{node.folder}/kubeconfig"
        with open(self.kubeconfig, "w", encoding="utf-8") as out:
            json.dump({"clusters": [{"name": "c", "cluster": {"server": self.server}}], "users": [],
                       "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}], "current-context": "c"}, out)
        self.ask("POST", "/api/v1/nodes", {"kind": "Node", "apiVersion": "v1", "metadata": {"name": NODE}, "status": {}})

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.server + path, method=method,
                                         data=json.dumps(body).encode() if body is not None else None)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as refused:
            if refused.code == 404:
                return None
            raise

    def pod(self, name):
        return self.ask("GET", f"/api/v1/namespaces/default/pods/{name}")

    def node_annotations(self):
        return self.ask("GET", f"/api/v1/nodes/{NODE}")["metadata"].get("annotations", {})

    def make_pod(self, name, containers, annotations, init=()):
        def one(container):
            word, count = container
            return {"name": word, "resources": {"limits": {RESOURCE: str(count)}} if count else {}}

        made = self.ask("POST", "/api/v1/namespaces/default/pods", {
            "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "annotations": annotations},
            "spec": {"nodeName": NODE, "containers": [one(c) for c in containers],
                     "initContainers": [one(c) for c in init]},
            "status": {"phase": "Pending"}})
        self.uids[name] = made["metadata"]["uid"]
        return made

    def patch_pod(self, name, patch):
        return self.ask("PATCH", f"/api/v1/namespaces/default/pods/{name}", patch)

    def delete_pod(self, name):
        return self.ask("DELETE", f"/api/v1/namespaces/default/pods/{name}")

    def stop(self):
        self.child.stdin.close()
        self.child.wait(10)


class Agent:
    """One run of tranched."""

    def __init__(self, node, *words, env=None, before=()):
        self.node = node
        self.log_path = f"{node.folder}/agent-{next(node.numbers)}.log"
        self.log = open(self.log_path, "w", encoding="utf-8")
        self.started_at = time.monotonic()
        self.child = subprocess.Popen([*before, f"{node.build}/bin/tranched", "--config", node.config_path, *words],
                                      stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env or node.env)

    def text(self):
        self.log.flush()
        with open(self.log_path, encoding="utf-8") as log:
            return log.read()

    def says(self, words, seconds=10):
        wait_for(lambda: words in self.text(), seconds, lambda: f"{words!r} in the log:\n{self.text()}")

    def ask(self, **request):
        """A reply of the control socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(f"{self.node.folder}/run/control")
            client.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(b"".join(iter(lambda: client.recv(65536), b"")))

    def page(self, path):
        """(status, text) of the HTTP server."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.node.port}{path}", timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def rss_anon_kib(self):
        with open(f"/proc/{self.child.pid}/status", encoding="utf-8") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))

    def cpu_s(self):
        with open(f"/proc/{self.child.pid}/stat", encoding="utf-8") as line:
            fields = line.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, how=signal.SIGTERM, seconds=15):
        if self.child.poll() is None:
            self.child.send_signal(how)
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired as late:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f"the agent did not end:\n{self.text()}") from late


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Node:
    def __init__(self, build, gpus="2xh100", with_api=True, **settings):
        self.build = os.path.abspath(build)
        if os.geteuid() != 0:
            raise Cannot("only root may be a node")
        self.numbers = itertools.count()
        self.agents = []
        self.folder = tempfile.mkdtemp(prefix="tr-agent-", dir="/dev/shm")
        self.kubelet_dir, self.pods_socket = f"{self.folder}/kubelet", f"{self.folder}/pods.sock"
        self.sim, self.libs = f"{self.folder}/sim", f"{self.build}/lib/sim"
        self.config_path, self.port = f"{self.folder}/config.yaml", free_port()
        os.mkdir(self.kubelet_dir)
        os.mkdir(self.sim)
        # The probe preloads the library, also where it has a sanitizer.
        self.env = {"PATH": os.environ["PATH"], "TRANCHE_SIM": self.sim,
                    "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=1"}
        self.gpus = gpus
        self.kubelet = self.api = None
        self.install_driver()
        if gpus:
            self.ctl("start", self.sim, f"gpus={gpus}")
        self.with_api = with_api
        self.settings = {
            "node_name": NODE, "run_dir": f"{self.folder}/run", "state_dir": f"{self.folder}/state",
            "cdi_dir": f"{self.folder}/cdi", "lib_dir": f"{self.folder}/lib", "kubelet_dir": self.kubelet_dir,
            "pod_resources_socket": self.pods_socket, "metrics_address": f"127.0.0.1:{self.port}",
            "driver_root": f"{self.folder}/driver", "nvml_library": f"{self.libs}/libnvidia-ml.so.1",
            "kubeconfig": f"{self.folder}/kubeconfig", "log_level": "debug", **settings}
        self.configure()

    def ctl(self, *words, check=True):
        """Of the simulated machine."""
        subprocess.run([f"{self.libs}/sim-ctl", *words], env=self.env, stdout=subprocess.DEVNULL, check=check)

    def install_driver(self):
        folder = f"{self.folder}/driver/usr/lib/{os.uname().machine}-linux-gnu"
        os.makedirs(folder)
        for name in ("libcuda.so", "libnvidia-ml.so"):
            shutil.copy(f"{self.libs}/{name}.1", f"{folder}/{name}.580.95.05")
            os.symlink(f"{name}.580.95.05", f"{folder}/{name}.1")
        os.mkdir(f"{self.folder}/driver/dev")
        os.symlink("/dev/null", f"{self.folder}/driver/dev/nvidiactl")  # a device node, for who looks

    def configure(self, **more):
        self.settings.update(more)
        with open(self.config_path, "w", encoding="utf-8") as out:
            for key, value in self.settings.items():
                if value is not None:
                    out.write(f"{key}: {json.dumps(value)}\n")

    def __enter__(self):
        self.kubelet = Kubelet(self)
        if self.with_api:
            self.api = Api(self)
        return self

    def __exit__(self, kind, *_):
        for agent in self.agents:
            with contextlib.suppress(AssertionError):
                agent.stop()
            if kind:
                print(f"---- {agent.log_path}\n{agent.text()[-6000:]}")
        for part in (self.kubelet, self.api):
            if part:
                part.stop()
        if self.gpus:
            self.ctl("stop", self.sim, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def agent(self, *words, **more):
        self.kubelet.devices = {}  # of the one before
        self.agents.append(Agent(self, *words, **more))
        return self.agents[-1]

    def wait_control(self):
        wait_for(lambda: os.path.exists(f"{self.folder}/run/control"), 10, "the control socket")

    def ready_agent(self, count=20, seconds=20):
        """One that has offered COUNT devices."""
        agent = self.agent()
        self.kubelet.wait_devices(lambda d: len(d) == count and all(d.values()), seconds, f"{count} healthy devices")
        self.wait_control()
        if self.api and self.settings["kubeconfig"] == self.api.kubeconfig:
            wait_for(lambda: agent.ask(do="status")["api"]["watching"], 10, "the watch")
        return agent

    # ---- pods

    def uuids(self):
        return sorted({name[:UUID_TEXT] for name in self.kubelet.devices})

    def place(self, name, slices, annotations=None):
        """A pod of containers with the SLICES {container: [(card's number, MiB, percent), ...]}: made, and allocated as
        the kubelet does it, but not started. Their ids."""
        uuids = self.uuids()
        decision = "".join("".join(f"{uuids[card]},NVIDIA,{mib},{cores}:" for card, mib, cores in parts) + ";"
                           for parts in slices.values())
        marks = {"hami.io/vgpu-devices-allocated": decision} if annotations is None else annotations
        self.api.make_pod(name, [(word, len(parts)) for word, parts in slices.items()], marks)
        used = {i for row in self.kubelet.rows for i in row["ids"]}
        free = [i for i in sorted(self.kubelet.devices) if i not in used]
        rows = list(self.kubelet.rows)
        out = {}
        for word, parts in slices.items():
            ids, free = free[:len(parts)], free[len(parts):]
            answer = self.kubelet.call("Allocate", ids)
            equal(answer["code"], 0, f"Allocate: {answer['says']}")
            out[word] = {"ids": ids, "answer": answer["reply"]["container_responses"][0]}
            rows.append({"namespace": "default", "pod": name, "container": word, "ids": ids})
        self.kubelet.set_rows(rows)
        return out

    def run_pod(self, name, slices, annotations=None):
        """The same, started: every container's PreStart is answered."""
        out = self.place(name, slices, annotations)
        for word, one in out.items():
            answer = self.kubelet.call("PreStartContainer", one["ids"])
            equal(answer["code"], 0, f"PreStart of {word}: {answer['says']}")
        self.api.patch_pod(name, {"status": {"phase": "Running"}})
        return out

    def injected(self):
        """Names of the CDI devices of containers."""
        out = []
        for name in os.listdir(f"{self.folder}/cdi"):
            if name.startswith("tranche-gpu-") and name.endswith(".json"):
                with open(f"{self.folder}/cdi/{name}", encoding="utf-8") as text:
                    out += [device["name"] for device in json.load(text)["devices"]]
        return out

    def end_pod(self, name):
        self.api.delete_pod(name)
        self.kubelet.set_rows([row for row in self.kubelet.rows if row["pod"] != name])

    def tranche(self, *words):
        """`tranche node ...` of a person on this node: (exit status, what it printed)."""
        done = subprocess.run([f"{self.build}/bin/tranche", "node", *words, "--socket", f"{self.folder}/run/control"],
                              capture_output=True, text=True, env=self.env, timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(f"{self.folder}/run/control")
        return client

    def ask_raw(self, line):
        with self.connect() as client:
            with contextlib.suppress(OSError):
                client.sendall(line)
            out = b""
            with contextlib.suppress(ConnectionError):
                while more := client.recv(65536):
                    out += more
            return out
