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
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import compat32
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from packaging.tags import Tag, parse_tag
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from farm.errors import InputError, WheelError
from farm.verify.elf import ELF_MAGIC, judge_elf, read_elf
from farm.verify.model import Gate, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from pathlib import Path

    from farm.verify.name import WheelName

_CHUNK = 1 << 20
_MOST_UNPACKED = 16 << 30
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
    """One file of a wheel; ``data`` is kept for ELF files and for ``.dist-info`` files that are read."""

    path: str
    sha256: str
    size: int
    data: bytes | None
    is_elf: bool
    is_symlink: bool


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
            if sum(i.file_size for i in infos) > _MOST_UNPACKED:
                raise WheelError(
                    f"{path.name}: unpacks to more than {_MOST_UNPACKED >> 30} GiB", hint=_REBUILD
                )
            return Archive(tuple(_read_member(archive, i) for i in infos if not i.is_dir()))
    except _ZIP_FAULTS as error:
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise WheelError(f"{path.name}: truncated or not a zip archive ({cause})", hint=_AGAIN) from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    digest, size, kept = hashlib.sha256(), 0, []
    with archive.open(info) as stream:
        piece = stream.read(_CHUNK)
        is_elf = piece.startswith(ELF_MAGIC)
        keep = is_elf or info.filename.rpartition("/")[0].endswith(".dist-info")
        while piece:
            digest.update(piece)
            size += len(piece)
            if keep:
                kept.append(piece)
            piece = stream.read(_CHUNK)
    link = stat.S_ISLNK(info.external_attr >> 16)
    return Member(info.filename, digest.hexdigest(), size, b"".join(kept) if keep else None, is_elf, link)


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


def judge_paths(archive: Archive, subject: str) -> tuple[Verdict, ...]:
    """Refuse absolute and escaping paths, names that occur twice, and symbolic links."""
    wrong, seen = [], set()
    for member in archive.members:
        path = PurePosixPath(member.path)
        # zipfile has cut names at NUL already; a backslash would be a separator on some unpackers
        if (
            path.is_absolute()
            or ".." in path.parts
            or "\\" in member.path
            or ":" in member.path.partition("/")[0]
        ):
            wrong.append((member.path, "absolute or escaping path"))
        elif member.path != str(path):
            wrong.append((member.path, "path is not in its plain form"))
        if member.path in seen:
            wrong.append((member.path, "occurs twice"))
        if member.is_symlink:
            wrong.append((member.path, "is a symbolic link"))
        seen.add(member.path)
    if wrong:
        return tuple(Verdict(Gate.PATHS, False, path, why, _REBUILD) for path, why in wrong)
    return (Verdict(Gate.PATHS, True, subject, f"{len(archive.members)} files, all inside"),)


def judge_metadata(archive: Archive, name: WheelName) -> tuple[Verdict, ...]:
    """Check that ``.dist-info``, METADATA and WHEEL say what the file name says."""
    infos = archive.dist_infos
    if len(infos) != 1:
        found = ", ".join(infos) or "none"
        evidence = f"exactly one .dist-info directory is needed, found: {found}"
        return (Verdict(Gate.METADATA, False, name.filename, evidence, _REBUILD),)
    info = infos[0]
    wrong = [(info, why) for why in _same_release(*_split_info(info), name)]
    for file, judge in (("METADATA", _metadata_problems), ("WHEEL", _wheel_problems)):
        path = f"{info}/{file}"
        data = archive.data(path)
        if data is None:
            wrong.append((path, "missing"))
        else:
            message = BytesParser(policy=compat32).parsebytes(data, headersonly=True)
            wrong += [(path, why) for why in judge(message, name)]
    if not wrong:
        wrong += [(path, why) for path, why in _root_problems(archive, info, name)]
    if wrong:
        return tuple(Verdict(Gate.METADATA, False, path, why, _REBUILD) for path, why in wrong)
    evidence = f"{name.project} {name.version}, tags and METADATA agree with the file name"
    return (Verdict(Gate.METADATA, True, info, evidence),)


