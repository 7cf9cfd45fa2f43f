#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Container images without a registry: an OCI layout in a tar, of one layer.

usage: image.py NAME OUT.tar [--package DEB]... [--copy SOURCE:TARGET]... [--busybox] [-- COMMAND...]

--package takes the files of a package that is installed here (libc6), --copy a file or folder, --busybox makes
Debian's static busybox the shell and all its tools. /usr is merged, as in Debian 12. The same input makes the
same bytes.
"""
import argparse
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile

BUSYBOX = "/bin/busybox"
ACCOUNTS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Layer:
    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w")
        self.seen = set()
        for name in ("dev", "etc", "proc", "run", "sys", "tmp", "root", "var", *MERGED.values()):
            self._folders(name)
        for name, to in MERGED.items():
            self._add(self._info(name, tarfile.SYMTYPE, 0o777, to))
        self.write("etc/passwd", ACCOUNTS)
        self.write("etc/group", "root:x:0:\nnogroup:x:65534:\n")

    @staticmethod
    def _info(name, kind, mode, link=""):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname = kind, mode, link
        return info

    def _add(self, info, content=None):
        if info.name in self.seen:
            return
        self.seen.add(info.name)
        self.tar.addfile(info, content)

    def _folders(self, name):
        parts = name.split("/")
        for i in range(1, len(parts) + 1):
            self._add(self._info("/".join(parts[:i]), tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755))

    @staticmethod
    def _merged(path):
        first, _, rest = path.strip("/").partition("/")
        return f"{MERGED[first]}/{rest}" if rest and first in MERGED else path.strip("/")

    def write(self, path, text):
        info = self._info(path, tarfile.REGTYPE, 0o644)
        info.size = len(text.encode())
        self._add(info, io.BytesIO(text.encode()))

    def link(self, path, to):
        self._folders(os.path.dirname(path))
        self._add(self._info(path, tarfile.SYMTYPE, 0o777, to))

    def copy(self, source, target):
        """A file, a link as it is, or a folder with all that is in it."""
        target = self._merged(target)
        if os.path.islink(source):
            self.link(target, os.readlink(source))
        elif os.path.isdir(source):
            self._folders(target)
            for name in sorted(os.listdir(source)):
                self.copy(f"{source}/{name}", f"{target}/{name}")
        else:
            self._folders(os.path.dirname(target))
            mode = 0o755 if os.stat(source).st_mode & 0o111 else 0o644
            info = self._info(target, tarfile.REGTYPE, mode)
            info.size = os.path.getsize(source)
            with open(source, "rb") as content:
                self._add(info, content)

    def package(self, name):
        told = subprocess.run(["dpkg", "-L", name], check=True, capture_output=True, text=True)
        for path in told.stdout.splitlines():
            if path.startswith("/usr/share/doc") or not os.path.lexists(path):
                continue
            if os.path.islink(path) or os.path.isfile(path):
                self.copy(path, path)

    def busybox(self):
        self.copy(BUSYBOX, BUSYBOX)
        told = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
        for name in told.stdout.split():
            self.link(f"usr/bin/{name}", "busybox")

    def finish(self):
        self.tar.close()
        return self.bytes.getvalue()


def write_image(out, name, layer, command):
    digest = {}
    with tarfile.open(out + ".new", "w") as tar:
        def put(path, content):
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

        def blob(kind, content):
            digest[kind] = "sha256:" + hashlib.sha256(content).hexdigest()
            put(f"blobs/sha256/{digest[kind][7:]}", content)
            return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest[kind], "size": len(content)}

        put("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        packed = blob("layer.v1.tar", layer)
        config = blob("config.v1+json", json.dumps({
            "architecture": ARCHITECTURES[platform.machine()], "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/usr/local/bin:/usr/bin:/usr/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [packed["digest"]]}}).encode())
        manifest = blob("manifest.v1+json", json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
            "layers": [packed]}).encode())
        manifest["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.split(":")[-1]}
        put("index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
    os.rename(out + ".new", out)


def make(out, name, packages=(), copies=(), busybox=False, command=("/bin/sh",)):
    """copies: pairs of a path here and a path in the image."""
    layer = Layer()
    for source, target in copies:
        layer.copy(source, target)
    for package in packages:
        layer.package(package)
    if busybox:
        layer.busybox()
    write_image(out, name, layer.finish(), list(command))


def main():
    words, command = sys.argv[1:], ["/bin/sh"]
    if "--" in words:
        words, command = words[:words.index("--")], words[words.index("--") + 1:]
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("out")
    parser.add_argument("--package", action="append", default=[])
    parser.add_argument("--copy", action="append", default=[])
    parser.add_argument("--busybox", action="store_true")
    chosen = parser.parse_args(words)
    copies = [one.rsplit(":", 1) for one in chosen.copy]
    make(chosen.out, chosen.name, chosen.package, copies, chosen.busybox, command)


if __name__ == "__main__":
    main()
