"""Files on a board."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

Json = dict[str, object]
RESERVE_BYTES = 8 * 1024


def read_text(path: str | Path) -> str:
    """Return a file's text without the space around it, or an empty string where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def read_json(path: str | Path) -> Json:
    """Return the object in a file; an empty one where there is no file, or one that a power cut left torn."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # polls read many of them, and Path is slow on a board
            content = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Json) -> None:
    """Write to a name of this process's own, then rename: who reads sees all of it or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)


class Durable:
    """A file that will be written once, at the end, and must then be on the disk: even on one that got full.

    Its room is reserved at the start; until it is written, there is no file of its name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}")
        self._file = os.open(self._partial, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(self._file, 0, RESERVE_BYTES)
        except OSError:
            self.drop()
            raise

    def drop(self) -> None:
        """Give the room back."""
        os.close(self._file)
        self._partial.unlink(missing_ok=True)

    def write(self, content: Json) -> None:
        """Write it; it survives a power cut from here on."""
        # Filled up with spaces, which JSON allows: cutting off what was reserved costs more than writing it.
        os.pwrite(self._file, json.dumps(content).encode().ljust(RESERVE_BYTES), 0)
        os.fsync(self._file)
        self._partial.replace(self._path)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    import hashlib  # noqa: PLC0415  # polls and starts do without it

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifacts(paths: Iterable[Path]) -> list[Json]:
    """Return names, sizes and hashes of files, once they are on the disk (F22)."""
    found: list[Json] = []
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        found.append({"filename": path.name, "size": path.stat().st_size, "sha256": sha256_of(path)})
    return found
