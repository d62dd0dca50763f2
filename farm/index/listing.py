"""What lies in a project's folder; what is nobody's there is refused."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from farm.errors import PublishError
from farm.files import PART
from farm.index.write import remove
from farm.provenance.names import BESIDE

Stat = tuple[int, int]
"""Size in bytes and mtime in nanoseconds."""
METADATA: Final = ".metadata"
"""Suffix of a wheel's METADATA beside it (PEP 658)."""
_SUFFIXES: Final = (METADATA, *BESIDE)


@dataclass(frozen=True, slots=True)
class Listing:
    """A project's folder: its wheels, sorted, and the names of everything else."""

    folder: Path
    wheels: Mapping[str, Stat]
    others: frozenset[str]

    def digest(self) -> str:
        """Return what is another when a wheel has another size or mtime, or a file is there or is not."""
        lines = [f"{name}/{size}/{mtime}" for name, (size, mtime) in self.wheels.items()]
        return hashlib.sha256("\n".join([*lines, "", *sorted(self.others)]).encode()).hexdigest()


def list_project(folder: Path) -> Listing:
    """List a project's folder; one that does not exist is empty.

    Raises PublishError at a wheel that is not a file, or a folder that can't be read.
    """
    wheels, others = {}, set()
    try:
        with _opened(folder) as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                if not name.endswith(".whl") or name.startswith("."):
                    others.add(name)
                    continue
                held = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(held.st_mode):
                    raise _foreign(folder, name)
                wheels[name] = (held.st_size, held.st_mtime_ns)
    except FileNotFoundError:
        return Listing(folder, {}, frozenset())
    except OSError as error:
        hint = "check the index directory's permissions, and that packages/ has folders of projects only"
        raise PublishError(f"{folder}: {error.strerror}", hint=hint) from error
    return Listing(folder, dict(sorted(wheels.items())), frozenset(others))


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open a folder: of what is in an open one, the system finds each file without walking the path again."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sweep(listing: Listing) -> Iterator[str]:
    """Remove what a removed wheel or a killed build left; yield each name.

    Raises PublishError at what is nobody's, before anything is removed.
    """
    left = []
    for name in sorted(listing.others):
        base = next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), "")
        if base in listing.wheels:
            continue
        if not base.endswith(".whl") and not (name.startswith(".") and name.endswith(PART)):
            raise _foreign(listing.folder, name)
        left.append(name)
    for name in left:
        remove(listing.folder / name)
        yield name


def _foreign(folder: Path, name: str) -> PublishError:
    return PublishError(
        f"packages/{folder.name}/{name} does not belong into the index",
        hint="move it away: there are wheels and what the farm writes beside them, and nothing else",
    )
