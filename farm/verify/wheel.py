"""Open a wheel and check that its parts agree with each other (PEP 427, the wheel and RECORD specifications).

Reading is one pass over the members, in bounded pieces; only ELF files and the four small ``.dist-info``
files are kept whole. Judging is pure: it sees an :class:`Archive`, never the file.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import lzma
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from farm.errors import InputError, WheelError
from farm.verify.elf import Elf, judge_elf
from farm.verify.image import ELF_MAGIC
from farm.verify.model import Gate, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from farm.wheel_name import WheelName

_CHUNK = 1 << 20
_HEAD = 1 << 10
_MOST_UNPACKED = 16 << 30
_MOST_OF_ONE = 4 << 30
_MOST_MEMBERS = 100_000
_MOST_INFLATION = 200  # source text shrinks to a tenth; only what was made to is smaller than this
_SMALL = 64 << 20  # what is not worth a question
_AR_MAGIC = b"!<arch>\n"
_BUILD_PATH = re.compile(
    rb"/tmp/(?:pip-[a-z-]+|build-env)-\w+/|/home/runner/work/|/__w/|/github/workspace/"
    rb"|/wheelfarm[\w-]*/work/"
)
"""Folders that are there while a wheel is built and never afterwards: pip's, GitHub's, this farm's."""
_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted member; NotImplementedError: an unknown compression
    ValueError,
    IndexError,
    OverflowError,
)
_REBUILD = "rebuild the wheel with the project's own backend"
_AGAIN = "fetch or build the wheel again, and compare its sha256 with the source's"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a wheel, its ``size`` in bytes.

    ``data`` is kept for ELF files, static libraries and the files of ``.dist-info``; ``head`` is the first
    KiB; ``mode`` is the file's type and permissions (zero where the archive states none); ``build_path`` is
    the first folder of a build that a text file names, or empty.
    """

    path: str
    sha256: str
    size: int
    data: bytes | None
    head: bytes = b""
    mode: int = 0
    build_path: str = ""

    @property
    def is_elf(self) -> bool:
        """Whether it is an ELF file."""
        return self.head.startswith(ELF_MAGIC)


@dataclass(frozen=True, slots=True)
class Archive:
    """A wheel's content, directories left out."""

    members: tuple[Member, ...]

    @property
    def elves(self) -> tuple[Member, ...]:
        """The ELF files, wherever in the wheel they are."""
        return tuple(m for m in self.members if m.is_elf)

    @property
    def dist_infos(self) -> tuple[str, ...]:
        """The names of the ``.dist-info`` directories at the top."""
        tops = {m.path.partition("/")[0] for m in self.members if "/" in m.path}
        return tuple(sorted(top for top in tops if top.endswith(".dist-info")))

    def data(self, path: str) -> bytes | None:
        """Return a kept file's bytes, or None without such a file."""
        return next((m.data for m in self.members if m.path == path), None)


def read_archive(path: Path) -> Archive:
    """Read a wheel; every member's CRC is checked on the way.

    Raises InputError if there is no such file, WheelError if it is not a whole zip archive.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint="name a wheel that exists")
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if min((i.header_offset for i in infos), default=1) != 0:
                raise WheelError(f"{path.name}: truncated or not a zip archive (it begins late)", hint=_AGAIN)
            if why := _too_much(infos):
                raise WheelError(f"{path.name}: {why}", hint="don't unpack it; see who made it")
            return Archive(tuple(_read_member(archive, i) for i in infos if not i.is_dir()))
    except _ZIP_FAULTS as error:
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise WheelError(f"{path.name}: truncated or not a zip archive ({cause})", hint=_AGAIN) from error


def _too_much(infos: list[zipfile.ZipInfo]) -> str:
    """Say why an archive is not to be read: by what its directory states, which zipfile then holds it to."""
    unpacked, packed = sum(i.file_size for i in infos), sum(i.compress_size for i in infos)
    if len(infos) > _MOST_MEMBERS:
        return f"has more than {_MOST_MEMBERS} files"
    if unpacked > _MOST_UNPACKED:
        return f"unpacks to more than {_MOST_UNPACKED >> 30} GiB"
    largest = max(infos, key=lambda info: info.file_size)
    if largest.file_size > _MOST_OF_ONE:
        return f"{largest.filename} unpacks to more than {_MOST_OF_ONE >> 30} GiB"
    if unpacked > _SMALL and unpacked > packed * _MOST_INFLATION:
        return f"unpacks to more than {_MOST_INFLATION} times its size"
    return ""


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    digest, size, kept, build_path = hashlib.sha256(), 0, [], b""
    with archive.open(info) as stream:
        piece = stream.read(_CHUNK)
        head = piece[:_HEAD]
        keep = head.startswith((ELF_MAGIC, _AR_MAGIC))
        keep = keep or (info.file_size < _SMALL and info.filename.rpartition("/")[0].endswith(".dist-info"))
        is_text = b"\0" not in piece
        while piece:
            digest.update(piece)
            size += len(piece)
            if keep:
                kept.append(piece)
            if is_text and not build_path and (found := _BUILD_PATH.search(piece)):
                build_path = found.group()
            piece = stream.read(_CHUNK)
    return Member(
        path=info.filename,
        sha256=digest.hexdigest(),
        size=size,
        data=b"".join(kept) if keep else None,
        head=head,
        mode=info.external_attr >> 16,
        build_path=build_path.decode("ascii"),
    )


def read_file(path: Path, name: str) -> bytes:
    """Return one file of a wheel's ``.dist-info`` without reading the rest. Raises WheelError."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith(f".dist-info/{name}")]
            if len(found) != 1:
                raise WheelError(f"{path.name}: needs exactly one {name}, has {len(found)}", hint=_REBUILD)
            return archive.read(found[0])
    except _ZIP_FAULTS as error:
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise WheelError(f"{path.name}: truncated or not a zip archive ({cause})", hint=_AGAIN) from error


