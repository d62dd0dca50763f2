"""Are two wheels the same, and if not, where do they differ? Judging is pure; only reading touches files.

A wheel is reproducible when its file is the same bit for bit (reproducible-builds.org). What lies in the
archive and how it lies there (times, permissions, order, compression) are told apart: they have other causes.
"""

from __future__ import annotations

import difflib
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from farm.errors import InputError, WheelError
from farm.verify.image import ELF_MAGIC, SHT_NOBITS, read_image

LINES_SHOWN: Final = 12
SECTIONS_SHOWN: Final = 6
CHUNK: Final = 1 << 20
LONGEST_TEXT: Final = 1 << 20
_ZIP_FAULTS: Final = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, ArithmeticError)


class Kind(StrEnum):
    """In what way a member, or the whole, differs."""

    NAME = "name"
    ONLY_FIRST = "only in the first"
    ONLY_SECOND = "only in the second"
    CONTENT = "content"
    TIME = "time stamp"
    MODE = "permissions"
    COMPRESSION = "compression"
    ORDER = "order"
    CONTAINER = "archive"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a wheel; size in bytes, time and mode as the archive has them."""

    path: str
    sha256: str
    size: int
    time: tuple[int, ...]
    mode: int
    compression: int


@dataclass(frozen=True, slots=True)
class Contents:
    """A wheel's files in their order; ``sha256`` is of the whole."""

    filename: str
    sha256: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the second wheel is not the first. ``detail`` is for people, one line or a few."""

    kind: Kind
    member: str
    detail: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found; ``identical`` is about every bit, the file names included."""

    first: str
    second: str
    sha256: tuple[str, str]
    identical: bool
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, object]:
        """Return it for programs."""
        return asdict(self)


def compare_wheels(first: Path, second: Path) -> Comparison:
    """Compare two wheel files.

    Raises:
        InputError: one can't be opened.
        WheelError: one is no zip archive.
    """
    one, other = read_contents(first), read_contents(second)
    return compare(one, other, lambda path: (_read(first, path), _read(second, path)))


def compare(first: Contents, second: Contents, bytes_of: Callable[[str], tuple[bytes, bytes]]) -> Comparison:
    """Compare two wheels (pure).

    Args:
        first: one of them.
        second: the other one.
        bytes_of: returns a member's bytes in both; asked only where they differ.
    """
    identical = (first.filename, first.sha256) == (second.filename, second.sha256)
    found = [] if identical else [*_differences(first, second, bytes_of)]
    if not identical and not found:
        found = [Difference(Kind.CONTAINER, "", "all members are equal, the archive's own fields are not")]
    hashes = (first.sha256, second.sha256)
    return Comparison(first.filename, second.filename, hashes, identical, tuple(found))


def _differences(
    first: Contents, second: Contents, bytes_of: Callable[[str], tuple[bytes, bytes]]
) -> Iterator[Difference]:
    if first.filename != second.filename:
        yield Difference(Kind.NAME, "", f"{first.filename}, then {second.filename}")
    mine, theirs = ({item.path: item for item in side.members} for side in (first, second))
    for path in sorted(mine.keys() - theirs.keys()):
        yield Difference(Kind.ONLY_FIRST, path, f"{mine[path].size} bytes")
    for path in sorted(theirs.keys() - mine.keys()):
        yield Difference(Kind.ONLY_SECOND, path, f"{theirs[path].size} bytes")
    common = [path for path in mine if path in theirs]
    for path in sorted(common):
        yield from _of_member(mine[path], theirs[path], bytes_of)
    order = [path for path in theirs if path in mine]
    if common != order:
        at = next(number for number, pair in enumerate(zip(common, order, strict=True)) if pair[0] != pair[1])
        yield Difference(Kind.ORDER, common[at], f"{order[at]} is in its place")


