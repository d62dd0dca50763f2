"""Judge an ELF file: may it be in a riscv64 wheel, and on which cores does it run?

Sources: System V gABI (dynamic section); RISC-V ELF psABI ("File Header", ``e_flags``; "Attributes",
``Tag_RISCV_arch``; "Program Header Table", PT_RISCV_ATTRIBUTES; "Mapping Symbol", ``$x<ISA>``).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from farm.errors import WheelError
from farm.verify.code_scan import scan_code
from farm.verify.image import REBUILD, SHT_SYMTAB, corrupt, read_image, readable
from farm.verify.isa import judge_isa
from farm.verify.linkage import Linkage, linkage_of
from farm.verify.model import Gate, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.verify.image import Image
    from farm.verify.wheel import Archive

RISCV: Final = "EM_RISCV"
RVC: Final = 0x1
FLOAT_ABI: Final = 0x6
FLOAT_ABI_DOUBLE: Final = 0x4
RVE: Final = 0x8
TSO: Final = 0x10
_FLOAT_NAMES = {0x0: "soft", 0x2: "single", 0x4: "double", 0x6: "quad"}

_RISCV_ATTRIBUTES: Final = 0x7000_0003  # SHT_ and PT_
_TAG_FILE, _TAG_ARCH = 1, 5
_NAMED_ISA = re.compile(rb"\0\$x(rv[^\0.]{1,4096})")


@dataclass(frozen=True, slots=True)
class ElfFacts:
    """What an ELF file says of itself. ``arch`` is None without ``Tag_RISCV_arch``."""

    bits: int
    little_endian: bool
    machine: str
    flags: int
    arch: str | None
    mapped: frozenset[str]

    @property
    def is_riscv(self) -> bool:
        """Whether it is of RISC-V, of any width."""
        return self.machine == RISCV

    @property
    def float_abi(self) -> str:
        """The name of the float ABI in ``e_flags``."""
        return _FLOAT_NAMES[self.flags & FLOAT_ABI]


@dataclass(frozen=True, slots=True)
class Elf:
    """An ELF file, read once for all gates. What only RISC-V files are asked is empty in others."""

    image: Image
    facts: ElfFacts
    linkage: Linkage


def read_elf(data: bytes, subject: str = "ELF file") -> Elf:
    """Read an ELF file. Raises WheelError if it is truncated, corrupt or not ELF."""
    image = read_image(data, subject)
    facts = facts_of(image, subject)
    return Elf(image, facts, linkage_of(image, subject) if facts.is_riscv else Linkage())


def read_elves(archive: Archive) -> dict[str, Elf | WheelError]:
    """Read each ELF file of a wheel, by path; what can't be read is the error that says so."""
    found: dict[str, Elf | WheelError] = {}
    for member in archive.elves:
        try:
            found[member.path] = read_elf(member.data or b"", member.path)
        except WheelError as error:
            found[member.path] = error
    return found


def linkages(elves: Mapping[str, Elf | WheelError]) -> dict[str, Linkage]:
    """Return what each RISC-V file asks of the loader; one that can't be read has failed its own gate."""
    return {path: elf.linkage for path, elf in elves.items() if isinstance(elf, Elf) and elf.facts.is_riscv}


def facts_of(image: Image, subject: str = "ELF file") -> ElfFacts:
    """Gather what the tables of an ELF file say. Raises WheelError if they are corrupt."""
    riscv = image.machine == RISCV
    try:
        return ElfFacts(
            bits=image.bits,
            little_endian=image.little_endian,
            machine=image.machine,
            flags=image.flags,
            arch=_arch(image) if riscv else None,
            mapped=_mapped(image) if riscv else frozenset(),
        )
    except (struct.error, IndexError, ValueError) as error:
        raise corrupt(subject, error) from error


def _arch(image: Image) -> str | None:
    """Return the file's ``Tag_RISCV_arch``; where sections were stripped, the segment still has it."""
    parts = [s for s in image.sections if s.kind == _RISCV_ATTRIBUTES]
    parts += [s for s in image.segments if s.kind == _RISCV_ATTRIBUTES]
    return next((arch for part in parts if (arch := _attribute(image.content(part))) is not None), None)


