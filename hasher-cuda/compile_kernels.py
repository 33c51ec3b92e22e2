#!/usr/bin/env python3
"""Compiles src/kernels/*.cu to src/kernels/kernels.ptx, or checks that what is committed is that.

    compile_kernels.py --venv DIR --write    compile and write
    compile_kernels.py --venv DIR --check    compile and compare byte for byte

Both then assemble the PTX for every architecture below and fail if a kernel spills registers.

The compilers come from PyPI into a virtual environment at DIR, made if it is not there; nothing of
CUDA need be installed. An old NVRTC on purpose: a driver refuses PTX of a version newer than its
own, and this one writes version 8.1, which drivers since CUDA 12.1 read. compute_60 runs on
everything newer. Both compilers are deterministic.
"""

import argparse
import ctypes
import pathlib
import re
import subprocess
import sys
import tempfile
import venv

WHEELS = ["nvidia-cuda-nvrtc-cu12==12.1.105", "nvidia-cuda-nvcc-cu12==12.9.86"]
# Concatenated to one program in this order, because NVRTC has no headers.
SOURCES = ["sha256.cu", "nodes.cu", "messages.cu", "twigs.cu", "moves.cu"]
KERNELS = ["nodes", "messages", "twigs", "scatter", "gather", "flip"]
OPTIONS = ["--gpu-architecture=compute_60", "--std=c++14"]
PTX_VERSION = ".version 8.1"
ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_100"]

FOLDER = pathlib.Path(__file__).resolve().parent / "src" / "kernels"
PTX = FOLDER / "kernels.ptx"


def toolchain(directory):
    """The folders of NVRTC's library and of ptxas, installed if need be."""
    python = directory / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WHEELS],
        check=True,
    )
    (site,) = (directory / "lib").glob("python3*/site-packages")
    return site / "nvidia" / "cuda_nvrtc" / "lib", site / "nvidia" / "cuda_nvcc" / "bin"


def program():
    """All sources as one, with lines and names that messages can point to."""
    parts = [f'#line 1 "{name}"\n{(FOLDER / name).read_text()}' for name in SOURCES]
    return "".join(parts)


def compile_ptx(libraries, source):
    """What NVRTC makes of `source`."""
    # It looks for this one by name while it compiles.
    ctypes.CDLL(next(libraries.glob("libnvrtc-builtins.so*")), mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(libraries / "libnvrtc.so.12")

    def call(function, *arguments):
        return getattr(nvrtc, function)(*arguments)

    handle = ctypes.c_void_p()
    if call("nvrtcCreateProgram", ctypes.byref(handle), source.encode(), b"kernels.cu", 0, None, None):
        sys.exit("nvrtcCreateProgram failed")
    options = (ctypes.c_char_p * len(OPTIONS))(*[option.encode() for option in OPTIONS])
    code = call("nvrtcCompileProgram", handle, len(OPTIONS), options)
    size = ctypes.c_size_t()
    call("nvrtcGetProgramLogSize", handle, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    call("nvrtcGetProgramLog", handle, log)
    if log.value.strip():
        print(log.value.decode())
    if code:
        sys.exit(f"NVRTC: error {code}")
    if call("nvrtcGetPTXSize", handle, ctypes.byref(size)):
        sys.exit("nvrtcGetPTXSize failed")
    ptx = ctypes.create_string_buffer(size.value)
    if call("nvrtcGetPTX", handle, ptx):
        sys.exit("nvrtcGetPTX failed")
    return ptx.value.decode()


def check_registers(ptxas, ptx):
    """Assembles for every architecture; prints registers; returns the kernels that spill."""
    bad = []
    for architecture in ARCHITECTURES:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as out:
            done = subprocess.run(
                [ptxas, "-v", f"-arch={architecture}", "-o", out.name, "-"],
                input=ptx, capture_output=True, text=True, check=False,
            )
        if done.returncode:
            sys.exit(f"ptxas for {architecture}:\n{done.stderr}")
        seen = re.findall(
            r"Function properties for (\w+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, "
            r"(\d+) bytes spill loads\s+.*?Used (\d+) registers(.*)",
            done.stderr,
        )
        if sorted(kernel for kernel, *_ in seen) != sorted(KERNELS):
            sys.exit(f"ptxas for {architecture} does not speak of every kernel:\n{done.stderr}")
        for kernel, stack, stores, loads, registers, rest in seen:
            shared = re.search(r"(\d+) bytes smem", rest)
            print(
                f"  {architecture:7} {kernel:9} {registers:>3} registers, "
                f"{shared.group(1) if shared else 0:>5} B shared, {stack} B stack, "
                f"{int(stores) + int(loads)} B spilled"
            )
            if stack != "0" or stores != "0" or loads != "0":
                bad.append(f"{kernel} on {architecture}")
    return bad


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--venv", type=pathlib.Path, required=True, help="virtual environment")
    what = arguments.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write the PTX")
    what.add_argument("--check", action="store_true", help="compare with the PTX that is there")
    arguments = arguments.parse_args()

    libraries, binaries = toolchain(arguments.venv)
    ptx = compile_ptx(libraries, program())
    if not re.search(rf"^{re.escape(PTX_VERSION)}$", ptx, re.MULTILINE):
        sys.exit(f"NVRTC wrote another PTX version than {PTX_VERSION}")
    if arguments.write:
        PTX.write_text(ptx)
        print(f"wrote {PTX}")
    elif PTX.read_text() != ptx:
        sys.exit(f"{PTX} is not what the sources compile to: run this with --write")
    else:
        print("the committed PTX is what the sources compile to")
    bad = check_registers(binaries / "ptxas", ptx)
    if bad:
        sys.exit("these kernels spill: " + ", ".join(bad))


if __name__ == "__main__":
    main()
