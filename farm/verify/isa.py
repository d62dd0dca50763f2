"""Which cores a file runs on: what its architecture string, its symbols and its code ask for (pure).

The string is the value of ``Tag_RISCV_arch`` in an ELF file's ``.riscv.attributes`` section (RISC-V ELF
psABI, "Attributes"): ``rv64i2p1_m2p0_zicsr2p0``. Its grammar is the one of the unprivileged manual's
chapter "ISA Extension Naming Conventions". Versions are read and dropped: toolchains disagree about them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from farm.errors import WheelError
from farm.verify.model import Gate, Report, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from farm.verify.code_scan import Place, Scan


class IsaVerdict(StrEnum):
    """What can be said of the cores that a file runs on. Only the first and the last but one pass."""

    BASELINE = "baseline"
    """Attribute within rv64gc, no symbol of foreign code, and no foreign instruction in it."""

    EXCEEDS_TAG = "exceeds-tag"
    """The attribute names more than rv64gc."""

    EXTENDED_CODE = "contains-extended-code"
    """The attribute doesn't, the code does."""

    UNKNOWN = "unknown"
    """No attribute that can be read, or no sections that tell code from data."""

    NEEDS_PROOF = "runtime-guarded (needs proof)"
    """One of the three above, with the recipe's leave, not yet executed on a core that is plain rv64gc."""

    RUNTIME_GUARDED = "runtime-guarded"
    """The same, and import and tests passed there: no path that they took runs the foreign code."""

    FAIL = "fail"
    """The same, and it died there of an illegal instruction."""


G: frozenset[str] = frozenset({"i", "m", "a", "f", "d", "zicsr", "zifencei"})
"""What the letter ``g`` stands for."""

RV64GC: frozenset[str] = G | {"c", "zmmul", "zaamo", "zalrsc", "zca", "zcd"}
"""rv64gc and what it implies: the subsets of M, A, C and D that newer toolchains spell out."""

HINTS: frozenset[str] = frozenset({"zihintpause", "zihintntl", "zicbop"})
"""Extensions of hints alone, which other cores must run as no-ops (unprivileged manual, "HINT Instructions").

Rust's ``spin_loop`` names the first one in mapping symbols.
"""

_BASE = re.compile(r"rv(32|64)(?=[ieg])")
_SINGLE = re.compile(r"([a-rt-wy])(?:\d+(?:p\d+)?)?")
_MULTI = re.compile(r"([zsx][a-z0-9]*?[a-z][a-z0-9]*?)(?:\d+p\d+)?")
_FLAGS: Final = "rebuild without -march=native, -mcpu or RVA23 defaults: pass -march=rv64gc -mabi=lp64d"
_GUARDED: Final = f"{_FLAGS}; or, if it only runs where the core has it, name the file in runtime_guarded"
_KEEP: Final = (
    "keep section headers and .riscv.attributes, and tables in .rodata, or name the file in runtime_guarded"
)
_SHOWN: Final = 4
_LONGEST: Final = 120  # of a function's name in a message
_HINT = "a Tag_RISCV_arch reads like rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0; rebuild the file"


@dataclass(frozen=True, slots=True)
class Arch:
    """An instruction set: register width and extension names, the base (``i``, ``e``) included."""

    xlen: int
    extensions: frozenset[str]

    def __str__(self) -> str:
        return format_arch(self)


def parse_arch(text: str) -> Arch:
    """Parse a ``Tag_RISCV_arch`` value; ``g`` is expanded.

    Raises WheelError for anything that is not such a string.
    """
    lowered = text.lower()
    base = _BASE.match(lowered)
    if base is None:
        raise WheelError(
            f"malformed RISC-V architecture {text!r}: it must begin with rv64i or alike", hint=_HINT
        )
    names: set[str] = set()
    for token in lowered[base.end() :].split("_"):
        if not token:
            raise WheelError(f"malformed RISC-V architecture {text!r}: an empty extension name", hint=_HINT)
        for name in _names(token, text):
            names |= G if name == "g" else {name}
    return Arch(int(base.group(1)), frozenset(names))


def _names(token: str, whole: str) -> Iterator[str]:
    """Yield the extensions in one underscore-separated piece: letters, then at most one long name."""
    at = 0
    while at < len(token):
        single = _SINGLE.match(token, at)
        multi = None if single else _MULTI.fullmatch(token, at)
        found = single or multi
        if found is None:
            raise WheelError(
                f"malformed RISC-V architecture {whole!r}: can't read {token[at:]!r}", hint=_HINT
            )
        yield found.group(1)
        at = found.end()


def format_arch(arch: Arch) -> str:
    """Write an instruction set in the psABI's form, without versions: base, single letters, long names."""
    canonical = "iemafdqlcbkjtpvnh"

    def rank(name: str) -> tuple[bool, int, str]:
        at = canonical.find(name) if len(name) == 1 else 0
        return (len(name) > 1, at if at >= 0 else len(canonical), name)

    return f"rv{arch.xlen}" + "_".join(sorted(arch.extensions, key=rank))


def beyond_rv64gc(arch: Arch) -> tuple[str, ...]:
    """Name, sorted, what the instruction set asks of a core that plain rv64gc does not have."""
    extra = set(arch.extensions - RV64GC - HINTS)
    if arch.xlen != 64:  # noqa: PLR2004 - the 64 of rv64
        extra.add(f"rv{arch.xlen}")
    return tuple(sorted(extra))


