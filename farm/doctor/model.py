"""What a check found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from farm.errors import FarmError

LEAST_SPACE: Final = 2 << 30
ROOMY_SPACE: Final = 10 << 30
"""Below it, the next giant's sdist and wheels may not fit."""


class Level(StrEnum):
    """How well a thing is."""

    OK = "ok"
    WARN = "warn"
    """It works, and will not for long, or not as well as it could."""
    FAIL = "fail"
    """Something that the farm does fails by it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what, how it is, by what this is known, and what to do about it."""

    name: str
    level: Level
    evidence: str
    hint: str = ""

    def to_json(self) -> dict[str, str]:
        """Return it for programs."""
        return asdict(self)


def ok(name: str, evidence: str) -> Check:
    """Return that something is as it should be."""
    return Check(name, Level.OK, evidence)


def warn(name: str, evidence: str, hint: str) -> Check:
    """Return that something wants to be looked after."""
    return Check(name, Level.WARN, evidence, hint)


def fail(name: str, evidence: str, hint: str) -> Check:
    """Return that something is broken."""
    return Check(name, Level.FAIL, evidence, hint)


def judge_space(name: str, free: int, where: str, hint: str) -> Check:
    """Judge the bytes that are free on a disk (pure)."""
    said = f"{free / 2**30:.1f} GiB free for {where}"
    if free < LEAST_SPACE:
        return fail(name, said, hint)
    return warn(name, said, hint) if free < ROOMY_SPACE else ok(name, said)


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Yield what ``look`` finds; what keeps it from looking is a failure of its own, and of nothing else."""
    try:
        yield from look()
    except FarmError as error:
        yield fail(name, error.message, error.hint or "see docs/reference.md, `farm doctor`")
    except OSError as error:
        yield fail(name, f"can't be looked at: {error}", "see to it that `farm` may read it")
