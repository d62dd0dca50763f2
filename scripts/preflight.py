#!/usr/bin/env python3
"""Says whether this machine can run virtual boards, before anything on it is changed.

Standard library only: it runs before the virtual environment's packages can be counted on. Exit code 1, and
one line with its fix for each thing that is missing.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

DISK_BYTES = 8 << 30
MEMORY_BYTES = 3 << 30
SSH_PORT = 2222
HTTP_PORT = 8080
CACHE_PORT = 8081
STATE = Path("/var/lib/wheelfarm")
BINFMT = Path("/proc/sys/fs/binfmt_misc")


def problems() -> Iterator[tuple[str, str]]:
    """Yield what is missing, each with its fix."""
    yield from system()
    yield from kernel()
    yield from space()
    yield from ports()


def system() -> Iterator[tuple[str, str]]:
    """Check the distribution, the processor and the privileges."""
    if platform.machine() not in {"x86_64", "aarch64"}:
        yield f"{platform.machine()} is not supported as a host", "use an x86-64 or arm64 machine"
    if shutil.which("apt-get") is None:
        yield "there is no apt-get here", "use Debian 12 or 13, or Ubuntu 24.04 (a virtual machine will do)"
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            yield "not root, and no sudo", "run it as root, or install sudo"
        elif subprocess.run(["sudo", "-v"], check=False).returncode != 0:
            yield "sudo does not let this user become root", "run it as root, or add the user to group sudo"


def kernel() -> Iterator[tuple[str, str]]:
    """Check what the boards need of the kernel."""
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    for name in ("overlay", "binfmt_misc"):
        if name not in known and not (name == "binfmt_misc" and BINFMT.exists()) and not _loadable(name):
            yield (
                f"the kernel has no {name}",
                f"modprobe {name}; in a container, use a virtual machine instead",
            )
    if os.geteuid() == 0:
        test = subprocess.run(
            [
                "unshare",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "mount",
                "-t",
                "tmpfs",
                "none",
                "/mnt",
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        if test.returncode != 0:
            yield (
                f"no new namespaces and mounts: {test.stderr.strip()}",
                "use a machine, not an unprivileged container",
            )


def _loadable(name: str) -> bool:
    modprobe = shutil.which("modprobe") or "/sbin/modprobe"
    if not Path(modprobe).exists():
        return False
    return subprocess.run([modprobe, "--dry-run", "--quiet", name], check=False).returncode == 0


def space() -> Iterator[tuple[str, str]]:
    """Check disk and memory."""
    place = next(path for path in (STATE, *STATE.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < DISK_BYTES and not (STATE / "base").exists():
        yield f"{free / 2**30:.1f} GiB are free on {place}", f"make room: {DISK_BYTES >> 30} GiB are needed"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory < MEMORY_BYTES:
        yield f"{memory / 2**30:.1f} GiB of memory", f"{MEMORY_BYTES >> 30} GiB are needed"


def ports() -> Iterator[tuple[str, str]]:
    """Check that the boards' addresses are free, unless our own boards hold them."""
    prefix = os.environ.get("FARM_VIRTUAL_PREFIX", "127.0.30")
    root = Path(os.environ.get("FARM_VIRTUAL_ROOT", str(STATE / "virtual")))
    if any(root.glob("*/pid")):
        return
    ssh = [(host, SSH_PORT) for host in (11, 12, 20, 30)]
    for host, port in (*ssh, (30, HTTP_PORT), (30, CACHE_PORT)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((f"{prefix}.{host}", port))
            except OSError as error:
                yield (
                    f"{prefix}.{host} port {port} can't be used: {error.strerror}",
                    "end what listens there (ss -ltnp), or set FARM_VIRTUAL_PREFIX=127.0.40",
                )


def main() -> int:
    """Print all problems; 0 if there are none."""
    found = list(problems())
    for problem, fix in found:
        print(f"error: {problem}\n  fix: {fix}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
