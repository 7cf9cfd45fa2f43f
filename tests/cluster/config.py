# SPDX-License-Identifier: Apache-2.0
"""What the parts of the cluster are told: certificates, kubeconfigs, command lines and files of the node."""
import json
import os
import subprocess

import ns
from machine import NODE_IP, SERVICE_IP, SIM_DIR, write

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "tranche.test/pause:1"
INSIDE = "/run/kubernetes"  # STATE/kubernetes, as the node sees it

SUBJECTS = {  # certificate: subject
    "apiserver": "/CN=kube-apiserver",
    "apiserver-client": "/O=system:masters/CN=kube-apiserver-kubelet-client",
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kubelet": "/O=system:nodes/CN=system:node:{node}",
}


def _openssl(*words):
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {words[0]}: {done.stderr.strip()}")


def _sign(pki, name, subject, names):
    write(f"{pki}/{name}.ext", f"keyUsage=digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\n"
                               f"subjectAltName={','.join(names)}\n")
    _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
             "-keyout", f"{pki}/{name}.key", "-out", f"{pki}/{name}.csr")
    _openssl("x509", "-req", "-in", f"{pki}/{name}.csr", "-CA", f"{pki}/ca.crt", "-CAkey", f"{pki}/ca.key",
             "-CAcreateserial", "-days", "365", "-extfile", f"{pki}/{name}.ext", "-out", f"{pki}/{name}.crt")


def kubeconfig(server, folder, name):
    """JSON is YAML; certificates by path, so that the file reads well."""
    return json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "tranche",
        "clusters": [{"name": "tranche", "cluster": {"server": server, "certificate-authority": f"{folder}/ca.crt"}}],
        "users": [{"name": name, "user": {"client-certificate": f"{folder}/{name}.crt",
                                          "client-key": f"{folder}/{name}.key"}}],
        "contexts": [{"name": "tranche", "context": {"cluster": "tranche", "user": name}}]}, indent=1) + "\n"


def write_secrets(state, settings):
    """Made outside, before the node: STATE/kubernetes with all keys and kubeconfigs, STATE/kubeconfig for people."""
    pki = f"{state}/kubernetes"
    os.makedirs(pki, mode=0o700)
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365",
             "-subj", "/CN=tranche-test-ca", "-keyout", f"{pki}/ca.key", "-out", f"{pki}/ca.crt")
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", f"{pki}/accounts.key")
    _openssl("pkey", "-in", f"{pki}/accounts.key", "-pubout", "-out", f"{pki}/accounts.pub")
    names = ["DNS:localhost", f"DNS:{settings['name']}", "DNS:kubernetes", "DNS:kubernetes.default",
             "DNS:kubernetes.default.svc", "IP:127.0.0.1", f"IP:{NODE_IP}", f"IP:{SERVICE_IP}"]
    for name, subject in SUBJECTS.items():
        _sign(pki, name, subject.format(node=settings["name"]), names)
        write(f"{pki}/{name}.conf", kubeconfig(f"https://{NODE_IP}", INSIDE, name))
    write(f"{state}/kubeconfig", kubeconfig(f"https://127.0.0.1:{settings['port']}", pki, "admin"))


def _apiserver():
    return ["kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--secure-port=443", "--bind-address=0.0.0.0",
            f"--advertise-address={NODE_IP}", "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC",
            f"--client-ca-file={INSIDE}/ca.crt", f"--tls-cert-file={INSIDE}/apiserver.crt",
            f"--tls-private-key-file={INSIDE}/apiserver.key", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={INSIDE}/accounts.pub", f"--service-account-signing-key-file={INSIDE}/accounts.key",
            f"--kubelet-client-certificate={INSIDE}/apiserver-client.crt",
            f"--kubelet-client-key={INSIDE}/apiserver-client.key", "--kubelet-preferred-address-types=InternalIP",
            # Webhooks are reached at the addresses of their pods: nothing here serves service addresses.
            "--enable-aggregator-routing=true", "--endpoint-reconciler-type=none", "--allow-privileged=true"]


