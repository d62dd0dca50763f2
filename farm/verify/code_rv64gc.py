"""Which machine words are instructions of rv64gc, and where in a text others begin (pure).

The list is the unprivileged manual's (20240411), chapter "RV32/64G Instruction Set Listings", and the tables
of chapter "C": RV64IMAFDC with Zicsr and Zifencei, as masks and the bits they must leave. Reserved encodings
are left out, hints are in: a core without the extension that gives a hint its meaning must run it as a no-op
(``pause``, ``ntl.*``, ``prefetch.*``, ``lpad``; not Zimop's, which trap on cores that are older than it).
"""

from __future__ import annotations

import ctypes
import re
import sys
from array import array
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LONG: Final = 0b11
"""The two lowest bits of an instruction of 32 bits or more."""

UNIMP: Final = 0xC000_1073
"""Assemblers' ``unimp``: a write to the read-only ``cycle``, which no core may run; compilers' trap."""

_HALF: Final = 0xFFFF
_TRAPS: Final = (0, 0x9002)  # illegal by definition; c.ebreak
_LONG_TRAPS: Final = (0x0010_0073, UNIMP)  # ebreak
_J, _JR, _C_J, _C_JR = 0x6F, 0x67, 0xA001, 0x8002
_FIELDS: Final = {
    "rd": (7, 5),
    "funct3": (12, 3),
    "rs1": (15, 5),
    "rs2": (20, 5),
    "csr": (20, 12),
    "fmt": (25, 2),
    "funct7": (25, 7),
    "funct6": (26, 6),
    "funct5": (27, 5),
}
_ROUNDING: Final = (0, 1, 2, 3, 4, 7)  # 5 and 6 are reserved: they trap
_COMPRESSED_RD: Final = range(7, 12)
_COMPRESSED_RS2: Final = range(2, 7)


@dataclass(frozen=True, slots=True)
class Encoding:
    """The words that have the bits ``match`` where ``mask`` is set; of a compressed one, the low 16 bits."""

    mask: int
    match: int


def _words(opcode: int, **fields: Iterable[int] | int) -> Iterator[Encoding]:
    """Yield the 32-bit encodings with every combination of the values that fields may have."""
    found = [Encoding(0x7F, opcode)]
    for name, values in fields.items():
        shift, width = _FIELDS[name]
        choices = [values] if isinstance(values, int) else list(values)
        found = [
            Encoding(e.mask | ((1 << width) - 1) << shift, e.match | value << shift)
            for e in found
            for value in choices
        ]
    yield from found


def _integer() -> Iterator[Encoding]:
    """RV64I with M, Zifencei and Zicsr."""
    for opcode in (0x37, 0x17, 0x6F):  # lui, auipc, jal
        yield from _words(opcode)
    yield from _words(0x67, funct3=0)
    yield from _words(0x63, funct3=(0, 1, 4, 5, 6, 7))
    yield from _words(0x03, funct3=range(7))
    yield from _words(0x23, funct3=range(4))
    yield from _words(0x13, funct3=(0, 2, 3, 4, 6, 7))
    yield from _words(0x13, funct3=(1, 5), funct6=0)
    yield from _words(0x13, funct3=5, funct6=0b010000)
    yield from _words(0x1B, funct3=0)
    yield from _words(0x1B, funct3=(1, 5), funct7=0)
    yield from _words(0x1B, funct3=5, funct7=0b0100000)
    yield from _words(0x33, funct3=range(8), funct7=(0, 1))
    yield from _words(0x3B, funct3=(0, 1, 5), funct7=0)
    yield from _words(0x3B, funct3=(0, 4, 5, 6, 7), funct7=1)
    for opcode in (0x33, 0x3B):
        yield from _words(opcode, funct3=(0, 5), funct7=0b0100000)
    yield from _words(0x0F, funct3=(0, 1))  # fields that are not used must be ignored


def _system() -> Iterator[Encoding]:
    """Calls; the registers of F, and ``time``, which Linux has on every core.

    Not ``cycle`` and ``instret``: since Linux 6.6 a program that reads them dies of SIGILL, unless a sysctl
    (``kernel.perf_user_access``) says otherwise.
    """
    yield Encoding(0xFFFF_FFFF, 0x0000_0073)  # ecall
    yield Encoding(0xFFFF_FFFF, 0x0010_0073)  # ebreak
    yield Encoding(0xFFFF_FFFF, UNIMP)
    yield from _words(0x73, funct3=(1, 2, 3, 5, 6, 7), csr=(1, 2, 3))  # fflags, frm, fcsr
    yield from _words(0x73, funct3=(2, 3, 6, 7), csr=0xC01, rs1=0)  # reads only