def _split_info(info: str) -> tuple[str, str]:
    project, _, version = info.removesuffix(".dist-info").partition("-")
    return project, version


def _same_release(project: str, version: str, name: WheelName) -> Iterator[str]:
    if canonicalize_name(project) != name.project:
        yield f"project is {project!r}, the file name says {name.project}"
    try:
        same = Version(version) == name.version
    except InvalidVersion:
        same = False
    if not same:
        yield f"version is {version!r}, the file name says {name.version}"


def _header(message: Message, key: str) -> list[str]:
    return [str(value).strip() for value in message.get_all(key, [])]


def _metadata_problems(message: Message, name: WheelName) -> Iterator[str]:
    names, versions = _header(message, "Name"), _header(message, "Version")
    if len(names) != 1 or len(versions) != 1:
        yield "needs exactly one Name and one Version"
        return
    yield from _same_release(names[0], versions[0], name)


def _wheel_problems(message: Message, name: WheelName) -> Iterator[str]:
    if [value.split(".")[0] for value in _header(message, "Wheel-Version")] != ["1"]:
        yield "Wheel-Version is not 1.x"
    if [v.lower() for v in _header(message, "Root-Is-Purelib")] not in (["true"], ["false"]):
        yield "Root-Is-Purelib is neither true nor false"
    tags: set[Tag] = set()
    for value in _header(message, "Tag"):
        try:
            tags |= parse_tag(value)
        except ValueError:  # packaging's InvalidTag is one, in the versions that have it
            yield f"malformed Tag {value!r}"
    if tags != name.tags:
        yield f"tags are {', '.join(sorted(map(str, tags))) or 'none'}; the file name's differ"
    build = "".join(_header(message, "Build"))
    if build != name.build:
        yield f"Build is {build or 'none'}, the file name says {name.build or 'none'}"


def _root_problems(archive: Archive, info: str, name: WheelName) -> Iterator[tuple[str, str]]:
    """Compare Root-Is-Purelib with the tags and with where native files are."""
    message = BytesParser(policy=compat32).parsebytes(archive.data(f"{info}/WHEEL") or b"", headersonly=True)
    pure_root = _header(message, "Root-Is-Purelib")[0].lower() == "true"
    data = info.removesuffix(".dist-info") + ".data/"
    if name.is_pure and not pure_root:
        yield f"{info}/WHEEL", "Root-Is-Purelib is false in a wheel for any platform"
    for member in archive.elves:
        in_root = not member.path.startswith(data)
        if (in_root and pure_root) or member.path.startswith(f"{data}purelib/"):
            yield member.path, "native file in purelib"


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


def judge_native(archive: Archive, name: WheelName) -> tuple[Verdict, ...]:
    """Judge platform tags and every ELF file, vendored ones too (F05)."""
    elves = archive.elves
    if not name.is_riscv64 and not name.is_pure:
        return (_foreign_wheel(elves, name),)
    if name.is_pure and elves:
        evidence = f"wheel for any platform holds native code: {elves[0].path}"
        return (Verdict(Gate.ELF, False, name.filename, evidence, _REBUILD),)
    if not elves and not name.is_pure:
        evidence = f"{name.platforms} wheel without any native file"
        hint = "see the build's log for a skipped extension or a missing library; else it must be tagged any"
        return (Verdict(Gate.ELF, False, name.filename, evidence, hint),)
    return tuple(verdict for member in elves for verdict in judge_elf(member.data or b"", member.path))


def _foreign_wheel(elves: tuple[Member, ...], name: WheelName) -> Verdict:
    """Say once that the wheel is for another machine, with the first native file as the witness."""
    witness = "it has no native file"
    if elves:
        try:
            witness = f"{read_elf(elves[0].data or b'').machine} in {elves[0].path}"
        except WheelError as error:
            witness = f"{error.message} in {elves[0].path}"
    evidence = f"{name.platforms} wheel, not riscv64: {witness}"
    return Verdict(Gate.ELF, False, name.filename, evidence, "build it on a riscv64 node: farm dispatch")
