"""What may change on a board from minute to minute; cheap enough to be told with every poll."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from farm.node.files import Json, read_text
from farm.node.process import boot_id

FRESH_S = 1.0
PROGRAMS = tuple(
    f"{folder}/{name}" for name in ("gcc", "g++", "ld", "rustc") for folder in ("/usr/local/bin", "/usr/bin")
)


class Vitals:
    """Reads them, once a second at most."""

    def __init__(self, root: Path, environments: Path) -> None:
        self._root = root
        self._environments = environments
        self._machine_id = read_text("/etc/machine-id")
        self._read_at = float("-inf")
        self._known: Json = {}

    def read(self) -> Json:
        """Return them."""
        now = time.monotonic()
        if now - self._read_at >= FRESH_S:
            self._read_at = now
            space = os.statvfs(self._root)
            self._known = {
                "load": os.getloadavg()[0],
                "disk_free_bytes": space.f_bavail * space.f_frsize,
                "memory_available_bytes": _memory_available(),
                "machine_id": self._machine_id,
                "boot_id": boot_id(),
                "toolchain": fingerprint(self._environments),
            }
        return {"clock": time.time(), **self._known}


def fingerprint(environments: Path) -> str:
    """Return a digest that changes when compilers or Pythons were changed."""
    seen = [(name, *_stamp(name)) for name in PROGRAMS]
    seen += [(str(path), *_stamp(path)) for path in sorted(environments.glob("cp3*/bin/python"))]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def _stamp(path: str | Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)  # noqa: PTH116  # of what a link leads to; polls do it often
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns


def _memory_available() -> int:
    for line in read_text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
