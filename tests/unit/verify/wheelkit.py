"""Make ELF files and wheels byte by byte: no compiler, no build backend."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RV64GC = "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0_zifencei2p0_zmmul1p0_zaamo1p0_zalrsc1p0"
TEXT = 0x1000
EM_RISCV, EM_X86_64 = 243, 62
NATIVE = "demo-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
MODULE = "demo/_core.cpython-313-riscv64-linux-gnu.so"


def attributes(arch: str) -> bytes:
    """A .riscv.attributes section: 'A', the riscv subsection, its Tag_File, Tag_RISCV_arch (5)."""
    tags = bytes([5]) + arch.encode() + b"\0"
    scope = bytes([1]) + struct.pack("<I", 5 + len(tags)) + tags
    return b"A" + struct.pack("<I", 4 + len(b"riscv\0") + len(scope)) + b"riscv\0" + scope


@dataclass(frozen=True)
class Sym:
    """A symbol in .text: where it points to, from the section's start; its STT type; its size in bytes."""

    name: str
    at: int = 0
    kind: int = 0
    size: int = 0


def make_elf(
    arch: str | None = RV64GC,
    *,
    machine: int = EM_RISCV,
    flags: int = 0x5,
    needed: tuple[str, ...] = ("libc.so.6",),
    symbols: tuple[Sym, ...] = (),
    code: bytes = b"\x82\x80",
    elf32: bool = False,
    section_headers: bool = True,
) -> bytes:
    """A shared object of .text, .dynstr, .dynamic, .riscv.attributes, .symtab, .shstrtab, in one segment."""
    names = b"\0.shstrtab\0.dynstr\0.dynamic\0.riscv.attributes\0.symtab\0.text\0"
    strings, dynamic, symtab = b"\0", b"", bytes(24)
    for name in needed:
        dynamic += struct.pack("<QQ", 1, len(strings))
        strings += name.encode() + b"\0"
    dynamic += bytes(16)
    text = 6 if arch is not None else 5
    for symbol in symbols:
        symtab += struct.pack("<IBBHQQ", len(strings), symbol.kind, 0, text, TEXT + symbol.at, symbol.size)
        strings += symbol.name.encode() + b"\0"
    # name, type, content, link, entry size
    parts = [(b".shstrtab", 3, names, 0, 0), (b".dynstr", 3, strings, 0, 0), (b".dynamic", 6, dynamic, 2, 16)]
    if arch is not None:
        parts.append((b".riscv.attributes", 0x70000003, attributes(arch), 0, 0))
    parts += [(b".symtab", 2, symtab, 2, 24), (b".text", 1, code, 0, 0)]
    body, headers = b"", bytes(64)
    for title, kind, data, link, entry in parts:
        at = names.index(b"\0" + title + b"\0") + 1
        where = (4, TEXT, 64 + len(body)) if title == b".text" else (0, 0, 64 + len(body))
        headers += struct.pack("<IIQQQQIIQQ", at, kind, *where, len(data), link, 0, 1, entry)
        body += data
    head = b"\x7fELF" + bytes([1 if elf32 else 2, 1, 1]) + bytes(9)
    if elf32:
        return head + struct.pack("<HHIIIIIHHHHHH", 3, machine, 1, 0, 0, 0, flags, 52, 32, 0, 40, 0, 0)
    count = len(parts) + 1
    sections = 64 + len(body) if section_headers else 0
    segments = 64 + len(body) + len(headers)
    head += struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, segments, sections, flags, 64, 56, 1, 64, count, 1
    )
    return (
        head + body + headers + struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 64 + len(body), 64 + len(body), 4096)
    )


def record_of(members: Mapping[str, bytes], record: str) -> bytes:
    lines = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for path, data in members.items()
    ]
    return "\n".join([*lines, f"{record},,", ""]).encode()


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return out.getvalue()


def wheel_members(
    filename: str,
    files: Mapping[str, bytes] | None = None,
    *,
    metadata: str | None = None,
    wheel: str | None = None,
    requires_python: str | None = None,
) -> dict[str, bytes]:
    """A right wheel's members, with ``files`` (default: a module that fits the tags) and a RECORD."""
    project, version, build, tags = parse_wheel_filename(filename)
    info = f"{project.replace('-', '_')}-{version}.dist-info"
    pure = filename.endswith("-any.whl")
    if files is None:
        files = {"demo/__init__.py": b"x = 1\n"} | ({} if pure else {MODULE: make_elf()})
    if metadata is None:
        metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n"
        metadata += f"Requires-Python: {requires_python}\n" if requires_python else ""
    if wheel is None:
        wheel = f"Wheel-Version: 1.0\nGenerator: kit\nRoot-Is-Purelib: {str(pure).lower()}\n"
        wheel += f"Build: {build[0]}{build[1]}\n" if build else ""
        wheel += "".join(f"Tag: {tag}\n" for tag in sorted(map(str, tags)))
    members = {**files, f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": wheel.encode()}
    return {**members, f"{info}/RECORD": record_of(members, f"{info}/RECORD")}


def write_wheel(
    folder: Path,
    filename: str = NATIVE,
    files: Mapping[str, bytes] | None = None,
    *,
    metadata: str | None = None,
    wheel: str | None = None,
    requires_python: str | None = None,
) -> Path:
    path = folder / filename
    members = wheel_members(filename, files, metadata=metadata, wheel=wheel, requires_python=requires_python)
    path.write_bytes(zip_bytes(members))
    return path
