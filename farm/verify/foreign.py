"""Is there anything in a wheel that does not belong there? Files of other machines, left-overs (pure).

Formats are known by their magic numbers: System V gABI (ELF, ``ar``), Microsoft's PE format, Apple's
``mach-o/loader.h`` and ``mach-o/fat.h``, LLVM's bitcode format.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from farm.verify.model import Gate, Verdict, counted

if TYPE_CHECKING:
    from farm.verify.wheel import Archive, Member

_ET_REL, _ET_CORE, _EM_RISCV = 1, 4, 243
_AR: Final = (b"!<arch>\n", b"!<thin>\n")
_AR_HEADER: Final = 60
_MACH_O: Final = frozenset(
    {b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"}
)
_FAT: Final = b"\xca\xfe\xba\xbe"
_MOST_FAT: Final = 40  # Java's class files begin alike, and their version, at this place, is 45 and more
_BITCODE: Final = (b"BC\xc0\xde", b"\xde\xc0\x17\x0b")
_COFF: Final = frozenset({0x014C, 0x8664, 0xAA64})
_LEFT: Final = {
    ".gcno": "coverage notes of GCC",
    ".gcda": "coverage data of GCC",
    ".gch": "a precompiled header",
    ".pdb": "debug information of Windows",
}
_FOLDERS_OF_LIBRARIES: Final = frozenset({"lib", "lib64", "libs"})
_TOP_LEVEL: Final = frozenset(
    {"benchmark", "benchmarks", "build", "ci", "conftest.py", "dist", "doc", "docs", "example", "examples",
     "scripts", "setup.py", "src", "test", "tests", "tools"}
)  # fmt: skip
_SET_ID: Final = 0o6000
_PACKAGE_DATA: Final = "exclude it; if it belongs there, the recipe says so by keep_files: {PATTERN: why}"
_SHADOWS: Final = "it lands in site-packages itself, where other wheels' files overwrite it; exclude it"
_PTH: Final = "each start of Python runs it; be sure that you want that"
_PATH: Final = "two builds may differ by it, and it leads nowhere; have the build write relative paths"
_NEEDED: Final = "exclude it if nobody needs it"


def judge_content(
    archive: Archive, subject: str, keep_files: Mapping[str, str], *, pure: bool
) -> tuple[Verdict, ...]:
    """Find foreign and left-over files; those that ``keep_files`` (pattern to reason) names may stay.

    In a ``pure`` wheel, which is for every system, other systems' programs are noted only.
    """
    wrong, notes = [], []
    for member in archive.members:
        for evidence, ok in _findings(member, pure=pure):
            reason = next((why for glob, why in keep_files.items() if fnmatchcase(member.path, glob)), "")
            if ok or reason:
                hint = "" if reason else _NEEDED
                text = f"{evidence}; kept: {reason}" if reason else evidence
                notes.append(Verdict(Gate.CONTENT, True, member.path, text, hint))
            else:
                wrong.append(Verdict(Gate.CONTENT, False, member.path, evidence, _PACKAGE_DATA))
        notes += _remarks(member)
    notes += _top_level(archive)
    size = sum(member.size for member in archive.members)
    clean = Verdict(Gate.CONTENT, True, subject, f"{size / 2**20:.1f} MiB unpacked, nothing foreign")
    return (*wrong, *notes) if wrong else (clean, *notes)


def _findings(member: Member, *, pure: bool) -> Iterator[tuple[str, bool]]:
    """Yield what a file is, and whether it may be there."""
    if member.mode & _SET_ID:
        yield "has the set-user-ID or set-group-ID bit", False
    suffix = posixpath.splitext(member.path)[1].lower()
    if member.is_elf:
        kind = _elf_type(member.head)
        if kind == _ET_CORE:
            yield "core dump", False
        elif kind == _ET_REL:
            yield "object file left behind by the compiler", False
    elif member.head.startswith(_AR):
        yield _static_library(member)
    elif (system := _other_system(member.head, suffix)) is not None:
        yield f"for another system: {system}", pure
    elif member.head.startswith(_BITCODE):
        yield "LLVM bitcode left behind by the compiler", False
    elif suffix in {".pyc", ".pyo"}:
        yield "compiled Python, which nobody can review and installers make anew", False
    elif suffix in _LEFT:
        yield f"{_LEFT[suffix]}, left behind by the build", pure


def _elf_type(head: bytes) -> int:
    order = "big" if head[5:6] == b"\2" else "little"
    return int.from_bytes(head[16:18], order)  # type: ignore[arg-type]


def _other_system(head: bytes, suffix: str) -> str | None:
    at = int.from_bytes(head[0x3C:0x40], "little")
    if head.startswith(b"MZ") and (head[at : at + 4] == b"PE\0\0" or suffix in {".exe", ".dll", ".pyd"}):
        return "Windows (PE)"
    if head[:4] in _MACH_O or (head[:4] == _FAT and int.from_bytes(head[4:8], "big") < _MOST_FAT):
        return "macOS (Mach-O)"
    if suffix == ".obj" and int.from_bytes(head[:2], "little") in _COFF:
        return "Windows (COFF)"
    return None


def _static_library(member: Member) -> tuple[str, bool]:
    """Judge a static library: foreign, left behind, or shipped on purpose in a folder for such."""
    machines = list(_machines(member.data or b""))
    foreign = [machine for machine in machines if machine != _EM_RISCV]
    if foreign:
        kinds = ", ".join(sorted({f"e_machine {m}" if m else "no ELF" for m in foreign}))
        return f"static library with objects of another machine ({kinds})", False
    on_purpose = posixpath.basename(posixpath.dirname(member.path)) in _FOLDERS_OF_LIBRARIES
    origin = "" if on_purpose else " left behind by the build"
    return f"static library{origin}, {counted(len(machines), 'object')}", on_purpose


def _machines(data: bytes) -> Iterator[int]:
    """Yield e_machine of each object of an ``ar`` archive, 0 for what is no ELF file."""
    at = len(_AR[0])
    while at + _AR_HEADER <= len(data):
        name, size = data[at : at + 16], data[at + 48 : at + 58].strip()
        if not size.isdigit():
            yield 0
            return
        at += _AR_HEADER
        if not name.startswith((b"/ ", b"// ", b"/SYM64/", b"__.SYMDEF")):  # symbol and name tables
            is_elf = data[at : at + 4] == b"\x7fELF"
            yield struct.unpack_from("<H", data, at + 18)[0] if is_elf and at + 20 <= len(data) else 0
        at += int(size) + int(size) % 2


def _remarks(member: Member) -> Iterator[Verdict]:
    """Yield what is worth a look, without being wrong."""
    if "/" not in member.path and member.path.endswith(".pth"):
        yield Verdict(Gate.CONTENT, True, member.path, "is run at each start of Python", _PTH)
    if member.build_path:
        evidence = f"names a folder of the build: {member.build_path}"
        yield Verdict(Gate.CONTENT, True, member.path, evidence, _PATH)


def _top_level(archive: Archive) -> Iterator[Verdict]:
    """Yield what lies at the top of site-packages and is nobody's package."""
    tops = {member.path.partition("/")[0] for member in archive.members}
    documents = {
        m.path for m in archive.members if "/" not in m.path and not m.path.endswith((".py", ".pth", ".so"))
    }
    for top in sorted(top for top in tops if top.lower() in _TOP_LEVEL or top in documents):
        yield Verdict(Gate.CONTENT, True, top, "at the top of site-packages", _SHADOWS)
