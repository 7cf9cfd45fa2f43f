#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the simulated libcuda.so.1 of another driver version.

    older.py IN OUT VERSION

VERSION is 12.4 or 12040; `newer` is a driver that no header knows yet. A dynamic symbol that the
driver of that version lacks is made undefined and weak, so that neither the loader nor dlsym
finds it and no linker asks for it; its address waits in st_size, so that any variant can be made from any other. Which
symbol came when is in the library's own section .sim_versions.
"""
import os
import pathlib
import struct
import sys
import tempfile

NEWER = 1 << 30
# The newest version that headers know; above it only the unknown newer driver has anything.
KNOWN_BELOW = 14000
STB_GLOBAL = 1
STB_WEAK = 2
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")


def sections(image):
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    offset, = struct.unpack_from("<Q", image, 0x28)
    count, names = struct.unpack_from("<HH", image, 0x3c)
    rows = [SECTION.unpack_from(image, offset + i * SECTION.size) for i in range(count)]
    table = rows[names]
    result = {}
    for index, row in enumerate(rows):
        start = table[4] + row[0]
        name = bytes(image[start:image.index(b"\0", start)]).decode()
        result[name] = (index, row[4], row[5])
    return result


def patch(image, version):
    found = sections(image)
    if ".sim_versions" not in found:
        raise ValueError("not the simulator's library: it has no section .sim_versions")
    _, start, size = found[".sim_versions"]
    introduced = {}
    for line in bytes(image[start:start + size]).decode().splitlines():
        name, number = line.split()
        introduced[name] = int(number)
    text, _, _ = found[".text"]
    _, strings, _ = found[".dynstr"]
    _, start, size = found[".dynsym"]
    for at in range(start, start + size, SYMBOL.size):
        name_at, info, other, section, value, length = SYMBOL.unpack_from(image, at)
        name_start = strings + name_at
        name = bytes(image[name_start:image.index(b"\0", name_start)]).decode()
        if name not in introduced:
            continue
        hidden = section == 0
        address = length if hidden else value
        if introduced[name] > version:
            row = (name_at, STB_WEAK << 4 | info & 15, other, 0, 0, address)
        elif hidden:
            row = (name_at, STB_GLOBAL << 4 | info & 15, other, text, address, 0)
        else:
            row = (name_at, info, other, section, value, length)
        SYMBOL.pack_into(image, at, *row)


def parse_version(text):
    if text == "newer":
        return NEWER
    try:
        if "." in text:
            major, minor = text.split(".")
            number = int(major) * 1000 + int(minor) * 10
        else:
            number = int(text)
    except ValueError:
        number = 0
    if not 2000 <= number < KNOWN_BELOW:
        raise ValueError(f"'{text}' is no driver version: say 12.4, 12040 or newer")
    return number


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__.strip())
    source, target = map(pathlib.Path, sys.argv[1:3])
    try:
        version = parse_version(sys.argv[3])
        image = bytearray(source.read_bytes())
        patch(image, version)
        # By rename: a process that has the old file mapped keeps it.
        fd, name = tempfile.mkstemp(dir=target.resolve().parent, prefix=".libcuda-")
        with os.fdopen(fd, "wb") as file:
            file.write(image)
        os.chmod(name, 0o755)
        os.rename(name, target)
    except (OSError, ValueError) as error:
        sys.exit(f"older.py: {error}")


if __name__ == "__main__":
    main()
