"""The tables of an ELF file: sections, segments, symbols. Nothing else in the farm takes an ELF file apart.

Source: System V gABI. Read with ``struct`` and not by pyelftools, which takes 15 ms for a small file and
seconds for one with a hundred thousand symbols, and of a corrupt file raises whatever comes. Files come from
untrusted builds: every offset is checked, a table is as long as the file at most, and whatever does not fit
is a WheelError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from farm.errors import WheelError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ELF_MAGIC = b"\x7fELF"

ET_REL, ET_DYN = 1, 3
PT_LOAD, PT_DYNAMIC = 1, 2
PF_X: Final = 1
SHT_SYMTAB, SHT_DYNAMIC, SHT_NOBITS, SHT_DYNSYM = 2, 6, 8, 11
SHF_EXECINSTR: Final = 4
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC = 0, 1, 2, 10

_MACHINES = {
    3: "EM_386",
    8: "EM_MIPS",
    21: "EM_PPC64",
    22: "EM_S390",
    40: "EM_ARM",
    62: "EM_X86_64",
    183: "EM_AARCH64",
    243: "EM_RISCV",
    258: "EM_LOONGARCH",
}
_HEADER = struct.Struct("<HHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
SYMBOL = struct.Struct("<IBBHQQ")
_IDENT = 16
_LONGEST_NAME = 4096  # C++ has names of some hundred characters; a corrupt file has no end of them
REBUILD: Final = "build on a riscv64 node with -march=rv64gc -mabi=lp64d"


@dataclass(frozen=True, slots=True)
class Part:
    """A section or a segment: where it is in the file and in memory, both in bytes."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int = 0


class Symbol(NamedTuple):
    """An entry of a symbol table; ``kind`` is its STT type, ``section`` the index of the section it is in.

    There are many, and few names are wanted: they are read when asked for.
    """

    strings: bytes
    name_at: int
    kind: int
    section: int
    value: int
    size: int

    @property
    def name(self) -> str:
        """The name, as the file has it: C++ and Rust names stay mangled."""
        return string_at(self.strings, self.name_at)


@dataclass(frozen=True, slots=True)
class Image:
    """An ELF file and its tables; those of a file that is not 64-bit little-endian are not read."""

    data: bytes
    bits: int
    little_endian: bool
    machine: str
    flags: int = 0
    kind: int = 0
    sections: tuple[Part, ...] = ()
    segments: tuple[Part, ...] = ()

    def content(self, part: Part) -> bytes:
        """Return the bytes of a section or segment."""
        return self.data[part.offset : part.offset + part.size]

    def offset_of(self, address: int) -> int | None:
        """Return where in the file the byte is that is loaded at an address; None if none is."""
        found = (s for s in self.segments if s.kind == PT_LOAD and 0 <= address - s.address < s.size)
        return next((s.offset + address - s.address for s in found), None)

    def address_of(self, offset: int) -> int | None:
        """Return where a byte of the file is loaded; None if it is not."""
        found = (s for s in self.segments if s.kind == PT_LOAD and 0 <= offset - s.offset < s.size)
        return next((s.address + offset - s.offset for s in found), None)


def read_image(data: bytes, subject: str = "ELF file") -> Image:
    """Read an ELF file's tables. Raises WheelError if it is truncated, corrupt or not ELF."""
    if not data.startswith(ELF_MAGIC):
        raise WheelError(f"{subject}: not an ELF file", hint=REBUILD)
    try:
        return _image(data)
    except (struct.error, IndexError, ValueError) as error:
        raise corrupt(subject, error) from error


def corrupt(subject: str, error: Exception) -> WheelError:
    """Say in one line that an ELF file can't be read."""
    return WheelError(f"{subject}: truncated or corrupt ELF file ({error})", hint=REBUILD)


def _image(data: bytes) -> Image:
    bits, order = {1: 32, 2: 64}[_known(data[4], "class")], _known(data[5], "byte order")
    little = order == 1
    number = int.from_bytes(data[18:20], "little" if little else "big")
    machine = _MACHINES.get(number, f"machine {number}")
    if bits != 64 or not little:  # noqa: PLR2004 - the 64 of ELFCLASS64
        return Image(data, bits, little, machine)
    kind, _, _, _, phoff, shoff, flags, _, phsize, phnum, shsize, shnum, shstrndx = _HEADER.unpack_from(
        data, _IDENT
    )
    segments = [
        Part("", kind, flags, address, offset, size)
        for kind, flags, offset, address, _, size, _, _ in _table(data, _SEGMENT, phoff, phnum, phsize)
    ]
    sections = list(_sections(data, shoff, shnum, shsize, shstrndx)) if shoff else []
    for part in (*segments, *(s for s in sections if s.kind not in (0, SHT_NOBITS))):
        if part.offset + part.size > len(data):
            raise ValueError(f"a part of it should end at {part.offset + part.size}, the file at {len(data)}")
    return Image(data, bits, little, machine, flags, kind, tuple(sections), tuple(segments))


def _known(value: int, what: str) -> int:
    if value not in (1, 2):
        raise ValueError(f"unknown {what} {value}")
    return value


def _table(
    data: bytes, entry: struct.Struct, offset: int, count: int, size: int
) -> Iterator[tuple[int, ...]]:
    if count and size != entry.size:
        raise ValueError(f"a header's entries have {size} bytes, not {entry.size}")
    if offset + count * size > len(data):
        raise ValueError("a header table is cut off")
    yield from entry.iter_unpack(data[offset : offset + count * size])


def _sections(data: bytes, offset: int, count: int, size: int, names: int) -> Iterator[Part]:
    if count == 0:  # gABI: 65280 sections or more; their number is in the first one
        count = _SECTION.unpack(data[offset : offset + _SECTION.size])[5]
    rows = list(_table(data, _SECTION, offset, count, size))
    # no names is odd, yet no code hides behind it
    start, length = (rows[names][4], rows[names][5]) if names < len(rows) else (0, 0)
    strings = data[start : start + length]
    for name, kind, flags, address, at, length, link, _, _, _ in rows:
        yield Part(string_at(strings, name), kind, flags, address, at, length, link)


def string_at(strings: bytes, at: int) -> str:
    """Return the string that begins at ``at`` in a string table; longer than any real one it does not get."""
    end = strings.find(b"\0", at, at + _LONGEST_NAME)
    return readable(strings[at : end if end >= 0 else at + _LONGEST_NAME])


def readable(text: bytes) -> str:
    """Decode text of an untrusted file for messages: it must not move a terminal's cursor or break lines."""
    decoded = text.decode(errors="replace")
    return decoded if decoded.isprintable() else "".join(c if c.isprintable() else "?" for c in decoded)


def symbols_of(
    image: Image, table: int, sections: Collection[int], kinds: Collection[int]
) -> Iterator[Symbol]:
    """Yield the symbols of these STT types in these sections, from the SHT_SYMTAB or SHT_DYNSYM section."""
    part = next((s for s in image.sections if s.kind == table), None)  # gABI: one at most of each
    if part is None or part.link >= len(image.sections):
        return
    strings, content = image.content(image.sections[part.link]), image.content(part)
    whole = len(content) // SYMBOL.size * SYMBOL.size
    for name, info, _, section, value, size in SYMBOL.iter_unpack(content[:whole]):
        if section in sections and info & 0xF in kinds:
            yield Symbol(strings, name, info & 0xF, section, value, size)