def _of_member(
    mine: Member, theirs: Member, bytes_of: Callable[[str], tuple[bytes, bytes]]
) -> Iterator[Difference]:
    if mine.sha256 != theirs.sha256:
        sizes = f"{mine.size} and {theirs.size} bytes" if mine.size != theirs.size else f"{mine.size} bytes"
        yield Difference(Kind.CONTENT, mine.path, f"{sizes}; {explain(mine.path, *bytes_of(mine.path))}")
    if mine.time != theirs.time:
        yield Difference(Kind.TIME, mine.path, f"{_clock(mine.time)}, then {_clock(theirs.time)}")
    if mine.mode != theirs.mode:
        yield Difference(Kind.MODE, mine.path, f"{mine.mode:o}, then {theirs.mode:o}")
    if mine.compression != theirs.compression:
        yield Difference(Kind.COMPRESSION, mine.path, f"method {mine.compression}, then {theirs.compression}")


def _clock(time: tuple[int, ...]) -> str:
    year, month, day, hour, minute, second = time
    return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"


def explain(path: str, mine: bytes, theirs: bytes) -> str:
    """Say where two contents of a file differ (pure): sections of ELF, lines of text, else a byte."""
    if path.endswith(".dist-info/RECORD"):
        return "it lists the others"
    if mine.startswith(ELF_MAGIC) and theirs.startswith(ELF_MAGIC):
        with suppress(WheelError):
            return _explain_elf(mine, theirs)
    lines = _lines(mine), _lines(theirs)
    if lines[0] is not None and lines[1] is not None:
        changed = [*difflib.unified_diff(lines[0], lines[1], "first", "second", lineterm="", n=0)][2:]
        more = [f"({len(changed) - LINES_SHOWN} more lines)"] if len(changed) > LINES_SHOWN else []
        return "\n".join(["lines:", *changed[:LINES_SHOWN], *more])
    return _first_byte(mine, theirs)


def _lines(data: bytes) -> list[str] | None:
    if b"\0" in data or len(data) > LONGEST_TEXT:
        return None
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError:
        return None


def _explain_elf(mine: bytes, theirs: bytes) -> str:
    first, second = _sections(mine), _sections(theirs)
    changed = [name for name in first if name in second and first[name] != second[name]]
    gone, new = [name for name in first if name not in second], [name for name in second if name not in first]
    if not (changed or gone or new):
        return f"headers or padding; {_first_byte(mine, theirs)}"
    parts = []
    if changed:
        name = changed[0]
        sizes = f"{len(first[name])} and {len(second[name])} bytes"
        parts.append(f"section {name} ({sizes}, {_first_byte(first[name], second[name])})")
    for title, names in (
        ("then also", changed[1:]),
        ("only in the first", gone),
        ("only in the second", new),
    ):
        if names:
            rest = f" and {len(names) - SECTIONS_SHOWN} more" if len(names) > SECTIONS_SHOWN else ""
            parts.append(f"{title}: {', '.join(names[:SECTIONS_SHOWN])}{rest}")
    return "; ".join(parts)


def _sections(data: bytes) -> dict[str, bytes]:
    """Return the sections that a file has bytes of, in their order; a name that comes again has a number."""
    image = read_image(data)
    found: dict[str, bytes] = {}
    for number, section in enumerate(image.sections):
        if section.kind != SHT_NOBITS:
            name = section.name or f"number {number}"
            found[f"{name} ({number})" if name in found else name] = image.content(section)
    return found


def _first_byte(mine: bytes, theirs: bytes) -> str:
    shorter = min(len(mine), len(theirs))
    if mine[:shorter] == theirs[:shorter]:
        return f"equal for {shorter} bytes"
    low, high = 0, shorter
    while high - low > 1:  # the first difference is in [low, high)
        middle = (low + high) // 2
        low, high = (low, middle) if mine[low:middle] != theirs[low:middle] else (middle, high)
    return f"first at byte {low}"


def read_contents(path: Path) -> Contents:
    """Read what a wheel holds.

    Raises:
        InputError: it can't be opened.
        WheelError: it is no zip archive, or damaged.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="name a wheel that exists") from error
    try:
        with zipfile.ZipFile(path) as archive:
            members = tuple(_member(archive, info) for info in archive.infolist())
    except _ZIP_FAULTS as error:
        raise WheelError(f"{path.name}: not a whole zip archive: {error}", hint="`farm verify` it") from error
    return Contents(path.name, sha256, members)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    digest = hashlib.sha256()
    with archive.open(info) as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    mode = info.external_attr >> 16
    return Member(info.filename, digest.hexdigest(), info.file_size, info.date_time, mode, info.compress_type)


def _read(wheel: Path, member: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)
