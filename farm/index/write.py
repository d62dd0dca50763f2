"""Writing into the tree: whole or not at all, and only what changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from farm.errors import PublishError
from farm.files import write_file


def write_changed(path: Path | str, data: bytes, *, folder_too: bool = True) -> bool:
    """Write a file unless it has these bytes already; say whether it was written. Raises PublishError.

    nginx's ETag, and what rsync compares, are mtime in seconds and size: so mtime grows by a second at least.
    """
    try:
        try:
            held = os.stat(path)  # noqa: PTH116 - there are many, and a Path costs more than the question
        except FileNotFoundError:
            after = 0
        else:
            if held.st_size == len(data) and Path(path).read_bytes() == data:
                return False
            after = int(held.st_mtime) + 1
        write_file(path, data, after=after, folder_too=folder_too)
    except OSError as error:
        raise _cant_write(path, error) from error
    return True


def remove(path: Path) -> bool:
    """Remove a file, and its folder if that is empty then; say whether it was there. Raises PublishError."""
    with writing(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    with suppress(OSError):  # something else is in there; leave it
        path.parent.rmdir()
    return True


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that can't be written into PublishError."""
    try:
        yield
    except OSError as error:
        raise _cant_write(path, error) from error


def _cant_write(path: Path | str, error: OSError) -> PublishError:
    hint = "check the index directory's permissions and free space"
    return PublishError(f"{path}: can't be written: {error.strerror}", hint=hint)
