# SPDX-License-Identifier: Apache-2.0
"""What the node sees of the machine below it: a file system of its own over this machine's, network interfaces,
and, where GPUs are simulated, what a real driver leaves on a machine it was installed on. All of it belongs
to the namespaces that the caller has entered, and ends with them."""
import json
import os
import shutil
import stat
import subprocess
import sysconfig
import time

import ns

NODE_IP = "10.11.0.2"
SERVICE_IP = "10.96.0.1"  # the API server's own, as pods find it in their environment
NVIDIA_MAJOR = 195
CONTROL_MINOR = 255
UVM_MAJOR = 510  # a driver asks for any; nobody else has this one, or the nodes are left out
SIM_DIR = "/run/tranche-sim"  # where the simulator's libraries look without being told

# The device nodes that programs expect; the kernel's own of this machine stay out of sight.
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "kmsg": (1, 11),
           "tty": (5, 0), "fuse": (10, 229)}
# File systems beside the root's that hold programs or data, not what a kernel shows of itself.
PLAIN_KINDS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "erofs", "squashfs", "overlay", "fuseblk", "9p", "virtiofs"}


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)


def _bind(source, target, more=0):
    os.makedirs(target, exist_ok=True)
    ns.mount(source, target, None, ns.MS_BIND | more)


def _plain_mounts():
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        for line in lines:
            before, after = line.split(" - ")
            where = before.split()[4].encode().decode("unicode_escape")
            if after.split()[0] in PLAIN_KINDS and where != "/" and os.path.isdir(where):
                yield where


