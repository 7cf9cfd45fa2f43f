# SPDX-License-Identifier: Apache-2.0
"""tranched as a program: the library that containers are given, when it is bad, away or changed."""
import os
import shutil
import signal

from rig import Node, case, equal, expect, wait_for


def library_of(node):
    """The one that containers are given, by the CDI entries: its path."""
    text = ""
    for name in os.listdir(f"{node.folder}/cdi"):
        if name.startswith("tranche-gpu-"):
            with open(f"{node.folder}/cdi/{name}", encoding="utf-8") as file:
                text += file.read()
    paths = {word for word in text.split('"') if word.startswith(f"{node.folder}/lib/libvgpu.so.")}
    equal(len(paths), 1, f"libraries in {text}")
    return paths.pop()


def content(folder):
    return {name: os.readlink(f"{folder}/{name}") if os.path.islink(f"{folder}/{name}") else os.stat(f"{folder}/{name}").st_ino
            for name in os.listdir(folder)}


def upgrade(node, source, **more):
    node.agents[-1].stop()
    node.configure(hook_source=source)
    agent = node.agent(**more)
    node.kubelet.wait_devices(lambda d: len(d) == 20, 20)
    node.wait_control()
    return agent


def bad_source(node):
    path = f"{node.folder}/bad.so"
    with open(path, "w", encoding="utf-8") as out:
        out.write("no library, but as long as the head of one, or so: it is text. " * 2)
    return path


def other_source(node):
    """As good, and another file."""
    path = f"{node.folder}/other.so"
    shutil.copy(f"{node.build}/lib/libvgpu.so", path)
    with open(path, "ab") as out:
        out.write(b"more")
    return path


def refused(node, words):
    free = next(i for i in sorted(node.kubelet.devices) if not any(i in row["ids"] for row in node.kubelet.rows))
    answer = node.kubelet.call("Allocate", [free])
    expect(answer["code"] != 0 and words in answer["says"], answer)


def starts_again(node, ids):
    answer = node.kubelet.call("PreStartContainer", ids)
    equal(answer["code"], 0, answer["says"])


@case
def containers_restart_after_an_upgrade_with_a_bad_library(build):
    with Node(build) as node:
        node.ready_agent()
        ids = node.run_pod("p", {"a": [(0, 3000, 30)]})["a"]["ids"]
        before, library = content(f"{node.folder}/lib"), library_of(node)
        agent = upgrade(node, bad_source(node))
        starts_again(node, ids)
        refused(node, "bad.so cannot be preloaded: it is no library")
        equal(content(f"{node.folder}/lib"), before, "nothing bad gets into lib_dir")
        # With the one that it had, also where its entry is gone.
        agent.stop()
        shutil.rmtree(f"{node.folder}/cdi")
        upgrade(node, bad_source(node))
        starts_again(node, ids)
        equal(library_of(node), library, "the library")
        status, text = node.agents[-1].page("/readyz")
        expect(status == 503 and "library: " in text and "it is no library" in text, text)


