"""One controller at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farm.errors import BusyError


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
