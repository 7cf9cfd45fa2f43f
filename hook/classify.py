#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what the hook says about the driver's exports against the pinned headers.

    classify.py --cc CC --include DIR --out DIR

Stops the build when a function that a header declares has no class in exports.def, when
exports.def names one that no header declares, when a class and the rows of calls.def disagree, or
when a row's columns are not the headers'. Writes the linker's version script (exports.map), the
list of exports (exports.txt) and that of the rows that only armed slices route (paced.txt).
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# Included by the interoperability headers; only their names matter here, so empty ones do.
FOREIGN = ("GL/gl.h", "EGL/egl.h", "EGL/eglext.h", "vdpau/vdpau.h", "cudaProfiler.h")
HEADERS = ("cuda.h", "vdpau/vdpau.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h", "cudaTypedefs.h",
           "cudaGLTypedefs.h", "cudaEGLTypedefs.h", "cudaVDPAUTypedefs.h",
           "cudaProfilerTypedefs.h")
CLASSES = ("charged", "paced", "told", "lifecycle", "foreign", "irrelevant")
HOOKED = ("charged", "paced", "told", "lifecycle")  # their functions are rows, except with a note


def preprocess(cc, include, headers, *defines):
    with tempfile.TemporaryDirectory() as empty:
        for name in FOREIGN:
            path = pathlib.Path(empty) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("")
        source = "".join(f"#include <{h}>\n" for h in headers)
        run = subprocess.run(
            [cc, "-E", "-P", "-x", "c", f"-I{include}", f"-I{empty}",
             *(f"-D{d}" for d in defines), "-"],
            input=source, text=True, stdout=subprocess.PIPE, check=True)
    return re.sub(r"\s+", " ", run.stdout)


def split(symbol):
    """(base, number of the ABI, twin) of an exported name."""
    base, abi, twin = re.fullmatch(r"(\w+?)(?:_v(\d+))?(_ptsz|_ptds)?", symbol).groups()
    return base, int(abi or 1), twin or ""


def driver_functions(cc, include):
    """Every export: name -> (base, version or None, per-thread)."""
    names, versions = set(), {}
    for defines in (("__CUDA_API_VERSION_INTERNAL",), (), ("CUDA_API_PER_THREAD_DEFAULT_STREAM",)):
        text = preprocess(cc, include, HEADERS, *defines)
        names |= set(re.findall(r"\bCUresult (cu[A-Z]\w*) ?\(", text))
        for base, version, twin in re.findall(
                r"\bCUresult ?\( ?\* ?PFN_(cu\w+?)_v(\d+)(_ptsz|_ptds)? ?\)", text):
            versions.setdefault((base, twin), set()).add(int(version))
    names |= {base for base, twin in versions if not twin}  # cuProfiler*: no header any more
    functions = {n: (split(n)[0], None, bool(split(n)[2])) for n in names}
    for (base, twin), known in versions.items():
        symbols = sorted((n for n in names if split(n)[0] == base and split(n)[2] == twin),
                         key=lambda n: split(n)[1])
        if len(symbols) == len(known):
            for symbol, version in zip(symbols, sorted(known)):
                functions[symbol] = (base, version, bool(twin))
    return functions


def nvml_functions(cc, include):
    names = set()
    for defines in (("NVML_NO_UNVERSIONED_FUNC_DEFS",), ()):
        text = preprocess(cc, include, ("nvml.h",), *defines)
        names |= set(re.findall(r"\b(nvml[A-Z]\w*) ?\([^;{}()]*\) ?;", text))
    return names


def classes(path):
    """name -> (class, note). Sections: [class] or [class note]; # begins a comment."""
    found, errors, section = {}, [], None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        head = re.fullmatch(r"\[(\w+)(?: (\w+))?\]", line)
        if head:
            section = head.groups()
            if section[0] not in CLASSES:
                errors.append(f"{path.name}:{number}: no such class: {section[0]}")
            continue
        for name in line.split():
            if section is None:
                errors.append(f"{path.name}:{number}: {name} stands before the first class")
            elif name in found:
                errors.append(f"{path.name}:{number}: {name} has a class already")
            else:
                found[name] = section
    return found, errors


def rows(path):
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    return [[c.strip() for c in m.split(",")] for m in re.findall(r"^TR_CALL\((.*?)\)", text, re.M)]


def check(cuda, nvml, classed, cuda_rows, nvml_rows):
    errors = []
    declared = set(cuda) | nvml
    hooked = {r[0] for r in cuda_rows} | {r[0] for r in nvml_rows}
    for name in sorted(declared - set(classed)):
        errors.append(f"{name} has no class in exports.def")
    for name in sorted(set(classed) - declared):
        errors.append(f"exports.def: no header declares {name}")
    for name, (kind, note) in sorted(classed.items()):
        if kind in HOOKED and not note and name not in hooked:
            errors.append(f"{name} is {kind} and has no row")
        if name in hooked and (kind not in HOOKED or note):
            errors.append(f"{name} has a row and is {kind} {note or ''}")
    for symbol, base, version, per_thread in cuda_rows:
        want = cuda.get(symbol)
        if want and (base, int(version), bool(int(per_thread))) != want:
            errors.append(f"calls.def: {symbol} is {want}")
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cc", required=True)
    parser.add_argument("--include", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--exports", type=pathlib.Path, default=HERE / "exports.def")
    options = parser.parse_args()
    cuda = driver_functions(options.cc, options.include)
    nvml = nvml_functions(options.cc, options.include)
    classed, errors = classes(options.exports)
    cuda_rows, nvml_rows = rows(HERE / "calls.def"), rows(HERE / "nvml_calls.def")
    errors += check(cuda, nvml, classed, cuda_rows, nvml_rows)
    if errors:
        sys.exit("\n".join(f"classify.py: {e}" for e in errors))
    names = sorted([r[0] for r in cuda_rows] + [r[0] for r in nvml_rows] + ["dlsym", "dlvsym"])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "exports.map").write_text(
        "{\nglobal:\n" + "".join(f"\t{n};\n" for n in names) + "local:\n\t*;\n};\n")
    (options.out / "exports.txt").write_text("".join(f"{n}\n" for n in names))
    paced = [r[0] for r in cuda_rows]
    paced = paced[paced.index("cuLaunchKernel"):]
    (options.out / "paced.txt").write_text("".join(f"{n}\n" for n in paced))
    print(f"classify.py: {len(classed)} functions classed, {len(names)} exports")


if __name__ == "__main__":
    main()
