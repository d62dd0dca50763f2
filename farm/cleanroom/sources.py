"""Tests that only the sdist has: copied out of it, and nothing else of it."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from farm.errors import WheelError
from farm.requires import ARCHIVE_LIMIT, UNREADABLE

MOST_BYTES: Final = 512 << 20
_SUFFIXES: Final = (".py", ".so", ".pyc")


def copy_sources(sdist: Path, wanted: Sequence[str], target: Path) -> None:
    """Copy files and folders of an sdist into a folder, by their paths below the sdist's one folder.

    Regular files only: a link could lead anywhere.

    Raises:
        WheelError: one is not there, they are too large, or the archive can't be read.
        OSError: a file can't be written.
    """
    paths = [PurePosixPath(path) for path in wanted]
    missing = set(paths)
    for member, data in _members(sdist, paths):
        missing -= {path for path in paths if member.is_relative_to(path)}
        file = target / member
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    if missing:
        raise WheelError(f"{sdist.name} has no {', '.join(sorted(map(str, missing)))}")


def shadowed(folder: Path, modules: Iterable[str]) -> str:
    """Return the module of the wheel that Python would take from a folder instead, if there is one.

    A folder without ``__init__`` shadows none: Python looks on for a whole package (PEP 420).
    """
    for top in sorted({module.partition(".")[0] for module in modules}):
        if _is_module(folder.glob(f"{top}.*")) or _is_module((folder / top).glob("__init__.*")):
            return top
    return ""


def _is_module(files: Iterable[Path]) -> bool:
    return any(file.suffix in _SUFFIXES for file in files)


def _members(sdist: Path, wanted: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield files at or below the wanted paths, by path below the sdist's one folder."""
    left = MOST_BYTES
    try:
        for name, size, read in _read_zip(sdist) if sdist.suffix == ".zip" else _read_tar(sdist):
            path = PurePosixPath(*PurePosixPath(name).parts[1:])
            if ".." in path.parts or not any(path.is_relative_to(one) for one in wanted):
                continue
            left -= size
            if left < 0:
                names = ", ".join(map(str, wanted))
                raise WheelError(f"{sdist.name}: {names}: more than {MOST_BYTES >> 20} MiB")
            yield path, read()
    except UNREADABLE as error:
        raise WheelError(f"{sdist.name} can't be read: {error}") from error


def _read_tar(sdist: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with tarfile.open(sdist, "r|*") as archive:
        for member in archive:
            if member.offset_data + member.size > ARCHIVE_LIMIT:
                return
            if member.isreg() and (file := archive.extractfile(member)) is not None:
                yield member.name, member.size, file.read


def _read_zip(sdist: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with zipfile.ZipFile(sdist) as archive:
        for member in archive.infolist():
            is_link = member.external_attr >> 16 & 0xF000 == stat.S_IFLNK
            if not (member.is_dir() or is_link):
                with archive.open(member) as file:
                    yield member.filename, member.file_size, partial(file.read, member.file_size)
