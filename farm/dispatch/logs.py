"""The attempts' logs on this controller."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from farm.paths import Paths

FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Logs:
    """Appends what nodes bring; used by one thread.

    A log's size is how far its attempt was read, and all that a killed dispatcher leaves behind of that. It
    is looked up once, then counted: hundreds of nodes bring lines twice a second each.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._files: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    def size(self, attempt_id: str) -> int:
        """Return how many bytes of an attempt's log are here."""
        size = self._sizes.get(attempt_id)
        if size is None:
            path = self._paths.log(attempt_id)
            self._files[attempt_id] = str(path)
            size = self._sizes[attempt_id] = path.stat().st_size if path.exists() else 0
        return size

    def append(self, attempt_id: str, data: bytes) -> None:
        """Add the next part."""
        size = self.size(attempt_id) + len(data)
        # What is counted must be what is there: after a write that failed, it is looked at anew.
        del self._sizes[attempt_id]
        log = self._open(self._files[attempt_id])
        try:
            while data:
                data = data[os.write(log, data) :]
        finally:
            os.close(log)
        self._sizes[attempt_id] = size

    def done(self, attempt_id: str) -> None:
        """Count no more: the attempt has ended."""
        self._sizes.pop(attempt_id, None)
        self._files.pop(attempt_id, None)

    def _open(self, file: str) -> int:
        try:
            return os.open(file, FLAGS, 0o644)
        except FileNotFoundError:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            return os.open(file, FLAGS, 0o644)