def services(state, settings):
    """Name: {argv} of everything that process 1 of the node can start. More words for one: settings["more"]."""
    del state
    both = "--kubeconfig={0}/{1}.conf"
    all_of_them = {
        "etcd": ["etcd", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync", "--log-level=warn",
                 "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
                 "--listen-peer-urls=http://127.0.0.1:2380"],
        "kube-apiserver": _apiserver(),
        "kube-controller-manager": [
            "kube-controller-manager", both.format(INSIDE, "kube-controller-manager"), "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--service-account-private-key-file={INSIDE}/accounts.key",
            f"--root-ca-file={INSIDE}/ca.crt", f"--cluster-signing-cert-file={INSIDE}/ca.crt",
            f"--cluster-signing-key-file={INSIDE}/ca.key", "--use-service-account-credentials=true"],
        "kube-scheduler": ["kube-scheduler", both.format(INSIDE, "kube-scheduler"), "--leader-elect=false",
                           "--bind-address=127.0.0.1"],
        "containerd": ["containerd", "--config=/etc/containerd/config.toml"],
        "kubelet": ["kubelet", "--config=/etc/kubelet.json", both.format(INSIDE, "kubelet"),
                    f"--hostname-override={settings['name']}", f"--node-ip={NODE_IP}", "--root-dir=/var/lib/kubelet"],
    }
    return {name: {"argv": argv + settings["more"].get(name, [])} for name, argv in all_of_them.items()}


def _kubelet(settings):
    never = {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
             "imagefs.available": "0%", "imagefs.inodesFree": "0%"}  # a full disk here is no business of the pods'
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": f"{INSIDE}/ca.crt"}},
        "authorization": {"mode": "Webhook"}, "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{settings['cgroup']}", "failCgroupV1": False, "failSwapOn": False,
        "enforceNodeAllocatable": [], "makeIPTablesUtilChains": False, "oomScoreAdj": 0, "resolvConf": "",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins", "evictionHard": never, "imageGCHighThresholdPercent": 100,
        "maxPods": 250, "eventRecordQPS": 0, "kubeAPIQPS": 500, "kubeAPIBurst": 1000,
        "nodeStatusUpdateFrequency": "2s"}


def _containerd():
    runtime = 'plugins."io.containerd.cri.v1.runtime"'
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{CONTAINERD_SOCKET}"
[{runtime}]
restrict_oom_score_adj = true # not every machine lets root lower it
[{runtime}.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "/run/cni/net.d"
[{runtime}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "/etc/containerd/base.json"
[{runtime}.containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"
"""


def _base_spec(settings):
    """What every container of the node begins with. The simulated machine is below all of them, as a kernel is;
    which of its GPUs one may use is decided by its device nodes."""
    told = subprocess.run(["ctr", "oci", "spec"], check=True, capture_output=True, text=True)
    spec = json.loads(told.stdout)
    if settings["gpus"]:
        spec["mounts"].append({"destination": SIM_DIR, "type": "bind", "source": SIM_DIR,
                               "options": ["rbind", "ro", "nosuid", "nodev"]})
    return json.dumps(spec)


def write_node(state, settings):
    """Called in the node, before anything is started there."""
    os.symlink(f"{state}/kubernetes", INSIDE)
    write("/etc/kubelet.json", json.dumps(_kubelet(settings), indent=1))
    write("/etc/containerd/config.toml", _containerd())
    write("/etc/containerd/base.json", _base_spec(settings))
    write("/run/cni/net.d/10-pods.conflist", json.dumps({
        "cniVersion": "1.0.0", "name": "pods", "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": {
                "type": "host-local", "dataDir": "/run/cni/addresses", "ranges": [[{"subnet": "10.244.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}]}}]}))
    os.makedirs("/etc/cdi", exist_ok=True)
    ns.mount("tmpfs", "/etc/cdi", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=0755")  # not what this machine has there
