"""Files to a node and from it, over SFTP."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from farm.errors import LyingNodeError, NodeError
from farm.executor.base import MAX_WHEEL_BYTES, NodeFile
from farm.executor.link import BROKEN, STALLED_S, Link

CHUNK_BYTES: Final = 256 * 1024
# Of 32 KiB each: enough for a fast link over a long way, and all that is held in memory.
MOST_REQUESTS: Final = 128
SLOWEST_BYTES_PER_S: Final = 16 * 1024


def put(link: Link, path: Path, target: str) -> None:
    """Upload a file; under its name it is complete."""
    # Two controllers, or one that was cut off and its successor, never write into the same file.
    partial = f"{target}.{os.urandom(4).hex()}.partial"
    try:
        sftp = link.sftp()
        sftp.put(str(path), partial, confirm=True)
        sftp.posix_rename(partial, target)
    except BROKEN as error:
        link.close()
        raise NodeError(
            link.address.name, f"{target} can't be written: {error}", hint="is its disk full?"
        ) from error


def get(link: Link, source: str, file: NodeFile, directory: Path) -> Path:
    """Download a file into a folder.

    Raises:
        LyingNodeError: its name is a path, or it is not what was promised; no more than that is downloaded.
        NodeError: the link broke.
    """
    node = link.address.name
    if Path(file.filename).name != file.filename or file.filename.startswith("."):
        raise LyingNodeError(node, f"it names a file {file.filename!r}: not a plain file name")
    if file.size > MAX_WHEEL_BYTES:
        raise LyingNodeError(node, f"{file.filename} is said to have {file.size} bytes")
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f".{file.filename}.partial"
    try:
        size, digest = _download(link, source, partial, file.size)
        if (size, digest) != (file.size, file.sha256):
            said = f"{file.size} bytes with sha256 {file.sha256}"
            text = f"{file.filename} arrived with {size} bytes and sha256 {digest}, the node said {said}"
            raise LyingNodeError(node, text)
        return partial.replace(directory / file.filename)
    finally:
        partial.unlink(missing_ok=True)


def _download(link: Link, source: str, target: Path, promised: int) -> tuple[int, str]:
    """Copy a file of the promised size; returns what arrived."""
    digest, size = hashlib.sha256(), 0
    # What goes wrong with the copy itself is the controller's own trouble, not the node's.
    with target.open("wb") as local:
        for chunk in _chunks(link, source, target.name[1:-8], promised):
            digest.update(chunk)
            size += len(chunk)
            local.write(chunk)
        local.flush()
        os.fsync(local.fileno())  # the node forgets its own copy on the strength of this one (F22)
    return size, digest.hexdigest()


def _chunks(link: Link, source: str, name: str, promised: int) -> Iterator[bytes]:
    node, size = link.address.name, 0
    deadline = time.monotonic() + STALLED_S + promised / SLOWEST_BYTES_PER_S
    try:
        with link.sftp().open(source, "rb") as remote:
            there = remote.stat().st_size
            if there is not None and there != promised:
                raise LyingNodeError(node, f"{name} has {there} bytes, the node said {promised}")
            remote.prefetch(promised, MOST_REQUESTS)
            while chunk := remote.read(min(CHUNK_BYTES, promised - size)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{size} of {promised} bytes in too long a time")
                size += len(chunk)
                yield chunk
    except FileNotFoundError as error:
        raise LyingNodeError(node, f"it promised {name}, and there is no such file") from error
    except BROKEN as error:
        link.close()
        raise NodeError(node, f"{name} can't be collected: {error}") from error
    if size < promised and not link.is_open:  # paramiko may take the end of the link for the end of the file
        raise NodeError(node, f"{name} can't be collected: the link broke")
