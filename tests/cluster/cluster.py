# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes of one node in namespaces of its own, for tests. People and scripts: ctl.py.

    with Cluster(state, build) as cluster:
        cluster.apply(pod_of("p", {"name": "a", "command": ["sleep", "600"]}))
        cluster.wait_pod("p")
        cluster.exec("p", "cat", "/etc/hostname").stdout
"""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import zlib

import config
import image
import node

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.append(f"{ROOT}/tests")

from claims import Cannot, case, equal, expect, main, wait_for  # noqa: E402,F401 (most for who imports this)

BASE_IMAGE = "tranche.test/base:1"
PLUGIN_RESOURCE = "tranche.test/gpu"  # of the service cdi-plugin
NODE = "node1"
MARK = "README"
PROGRAMS = {"runc": "runc", "openssl": "openssl", "ip": "iproute2", "nsenter": "util-linux", "ldconfig": "libc-bin"}
FILES = {"/usr/lib/cni/ptp": "containernetworking-plugins", image.BUSYBOX: "busybox-static"}


def in_folder(claim, build):
    """Runs a claim that has a cluster, and so a folder for its state."""
    with tempfile.TemporaryDirectory(prefix="tr-cluster-") as folder:
        claim(build, f"{folder}/c")


def _other_kubelet():
    """A kubelet that lives in our mount namespace uses the folder that ours needs for itself."""
    mine = os.readlink("/proc/self/ns/mnt")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8") as name:
            if name.read().strip() == "kubelet" and os.readlink(f"/proc/{pid}/ns/mnt") == mine:
                return f"a kubelet runs on this machine (pid {pid})"
    for path in ("/var/lib/kubelet/device-plugins/kubelet.sock", "/var/lib/kubelet/config.yaml"):
        if os.path.lexists(path):
            return f"this machine is a node of a cluster already ({path})"
    return None


def obstacle():
    """Why there can be no cluster on this machine; None: there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux can start a kubelet"
    for program, package in PROGRAMS.items():
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            return f"{program} is missing (Debian's {package})"
    for path, package in FILES.items():
        if not os.path.exists(path):
            return f"{path} is missing (Debian's {package})"
    tried = subprocess.run(["unshare", "-mnuip", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True,
                           text=True, check=False)
    if tried.returncode != 0:
        return f"namespaces and mounts are not allowed here: {tried.stderr.strip()}"
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        if not any(" - cgroup" in line for line in lines):
            return "no control groups are mounted"
    return _other_kubelet()


def build_programs():
    """Minutes when there is nothing yet, no time when there is."""
    built = subprocess.run([f"{HERE}/build.sh"], stderr=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        raise Cannot(built.stderr.strip().removeprefix("cluster: "))


class Cluster:
    """One cluster, whose files are all below STATE. Not safe for several threads."""

    def __init__(self, state, build=None, gpus=("gpus=h100",), more=None):
        """GPUS: settings of the simulated machine, () for none. MORE: {service: [words for its command line]}."""
        self.state = os.path.abspath(state)
        self.build = os.path.abspath(build or f"{ROOT}/build")
        self.gpus, self.more = list(gpus), more or {}
        self.bin = os.path.realpath(f"{ROOT}/.deps/cluster/bin")
        self.cgroup = f"tranche-{zlib.crc32(self.state.encode()):08x}"
        self.kubeconfig = f"{self.state}/kubeconfig"
        self.keeper = None

    def __enter__(self):
        try:
            self.up(tied=True)
        except Cannot:
            raise  # nothing was begun, and what is there may be another's
        except BaseException:
            self.tell_logs()
            self.down()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind and issubclass(kind, Exception):
            self.tell_logs()
        self.down()

    # ---- its life

    def running(self):
        """{"node": pid of the node's process 1, "keeper": pid}, or None."""
        try:
            with open(f"{self.state}/running.json", encoding="utf-8") as text:
                told = json.load(text)
            with open(f"/proc/{told['keeper']}/cmdline", "rb") as text:
                words = text.read().split(b"\0")
        except (OSError, ValueError):
            return None
        return told if os.fsencode(self.state) in words else None

    def _start_keeper(self, tied):
        listener = socket.create_server(("127.0.0.1", 0))
        settings = {"name": NODE, "port": listener.getsockname()[1], "cgroup": self.cgroup, "gpus": self.gpus,
                    "bin": self.bin, "sim": f"{self.build}/lib/sim", "more": self.more, "tied": tied,
                    "shared": [p for p in (ROOT, self.build, self.state, self.bin) if os.path.isdir(p)]}
        with open(f"{self.state}/settings.json", "w", encoding="utf-8") as out:
            json.dump(settings, out)
        config.write_secrets(self.state, settings)
        with listener, open(f"{self.state}/logs/node.log", "ab") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, f"{HERE}/node.py", self.state, str(listener.fileno())], start_new_session=True,
                pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: self.running() or self.keeper.poll() is not None, 30, "the node's namespaces")
        if self.keeper.poll() is not None:
            raise AssertionError("the node did not start: " + self.log("node"))

    def up(self, tied=False):
        """Returns when pods can be made. TIED: it ends when this process does, however. Cannot: the machine's fault."""
        if why := obstacle():
            raise Cannot(why)
        if self.running():
            raise Cannot(f"{self.state} holds a cluster that runs already")
        build_programs()
        if self.gpus and not os.path.exists(f"{self.build}/lib/sim/libcuda.so.1"):
            raise Cannot(f"{self.build}/lib/sim is not built")
        self.down()
        if os.path.isdir(self.state) and os.listdir(self.state):
            raise Cannot(f"{self.state} is not empty, and no cluster's")
        for name in ("logs", "root", "images"):
            os.makedirs(f"{self.state}/{name}")
        with open(f"{self.state}/{MARK}", "w", encoding="utf-8") as out:
            out.write("The files of a cluster of tests/cluster, which removes them.\n")
        self._start_keeper(tied)
        base, pause = f"{self.state}/images/base.tar", f"{self.state}/images/pause.tar"
        image.make(base, BASE_IMAGE, packages=["libc6", "libgcc-s1"], busybox=True)
        image.make(pause, config.PAUSE_IMAGE, copies=[(image.BUSYBOX, "/bin/sleep")], command=["/bin/sleep", "2147483647"])
        wait_for(self._containerd_answers, 60, lambda: "containerd: " + self.log("containerd"))
        self.import_image(base, pause)
        wait_for(lambda: self._is_ready("/readyz"), 120, lambda: "the API server: " + self.log("kube-apiserver"))
        for name in ("kube-controller-manager", "kubelet", "kube-scheduler"):
            self.ask("start", name)
        wait_for(self._takes_pods, 120, lambda: "the node to be ready: " + self.log("kubelet"))

    def _containerd_answers(self):
        return self.run("ctr", "--connect-timeout", "1s", "version", check=False).returncode == 0

    def _is_ready(self, path):
        try:
            return self.api("GET", path, text=True) == "ok"
        except (OSError, http.client.HTTPException, ApiError):
            return False

    def _takes_pods(self):
        try:
            node = self.api("GET", f"/api/v1/nodes/{NODE}")
            self.api("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        except (ApiError, OSError):
            return False
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
        return ready and not node["spec"].get("taints")

    def down(self):
        """Ends it, whatever state it is in; also what one that was killed has left behind."""
        if told := self.running():
            os.kill(told["keeper"], signal.SIGTERM)
            wait_for(lambda: self.keeper and self.keeper.poll() is not None or not self.running(), 60, "the node's end")
        if self.keeper:
            if self.keeper.poll() is None:
                self.keeper.terminate()
            self.keeper.wait(60)
        node.remove_cgroups(self.cgroup, node.cgroup_roots())
        if os.path.exists(f"{self.state}/{MARK}"):
            shutil.rmtree(self.state, ignore_errors=True)
        self.keeper = None

    # ---- the node

    def ask(self, do, name=None, **more):
        """What process 1 of the node can do: start, stop, restart, add, status."""
        where = os.open(self.state, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
                connection.connect(f"/proc/self/fd/{where}/control")  # short, however long the path is
                with connection.makefile("rw", encoding="utf-8") as lines:
                    lines.write(json.dumps({"do": do, "name": name, **more}) + "\n")
                    lines.flush()
                    answer = json.loads(lines.readline())
        finally:
            os.close(where)
        if "error" in answer:
            raise AssertionError(f"{do} {name}: {answer['error']}")
        return answer

    def start(self, name):
        return self.ask("start", name)

    def stop(self, name, signum=signal.SIGTERM):
        return self.ask("stop", name, signal=int(signum))

    def restart(self, name, signum=signal.SIGTERM):
        return self.ask("restart", name, signal=int(signum))

    def service(self, name, *argv, env=None, again=False):
        """Starts one more service of the node; stop(), start() and restart() know it from now on. AGAIN: and if it
        ends by itself it is started again, as the node's own are."""
        self.ask("add", name, argv=list(argv), env=env or {}, again=again)
        return self.ask("start", name)

    def enter(self, *argv, env=None):
        told = self.running()
        if not told:
            raise AssertionError("the cluster does not run")
        path = f"{self.bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        words = [f"PATH={path}", f"KUBECONFIG={config.INSIDE}/admin.conf", *[f"{k}={v}" for k, v in (env or {}).items()]]
        return ["nsenter", "-t", str(told["node"]), "-m", "-n", "-u", "-i", "-p", "--", "env", *words, *argv]

    def run(self, *argv, env=None, check=True, timeout=60, **more):
        """A command on the node, as root: subprocess.run() with its output as text."""
        done = subprocess.run(self.enter(*argv, env=env), capture_output=True, text=True, timeout=timeout, check=False,
                              **more)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: exit status {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def popen(self, *argv, env=None, **more):
        """The same in the background. It ends with the node at the latest."""
        return subprocess.Popen(self.enter(*argv, env=env), text=True, **more)

    def write(self, path, text):
        """A file on the node."""
        self.run("sh", "-c", f'mkdir -p "$(dirname "{path}")" && cat >"{path}.new" && mv "{path}.new" "{path}"', input=text)

    def sim(self, command):
        """What `sim-ctl COMMAND --json` tells of the simulated machine, read from outside the node."""
        told = subprocess.run([f"{self.build}/lib/sim/sim-ctl", command, "--json"], capture_output=True, text=True,
                              env=dict(os.environ, TRANCHE_SIM=f"{self.state}/sim"), check=True)
        return json.loads(told.stdout)

    def import_image(self, *tars):
        for tar in tars:
            self.run("ctr", "-n", "k8s.io", "images", "import", os.path.abspath(tar), timeout=300)

    def log(self, name, lines=15):
        try:
            with open(f"{self.state}/logs/{name}.log", encoding="utf-8", errors="replace") as text:
                return "\n".join(text.read().splitlines()[-lines:])
        except OSError as error:
            return str(error)

    def tell_logs(self):
        for name in ("node", "containerd", "kubelet"):
            print(f"---- {name}\n{self.log(name)}", file=sys.stderr)

    # ---- the cluster

    def api(self, method, path, body=None, text=False, kind="application/json", timeout=30):
        """A request as an administrator: the answer as an object, or as TEXT. ApiError: its status and reason."""
        with open(f"{self.state}/settings.json", encoding="utf-8") as settings:
            port = json.load(settings)["port"]
        pki = f"{self.state}/kubernetes"
        context = ssl.create_default_context(cafile=f"{pki}/ca.crt")
        context.load_cert_chain(f"{pki}/admin.crt", f"{pki}/admin.key")
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": kind})
            answer = connection.getresponse()
            content = answer.read().decode(errors="replace")
        if answer.status >= 300:
            raise ApiError(answer.status, content)
        return content if text else json.loads(content)

    def kubectl_words(self):
        return [f"{self.bin}/kubectl", f"--kubeconfig={self.kubeconfig}"]

    def kubectl(self, *words, check=True, timeout=60, **more):
        done = subprocess.run([*self.kubectl_words(), *words], capture_output=True, text=True, timeout=timeout,
                              check=False, **more)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done

    def apply(self, what):
        """A file's path, or an object, or a list of objects."""
        if isinstance(what, str):
            return self.kubectl("apply", "-f", what)
        items = what if isinstance(what, list) else [what]
        return self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def pod(self, name, namespace="default"):
        return self.api("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")

    def delete_pod(self, name, namespace="default", grace=0, seconds=60):
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        self.api("DELETE", path, {"gracePeriodSeconds": grace})
        wait_for(lambda: not self._exists(path), seconds, f"pod {name} to be gone")

    def _exists(self, path):
        try:
            self.api("GET", path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def wait_pod(self, name, phase="Running", namespace="default", seconds=60):
        """Until it is in PHASE; Running: and all its containers are ready. The pod."""
        def there():
            pod = self.pod(name, namespace)
            states = pod["status"].get("containerStatuses", [])
            ready = phase != "Running" or states and all(s["ready"] for s in states)
            return pod if pod["status"].get("phase") == phase and ready else None

        def why():
            status = self.pod(name, namespace)["status"]
            return f"pod {name} to be {phase}; it is {json.dumps(status)}; {self.events(name, namespace)}"

        return wait_for(there, seconds, why)

    def exec(self, pod, *argv, container=None, namespace="default", check=True, timeout=60, **more):
        where = ["-c", container] if container else []
        return self.kubectl("exec", "-i", "-n", namespace, pod, *where, "--", *argv, check=check, timeout=timeout, **more)

    def logs(self, pod, container=None, namespace="default"):
        where = f"?container={container}" if container else ""
        return self.api("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log{where}", text=True)

    def events(self, name, namespace="default"):
        """What is said of the object: ["Reason: message", ...], oldest first."""
        told = self.api("GET", f"/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name%3D{name}")
        return [f"{one['reason']}: {one['message']}" for one in
                sorted(told["items"], key=lambda one: one.get("lastTimestamp") or one.get("eventTime") or "")]

    def bind(self, name, annotations=None, namespace="default", node=NODE, uid=None):
        """One write that binds the pod and sets its annotations, as a scheduler's would be."""
        meta = {"name": name, "annotations": annotations or {}, **({"uid": uid} if uid else {})}
        self.api("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/binding", {
            "apiVersion": "v1", "kind": "Binding", "metadata": meta,
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}})


class ApiError(Exception):
    def __init__(self, status, content):
        super().__init__(f"{status}: {content}")
        self.status = status


def pod_of(name, *containers, **spec):
    """A pod of the base image that is never restarted; each container: {"name", "command", ...}."""
    ready = [{"image": BASE_IMAGE, "imagePullPolicy": "Never", **one} for one in containers]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": ready, **spec}}

