"""What a RISC-V architecture string asks of a core, and whether plain rv64gc has it (pure).

The string is the value of ``Tag_RISCV_arch`` in an ELF file's ``.riscv.attributes`` section (RISC-V ELF
psABI, "Attributes"): ``rv64i2p1_m2p0_zicsr2p0``. Its grammar is the one of the unprivileged manual's
chapter "ISA Extension Naming Conventions". Versions are read and dropped: toolchains disagree about them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.errors import WheelError

if TYPE_CHECKING:
    from collections.abc import Iterator

G: frozenset[str] = frozenset({"i", "m", "a", "f", "d", "zicsr", "zifencei"})
"""What the letter ``g`` stands for."""

RV64GC: frozenset[str] = G | {"c", "zmmul", "zaamo", "zalrsc", "zca", "zcd"}
"""rv64gc and what it implies: the subsets of M, A, C and D that newer toolchains spell out."""

_BASE = re.compile(r"rv(32|64)(?=[ieg])")
_SINGLE = re.compile(r"([a-rt-wy])(?:\d+(?:p\d+)?)?")
_MULTI = re.compile(r"([zsx][a-z0-9]*?[a-z][a-z0-9]*?)(?:\d+p\d+)?")
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
    extra = set(arch.extensions - RV64GC)
    if arch.xlen != 64:  # noqa: PLR2004 - the 64 of rv64
        extra.add(f"rv{arch.xlen}")
    return tuple(sorted(extra))
