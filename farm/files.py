"""Writing a file as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

PART: Final = ".part"
"""How the name of a file ends that is being written; it begins with a dot."""


def write_file(
    path: Path | str,
    content: bytes | Callable[[BinaryIO], object],
    mode: int = 0o644,
    *,
    after: int = 0,
    folder_too: bool = True,
) -> None:
    """Write a temporary file beside ``path``, fsync, rename, fsync the folder.

    Args:
        path: the file; its folder is made.
        content: its bytes, or what is given the open file to write them.
        mode: the file's permissions.
        after: the least mtime it may get, in whole seconds since the epoch.
        folder_too: False where many files of one folder are written and :func:`sync_folder` comes after them.

    Raises:
        OSError: it can't be written; what was there is as it was.
    """
    # The functions of `os` take half the time of pathlib and file objects; an index has 100,000 files.
    folder = os.path.dirname(path) or "."  # noqa: PTH120
    temporary = f"{folder}/.{os.urandom(8).hex()}{PART}"
    descriptor = _create(temporary, folder)
    try:
        try:
            _write(descriptor, content)
            os.fchmod(descriptor, mode)
            if after and os.fstat(descriptor).st_mtime < after:
                os.utime(descriptor, (after, after))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    if folder_too:
        sync_folder(folder)


def _create(path: str, folder: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        return os.open(path, flags, 0o600)


def _write(descriptor: int, content: bytes | Callable[[BinaryIO], object]) -> None:
    if not isinstance(content, bytes):
        with open(descriptor, "wb", closefd=False) as out:
            content(out)
        return
    written = os.write(descriptor, content)
    while written < len(content):  # the disk is nearly full: the next one says so
        written += os.write(descriptor, memoryview(content)[written:])


def sync_folder(folder: Path | str) -> None:
    """Make the renames in a folder last. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