def judge_record(archive: Archive, subject: str) -> tuple[Verdict, ...]:
    """Check that RECORD lists every file, and no other, with its sha256 and size; signatures are exempt."""
    infos = archive.dist_infos
    record = f"{infos[0]}/RECORD" if len(infos) == 1 else "RECORD"
    data = archive.data(record)
    if data is None:
        return (Verdict(Gate.RECORD, False, record, "missing", _REBUILD),)
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode()), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        return (Verdict(Gate.RECORD, False, record, f"unreadable: {error}", _REBUILD),)
    wrong = list(_record_problems(archive, record, rows))
    if wrong:
        return tuple(Verdict(Gate.RECORD, False, path, why, _REBUILD) for path, why in wrong)
    return (Verdict(Gate.RECORD, True, subject, f"RECORD matches {len(rows)} files by sha256 and size"),)


def _record_problems(archive: Archive, record: str, rows: list[list[str]]) -> Iterator[tuple[str, str]]:
    listed: dict[str, tuple[str, str]] = {}
    for row in rows:
        if len(row) != 3:  # noqa: PLR2004 - path, hash, size
            yield record, f"malformed line {','.join(row)!r}"
            continue
        if row[0] in listed:
            yield row[0], "listed twice in RECORD"
        listed[row[0]] = (row[1], row[2])
    signatures = {f"{record}.jws", f"{record}.p7s"}
    if listed.pop(record, None) not in (("", ""), None):
        yield record, "RECORD states a hash or size of itself"
    for member in archive.members:
        stated = listed.pop(member.path, None)
        if member.path == record or (member.path in signatures and stated in (None, ("", ""))):
            continue
        if stated is None:
            yield member.path, "not listed in RECORD"
        elif stated[0] != record_hash(member.sha256):
            yield member.path, f"sha256 is {record_hash(member.sha256)}, RECORD says {stated[0] or 'nothing'}"
        elif stated[1] != str(member.size):
            yield member.path, f"size is {member.size}, RECORD says {stated[1] or 'nothing'}"
    yield from ((path, "listed in RECORD, missing in the wheel") for path in listed)


def record_hash(hex_digest: str) -> str:
    """Write a sha256 as RECORD does: urlsafe base64 without padding (PEP 427, PEP 376)."""
    return "sha256=" + base64.urlsafe_b64encode(bytes.fromhex(hex_digest)).rstrip(b"=").decode()


def judge_native(elves: Mapping[str, Elf | WheelError], name: WheelName) -> tuple[Verdict, ...]:
    """Judge platform tags and every ELF file, vendored ones too (F05)."""
    if not name.is_riscv64 and not name.is_pure:
        return (_foreign_wheel(elves, name),)
    if name.is_pure and elves:
        evidence = f"wheel for any platform holds native code: {next(iter(elves))}"
        return (Verdict(Gate.ELF, False, name.filename, evidence, _REBUILD),)
    if not elves and not name.is_pure:
        evidence = f"{name.platforms} wheel without any native file"
        hint = "see the build's log for a skipped extension or a missing library; else it must be tagged any"
        return (Verdict(Gate.ELF, False, name.filename, evidence, hint),)
    return tuple(verdict for path, elf in elves.items() for verdict in judge_elf(elf, path))


def _foreign_wheel(elves: Mapping[str, Elf | WheelError], name: WheelName) -> Verdict:
    """Say once that the wheel is for another machine, with the first native file as the witness."""
    witness = "it has no native file"
    for path, elf in islice(elves.items(), 1):
        witness = f"{elf.facts.machine if isinstance(elf, Elf) else elf.message} in {path}"
    evidence = f"{name.platforms} wheel, not riscv64: {witness}"
    return Verdict(Gate.ELF, False, name.filename, evidence, "build it on a riscv64 node: farm dispatch")
