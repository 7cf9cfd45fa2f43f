#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes of one node, for people and scripts.

usage: ctl.py [--state DIR] [--build DIR] COMMAND      DIR: build/cluster and build
  up [KEY=VALUE...] [--no-gpus]    start it; KEY=VALUE are settings of the simulated GPUs (gpus=2xh100)
  play [KEY=VALUE...] [--no-gpus]  up, with the node agent and a binder, tell how to talk to it, and down at Ctrl-C
  down                             end it and remove all of it
  run COMMAND...                   on the node, as root
  kubectl WORD...                  with the right kubeconfig
  import IMAGE.tar...              images of image.py
  service NAME COMMAND...          one more service of the node; its output is DIR/logs/NAME.log
  start|stop|restart|kill NAME     a service: kubelet, containerd, kube-scheduler, ... (kill: a stop by SIGKILL)
  bind POD [KEY=VALUE...]          bind a pod as a scheduler does, with annotations
  wait POD [PHASE]                 until it is Running, or in PHASE
  check                            can there be a cluster on this machine?
  build                            check, and build its programs where that has not been done
Exit status 77: there can be no cluster here, and why.
"""
import os
import signal
import subprocess
import sys
import time

from cluster import HERE, ROOT, ApiError, Cannot, Cluster, build_programs, obstacle
from sliced import Sliced


def tell(cluster):
    print(f"""
A Kubernetes cluster of one node runs here; its files are in {cluster.state}.

  export KUBECONFIG={cluster.kubeconfig}
  export PATH="{cluster.bin}:$PATH"      # kubectl
  kubectl get nodes

  tests/cluster/ctl.py --state {cluster.state} run COMMAND...      # on the node, as root, for example:
      kubectl get pods -A;  ctr -n k8s.io containers ls;  ls /dev/nvidia*
""", flush=True)
    if isinstance(cluster, Sliced):
        print(f"""Slices of its GPUs, by tranched (its log: {cluster.state}/logs/tranched.log):

  kubectl apply -f {HERE}/pod.yaml
  kubectl logs two -c small                # "info FREE TOTAL": bytes
  kubectl exec two -c small -- env -i tenant 2000 2000
  tests/cluster/ctl.py --state {cluster.state} run {cluster.build}/bin/tranche node slices
""", flush=True)


def play(cluster):
    """Until Ctrl-C, or until somebody else has ended it."""
    def interrupted(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    started = time.monotonic()
    try:
        cluster.up(tied=True)
        print(f"cluster: up after {time.monotonic() - started:.0f} s")
        tell(cluster)
        print("Ctrl-C ends it, and so does `make cluster-stop`.", flush=True)
        while cluster.running():
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("cluster: ending")
    except Cannot:
        raise  # perhaps another one runs here: that is not ours to end
    except BaseException:
        cluster.tell_logs()
        cluster.down()
        raise
    cluster.down()


def exec_kubectl(cluster, words):
    os.execv(cluster.kubectl_words()[0], [*cluster.kubectl_words(), *words])


def settings_of(words):
    if "--no-gpus" in words:
        return []
    return [w for w in words if "=" in w] or ["gpus=h100"]


def act(cluster, command, words):
    if command == "up":
        cluster.up()
        return tell(cluster)
    if command == "run":
        return subprocess.run(cluster.enter(*words), check=False).returncode
    if command == "kill":
        cluster.stop(words[0], signal.SIGKILL)
        return 0
    if command == "bind":
        return cluster.bind(words[0], dict(word.split("=", 1) for word in words[1:]))
    if command in ("check", "build"):
        if why := obstacle():
            raise Cannot(why)
        return build_programs() if command == "build" else 0
    done = {"play": lambda: play(cluster), "down": cluster.down, "kubectl": lambda: exec_kubectl(cluster, words),
            "import": lambda: cluster.import_image(*words), "service": lambda: cluster.service(*words),
            "start": lambda: cluster.start(*words), "stop": lambda: cluster.stop(*words),
            "restart": lambda: cluster.restart(*words), "wait": lambda: cluster.wait_pod(*words)}
    if command not in done:
        sys.exit(__doc__)
    done[command]()
    return 0


def main(words):
    where = {"--state": f"{ROOT}/build/cluster", "--build": f"{ROOT}/build"}
    while words and words[0] in where:
        where[words[0]], words = words[1], words[2:]
    if not words:
        sys.exit(__doc__)
    kind = Sliced if words[0] == "play" and settings_of(words[1:]) else Cluster
    cluster = kind(where["--state"], where["--build"], settings_of(words[1:]))
    try:
        return act(cluster, words[0], words[1:])
    except Cannot as why:
        print(f"cluster: {why}", file=sys.stderr)
        return 77
    except (AssertionError, ApiError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
