"""Shared libraries that a wheel needs and a bare system does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from farm.errors import FarmError
from farm.verify.elf import linkages, read_elves
from farm.verify.platform import PackageLookup
from farm.verify.wheel import Archive

_FOLDERS: Final = ("usr/lib", "usr/lib/riscv64-linux-gnu", "lib", "lib/riscv64-linux-gnu")


def missing(archive: Archive, userland: Path, beside: Path) -> dict[str, str]:
    """Return each DT_NEEDED that nothing provides, with the first file of the wheel that needs it.

    Args:
        archive: the wheel.
        userland: the bare system.
        beside: where the wheel and what it needs are installed; a library anywhere there counts as provided.
    """
    there = {path.name for folder in _FOLDERS for path in (userland / folder).glob("*.so*")}
    there |= {path.name for path in beside.rglob("*.so*")}
    wanted: dict[str, str] = {}
    for path, linkage in linkages(read_elves(archive)).items():
        for name in linkage.needed:
            if name not in there:
                wanted.setdefault(name, path)
    return wanted


def described(wanted: Mapping[str, str], packages: PackageLookup | None) -> str:
    """Name missing libraries, who needs them and what brings them, on one line; empty if none is missing."""
    found: Mapping[str, str | None] = {}
    if packages is not None and wanted:
        try:
            found = packages(tuple(wanted))
        except FarmError:  # without a mirror the names have to do
            found = {}
    return ", ".join(_one(name, by, found.get(name)) for name, by in sorted(wanted.items()))


def install_hint(wanted: Iterable[str]) -> str:
    """Say what to do about them."""
    return f"have auditwheel graft {', '.join(sorted(wanted))} into the wheel, or link it statically"


def _one(name: str, by: str, package: str | None) -> str:
    return f"{name} (needed by {by}{f'; Debian: {package}' if package else ''})"