def _make_dev(dev):
    os.makedirs(dev, exist_ok=True)
    ns.mount("tmpfs", dev, "tmpfs", ns.MS_NOSUID, "mode=0755")
    for name, (major, minor) in DEVICES.items():
        os.mknod(f"{dev}/{name}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        os.chmod(f"{dev}/{name}", 0o666)
    os.makedirs(f"{dev}/pts")
    ns.mount("devpts", f"{dev}/pts", "devpts", ns.MS_NOSUID | ns.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    for name, to in {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
                     "stderr": "/proc/self/fd/2"}.items():
        os.symlink(to, f"{dev}/{name}")
    os.makedirs(f"{dev}/mqueue")
    ns.mount("mqueue", f"{dev}/mqueue", "mqueue", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)
    _bind("/dev/shm", f"{dev}/shm")  # tests keep files of theirs there, and look at them from outside


def enter_root(state, shared):
    """A root of the node's own: this machine's, read through an overlay whose writes live in memory, with the
    folders in SHARED as they are. To be called once, in a fresh mount and pid namespace."""
    ns.mount(None, "/", None, ns.MS_REC | ns.MS_PRIVATE)
    root = f"{state}/root"
    mounts = sorted(_plain_mounts())
    ns.mount("tmpfs", root, "tmpfs", 0, "mode=0755")
    for name in ("upper", "work", "all"):
        os.mkdir(f"{root}/{name}")
    new = f"{root}/all"
    ns.mount("overlay", new, "overlay", 0, f"lowerdir=/,upperdir={root}/upper,workdir={root}/work")
    ns.mount("tmpfs", f"{new}/run", "tmpfs", ns.MS_NOSUID, "mode=0755")
    for where in mounts:
        if not where.startswith(root):
            _bind(where, new + where, ns.MS_REC)
    ns.mount("proc", f"{new}/proc", "proc", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)
    _bind("/sys", f"{new}/sys", ns.MS_REC)
    _make_dev(f"{new}/dev")
    for where in sorted({"/tmp", *shared}):
        _bind(where, new + where)
    for name in ("kubelet", "containerd", "etcd"):
        os.makedirs(f"{state}/lib/{name}", exist_ok=True)
        _bind(f"{state}/lib/{name}", f"{new}/var/lib/{name}")
    os.makedirs(f"{new}/.old", exist_ok=True)
    os.chdir(new)
    ns.pivot_root(".", ".old")
    os.chdir("/")
    ns.unmount("/.old", ns.MNT_DETACH)
    os.rmdir("/.old")
    ns.mount(None, "/", None, ns.MS_REC | ns.MS_SHARED)


def set_up_network(name):
    """Loopback and one interface that leads nowhere: addresses for the node and the API server's service."""
    for words in (["link", "set", "lo", "up"],
                  ["link", "add", "node0", "type", "veth", "peer", "name", "nowhere"],
                  ["link", "set", "nowhere", "up"],
                  ["address", "add", f"{NODE_IP}/24", "dev", "node0"],
                  ["address", "add", f"{SERVICE_IP}/32", "dev", "node0"],
                  ["link", "set", "node0", "up"],
                  ["route", "add", "default", "dev", "node0"]):
        subprocess.run(["ip", *words], check=True)
    write("/etc/hosts", f"127.0.0.1 localhost\n{NODE_IP} {name}\n")
    write("/etc/hostname", f"{name}\n")
    ns.sethostname(name)


def _library_dir():
    for name in (f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}", "/usr/lib64"):
        if os.path.isdir(name):
            return name
    return "/usr/lib"


def _install_driver(sim, version, cuda):
    """The libraries under the names a driver's installer gives them, known to the loader. CUDA: None, or the
    version of an older driver, which has fewer functions."""
    libs = _library_dir()
    for soname in ("libcuda.so.1", "libnvidia-ml.so.1"):
        real = f"{soname[:-2]}.{version}"
        if cuda and soname == "libcuda.so.1":
            subprocess.run([f"{sim}/sim-older", f"{sim}/{soname}", f"{libs}/{real}", cuda], check=True)
        else:
            shutil.copy(f"{sim}/{soname}", f"{libs}/{real}")
        for link in (soname, soname[:-2]):
            if os.path.lexists(f"{libs}/{link}"):
                os.unlink(f"{libs}/{link}")
        os.symlink(real, f"{libs}/{soname}")
        os.symlink(soname, f"{libs}/{soname[:-2]}")
    subprocess.run(["ldconfig"], check=True)


def _show_devices(devices, version):
    """What the kernel module shows: device nodes and /proc/driver/nvidia."""
    nodes = {"nvidiactl": (NVIDIA_MAJOR, CONTROL_MINOR)}
    with open("/proc/devices", encoding="ascii") as table:
        if not any(line.split()[:1] == [str(UVM_MAJOR)] for line in table):
            nodes.update({"nvidia-uvm": (UVM_MAJOR, 0), "nvidia-uvm-tools": (UVM_MAJOR, 1)})
    ns.mount("tmpfs", "/proc/driver", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=0755")
    write("/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  (simulated)\n")
    for device in devices:
        nodes[f"nvidia{device['minor']}"] = (NVIDIA_MAJOR, device["minor"])
        bus = device["pci"]
        write(f"/proc/driver/nvidia/gpus/{bus}/information",
              f"Model: \t\t {device['name']}\nGPU UUID: \t {device['uuid']}\nBus Type: \t PCIe\n"
              f"Bus Location: \t {bus}\nDevice Minor: \t {device['minor']}\n")
    for name, number in nodes.items():
        os.mknod(f"/dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(*number))
        os.chmod(f"/dev/{name}", 0o666)


def install_gpus(state, sim, settings):
    """Starts the simulated machine in the node and leaves in the node what its driver would."""
    os.makedirs(f"{state}/sim", exist_ok=True)
    _bind(f"{state}/sim", SIM_DIR)
    subprocess.run([f"{sim}/sim-ctl", "start", SIM_DIR, "nodes=1", *settings], check=True)
    told = subprocess.run([f"{sim}/sim-ctl", "info", "--json"], env=dict(os.environ, TRANCHE_SIM=SIM_DIR), check=True,
                          capture_output=True, text=True)
    info = json.loads(told.stdout)
    older = [word[len("driver="):] for word in settings if word.startswith("driver=")]
    _install_driver(sim, info["driver_branch"], older[-1] if older else None)
    _show_devices(info["devices"], info["driver_branch"])


def wait_for(truth, seconds):
    end = time.monotonic() + seconds
    while not truth():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
