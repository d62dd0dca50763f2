"""Find instructions in an ELF file that are not of rv64gc, and say where they are.

Code is what is in sections with SHF_EXECINSTR; in files without sections, the loaded segments with PF_X. Data
between code is told from it by symbols (psABI, "Mapping Symbol"; gABI, STT_OBJECT):

- in an STT_OBJECT symbol: data, unless execution runs into it from the instruction before;
- marked ``$d``: assemblers mark instructions written as ``.word``, too. Inside an STT_FUNC symbol, or where
  execution runs into it, it is code. Other words count if they are instructions that somebody's core has;
- everything else is code, and counts whatever it is.

A word that counts may still be data where symbols were stripped; if it is no known instruction, that is said.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

from farm.verify.code_names import instruction_name
from farm.verify.code_rv64gc import LONG, ends_flow, foreign, halfwords
from farm.verify.image import (
    ET_REL,
    PF_X,
    PT_LOAD,
    SHF_EXECINSTR,
    SHT_DYNSYM,
    SHT_NOBITS,
    SHT_SYMTAB,
    STT_FUNC,
    STT_GNU_IFUNC,
    STT_NOTYPE,
    STT_OBJECT,
    Part,
    symbols_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from farm.verify.image import Image, Symbol

MOST_WORDS: Final = 200_000
"""After so many that are not rv64gc the rest of a file is not looked at: time is bounded."""

_NAMED_HERE: Final = 3
_TRIED_HERE: Final = 30
_FUNCTIONS: Final = (STT_FUNC, STT_GNU_IFUNC)
_KINDS: Final = (STT_NOTYPE, STT_OBJECT, *_FUNCTIONS)


@dataclass(frozen=True, slots=True)
class Place:
    """Foreign instructions of one function, or of one section where no symbol tells of functions.

    ``first`` is the address of the first one as a disassembler prints it, ``names`` are a few of the
    different ones there; the name of one that is not known is its bits.
    """

    name: str
    first: int
    count: int
    names: tuple[str, ...]
    may_be_data: bool


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found in ``size`` bytes of code.

    ``whole`` is false if there was too much to go on; ``by_segments``: no section said what is code.
    """

    size: int
    places: tuple[Place, ...]
    whole: bool = True
    by_segments: bool = False

    @property
    def count(self) -> int:
        """How many foreign instructions there are."""
        return sum(place.count for place in self.places)


class _Kind(Enum):
    CODE = auto()
    MARKED = auto()
    OBJECT = auto()


@dataclass(frozen=True, slots=True)
class _Hit:
    offset: int
    word: bytes
    may_be_data: bool


def scan_code(image: Image) -> Scan:
    """Look through all code of an ELF file."""
    parts, by_segments = _executable(image)
    symbols = _symbols(image)
    found = (hit for part in parts for hit in _hits(image.content(part), part.offset, symbols))
    looked_at = list(islice(found, MOST_WORDS))
    hits = [hit for hit in looked_at if hit is not None]
    places = _places(parts, symbols, hits) if hits else ()
    return Scan(sum(part.size for part in parts), places, len(looked_at) < MOST_WORDS, by_segments)


def _executable(image: Image) -> tuple[tuple[Part, ...], bool]:
    """Return the parts of the file that hold code, no byte in two of them, and whether they are segments."""
    parts = [
        s for s in image.sections if s.flags & SHF_EXECINSTR and s.kind not in (0, SHT_NOBITS) and s.size
    ]
    loaded = [s for s in image.segments if s.kind == PT_LOAD and s.flags & PF_X and s.size]
    by_segments = not parts and bool(loaded or not image.sections)
    parts = loaded if by_segments else parts
    return tuple(_disjoint(parts)), by_segments


def _disjoint(parts: Sequence[Part]) -> Iterator[Part]:
    done = 0
    for part in sorted(parts, key=lambda p: p.offset):
        cut = max(done - part.offset, 0)
        if part.size > cut:
            yield Part(
                part.name, part.kind, part.flags, part.address + cut, part.offset + cut, part.size - cut
            )
            done = part.offset + part.size


def _symbols(image: Image) -> list[tuple[int, Symbol]]:
    """Return symbols in code with where in the file they point to, in that order."""
    inside = {n for n, s in enumerate(image.sections) if s.flags & SHF_EXECINSTR and s.size}
    found: list[tuple[int, Symbol]] = []
    for table in (SHT_SYMTAB, SHT_DYNSYM):
        for symbol in symbols_of(image, table, inside, _KINDS) if not found else ():
            section = image.sections[symbol.section]
            base = 0 if image.kind == ET_REL else section.address
            found.append((symbol.value - base + section.offset, symbol))
    return sorted(found, key=lambda item: item[0])


