"""Which Debian package has a shared library: by the suite's ``Contents`` index, as ``apt-file`` does.

Source: the repository format (https://wiki.debian.org/DebianRepository/Format, "Contents indices"): each line
is a path and, after the last white space, ``SECTION/PACKAGE`` items with commas between them.

The index is taken as the mirror sends it, without Debian's signature: it is good for messages, not for more.
"""

from __future__ import annotations

import gzip
import os
import posixpath
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from farm.errors import FarmError, UpstreamError

MIRROR: Final = "http://deb.debian.org/debian"
SUITE: Final = "trixie"
FRESH_S: Final = 30 * 24 * 3600
_MOST_BYTES: Final = 256 << 20
_TRIPLET: Final = "riscv64-linux-gnu"
_SEARCHED: Final = frozenset({"lib", "usr/lib", f"lib/{_TRIPLET}", f"usr/lib/{_TRIPLET}"})
_ALTERNATIVES: Final = frozenset({f"lib/{_TRIPLET}", f"usr/lib/{_TRIPLET}"})
_DEVELOPMENT: Final = "libdevel"
_TRIES: Final = 1  # it is a help, not worth a long wait


def libraries(lines: Iterable[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield name, package and whether the loader finds it by itself, for each library of a Contents index.

    Those in a folder below the loader's are yielded as well: Debian's alternatives link to them.
    """
    for line in lines:
        path, _, owners = line.rstrip().rpartition(" ")
        path = path.rstrip()
        if ".so" not in path:
            continue
        folder, name = posixpath.split(path)
        direct = folder in _SEARCHED
        if not direct and posixpath.dirname(folder) not in _ALTERNATIVES:
            continue
        for owner in owners.split(","):
            section, _, package = owner.rpartition("/")
            if section.rpartition("/")[2] != _DEVELOPMENT:
                yield name, package, direct


def chosen(found: Iterable[tuple[str, str, bool]]) -> dict[str, str]:
    """Return each library's package; several are written as Debian's dependencies are: ``a | b``."""
    direct: dict[str, set[str]] = defaultdict(set)
    indirect: dict[str, set[str]] = defaultdict(set)
    for name, package, is_direct in found:
        (direct if is_direct else indirect)[name].add(package)
    return {name: " | ".join(sorted(packages)) for name, packages in {**indirect, **direct}.items()}


class DebianPackages:
    """The libraries of one Debian suite; the mirror is asked at the first look-up, then once a month.

    The mirror is the one given, else that of the environment variable FARM_DEBIAN_MIRROR, else Debian's own.
    """

    def __init__(self, cache: Path, mirror: str = "", suite: str = SUITE) -> None:
        mirror = mirror or os.environ.get("FARM_DEBIAN_MIRROR", MIRROR)
        self._kept = cache / f"{suite.replace('/', '_')}-libraries"
        self._url = f"{mirror.rstrip('/')}/dists/{suite}/main/Contents-riscv64.gz"

    def __call__(self, sonames: Collection[str]) -> Mapping[str, str | None]:
        """Map SONAMEs to packages (``a | b``: either), None where no package of the suite has one.

        Raises:
            UpstreamError: nothing is kept and the mirror can't be read.
        """
        wanted = set(sonames)
        rows = (line.split("\t") for line in self._lines())
        found = {name: package for name, package in rows if name in wanted}
        return {name: found.get(name) for name in sonames}

    def _lines(self) -> list[str]:
        fresh = self._kept.exists() and time.time() - self._kept.stat().st_mtime < FRESH_S
        if not fresh:
            try:
                self._fetch()
            except FarmError:
                if not self._kept.exists():  # an old answer is better than none: packages seldom change names
                    raise
        return self._kept.read_text(encoding="utf-8").splitlines()

    def _fetch(self) -> None:
        from farm.upstream import download, http_session  # noqa: PLC0415  # it brings 10 MiB, and once a month

        self._kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._kept.parent) as folder, http_session(_TRIES) as http:
            packed = Path(folder) / "Contents.gz"
            download(http, self._url, packed, _MOST_BYTES)
            try:
                with gzip.open(packed, "rt", encoding="utf-8", errors="replace") as lines:
                    packages = chosen(libraries(lines))
            except (OSError, EOFError, zlib.error) as error:
                raise UpstreamError(
                    f"{self._url}: not a gzip file: {error}", hint="name another mirror"
                ) from error
            text = "".join(f"{name}\t{package}\n" for name, package in sorted(packages.items()))
            table = Path(folder) / "libraries"
            table.write_text(text, encoding="utf-8")
            table.replace(self._kept)
