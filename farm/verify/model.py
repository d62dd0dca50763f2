"""Verdicts: what each gate found out about a wheel, with its evidence (pure data)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from farm.errors import WheelError


class Gate(StrEnum):
    """The gates a wheel passes, in this order."""

    READABLE = "readable"
    NAME = "name"
    PATHS = "paths"
    METADATA = "metadata"
    RECORD = "record"
    CONTENT = "content"
    LICENCE = "licence"
    ELF = "elf"
    ISA = "isa"
    ABI3 = "abi3"
    PLATFORM = "platform"
    JOB = "job"
    IMPORT = "import"
    EXECUTION = "execution"
    PROVENANCE = "provenance"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One finding: which gate, about which file, whether it holds, why, and what to do if it doesn't.

    ``verdict`` is the finding's name where a gate has more than two, for programs: an ``IsaVerdict``.
    """

    gate: Gate
    ok: bool
    subject: str
    evidence: str
    hint: str = ""
    verdict: str = ""


def counted(number: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Return text that can't steer a terminal: file names in a wheel are a stranger's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@dataclass(frozen=True, slots=True)
class Report:
    """All that the gates say about one wheel."""

    wheel: str
    sha256: str
    verdicts: tuple[Verdict, ...]

    @property
    def ok(self) -> bool:
        """True when there is a verdict and none fails."""
        return bool(self.verdicts) and all(v.ok for v in self.verdicts)

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The verdicts that fail, in the order of the gates."""
        return tuple(v for v in self.verdicts if not v.ok)

    def extended(self, *verdicts: Verdict) -> Report:
        """Return it with more verdicts."""
        return replace(self, verdicts=(*self.verdicts, *verdicts))

    def raise_if_failed(self) -> None:
        """Raise WheelError, one line, with the first failure and how many more there are."""
        if self.ok:
            return
        if not self.failures:
            raise WheelError(f"{self.wheel}: nothing was verified")
        first, more = self.failures[0], len(self.failures) - 1
        where = "" if first.subject == self.wheel else f"{first.subject}: "
        rest = f" (and {more} more)" if more else ""
        raise WheelError(
            printable(f"{self.wheel}: {first.gate}: {where}{first.evidence}{rest}"), hint=first.hint
        )

    def to_json(self) -> str:
        """Return the report as a JSON object, keys sorted."""
        return json.dumps({**asdict(self), "ok": self.ok}, sort_keys=True)
