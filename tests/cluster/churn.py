# SPDX-License-Identifier: Apache-2.0
"""Pods that come and go at random, each container with a size that no other has, and what they were told."""
import collections
import http.client
import json
import re
import time

from cluster import ApiError, wait_for
from sliced import container, gpu_pod

ALIVE = 10
NAMES = 40  # a name comes again, with another uid and other sizes
TOLD = re.compile(r"info \d+ (\d+) 0")
EXPECTED = {"MissingClusterDNS", "BackOff"}  # the cluster has none; some containers end again and again
AWAY = ("unable to retrieve container logs", "failed to try resolving symlinks in path")  # with status 200
PODS = "/api/v1/namespaces/default/pods"


class Churn:
    def __init__(self, cluster, rng):
        self.cluster, self.rng = cluster, rng
        self.serial, self.made = 0, 0
        self.alive = {}  # name: {"sizes": {container: MiB}, "turns": left}
        self.count, self.wrong = collections.Counter(), []

    # ---- coming and going

    def size(self):
        self.serial += 1
        return 1000 + self.serial % 500

    def pod(self, name):
        """Of one of the kinds that differ in when containers start."""
        kind = self.rng.choice(["runs", "runs", "ends", "again", "init", "late", "side"])
        end = {"ends": "sleep 1", "again": f"sleep {self.rng.randint(1, 4)}; exit 1"}.get(kind, "exec sleep 3000")
        names = "ab"[:self.rng.choice([1, 2, 2])]
        sizes = {which: self.size() for which in names}
        spec = {"restartPolicy": {"again": "Always", "ends": "OnFailure"}.get(kind, "Never"), "initContainers": []}
        if kind == "late":
            spec["initContainers"].append(container("late", command=["sleep", str(self.rng.randint(1, 6))]))
        if kind == "init":
            sizes["init"] = self.size()
            spec["initContainers"].append(container("init", sizes["init"], 0, ["sh", "-c", "tenant; sleep 0.5"]))
        if kind == "side":
            sizes["side"] = self.size()
            spec["initContainers"].append(container("side", sizes["side"], 0, ["sh", "-c", "tenant; exec sleep 3000"],
                                                    restartPolicy="Always"))
        apps = [container(which, sizes[which], 0, ["sh", "-c", f"tenant; {end}"]) for which in names]
        return gpu_pod(name, *apps, **spec), sizes

    def turn(self):
        refused = {one["metadata"]["uid"] for one in self.cluster.api("GET", PODS)["items"] if one["status"].get("reason")}
        for name in [name for name, one in self.alive.items() if one["turns"] <= 0 or one["uid"] in refused]:
            self.end(name)
        for _ in range(self.rng.choice([1, 1, 2, 3])):
            if len(self.alive) < ALIVE:
                self.begin()
        for one in self.alive.values():
            one["turns"] -= 1

    def begin(self):
        name = f"s{self.made % NAMES}"
        self.made += 1
        pod, sizes = self.pod(name)
        turns = self.rng.choice([1, 1, 2, 3, 5, 10])
        try:
            uid = self.cluster.api("POST", PODS, pod)["metadata"]["uid"]
        except ApiError as error:
            if error.status != 409:  # that of this name is not gone yet
                raise
            return
        self.alive[name] = {"sizes": sizes, "turns": turns, "uid": uid}
        self.count["pods"] += 1

    def end(self, name):
        self.check(name)
        del self.alive[name]
        grace = self.rng.choice([0, 1])
        self.cluster.api("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": grace})

    def end_all(self):
        for name in list(self.alive):
            self.end(name)
        end = time.monotonic() + 60
        while left := [one["metadata"]["name"] for one in self.cluster.api("GET", PODS)["items"]]:
            if time.monotonic() > end:
                raise AssertionError(f"pods do not end: {left}")
            time.sleep(0.3)

    # ---- looking

    def fault(self, name, what):
        text = f"{time.strftime('%H:%M:%S')} {name} {self.alive[name]['uid']}: {what}"
        print(f"WRONG {text}", flush=True)
        self.wrong.append(text)

    def check(self, name):
        """What each of its containers was told when it started, as far as it did; one of those that run is asked now."""
        status, sizes = self.cluster.pod(name)["status"], self.alive[name]["sizes"]
        if status.get("reason"):
            self.count["refused at admission"] += 1
            return
        running = []
        for one in status.get("containerStatuses", []) + status.get("initContainerStatuses", []):
            which = one["name"]
            if which not in sizes:
                continue
            if one.get("containerID"):
                self.check_log(name, which, previous=False)
                self.count["containers"] += 1 + one["restartCount"]
            if one["restartCount"]:
                self.check_log(name, which, previous=True)
            if "running" in one["state"]:
                running.append(which)
        if running:
            self.check_now(name, self.rng.choice(running))

    def log(self, path, seconds=8):
        """None: it cannot be had, also after kubelet and containerd have had some time to come back."""
        end = time.monotonic() + seconds
        while True:
            try:
                text = self.cluster.api("GET", path, text=True)
                if not text.startswith(AWAY):
                    return text
            except ApiError as error:
                if error.status < 500:
                    return None
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() > end:
                return None
            time.sleep(0.3)

    def check_log(self, name, which, previous):
        text = self.log(f"{PODS}/{name}/log?container={which}" + ("&previous=true" if previous else ""))
        if text is None:
            self.count["logs that could not be had"] += 1
            return
        lines = text.splitlines()
        if not lines:
            self.count["logs without a word"] += 1  # just started, or containerd was away
        for line in lines:
            told = TOLD.fullmatch(line)
            if not told or int(told[1]) >> 20 != self.alive[name]["sizes"][which]:
                self.fault(name, f"{which} has {self.alive[name]['sizes'][which]} MiB, was told {line!r}")
            else:
                self.count["told"] += 1

    def check_now(self, name, which, must=False):
        """`kubectl exec` with an empty environment. It may fail where kubelet or containerd are away, or where the container
        has just ended; it may not lie."""
        want, end = self.alive[name]["sizes"][which], time.monotonic() + (10 if must else 0)
        while True:
            done = self.cluster.exec(name, "env", "-i", "/usr/bin/tenant", container=which, check=False)
            told = TOLD.fullmatch(done.stdout.strip())
            if told and int(told[1]) >> 20 == want:
                self.count["asked"] += 1
                return
            late = time.monotonic() > end
            if (done.stdout or must and late) and self.is_running(name, which):
                self.fault(name, f"{which} has {want} MiB, says now {done.stdout!r} {done.stderr!r}")
                return
            if late or must and not self.is_running(name, which):
                self.count["not to be asked"] += 1
                return
            time.sleep(0.5)

    def not_started(self):
        """Pods of which a container has never started, though nobody has refused them for good."""
        found = []
        for name in self.alive:
            status = self.cluster.pod(name)["status"]
            each = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
            if not status.get("reason") and (not each or any(not one.get("containerID") for one in each)):
                found.append(name)
        return found

    def is_running(self, name, which):
        status = self.cluster.pod(name)["status"]
        return any(one["name"] == which and "running" in one["state"]
                   for one in status.get("containerStatuses", []) + status.get("initContainerStatuses", []))

    def check_all(self):
        """On a node that serves: every container has started or does, and has its slice, and the series of it, once."""
        wait_for(lambda: not self.not_started(), 120, lambda: "containers to start: " + ", ".join(
            f"{name} {self.alive[name]['uid']} {self.cluster.events(name)}" for name in self.not_started()))
        for name, one in self.alive.items():
            for which in one["sizes"]:
                if self.is_running(name, which):
                    self.check_now(name, which, must=True)
                    self.check_series(name, which)
        lines = [line.rsplit(" ", 1)[0] for line in self.cluster.http("/metrics").splitlines() if not line.startswith("#")]
        twice = [line for line, count in collections.Counter(lines).items() if count > 1]
        if twice:
            self.wrong.append(f"series that are there twice: {twice}")
            print(f"WRONG {self.wrong[-1]}")

    def check_series(self, name, which):
        want, end = self.alive[name]["sizes"][which], time.monotonic() + 10
        while True:
            found = [value / 2**20 for value in
                     self.cluster.metrics("hami_vgpu_memory_limit_bytes", pod=name, container=which).values()]
            if found == [want] or not self.is_running(name, which):
                self.count["series"] += 1
                return
            if time.monotonic() > end:
                self.fault(name, f"{which} has {want} MiB, the metrics say {found}")
                return
            time.sleep(0.5)

    def stray_slices(self):
        """Armed, of pods that are gone."""
        uids = {one["uid"] for one in self.alive.values()}
        return [one for one in self.cluster.debug_slices()["slices"] if one["state"] == "armed" and one["uid"] not in uids]

    # ---- telling

    def told(self):
        return json.dumps(dict(self.count)) + (f", {len(self.wrong)} WRONG" if self.wrong else "")

    def errors(self):
        """How often the kubelet had to ask again, or refused: events by reason and the beginning of their words."""
        found = collections.Counter()
        for one in self.cluster.api("GET", "/api/v1/namespaces/default/events")["items"]:
            if one["involvedObject"]["kind"] == "Pod" and one["type"] == "Warning" and one["reason"] not in EXPECTED:
                words = re.sub(r"[0-9a-f]{8,}\S*|\d+", "#", one["message"])[:90]
                found[f"{one['reason']}: {words}"] += one.get("count") or 1
        return found