def judge_isa(arch: str | None, mapped: Iterable[str], scan: Scan, subject: str) -> Verdict:
    """Judge by ``Tag_RISCV_arch``, by the ISA strings of mapping symbols and by the code itself (F05).

    The attribute is a union over what was linked, so it says too much; and it stays as it was where single
    functions are compiled for more, so it says too little. None of the three is believed alone.
    """
    foreign = sorted({name for isa in mapped for name in _beyond(isa)})
    found = [_tell(scan)] + ([f"mapping symbols name {', '.join(foreign)}"] if foreign else [])
    code = "; ".join(found)
    if arch is None:
        return _isa(IsaVerdict.UNKNOWN, subject, f"no Tag_RISCV_arch attribute; {code}", _KEEP)
    try:
        extra = beyond_rv64gc(parse_arch(arch))
    except WheelError as error:
        return _isa(IsaVerdict.UNKNOWN, subject, f"{error.message}; {code}", error.hint)
    if extra:
        told = f"rv64gc has no {', '.join(extra)} (Tag_RISCV_arch {arch}); {code}"
        return _isa(IsaVerdict.EXCEEDS_TAG, subject, told, _GUARDED)
    if doubt := _doubt(scan):
        return _isa(IsaVerdict.UNKNOWN, subject, f"{doubt}; {code}", _KEEP)
    if scan.places or foreign:
        return _isa(IsaVerdict.EXTENDED_CODE, subject, code, _GUARDED)
    return _isa(IsaVerdict.BASELINE, subject, f"{arch}; {code}")


def _doubt(scan: Scan) -> str:
    """Say why a look at the code shows nothing, if it doesn't."""
    if scan.by_segments:
        return "no section headers"
    return "" if scan.whole or scan.places else "too much data among the code"


def _isa(verdict: IsaVerdict, subject: str, why: str, hint: str = "") -> Verdict:
    return Verdict(
        Gate.ISA, verdict is IsaVerdict.BASELINE, subject, f"{verdict}: {why}", hint, verdict=verdict.value
    )


def _beyond(arch: str) -> tuple[str, ...]:
    """Name what a mapping symbol's ISA string has beyond rv64gc; the whole string if it can't be read."""
    try:
        return beyond_rv64gc(parse_arch(arch))
    except WheelError:
        return (arch,)


def _tell(scan: Scan) -> str:
    """Say in one line what was found in the code."""
    if not scan.places:
        part = "are all" if scan.whole else "were looked at in part, and are"
        return f"{scan.size} bytes of code {part} rv64gc"
    shown = "; ".join(_tell_place(place) for place in scan.places[:_SHOWN])
    more = f"; and {len(scan.places) - _SHOWN} more places" if len(scan.places) > _SHOWN else ""
    least = "" if scan.whole else "at least "
    where = " (without section headers, data and code look alike)" if scan.by_segments else ""
    what = "instruction" if scan.count == 1 else "instructions"
    return f"{least}{scan.count} {what} that rv64gc does not have{where}: {shown}{more}"


def _tell_place(place: Place) -> str:
    doubt = " (may be data)" if place.may_be_data else ""
    times = f"{place.count} times, first " if place.count > 1 else ""
    name = place.name if len(place.name) <= _LONGEST else place.name[:_LONGEST] + "..."
    return f"{', '.join(place.names)} in {name}, {times}at {place.first:#x}{doubt}"


def allow_guarded(verdicts: Iterable[Verdict], guarded: Mapping[str, str]) -> tuple[Verdict, ...]:
    """Mark the failures that a recipe gives leave for: a glob of files in the wheel, and the reason.

    What is marked does not pass either: :func:`settle` decides, after a proof by execution.
    """
    return tuple(_allow(verdict, guarded) for verdict in verdicts)


def _allow(verdict: Verdict, guarded: Mapping[str, str]) -> Verdict:
    doubtful = (IsaVerdict.EXCEEDS_TAG, IsaVerdict.EXTENDED_CODE, IsaVerdict.UNKNOWN)
    reasons = [why for glob, why in guarded.items() if fnmatchcase(verdict.subject, glob)]
    if verdict.gate is not Gate.ISA or verdict.verdict not in doubtful or not reasons:
        return verdict
    return replace(
        verdict,
        evidence=f"{IsaVerdict.NEEDS_PROOF}: the recipe says: {'; '.join(reasons)}; {verdict.evidence}",
        hint="run its tests on a core that is plain rv64gc",
        verdict=IsaVerdict.NEEDS_PROOF.value,
    )


def needs_proof(report: Report) -> tuple[Verdict, ...]:
    """Return the verdicts that an execution on a core that is plain rv64gc would settle."""
    return tuple(v for v in report.verdicts if v.verdict == IsaVerdict.NEEDS_PROOF)


def settle(report: Report, *, proven: bool, evidence: str) -> Report:
    """Turn the verdicts that need a proof into what an execution showed.

    ``proven``: import and tests passed on a core that is plain rv64gc; else they died there of an illegal
    instruction. An execution that ended otherwise shows nothing: keep the report as it is. ``evidence`` is
    the command and its log's digest.
    """
    return replace(report, verdicts=tuple(_settle(v, proven, evidence) for v in report.verdicts))


def _settle(verdict: Verdict, proven: bool, evidence: str) -> Verdict:
    if verdict.verdict != IsaVerdict.NEEDS_PROOF:
        return verdict
    settled = IsaVerdict.RUNTIME_GUARDED if proven else IsaVerdict.FAIL
    paths = " (exercised paths)" if proven else ", proven"
    before = verdict.evidence.removeprefix(f"{IsaVerdict.NEEDS_PROOF}: ")
    return replace(
        verdict,
        ok=proven,
        evidence=f"{settled}{paths}: {evidence}; {before}",
        hint="" if proven else _FLAGS,
        verdict=settled.value,
    )
