"""Which modules a wheel brings, by the files in it (pure).

Packages and modules at the top, the first real ones below namespace packages (PEP 420), and every extension
module wherever it is: packages fall back to Python code in silence when theirs can't be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from farm.verify.wheel import Archive, Member

_EXTENSION = re.compile(r"(?P<name>\w+)(?:\.cpython-(?P<python>\d+[a-z]*)-[\w-]+|\.abi3)?\.so")


def modules_of(archive: Archive, python: str) -> tuple[str, ...]:
    """Return the modules to import with one Python (``cp313``), in the order of their names."""
    installed = dict(_installed(archive))
    found = set(_tops(installed)) | set(_extensions(installed, python))
    return tuple(sorted(found))


def _installed(archive: Archive) -> Iterator[tuple[PurePosixPath, Member]]:
    """Yield what lies in site-packages, and where (PEP 427: purelib and platlib below ``.data`` go there)."""
    for member in archive.members:
        path = PurePosixPath(member.path)
        top = path.parts[0] if path.parts else ""
        if top.endswith(".dist-info"):
            continue
        if top.endswith(".data"):
            if len(path.parts) > 2 and path.parts[1] in {"purelib", "platlib"}:  # noqa: PLR2004
                yield PurePosixPath(*path.parts[2:]), member
        else:
            yield path, member


def _tops(installed: dict[PurePosixPath, Member]) -> Iterator[str]:
    packages = {
        path.parent for path in installed if path.name.partition(".")[0] == "__init__" and _is_module(path)
    }
    for path in installed:
        if not _is_module(path) or not _importable(path.parent):
            continue
        inside = next((parent for parent in reversed(path.parents) if parent in packages), None)
        stem = path.name.partition(".")[0]
        if inside is not None:
            yield ".".join(inside.parts)
        elif stem.isidentifier() and path.suffix == ".py":
            yield ".".join([*path.parent.parts, stem])


def _extensions(installed: dict[PurePosixPath, Member], python: str) -> Iterator[str]:
    for path, member in installed.items():
        match = _EXTENSION.fullmatch(path.name)
        if match is None or not member.is_elf or not _importable(path.parent):
            continue
        if match["python"] and f"cp{match['python']}" != python:
            continue
        package = match["name"] == "__init__"
        name = path.parent.name if package else match["name"]
        # PEP 489: what Python calls; libraries that only have the ending do not have it.
        if name.isidentifier() and f"PyInit_{name}\0".encode() in (member.data or b""):
            yield ".".join([*path.parent.parts, *(() if package else (name,))])


def _is_module(path: PurePosixPath) -> bool:
    return path.suffix == ".py" or _EXTENSION.fullmatch(path.name) is not None


def _importable(folder: PurePosixPath) -> bool:
    return all(part.isidentifier() for part in folder.parts)
