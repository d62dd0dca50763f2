"""What an ELF file asks of the dynamic loader: libraries, symbol versions, search paths, undefined symbols.

Sources: System V gABI ("Dynamic Section", "Hash Table"), Linux Standard Base ("Symbol Versioning":
``Elfxx_Verneed``), and glibc's ``elf/dl-load.c`` and ``elf/get-dynamic-info.h`` for what counts where a table
is listed twice: the last. The loader reads segments and never sections, so segments win; sections are read in
objects that have none.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from farm.verify.image import (
    PT_DYNAMIC,
    SHT_DYNAMIC,
    SHT_DYNSYM,
    SYMBOL,
    corrupt,
    string_at,
)

if TYPE_CHECKING:
    from farm.verify.image import Image, Part

_DYNAMIC: Final = struct.Struct("<QQ")
_VERNEED: Final = struct.Struct("<HHIII")
_VERNAUX: Final = struct.Struct("<IHHII")
_WORD: Final = struct.Struct("<I")
_GNU_HASH: Final = struct.Struct("<IIII")
_NEEDED, _HASH, _STRTAB, _SYMTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 1, 4, 5, 6, 10, 14, 15, 29
_GNU_HASH_TAG, _VERNEED_TAG = 0x6FFF_FEF5, 0x6FFF_FFFE
_TABLES: Final = (_HASH, _STRTAB, 7, 23, _GNU_HASH_TAG, 0x6FFF_FFF0, 0x6FFF_FFFC, _VERNEED_TAG)
"""Besides: DT_RELA, DT_JMPREL, DT_VERSYM, DT_VERDEF."""
_BLOOM_WORD: Final = 8
_LAST: Final = 1  # the bit that ends a chain
_LONGEST_CHAIN: Final = 100_000
_MOST: Final = 10_000  # of tags, and of versions: real files need dozens; a corrupt table is no endless loop
_STB_GLOBAL: Final = 1


@dataclass(frozen=True, slots=True)
class Linkage:
    """One ELF file's wishes. ``versions`` maps a needed library to the symbol versions asked of it.

    ``undefined`` holds the names of global symbols that others must define; weak ones, which a program must
    be able to do without, are left out.
    """

    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    undefined: frozenset[str] = frozenset()


def linkage_of(image: Image, subject: str = "ELF file") -> Linkage:
    """Gather what a file asks of the loader. Raises WheelError if its tables are corrupt."""
    try:
        return _linkage(image)
    except (struct.error, IndexError, ValueError) as error:
        raise corrupt(subject, error) from error


def _linkage(image: Image) -> Linkage:
    dynamic = next((s for s in reversed(image.segments) if s.kind == PT_DYNAMIC), None)
    dynamic = dynamic or next((s for s in image.sections if s.kind == SHT_DYNAMIC), None)
    if dynamic is None:
        return Linkage()
    rows = _rows(image, dynamic)
    tables = _Tables(image, dynamic, dict(rows))

    def texts(tag: int) -> list[str]:
        return [tables.text(at) for kind, at in rows if kind == tag]

    return Linkage(
        soname="".join(texts(_SONAME)[-1:]),
        needed=tuple(texts(_NEEDED)),
        rpath=_paths(texts(_RPATH)[-1:]),
        runpath=_paths(texts(_RUNPATH)[-1:]),
        versions=tables.versions(),
        undefined=tables.undefined(),
    )


def _rows(image: Image, dynamic: Part) -> list[tuple[int, int]]:
    content = image.content(dynamic)
    rows: list[tuple[int, int]] = []
    for tag, value in _DYNAMIC.iter_unpack(content[: len(content) // _DYNAMIC.size * _DYNAMIC.size]):
        if tag == 0:
            break
        if len(rows) == _MOST:
            raise ValueError(f"its dynamic section has more than {_MOST} tags")
        rows.append((tag, value))
    return rows


def _paths(texts: list[str]) -> tuple[str, ...]:
    return tuple(path for text in texts for path in text.split(":") if path)


class _Tables:
    """The tables that a dynamic section points to, by address."""

    def __init__(self, image: Image, dynamic: Part, values: Mapping[int, int]) -> None:
        self._image = image
        self._values = values
        at = self._offset(_STRTAB)
        if at is not None:
            self._strings = image.data[at : at + values.get(_STRSZ, 0)]
        else:  # it was never loaded: an object file
            self._strings = image.content(image.sections[dynamic.link])

    def text(self, at: int) -> str:
        """Return a string of the dynamic string table; beyond its end the loader would read on."""
        if at >= len(self._strings) or self._strings[-1] != 0:
            raise ValueError("a name lies outside of its string table")
        return string_at(self._strings, at)

    def _offset(self, tag: int) -> int | None:
        """Return where in the file a table begins; None where there is none."""
        address = self._values.get(tag)
        if address is None or not self._image.segments:
            return None
        offset = self._image.offset_of(address)
        if offset is None:
            raise ValueError(f"a table is at {address:#x}, which is in no part that is loaded")
        return offset

    def versions(self) -> dict[str, tuple[str, ...]]:
        """Walk the Elf64_Verneed chain, each with its chain of Elf64_Vernaux."""
        at, data = self._offset(_VERNEED_TAG), self._image.data
        versions: dict[str, tuple[str, ...]] = {}
        left = _MOST
        while at is not None:
            _, count, file, aux, following = _VERNEED.unpack_from(data, at)
            names, entry = [], at + aux
            left -= max(1, count)
            if left < 0:
                raise ValueError(f"it asks for more than {_MOST} symbol versions")
            for _ in range(count):
                _, _, _, name, step = _VERNAUX.unpack_from(data, entry)
                names.append(self.text(name))
                entry += step
            library = self.text(file)
            versions[library] = (*versions.get(library, ()), *names)
            at = at + following if following else None
        return versions

    def undefined(self) -> frozenset[str]:
        """Return the names of the global symbols that the file does not define."""
        at = self._offset(_SYMTAB)
        if at is None:
            return frozenset()
        size = self._symbol_count(at) * SYMBOL.size
        table = self._image.data[at : at + size]
        if len(table) < size:
            raise ValueError("the symbol table goes beyond the file's end")
        wanted = (
            name
            for name, info, _, section, _, _ in SYMBOL.iter_unpack(table)
            if section == 0 and name and info >> 4 == _STB_GLOBAL
        )
        return frozenset(self.text(name) for name in wanted)

    def _symbol_count(self, at: int) -> int:
        """Count the symbols; nothing says how many there are, but a table that covers them (``DT_HASH``).

        DT_GNU_HASH covers those that are defined, which come last. A file that defines none tells nothing;
        there the symbols end where another table begins. A section can be stripped, and can lie.
        """
        sections = (s for s in self._image.sections if s.kind == SHT_DYNSYM and s.offset == at)
        counts = [s.size // SYMBOL.size for s in sections]
        if (table := self._offset(_HASH)) is not None:
            counts.append(_WORD.unpack_from(self._image.data, table + _WORD.size)[0])
        if (table := self._offset(_GNU_HASH_TAG)) is not None:
            counts.append(self._hashed(table))
        if max(counts, default=0) > 1:
            return max(counts)
        address = self._values[_SYMTAB]
        following = [self._values[tag] for tag in _TABLES if self._values.get(tag, 0) > address]
        return (min(following) - address) // SYMBOL.size if following else 0

    def _hashed(self, at: int) -> int:
        """Return one more than the highest symbol in a GNU hash table; 0 if it has none."""
        data = self._image.data
        buckets, first, bloom, _ = _GNU_HASH.unpack_from(data, at)
        start = at + _GNU_HASH.size + bloom * _BLOOM_WORD
        chains = start + buckets * _WORD.size
        if chains > len(data):
            raise ValueError("its hash table is cut off")
        symbol = max((bucket for (bucket,) in _WORD.iter_unpack(data[start:chains])), default=0)
        if symbol < first or not symbol:
            return 0
        chain = chains + (symbol - first) * _WORD.size
        for step in range(_LONGEST_CHAIN):
            if _WORD.unpack_from(data, chain + step * _WORD.size)[0] & _LAST:
                return symbol + step + 1
        raise ValueError("a chain of its hash table has no end")
