#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""node.py STATE LISTENER: the node and its control plane, until SIGTERM. Started by cluster.py, never by hand.

Two processes. The keeper stays in this machine's pid namespace: it listens on this machine's loopback (the
descriptor LISTENER) for the API server and removes the control groups at the end; when it ends, everything
ends. Its child is process 1 of the node: it makes the node's file system and network, starts and stops services
as it is told on the socket STATE/control, and reaps what they leave behind.
"""
import asyncio
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback

import config
import machine
import ns

NAMESPACES = ns.CLONE_NEWNS | ns.CLONE_NEWNET | ns.CLONE_NEWUTS | ns.CLONE_NEWIPC | ns.CLONE_NEWPID
STOP_SECONDS = 15
AGAIN_SECONDS = 0.5
API_PORT = 443


def cgroup_roots():
    """The folder of every control group hierarchy that is mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        return [line.split()[4] for line in lines if line.split(" - ")[1].split()[0] in ("cgroup", "cgroup2")]


def make_cgroups(name, roots):
    for root in roots:
        own = f"{root}/{name}"
        os.makedirs(own, exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new one of version 1, and then nothing may enter
            if os.path.exists(f"{root}/cgroup.clone_children") and os.path.exists(f"{own}/{file}"):
                with open(f"{root}/{file}", encoding="ascii") as above:
                    value = above.read().strip()
                with open(f"{own}/{file}", "w", encoding="ascii") as out:
                    out.write(value)


def remove_cgroups(name, roots):
    """Of a node whose processes are gone. A group is busy for a moment after its last process."""
    for root in roots:
        for where, _, _ in os.walk(f"{root}/{name}", topdown=False):
            machine.wait_for(lambda where=where: _removed(where), 5)


def _removed(where):
    try:
        os.rmdir(where)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


class Services:
    """What process 1 runs. One thread: a request is done before the next one is read."""

    def __init__(self, state, settings):
        self.state = state
        self.known = config.services(state, settings)
        self.pids = {}
        self.due = {}  # when what ended by itself is started again
        self.ended = {}

    def start(self, name):
        self.due.pop(name, None)
        if name in self.pids:
            return
        argv, environment = self.known[name]["argv"], dict(os.environ, **self.known[name].get("env", {}))
        log = os.open(f"{self.state}/logs/{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                   (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        try:
            self.pids[name] = os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsid=True,
                                              setsigmask=(), setsigdef=(signal.SIGCHLD, signal.SIGTERM))
        finally:
            os.close(log)

    def start_due(self):
        """As systemd does for a real node's: a kubelet that finds no containerd yet gives up and is started again."""
        for name in [n for n, when in self.due.items() if when <= time.monotonic()]:
            self.start(name)

    def stop(self, name, signum=signal.SIGTERM):
        self.due.pop(name, None)
        if name not in self.pids:
            return
        os.kill(self.pids[name], signum)
        if not machine.wait_for(lambda: self.reap() or name not in self.pids, STOP_SECONDS):
            os.kill(self.pids[name], signal.SIGKILL)
            machine.wait_for(lambda: self.reap() or name not in self.pids, STOP_SECONDS)
        self.due.pop(name, None)

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for name in [n for n, p in self.pids.items() if p == pid]:
                del self.pids[name]
                self.ended[name] = os.waitstatus_to_exitcode(status)
                if self.known[name].get("again", True):
                    self.due[name] = time.monotonic() + AGAIN_SECONDS

    def answer(self, request):
        do, name = request["do"], request.get("name")
        if do == "add":
            self.known[name] = {"argv": request["argv"], "env": request["env"], "again": request["again"]}
        elif do in ("start", "stop", "restart"):
            if name not in self.known:
                raise KeyError(f"no service is called {name}")
            if do != "start":
                self.stop(name, request.get("signal", signal.SIGTERM))
            if do != "stop":
                self.start(name)
        self.reap()
        return {"running": self.pids, "ended": self.ended}


def serve(services, listener):
    """Process 1's life. It ends by SIGKILL, with all others."""
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    chosen = selectors.DefaultSelector()
    chosen.register(listener, selectors.EVENT_READ)
    chosen.register(woken, selectors.EVENT_READ)
    while True:
        services.start_due()
        for key, _ in chosen.select(0.2 if services.due else None):
            if key.fileobj is woken:
                woken.recv(4096)
                services.reap()
                continue
            connection, _ = listener.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as lines:
                try:
                    answer = services.answer(json.loads(lines.readline()))
                except (OSError, ValueError, KeyError) as error:
                    answer = {"error": str(error)}
                try:
                    lines.write(json.dumps(answer) + "\n")
                    lines.flush()
                except OSError:
                    pass  # who asked has gone


def be_the_node(state, settings, ready):
    ns.die_with_parent(signal.SIGKILL)  # of its own; the one of the keeper is not inherited
    make_cgroups(settings["cgroup"], cgroup_roots())
    machine.enter_root(state, settings["shared"])
    machine.set_up_network(settings["name"])
    os.environ["PATH"] = f"{settings['bin']}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    for name in ("TRANCHE_SIM", "LD_LIBRARY_PATH", "LD_PRELOAD", "KUBECONFIG"):
        os.environ.pop(name, None)
    if settings["gpus"]:
        machine.install_gpus(state, settings["sim"], settings["gpus"])
    config.write_node(state, settings)
    services = Services(state, settings)
    os.chdir(state)  # a socket's path is short; state may not be
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("control")
    listener.listen(8)
    os.chdir("/")
    for name in ("etcd", "kube-apiserver", "containerd"):
        services.start(name)
    os.write(ready, b"+")
    os.close(ready)
    serve(services, listener)


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def forward(reader, writer):
    """Who came on this machine's loopback; the API server is in the namespace that this process is in now."""
    try:
        back_reader, back_writer = await asyncio.open_connection(machine.NODE_IP, API_PORT)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))
    writer.close()
    back_writer.close()