def _atomic() -> Iterator[Encoding]:
    yield from _words(0x2F, funct3=(2, 3), funct5=0b00010, rs2=0)  # lr
    amo = (0b00011, 0b00001, 0b00000, 0b00100, 0b01100, 0b01000, 0b10000, 0b10100, 0b11000, 0b11100)
    yield from _words(0x2F, funct3=(2, 3), funct5=amo)


def _floating() -> Iterator[Encoding]:
    """F and D."""
    for opcode in (0x07, 0x27):
        yield from _words(opcode, funct3=(2, 3))
    both = (0, 1)
    for opcode in (0x43, 0x47, 0x4B, 0x4F):  # fused multiply-add
        yield from _words(opcode, fmt=both, funct3=_ROUNDING)
    yield from _words(0x53, fmt=both, funct5=range(4), funct3=_ROUNDING)  # add, sub, mul, div
    yield from _words(0x53, fmt=both, funct5=0b01011, rs2=0, funct3=_ROUNDING)  # sqrt
    yield from _words(0x53, fmt=both, funct5=0b00100, funct3=(0, 1, 2))  # sign injection
    yield from _words(0x53, fmt=both, funct5=0b00101, funct3=(0, 1))  # min, max
    yield from _words(0x53, fmt=both, funct5=0b10100, funct3=(0, 1, 2))  # le, lt, eq
    yield from _words(0x53, fmt=0, funct5=0b01000, rs2=1, funct3=_ROUNDING)  # fcvt.s.d
    yield from _words(0x53, fmt=1, funct5=0b01000, rs2=0, funct3=_ROUNDING)  # fcvt.d.s
    yield from _words(0x53, fmt=both, funct5=(0b11000, 0b11010), rs2=range(4), funct3=_ROUNDING)
    yield from _words(0x53, fmt=both, funct5=0b11100, rs2=0, funct3=(0, 1))  # fmv.x, fclass
    yield from _words(0x53, fmt=both, funct5=0b11110, rs2=0, funct3=0)  # fmv to f


def _short(quadrant: int, funct3: int, mask: int = 0, match: int = 0) -> Encoding:
    return Encoding(0xE003 | mask, funct3 << 13 | quadrant | match)


def _short_nonzero(
    quadrant: int, funct3: int, bits: Iterable[int], mask: int = 0, match: int = 0
) -> Iterator[Encoding]:
    """Yield one encoding for each of the bits of which at least one must be set."""
    for bit in bits:
        yield _short(quadrant, funct3, mask | 1 << bit, match | 1 << bit)


def _compressed() -> Iterator[Encoding]:
    """RV64C with the floating-point loads and stores of D."""
    yield Encoding(_HALF, 0)  # illegal by definition: a trap, or padding, and no other core's instruction
    free = {0: (1, 2, 3, 5, 6, 7), 1: (0, 2, 5, 6, 7), 2: (0, 1, 5, 6, 7)}
    for quadrant, functions in free.items():
        yield from (_short(quadrant, funct3) for funct3 in functions)
    yield from _short_nonzero(0, 0, range(5, 13))  # addi4spn
    yield from _short_nonzero(1, 1, _COMPRESSED_RD)  # addiw
    yield from _short_nonzero(1, 3, (12, *_COMPRESSED_RS2))  # lui, addi16sp
    yield from (_short(1, 4, 3 << 10, kind << 10) for kind in range(3))  # srli, srai, andi
    yield from (_short(1, 4, 7 << 10 | 3 << 5, 3 << 10 | kind << 5) for kind in range(4))  # sub, xor, or, and
    yield from (_short(1, 4, 7 << 10 | 3 << 5, 7 << 10 | kind << 5) for kind in range(2))  # subw, addw
    for funct3 in (2, 3):  # lwsp, ldsp
        yield from _short_nonzero(2, funct3, _COMPRESSED_RD)
    yield from _short_nonzero(2, 4, _COMPRESSED_RS2)  # mv, add
    yield from _short_nonzero(2, 4, _COMPRESSED_RD, 0x1F << 2)  # jr, jalr
    yield Encoding(_HALF, 0x9002)  # ebreak


ENCODINGS: Final = (*_integer(), *_system(), *_atomic(), *_floating(), *_compressed())
"""All of rv64gc, and the two words that compilers write to trap."""


