"""One controller at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farm.errors import BusyError


def lock_holder(path: Path) -> str | None:
    """Return the pid of who holds the farm, or None; it is not taken to find out."""
    try:
        inode = str(path.stat().st_ino)
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        pid = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    # "1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF"; the device is another one on some file systems.
    held = any(line.split()[1] == "FLOCK" and line.split()[-3].rpartition(":")[2] == inode for line in locks)
    return pid if held else None


@contextmanager
def controller_lock(path: Path) -> Iterator[None]:
    """Hold the farm for one controller; the kernel frees it when the process ends, however it ends.

    Raises:
        BusyError: another process holds it; with its pid.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise BusyError(
                f"another `farm` (pid {lock.read().strip()}) holds {path.parent}",
                hint="wait for it, or watch it with `farm status`",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
