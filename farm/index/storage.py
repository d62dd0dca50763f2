"""Is there room for what is to be published?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from farm.errors import PublishError

WARN_BELOW: Final = 5 << 30
"""Bytes; room for some hundred native wheels: time to act."""
REFUSE_BELOW: Final = 512 << 20
"""Bytes; what must stay free after a publication: for pages and the farm's own database."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes on a file system that its user may fill."""

    free: int

    @classmethod
    def of(cls, folder: Path) -> Room:
        """Ask the file system of a folder, or of the nearest one above it that exists."""
        while not folder.exists():
            folder = folder.parent
        status = os.statvfs(folder)
        return cls(status.f_bavail * status.f_frsize)

    def require(self, size: int, folder: Path) -> str:
        """Return a warning, or an empty string, before ``size`` bytes are written.

        Raises PublishError where too little would be left.
        """
        left = self.free - size
        hint = "make room: `farm index prune --keep N` shows what old versions hold"
        if left < REFUSE_BELOW:
            message = f"{folder}: {self.free >> 20} MiB are free, {size >> 20} MiB are to be published"
            raise PublishError(f"{message}; {REFUSE_BELOW >> 20} MiB must stay", hint=hint)
        if left < WARN_BELOW:
            return f"{folder}: {left >> 20} MiB stay free; {hint}"
        return ""