def is_rv64gc(word: int) -> bool:
    """Say whether ``word`` begins with an instruction of rv64gc: the rule itself, one word at a time."""
    if word & LONG != LONG:
        word &= _HALF
    return any(word & e.mask == e.match and _is_long(e) == (word & LONG == LONG) for e in ENCODINGS)


def _is_long(encoding: Encoding) -> bool:
    return encoding.match & LONG == LONG


def halfwords(code: bytes) -> str:
    """Return code as a string with a character for each 16 bits, least significant byte first.

    Instructions come in units of 16 bits, and ``re`` walks strings faster than pairs of bytes. The codec
    UTF-16 does not do: it makes one character of two halfwords that look like a surrogate pair.
    """
    if len(code) < 2:  # noqa: PLR2004 - bytes of a halfword
        return ""
    if sys.byteorder == "big":
        units = array("H", code[: len(code) // 2 * 2])
        units.byteswap()
        code = units.tobytes()
    make = ctypes.pythonapi.PyUnicode_FromKindAndData
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_int, ctypes.c_char_p, ctypes.c_ssize_t)
    text: str = make(2, code, len(code) // 2)  # 2: PyUnicode_2BYTE_KIND
    return text


def ends_flow(text: str, end: int) -> bool:
    """Say whether execution can't reach ``end`` from before: there is a jump, return or trap, then no-ops.

    An instruction can't be read backwards; that the second half of a longer one looks like a jump is rare.
    """
    while end > 0 and (text[end - 1] == "\x01" or text[max(end - 2, 0) : end] == "\x13\0"):
        end -= 1 if text[end - 1] == "\x01" else 2
    if end > 0:
        short = ord(text[end - 1])
        if short in _TRAPS or short & 0xE003 == _C_J or (short & 0xF07F == _C_JR and short != _C_JR):
            return True
    word = ord(text[end - 2]) | ord(text[end - 1]) << 16 if end > 1 else 0
    return word & 0xFFF == _J or word & 0x7FFF == _JR or word in _LONG_TRAPS


def foreign(text: str, start: int, end: int) -> Iterator[int]:
    """Yield where, between two halfwords of ``text``, instructions begin that rv64gc does not have.

    The walk goes on behind each by the length that its lowest bits say (unprivileged manual, "Expanded
    Instruction-Length Encoding"; more than 32 bits are not in use). One cut off by ``end`` is foreign.
    """
    walk, at = _walker().match, start
    while at < end:
        found = walk(text, at, end)
        at = found.end() if found else at
        if at < end:
            yield at
            at += 2 if ord(text[at]) & LONG == LONG else 1


@cache
def _walker() -> re.Pattern[str]:
    """Compile the encodings into one expression that runs over instructions and stops at the first other one.

    What the low half of a word may be is one set for each demand on its high half; the sets of equal demands
    are merged, so that about fifteen alternatives are left. Possessive: there is nothing to come back to.
    """
    by_high: dict[tuple[int, int], set[int]] = defaultdict(set)
    for e in ENCODINGS:
        by_high[e.mask >> 16, e.match >> 16] |= _members(e.mask & _HALF, e.match & _HALF)
    free = by_high.pop((0, 0))
    short = {low for low in free if low & LONG != LONG}
    highs: dict[frozenset[int], set[int]] = defaultdict(set)
    for (mask, match), low in by_high.items():
        highs[frozenset(low)] |= _members(mask, match)
    lows: dict[frozenset[int], set[int]] = defaultdict(set)
    for low_set, high_set in highs.items():
        lows[frozenset(high_set)] |= low_set
    pairs = sorted(lows.items(), key=lambda item: -len(item[0]) * len(item[1]))
    parts = [_set(short) + "++", _set(free - short) + ".", *(_set(low) + _set(high) for high, low in pairs)]
    return re.compile(f"(?:{'|'.join(parts)})*+", re.DOTALL)


def _members(mask: int, match: int) -> set[int]:
    """Return the halfwords that have the bits ``match`` where ``mask`` is set."""
    found = [match]
    for bit in range(16):
        if not mask >> bit & 1:
            found += [value | 1 << bit for value in found]
    return set(found)


def _set(values: Iterable[int]) -> str:
    """Write a character set, of ranges and with the characters themselves: escapes take long to compile."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and runs[-1][1] == value - 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    written = [[re.escape(chr(end)) for end in dict.fromkeys(run)] for run in runs]
    return "[" + "".join("-".join(ends) for ends in written) + "]"