def _attribute(content: bytes) -> str | None:
    """Read ``Tag_RISCV_arch`` at file scope of the subsection ``riscv``.

    The format: ``A``; then subsections of a length (itself included), a vendor's name and sub-subsections of
    a tag, a length (both included) and attributes. Tags are ULEB128; odd ones have strings, even ones ULEB128
    values.
    """
    if content[:1] != b"A":
        return None
    at = 1
    while at + 4 <= len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        if length < 4:  # noqa: PLR2004 - bytes of the length itself
            raise ValueError("an attribute section without a length")
        vendor, _, body = content[at + 4 : at + length].partition(b"\0")
        if vendor == b"riscv":
            return _file_scope(body)
        at += length
    return None


def _file_scope(body: bytes) -> str | None:
    at = 0
    while at + 5 <= len(body):
        length = int.from_bytes(body[at + 1 : at + 5], "little")
        if length < 5:  # noqa: PLR2004 - bytes of tag and length
            raise ValueError("an attribute subsection without a length")
        if body[at] == _TAG_FILE:
            return _tagged(body[at + 5 : at + length])
        at += length
    return None


def _tagged(attributes: bytes) -> str | None:
    at = 0
    while at < len(attributes):
        tag, at = _uleb128(attributes, at)
        if tag % 2:
            end = attributes.find(b"\0", at)
            end = len(attributes) if end < 0 else end
            if tag == _TAG_ARCH:
                return readable(attributes[at:end])
            at = end + 1
        else:
            _, at = _uleb128(attributes, at)
    return None


def _uleb128(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more bytes follow
            return value, at
        if shift > 63:  # noqa: PLR2004 - no tag or value is longer than 64 bits
            raise ValueError("a number in the attributes has no end")


def _mapped(image: Image) -> frozenset[str]:
    """Return the ISA strings of the ``$x<ISA>`` mapping symbols that GNU as leaves at switched code.

    They are looked for in the symbols' strings: reading every symbol for them takes a hundred times as long.
    """
    tables = [s for s in image.sections if s.kind == SHT_SYMTAB]
    strings = (image.content(image.sections[table.link]) for table in tables[:1])
    return frozenset(readable(name) for text in strings for name in _NAMED_ISA.findall(text))


def judge_elf(elf: Elf | WheelError, subject: str) -> tuple[Verdict, ...]:
    """Judge one ELF file: the machine and its ABI, then, if those hold, its instruction set."""
    if isinstance(elf, WheelError):
        return (Verdict(Gate.ELF, False, subject, elf.message.removeprefix(f"{subject}: "), elf.hint),)
    abi = judge_abi(elf, subject)
    facts = elf.facts
    return (abi, judge_isa(facts.arch, facts.mapped, scan_code(elf.image), subject)) if abi.ok else (abi,)


def judge_abi(elf: Elf, subject: str) -> Verdict:
    """Judge class, machine and ``e_flags``: 64-bit little-endian RISC-V, float ABI double, nothing exotic."""
    facts = elf.facts
    wrong: list[str] = []
    hint = REBUILD
    if not facts.is_riscv:
        wrong.append(f"{facts.machine}, not EM_RISCV")
    elif facts.bits != 64 or not facts.little_endian:  # noqa: PLR2004 - the 64 of ELFCLASS64
        wrong.append(f"ELF{facts.bits} {'LSB' if facts.little_endian else 'MSB'}, not ELF64 LSB")
    else:
        if facts.flags & FLOAT_ABI != FLOAT_ABI_DOUBLE:
            wrong.append(f"float ABI is {facts.float_abi}, not double")
        wrong += [f"e_flags has {name}" for bit, name in ((RVE, "RVE"), (TSO, "TSO")) if facts.flags & bit]
        unknown = facts.flags & ~(RVC | FLOAT_ABI | RVE | TSO)
        if unknown:
            wrong.append(f"e_flags has unknown bits {unknown:#x}")
    if wrong:
        return Verdict(Gate.ELF, False, subject, "; ".join(wrong), hint)
    needed = ", ".join(elf.linkage.needed) or "nothing"
    return Verdict(Gate.ELF, True, subject, f"ELF64 RISC-V, float ABI double, needs {needed}")