@case
def containers_restart_where_another_library_has_no_place(build):
    with Node(build) as node:
        node.ready_agent()
        ids = node.run_pod("p", {"a": [(0, 3000, 30)]})["a"]["ids"]
        folder, library = f"{node.folder}/lib", library_of(node)
        upgrade(node, other_source(node), before=["unshare", "-m", "sh", "-c",
                f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec "$@"', "sh"])
        starts_again(node, ids)
        refused(node, "Read-only")
        equal(library_of(node), library, "the library")


def given_again(node, agent, seconds):
    """A new container has the library."""
    wait_for(lambda: "library: " not in agent.page("/readyz")[1], seconds, lambda: agent.page("/readyz"))
    free = next(i for i in sorted(node.kubelet.devices) if not any(i in row["ids"] for row in node.kubelet.rows))
    answer = node.kubelet.call("Allocate", [free])
    equal(answer["code"], 0, answer["says"])
    mounts = [mount["host_path"] for mount in answer["reply"]["container_responses"][0]["mounts"]]
    equal(sum(path.startswith(f"{node.folder}/lib/libvgpu.so.") and os.path.getsize(path) > 10000 for path in mounts), 1, mounts)


@case
def a_library_that_has_a_place_at_last_is_given(build):
    with Node(build) as node:
        folder = f"{node.folder}/lib"
        with open(folder, "w", encoding="utf-8"):
            pass
        agent = node.agent()
        node.kubelet.wait_devices(lambda d: len(d) == 20, 20)
        node.wait_control()
        refused(node, "library cannot be put into")
        os.unlink(folder)
        given_again(node, agent, 30)
        equal(agent.text().count("library_unusable"), 1, "told once")


@case
def a_library_that_loads_at_last_is_given(build):
    with Node(build) as node:
        agent = node.ready_agent()
        ids = node.run_pod("p", {"a": [(0, 3000, 30)]})["a"]["ids"]
        library = library_of(node)
        agent = upgrade(node, bad_source(node))
        refused(node, "it is no library")
        os.rename(other_source(node), bad_source(node))
        agent.child.send_signal(signal.SIGHUP)
        given_again(node, agent, 3)
        wait_for(lambda: library_of(node) != library, 3, "the new library for who restarts")
        starts_again(node, ids)


@case
def a_library_that_is_spoilt_is_installed_again(build):
    with Node(build) as node:
        agent = node.ready_agent()
        ids = node.run_pod("p", {"a": [(0, 3000, 30)]})["a"]["ids"]
        library, folder = library_of(node), f"{node.folder}/lib"
        good, preload = os.path.getsize(library), f"{folder}/ld.so.preload"

        def cut():
            os.truncate(library, 1000)

        def replace():
            shutil.copy(bad_source(node), f"{folder}/new")
            os.rename(f"{folder}/new", library)

        def empty():
            for name in os.listdir(folder):
                os.unlink(f"{folder}/{name}")

        spoils = [cut, replace, empty, lambda: os.chmod(library, 0o600), lambda: os.chmod(preload, 0o600),
                  lambda: shutil.rmtree(folder), lambda: os.truncate(preload, 0)]
        for number, spoil in enumerate(spoils):
            spoil()
            if number % 2:
                starts_again(node, ids)
            else:
                given_again(node, agent, 0.1)
            equal((os.path.getsize(library), os.stat(library).st_mode & 0o777, os.stat(preload).st_mode & 0o777),
                  (good, 0o755, 0o644), f"after spoil {number}")
            with open(preload, encoding="utf-8") as text:
                expect(text.read().endswith("/libvgpu.so\n"), f"after spoil {number}")
            equal(library_of(node), library, "the library")
        # Also where nobody starts.
        cut()
        wait_for(lambda: os.path.getsize(library) == good, 30, "installed again")


@case
def a_library_that_cannot_be_installed_again_is_not_given(build):
    with Node(build) as node:
        node.configure(hook_source=other_source(node))
        agent = node.ready_agent()
        ids = node.run_pod("p", {"a": [(0, 3000, 30)]})["a"]["ids"]
        os.unlink(other_source(node))
        os.truncate(library_of(node), 1000)
        answer = node.kubelet.call("PreStartContainer", ids)
        expect(answer["code"] != 0 and "other.so" in answer["says"], answer)
        refused(node, "other.so")
        expect("library: " in agent.page("/readyz")[1], agent.page("/readyz"))
        # The last one, mended by hand, will do for who restarts, and is not relied on when it goes again.
        library = library_of(node)
        shutil.copy(f"{node.build}/lib/libvgpu.so", f"{library}.new")
        os.rename(f"{library}.new", library)
        wait_for(lambda: node.kubelet.call("PreStartContainer", ids)["code"] == 0, 30, "restarts")
        os.unlink(library)
        answer = node.kubelet.call("PreStartContainer", ids)
        expect(answer["code"] != 0 and "other.so" in answer["says"], answer)
        other_source(node)
        given_again(node, agent, 30)
        starts_again(node, ids)


@case
def without_any_library_nothing_starts(build):
    with Node(build) as node:
        agent = node.ready_agent()
        ids = node.run_pod("p", {"a": [(0, 3000, 30)]})["a"]["ids"]
        agent.stop()
        shutil.rmtree(f"{node.folder}/lib")
        upgrade(node, bad_source(node))
        answer = node.kubelet.call("PreStartContainer", ids)
        expect(answer["code"] != 0 and "bad.so cannot be preloaded: it is no library" in answer["says"], answer)
        refused(node, "it is no library")
        equal(os.listdir(f"{node.folder}/lib"), [], "lib_dir")
