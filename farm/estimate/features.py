"""What an sdist's file list tells of the work in it, before it was ever built."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final


class Language(Enum):
    """What a source file is compiled as."""

    C = "c"
    CXX = "c++"
    CYTHON = "cython"
    FORTRAN = "fortran"
    RUST = "rust"


SUFFIXES: Final[Mapping[str, Language]] = {
    ".c": Language.C,
    ".cc": Language.CXX,
    ".cpp": Language.CXX,
    ".cxx": Language.CXX,
    ".f": Language.FORTRAN,
    ".f90": Language.FORTRAN,
    ".for": Language.FORTRAN,
    ".pyx": Language.CYTHON,
    ".rs": Language.RUST,
}


@dataclass(frozen=True, slots=True)
class SdistFeatures:
    """Sizes in bytes; ``source`` is per language, of unpacked files."""

    size: int
    """Of the archive."""
    source: Mapping[Language, int] = field(default_factory=dict)
    cargo: bool = False
    """It has a Cargo.toml: crates come on top of the sdist's own source."""
    readable: bool = True

    @property
    def pure(self) -> bool:
        """Tell whether nothing in it looks as if it were compiled."""
        return self.readable and not self.source and not self.cargo


@lru_cache(maxsize=4096)
def read_features(sdist: Path) -> SdistFeatures:
    """Return the features of an archive; one that can't be read is no error here, its build will say so."""
    size = sdist.stat().st_size
    source: dict[Language, int] = {}
    cargo = False
    try:
        for name, length in _members(sdist):
            path = PurePosixPath(name)
            cargo = cargo or path.name == "Cargo.toml"
            if language := SUFFIXES.get(path.suffix.lower()):
                source[language] = source.get(language, 0) + length
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError):
        return SdistFeatures(size, readable=False)
    return SdistFeatures(size, source, cargo)


def _members(sdist: Path) -> Iterator[tuple[str, int]]:
    if sdist.suffix == ".zip":
        with zipfile.ZipFile(sdist) as archive:
            yield from ((entry.filename, entry.file_size) for entry in archive.infolist())
    else:
        with tarfile.open(sdist) as archive:
            yield from ((entry.name, entry.size) for entry in archive if entry.isfile())
