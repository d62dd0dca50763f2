"""What a board says of itself."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from farm.node import VERSION, sandbox, unit
from farm.node.files import Json, read_json, read_text
from farm.node.process import boot_id
from farm.node.vitals import fingerprint

# ELF's e_machine (psABI documents), and the scripts that may stand in front of a program.
MACHINES = {243: "riscv64", 62: "x86_64", 183: "aarch64"}
SCRIPTS_DEEP = 4
CALIBRATION = "/etc/wheelfarm/calibration.json"
TINY = (
    "#include <math.h>\n#include <stdio.h>\nint main(int n, char **v) { return puts(v[0]) + (int)sin(n); }\n"
)
COMPILE_S = 60
_toolchains: dict[str, Json] = {}


def probe(root: Path, environments: Path) -> Json:
    """Return what this board is: ISA, cores, memory, disk, Pythons, toolchains, installed packages."""
    for name in ("incoming", "jobs"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return {
        "runner_version": VERSION,
        "machine": platform.machine(),
        "machine_id": read_text("/etc/machine-id"),
        "boot_id": boot_id(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk_free_bytes": shutil.disk_usage(root).free,
        "load": os.getloadavg()[0],
        "clock": time.time(),
        "pythons": sorted(path.name for path in environments.glob("cp3*") if (path / "bin/python").exists()),
        "apt_packages": sorted(installed_packages()),
        "model": model(),
        "speed": _speed(),
        "selftest": selftest(root),
        # Where systemd does not run the board, there is nothing to wonder about.
        "units": unit.why_not() if unit.SYSTEMD.is_dir() else "",
        "sandbox": sandbox.why_not(root) or sandbox.NAME,
        **toolchain(fingerprint(environments)),
    }


def toolchain(state: str) -> Json:
    """Return what a wheel's provenance says of the board: its system and its compilers.

    It is asked for again only when ``state`` is another one: a board starts ten programs to know.
    """
    if state not in _toolchains:
        _toolchains.clear()
        _toolchains[state] = _toolchain()
    return dict(_toolchains[state])


def _toolchain() -> Json:
    return {
        "hostname": platform.node(),
        "kernel": platform.release(),
        "os": _os_name(),
        "isa": _cpuinfo("isa"),
        "gcc": output("gcc", "-dumpfullversion").strip(),
        "gcc_march": _default_march(),
        "rustc": output("rustc", "--version").strip(),
        "make": output("make", "--version").partition("\n")[0].strip(),
        "compilers": compilers(),
    }


def model() -> str:
    """Return which board this is."""
    tree = read_text("/proc/device-tree/model").strip("\0")
    if tree:
        return tree
    if _cpuinfo("uarch") == "qemu":  # user emulation, which shows the host's DMI tables as well
        return "virtual"
    return read_text("/sys/class/dmi/id/product_name") or _cpuinfo("model name")


def selftest(root: Path) -> str:
    """Return why this board can't compile, link and write a program, in one line; empty if it can (F21)."""
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".selftest.") as folder:
            source = Path(folder, "tiny.c")
            source.write_text(TINY, encoding="utf-8")
            command = ["gcc", "-O1", str(source), "-o", f"{folder}/tiny", "-lm"]
            done = subprocess.run(command, check=False, capture_output=True, timeout=COMPILE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    if not done.returncode:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
    return f"gcc ended with code {done.returncode}: {said[-1][:200]}"


def _speed() -> float | None:
    speed = read_json(CALIBRATION).get("speed")
    return float(speed) if isinstance(speed, int | float) else None


def compilers() -> dict[str, str]:
    """Return for which processor each compiler was built: on a virtual board they may run natively."""
    found = {
        name: output("gcc", f"-print-prog-name={name}").strip() for name in ("cc1", "cc1plus", "as", "ld")
    }
    found["rustc"] = "rustc"
    located = {name: shutil.which(program) for name, program in found.items() if program}
    return {name: machine_of(Path(path)) for name, path in located.items() if path}


def machine_of(program: Path) -> str:
    """Return the processor a program runs on, through scripts that stand in front of it."""
    for _ in range(SCRIPTS_DEEP):
        try:
            with program.open("rb") as file:
                head = file.read(256)
        except OSError:
            return "unknown"
        if head.startswith(b"\x7fELF"):
            (number,) = struct.unpack_from("<H", head, 18)
            return MACHINES.get(number, f"ELF machine {number}")
        if not head.startswith(b"#!"):
            return "unknown"
        program = Path(os.fsdecode(head[2:].split(b"\n")[0].split()[0]))
    return "unknown"


def installed_packages(*names: str) -> set[str]:
    """Return which Debian packages are installed: all, or those of ``names``."""
    # A removed package whose configuration files are left is still listed; an unknown one fails the query.
    listed = subprocess.run(
        ["/usr/bin/dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *names],
        check=False,
        capture_output=True,
        text=True,
    ).stdout
    return {name for state, name in map(str.split, listed.splitlines()) if state == "installed"}


def output(*command: str) -> str:
    """Return a command's output, or an empty string where the board does not have it."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def _default_march() -> str:
    for line in output("gcc", "-Q", "--help=target").splitlines():
        if line.split()[:1] == ["-march="]:
            return line.split()[1]
    return ""


def _cpuinfo(key: str) -> str:
    for line in read_text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _os_name() -> str:
    for line in read_text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return ""
