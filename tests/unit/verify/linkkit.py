"""Make shared objects that a dynamic loader could read: segments, symbols, symbol versions, run paths."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from tests.unit.verify.wheelkit import EM_RISCV, RV64GC, attributes

ET_REL, ET_DYN, ET_CORE = 1, 3, 4
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _HASH, _STRTAB, _SYMTAB, _STRSZ, _SYMENT = 1, 4, 5, 6, 10, 11
_GNU_HASH = 0x6FFFFEF5
_SONAME, _RPATH, _RUNPATH, _VERNEED, _VERNEEDNUM = 14, 15, 29, 0x6FFFFFFE, 0x6FFFFFFF
GLOBAL, WEAK = 1, 2


class _Strings:
    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


def make_library(
    *,
    soname: str = "",
    needed: Sequence[str] = ("libc.so.6",),
    versions: Mapping[str, Sequence[str]] | None = None,
    undefined: Sequence[str] = (),
    weak: Sequence[str] = (),
    rpath: str = "",
    runpath: str = "",
    machine: int = EM_RISCV,
    kind: int = ET_DYN,
    more_tags: Sequence[tuple[int, int]] = (),
    gnu_hash: bool = False,
) -> bytes:
    """A file whose addresses are its offsets; with ``gnu_hash``, one symbol of its own ends the table."""
    strings = _Strings()
    tags = [(_NEEDED, strings.add(name)) for name in needed]
    tags += [
        (tag, strings.add(text))
        for tag, text in ((_SONAME, soname), (_RPATH, rpath), (_RUNPATH, runpath))
        if text
    ]
    symbols = bytes(24)
    for names, binding in ((undefined, GLOBAL), (weak, WEAK)):
        for name in names:
            symbols += struct.pack("<IBBHQQ", strings.add(name), binding << 4, 0, 0, 0, 0)
    count = len(symbols) // 24
    table = struct.pack("<III", 1, count, 0) + bytes(4 * count)
    if gnu_hash:  # one bucket, the symbol after all others, one word of bloom filter, the chain's end
        symbols += struct.pack("<IBBHQQ", strings.add("own"), GLOBAL << 4, 0, 1, 0x40, 8)
        table = struct.pack("<IIIIQII", 1, count, 1, 0, 0, count, 0x1235)
    needs = _verneed(versions or {}, strings)
    start = 64 + 2 * 56
    at_strings = start
    at_symbols = _up(at_strings + len(strings.data))
    at_table = at_symbols + len(symbols)
    at_needs = _up(at_table + len(table))
    at_dynamic = _up(at_needs + len(needs))
    tags += [(_GNU_HASH if gnu_hash else _HASH, at_table), (_STRTAB, at_strings), (_SYMTAB, at_symbols)]
    tags += [(_STRSZ, len(strings.data)), (_SYMENT, 24)]
    if needs:
        tags += [(_VERNEED, at_needs), (_VERNEEDNUM, len(versions or {}))]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in [*tags, *more_tags, (0, 0)])
    body = b""
    for at, data in ((at_symbols, symbols), (at_table, table), (at_needs, needs), (at_dynamic, dynamic)):
        body = (body or strings.data).ljust(at - start, b"\0") + data
    return _file(body, at_dynamic, len(dynamic), machine, kind)


def _up(offset: int) -> int:
    return (offset + 7) // 8 * 8


def _verneed(versions: Mapping[str, Sequence[str]], strings: _Strings) -> bytes:
    data = b""
    for number, (library, names) in enumerate(versions.items(), 1):
        size = 16 + 16 * len(names)
        following = 0 if number == len(versions) else size
        data += struct.pack("<HHIII", 1, len(names), strings.add(library), 16, following)
        for index, name in enumerate(names, 1):
            data += struct.pack("<IHHII", 0, 0, 2, strings.add(name), 0 if index == len(names) else 16)
    return data


def _file(body: bytes, at_dynamic: int, dynamic_size: int, machine: int, kind: int) -> bytes:
    names = b"\0.shstrtab\0.riscv.attributes\0"
    marks = attributes(RV64GC)
    at_names = 64 + 2 * 56 + len(body)
    at_marks = at_names + len(names)
    at_sections = at_marks + len(marks)
    end = at_sections + 3 * 64
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, at_sections, 0x5, 64, 56, 2, 64, 3, 1)
    load = struct.pack("<IIQQQQQQ", _LOAD, 4, 0, 0, 0, end, end, 4096)
    dynamic = struct.pack(
        "<IIQQQQQQ", _DYNAMIC, 6, at_dynamic, at_dynamic, at_dynamic, dynamic_size, dynamic_size, 8
    )
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, at_names, len(names), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 11, 0x70000003, 0, 0, at_marks, len(marks), 0, 0, 1, 0)
    return head + load + dynamic + body + names + marks + sections