def _hits(code: bytes, base: int, symbols: Sequence[tuple[int, Symbol]]) -> Iterator[_Hit | None]:
    """Yield the foreign instructions in one part of the file, which begins at ``base``; None for data."""
    text = halfwords(code)
    first, last = (bisect_left(symbols, at, key=lambda item: item[0]) for at in (base, base + len(code)))
    inside = [((offset - base) // 2, symbol) for offset, symbol in symbols[first:last]]
    functions: list[tuple[int, int]] | None = None
    for start, end, kind in _stretches(len(text), inside):
        entered = kind is _Kind.CODE or (start > 0 and not ends_flow(text, start))
        if kind is _Kind.MARKED and not entered:
            if functions is None:
                functions = [(at, at + (s.size + 1) // 2) for at, s in inside if s.kind in _FUNCTIONS]
            near = bisect_right(functions, start, key=lambda function: function[0]) - 1
            entered = start == 0 or (near >= 0 and start < functions[near][1])
        if kind is _Kind.OBJECT and not entered:
            continue
        for at in foreign(text, start, end):
            size = 2 if ord(text[at]) & LONG == LONG else 1
            word = code[2 * at : 2 * min(at + size, end)]
            counts = entered or instruction_name(word)
            yield _Hit(base + 2 * at, word, not entered) if counts else None


def _stretches(length: int, symbols: Sequence[tuple[int, Symbol]]) -> list[tuple[int, int, _Kind]]:
    """Cut code into stretches of one kind, in halfwords, by what symbols say of them.

    Where ``$d`` and ``$x`` are at one place, it is code.
    """
    untyped = ((at, s.strings[s.name_at : s.name_at + 2]) for at, s in symbols if s.kind == STT_NOTYPE)
    marks = sorted((at, name == b"$x") for at, name in untyped if name in (b"$x", b"$d"))
    objects = [(at, at + (s.size + 1) // 2) for at, s in symbols if s.kind == STT_OBJECT and s.size]
    edges = {0, length, *(at for at, _ in marks), *(min(at, length) for pair in objects for at in pair)}
    found: list[tuple[int, int, _Kind]] = []
    is_code, object_end, mark, item = True, 0, 0, 0
    for start, end in pairwise(sorted(edges)):
        while mark < len(marks) and marks[mark][0] <= start:
            is_code, mark = marks[mark][1], mark + 1
        while item < len(objects) and objects[item][0] <= start:
            object_end, item = max(object_end, objects[item][1]), item + 1
        kind = _Kind.OBJECT if start < object_end else _Kind.CODE if is_code else _Kind.MARKED
        if found and found[-1][2] is kind:
            found[-1] = (found[-1][0], end, kind)
        else:
            found.append((start, end, kind))
    return found


def _places(
    parts: Sequence[Part], symbols: Sequence[tuple[int, Symbol]], hits: Sequence[_Hit]
) -> tuple[Place, ...]:
    """Gather hits by function, or by section or segment where there is no function symbol around them."""
    functions = [
        (at, s)
        for at, s in symbols
        if s.kind in _FUNCTIONS or (s.kind == STT_NOTYPE and s.name and not s.name.startswith(("$", ".L")))
    ]
    starts, offsets = [at for at, _ in functions], [part.offset for part in parts]
    groups: dict[str, list[tuple[int, _Hit]]] = {}
    for hit in hits:
        part = parts[bisect_right(offsets, hit.offset) - 1]
        near = bisect_right(starts, hit.offset) - 1
        name = part.name or "executable segment"
        if near >= 0 and part.offset <= starts[near]:
            symbol = functions[near][1]
            name = symbol.name if hit.offset < starts[near] + symbol.size or not symbol.size else name
        groups.setdefault(name, []).append((part.address + hit.offset - part.offset, hit))
    return tuple(_place(name, found) for name, found in groups.items())


def _place(name: str, found: Sequence[tuple[int, _Hit]]) -> Place:
    tried = [(instruction_name(hit.word), hit) for _, hit in found[:_TRIED_HERE]]
    known = any(title and not hit.may_be_data for title, hit in tried)
    names = dict.fromkeys(title or _bits(hit.word) for title, hit in tried)
    return Place(name, found[0][0], len(found), tuple(islice(names, _NAMED_HERE)), not known)


def _bits(word: bytes) -> str:
    return f"unknown {8 * len(word)}-bit instruction {int.from_bytes(word, 'little'):#0{2 + 2 * len(word)}x}"