async def keep(state, listener, child):
    """Until SIGTERM, until STATE is removed, or until the node has ended by itself; True: it still runs. No thread
    is ever made: a process whose children are born into another pid namespace cannot have one."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(forward, sock=listener)
    while not stop.is_set() and os.path.exists(f"{state}/running.json"):
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        try:
            await asyncio.wait_for(stop.wait(), 0.1)
        except asyncio.TimeoutError:
            pass
    server.close()
    return True


def main():
    state = os.path.abspath(sys.argv[1])
    with open(f"{state}/settings.json", encoding="utf-8") as text:
        settings = json.load(text)
    if settings["tied"]:
        ns.die_with_parent(signal.SIGTERM)  # which keep() takes as a request
    listener = socket.socket(fileno=int(sys.argv[2]))
    roots = cgroup_roots()  # /proc will be the node's, where this process is not
    hear, ready = os.pipe()
    ns.unshare(NAMESPACES)
    child = os.fork()
    if child == 0:
        try:
            listener.close()
            os.close(hear)
            be_the_node(state, settings, ready)
        except BaseException:  # nothing may come back from here: this is a copy of the keeper
            traceback.print_exc()
        os._exit(1)
    os.close(ready)
    if os.read(hear, 1) == b"+":
        with open(f"{state}/running.new", "w", encoding="utf-8") as out:
            json.dump({"node": child, "keeper": os.getpid()}, out)
        os.rename(f"{state}/running.new", f"{state}/running.json")
        if asyncio.run(keep(state, listener, child)):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)  # returns when all processes of the node have ended
        remove_cgroups(settings["cgroup"], roots)
    else:
        os.waitpid(child, 0)
        remove_cgroups(settings["cgroup"], roots)
        sys.exit("the node could not be made, see above")


if __name__ == "__main__":
    main()
