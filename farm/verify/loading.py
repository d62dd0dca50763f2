"""Where the dynamic loader would find each library that a wheel's ELF files need (pure).

Source: ld.so(8), and glibc's ``elf/dl-load.c`` for what the manual leaves open: libraries are loaded breadth
first; one that is loaded already, by its SONAME or file name, serves everybody after; DT_RPATH of an object
and of those that loaded it counts only where the object has no DT_RUNPATH, which serves its own needs alone.
"""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from farm.verify.linkage import Linkage

_PREFIX: Final = "/prefix"
_SITE: Final = f"{_PREFIX}/lib/python3/site-packages"
_SCHEMES: Final = {
    "platlib": _SITE,
    "purelib": _SITE,
    "scripts": f"{_PREFIX}/bin",
    "data": _PREFIX,
    "headers": f"{_PREFIX}/include",
}
_TRUSTED: Final = frozenset(
    {"/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib/riscv64-linux-gnu", "/usr/lib/riscv64-linux-gnu"}
)


@dataclass(frozen=True, slots=True)
class Lacking:
    """A library that ``path`` needs and no search finds; ``elsewhere`` in the wheel it may be, or empty."""

    path: str
    library: str
    elsewhere: str


@dataclass(frozen=True, slots=True)
class Loading:
    """What the loader finds: per file the libraries of the wheel and of the system, and what is lacking."""

    inside: Mapping[str, frozenset[str]]
    lacking: tuple[Lacking, ...]


def load(elves: Mapping[str, Linkage], is_system: Callable[[str], bool]) -> Loading:
    """Load each ELF file of a wheel (paths as in the archive) as the loader would.

    Files that nothing else in the wheel needs are loaded first, as importing them would; then what was not
    reached. ``is_system`` says which libraries every system of the promised platform has.
    """
    loader = _Loader(elves, is_system)
    wanted = {library for linkage in elves.values() for library in linkage.needed}
    for path, linkage in elves.items():
        if not wanted & {posixpath.basename(path), linkage.soname}:
            loader.run(path)
    for path in elves:
        if path not in loader.reached:
            loader.run(path)
    return Loading({path: frozenset(found) for path, found in loader.inside.items()}, tuple(loader.lacking))


class _Loader:
    def __init__(self, elves: Mapping[str, Linkage], is_system: Callable[[str], bool]) -> None:
        self._elves = elves
        self._is_system = is_system
        self._at = {installed(path): path for path in elves}
        self._named: dict[str, str] = {}
        for path in elves:
            self._named.setdefault(posixpath.basename(path), path)
        self.inside: dict[str, set[str]] = {path: set() for path in elves}
        self.lacking: dict[Lacking, None] = {}
        self.reached: set[str] = set()

    def run(self, root: str) -> None:
        loaded: set[str] = set()
        queue: deque[tuple[str, tuple[str, ...]]] = deque([(root, ())])
        while queue:
            path, loaders = queue.popleft()
            linkage = self._elves[path]
            self.reached.add(path)
            loaded |= {posixpath.basename(path), linkage.soname}
            for library in linkage.needed:
                if library in loaded:
                    if not self._is_system(library):
                        self.inside[path].add(library)
                    continue
                found = self._find(library, path, loaders)
                if found is not None:
                    self.inside[path].add(library)
                    loaded |= {library, self._elves[found].soname}
                    queue.append((found, (path, *loaders)))
                elif self._is_system(library):
                    loaded.add(library)
                else:
                    self.lacking[Lacking(path, library, self._named.get(library, ""))] = None

    def _find(self, library: str, path: str, loaders: tuple[str, ...]) -> str | None:
        folders = self._folders(path, loaders)
        places = (posixpath.normpath(posixpath.join(folder, library)) for folder in folders)
        return next((self._at[place] for place in places if place in self._at), None)

    def _folders(self, path: str, loaders: tuple[str, ...]) -> Iterator[str]:
        own = self._elves[path]
        if own.runpath:
            yield from (expanded(entry, path) for entry in own.runpath)
            return
        for origin in (path, *loaders):
            if not self._elves[origin].runpath:
                yield from (expanded(entry, origin) for entry in self._elves[origin].rpath)


def installed(path: str) -> str:
    """Return where an installer puts a member of a wheel, below a made-up prefix (PEP 427)."""
    top, _, rest = path.partition("/")
    scheme, _, inner = rest.partition("/")
    if top.endswith(".data") and scheme in _SCHEMES:
        return f"{_SCHEMES[scheme]}/{inner}"
    return f"{_SITE}/{path}"


def expanded(entry: str, path: str) -> str:
    """Return a search path with ``$ORIGIN`` replaced by the folder of the object that states it."""
    origin = posixpath.dirname(installed(path))
    return entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)


def leaks(entry: str) -> bool:
    """Tell whether a search path leads out of the installation, to a folder of whoever built the wheel.

    A folder that is not there on the user's system can be made there by somebody else (CWE-426), and a
    relative one is looked for wherever the program is started.
    """
    return not entry.startswith(("$ORIGIN", "${ORIGIN}")) and posixpath.normpath(entry) not in _TRUSTED
