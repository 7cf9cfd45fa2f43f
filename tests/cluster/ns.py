# SPDX-License-Identifier: Apache-2.0
"""The system calls that Python 3.11 lacks: namespaces, mounts, and a few more. Linux on any processor."""
import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 20
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1


def _check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _bytes(text):
    return None if text is None else os.fsencode(text)


def unshare(flags):
    _check(_libc.unshare(flags), "unshare")


def mount(source, target, kind=None, flags=0, data=None):
    _check(_libc.mount(_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data)),
           f"mount {target}")


def unmount(target, flags=0):
    _check(_libc.umount2(_bytes(target), flags), f"umount {target}")


def pivot_root(new, old):
    """The root of this mount namespace becomes NEW, what it was is found below OLD."""
    numbers = {"x86_64": 155, "aarch64": 41}
    _check(_libc.syscall(ctypes.c_long(numbers[os.uname().machine]), _bytes(new), _bytes(old)), "pivot_root")


def sethostname(name):
    _check(_libc.sethostname(_bytes(name), len(name)), "sethostname")


def die_with_parent(signal):
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")
