"""What an ELF file asks of the dynamic loader: libraries, symbol versions, search paths, undefined symbols.

Sources: System V gABI ("Dynamic Section"), Linux Standard Base ("Symbol Versioning": ``Elfxx_Verneed``).
The loader reads segments and never sections, so segments win; sections are read in objects that have none.
pyelftools finds the tables. Symbols are unpacked here: it makes an object of each, and large libraries have
hundreds of thousands.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO

from elftools.elf.dynamic import DynamicSection, DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from farm.errors import WheelError

_VERNEED = struct.Struct("<HHIII")
_VERNAUX = struct.Struct("<IHHII")
_SYMBOL = struct.Struct("<IBBHQQ")
_MOST_VERSIONS = 10_000  # real files need dozens; a corrupt table must not be a loop without end
_STB_GLOBAL = 1
_EM_RISCV = 243


def is_riscv(head: bytes) -> bool:
    """Tell whether an ELF file's first bytes are those of RISC-V code, little-endian."""
    return int.from_bytes(head[18:20], "little") == _EM_RISCV


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


def read_linkage(data: bytes, subject: str = "ELF file") -> Linkage:
    """Read a little-endian 64-bit ELF file. Raises WheelError if it is truncated, corrupt or another kind."""
    try:  # pyelftools leaks struct.error, KeyError and more on bad input
        elf = ELFFile(BytesIO(data))
        return _read(elf, data)
    except Exception as error:
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise WheelError(f"{subject}: truncated or corrupt ELF file ({cause})") from error


def _read(elf: ELFFile, data: bytes) -> Linkage:
    if elf.elfclass != 64 or not elf.little_endian:  # noqa: PLR2004 - the 64 of ELFCLASS64
        raise WheelError("not ELF64 LSB")
    parts = (*elf.iter_segments(), *elf.iter_sections())
    dynamic = next((part for part in parts if isinstance(part, DynamicSegment | DynamicSection)), None)
    if dynamic is None:
        return Linkage()
    found: dict[str, list[str]] = {"DT_NEEDED": [], "DT_SONAME": [], "DT_RPATH": [], "DT_RUNPATH": []}
    for tag in dynamic.iter_tags():
        kind = str(tag.entry.d_tag)
        if kind in found:
            found[kind].append(str(getattr(tag, kind.removeprefix("DT_").lower())))
    return Linkage(
        soname="".join(found["DT_SONAME"][:1]),
        needed=tuple(found["DT_NEEDED"]),
        rpath=_paths(found["DT_RPATH"]),
        runpath=_paths(found["DT_RUNPATH"]),
        versions=_versions(dynamic, data),
        undefined=_undefined(elf, dynamic, data),
    )


def _paths(texts: list[str]) -> tuple[str, ...]:
    return tuple(path for text in texts for path in text.split(":") if path)


def _string(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode("utf-8", "backslashreplace")


def _versions(dynamic: DynamicSegment | DynamicSection, data: bytes) -> dict[str, tuple[str, ...]]:
    """Walk the Elf64_Verneed chain, each with its chain of Elf64_Vernaux."""
    _, at = dynamic.get_table_offset("DT_VERNEED")
    _, strings = dynamic.get_table_offset("DT_STRTAB")
    if at is None or strings is None:
        return {}
    versions: dict[str, tuple[str, ...]] = {}
    left = _MOST_VERSIONS
    while left:
        _, count, file, aux, following = _VERNEED.unpack_from(data, at)
        names, entry = [], at + aux
        for _ in range(min(count, left)):
            _, _, _, name, step = _VERNAUX.unpack_from(data, entry)
            names.append(_string(data, strings + name))
            entry += step
        library = _string(data, strings + file)
        versions[library] = (*versions.get(library, ()), *names)
        left -= max(1, min(count, left))
        if not following:
            break
        at += following
    return versions


def _undefined(elf: ELFFile, dynamic: DynamicSegment | DynamicSection, data: bytes) -> frozenset[str]:
    _, symbols = dynamic.get_table_offset("DT_SYMTAB")
    _, strings = dynamic.get_table_offset("DT_STRTAB")
    if symbols is None or strings is None:
        return frozenset()
    count = _symbol_count(elf, dynamic)
    table = data[symbols : symbols + count * _SYMBOL.size]
    if len(table) < count * _SYMBOL.size:
        raise WheelError("the symbol table goes beyond the file's end")
    undefined = (
        name
        for name, info, _, section, _, _ in _SYMBOL.iter_unpack(table)
        if section == 0 and name and info >> 4 == _STB_GLOBAL
    )
    return frozenset(_string(data, strings + name) for name in undefined)


def _symbol_count(elf: ELFFile, dynamic: DynamicSegment | DynamicSection) -> int:
    """Count the dynamic symbols: by .dynsym where there is one, else by the hash table."""
    if isinstance(dynamic, DynamicSegment):
        return int(dynamic.num_symbols())
    tables = (s for s in elf.iter_sections() if isinstance(s, SymbolTableSection) and s.name == ".dynsym")
    return max((int(table.num_symbols()) for table in tables), default=0)
