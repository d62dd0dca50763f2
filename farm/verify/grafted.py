"""What auditwheel grafted into a wheel: the board's libraries, not the project's own code (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from farm.verify.linkage import Linkage
from farm.verify.model import Gate, Verdict

_YOURS: Final = "it is the board's library: its licence and its security fixes are the wheel's now"

if TYPE_CHECKING:
    from farm.verify.wheel import Archive


@dataclass(frozen=True, slots=True)
class Grafted:
    """A library in ``NAME.libs/``, where auditwheel puts them; ``size`` is in bytes."""

    path: str
    soname: str
    size: int
    sha256: str


def grafted(archive: Archive, elves: Mapping[str, Linkage]) -> tuple[Grafted, ...]:
    """List the grafted libraries, by path."""
    return tuple(
        Grafted(member.path, elves[member.path].soname, member.size, member.sha256)
        for member in sorted(archive.elves, key=lambda member: member.path)
        if member.path in elves and PurePosixPath(member.path).parent.name.endswith(".libs")
    )


def grafted_verdicts(libraries: tuple[Grafted, ...]) -> tuple[Verdict, ...]:
    """Name each grafted library: these are what surprises people in a wheel."""
    return tuple(
        Verdict(Gate.PLATFORM, True, item.path, f"grafted: {item.soname}, {item.size / 1024:.0f} KiB", _YOURS)
        for item in libraries
    )
