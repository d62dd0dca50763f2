"""Read a wheel for the index: its hash and its METADATA, byte for byte."""

from __future__ import annotations

import hashlib
import io
import os
import re
from contextlib import suppress
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from farm.errors import InputError, WheelError
from farm.index.model import PublishedFile
from farm.index.zipped import member
from farm.provenance.names import PROVENANCE
from farm.wheel_name import parse_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HINT: Final = "verify the wheel first: farm verify"
_AGAIN: Final = "fetch or build the wheel again, and compare its sha256 with the source's"
_SMALL: Final = 1 << 20
_LONGEST_METADATA: Final = 16 << 20
_PLAIN: Final = re.compile(r"(?:(?:>=|<|!=) ?\d+(?:\.\d+){0,2}(?:, ?(?=[>=<!])|$))*")
_END_OF_HEAD: Final = re.compile(r"\n\r?\n")
_FIELD: Final = re.compile(r"^([^\s:][^:\n]*):(.*(?:\n[ \t].*)*)", re.MULTILINE)
"""A line of a head and those it goes on in, which are indented (RFC 5322, 2.2.3)."""


def read_wheel(path: Path) -> tuple[PublishedFile, bytes]:
    """Return what a wheel says of itself, and its METADATA as it is in there (PEP 658).

    Raises InputError if it can't be opened, WheelError if it is no wheel or its METADATA disagrees with its
    file name.
    """
    return read_in(
        str(path.parent), path.name, has_provenance=path.with_name(path.name + PROVENANCE).is_file()
    )


def read_in(
    folder: str,
    filename: str,
    *,
    has_provenance: bool,
    upload_time: str | None = None,
    yanked: str | None = None,
) -> tuple[PublishedFile, bytes]:
    """Return the same of a wheel of which the rest is known already; see :func:`read_wheel`."""
    name = parse_name(filename)
    try:
        # Unbuffered: it is read at once, and there are many.
        with open(f"{folder}/{filename}", "rb", buffering=0) as stream:  # noqa: PTH123
            sha256, size, metadata = _content(filename, stream)
    except OSError as error:
        raise InputError(f"{folder}/{filename}: {error.strerror}", hint="name a wheel that exists") from error
    fields, _ = headers(metadata)
    stated = fields.get("name", [""])[0], fields.get("version", [""])[0]
    if canonicalize_name(stated[0]) != name.project or not _is_version(stated[1], name.version):
        raise WheelError(f"{filename}: its METADATA is of {stated[0]} {stated[1]}", hint=_HINT)
    requires = _specifier(fields.get("requires-python", [""])[0], filename)
    file = PublishedFile(
        filename=filename,
        project=name.project,
        version=str(name.version),
        sha256=sha256,
        size=size,
        requires_python=requires or None,
        has_provenance=has_provenance,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        upload_time=upload_time,
        yanked=yanked,
    )
    return file, metadata


def _is_version(text: str, version: Version) -> bool:
    """Whether a text is a version, however it is spelt (PEP 440)."""
    with suppress(InvalidVersion):
        return text == str(version) or Version(text) == version
    return False


def _content(filename: str, stream: io.FileIO) -> tuple[str, int, bytes]:
    """Return a wheel's sha256, its size and its METADATA; a large one is not read into memory."""
    size = os.fstat(stream.fileno()).st_size
    if size <= _SMALL:
        whole = stream.read(size)
        metadata = member(whole, b".dist-info/METADATA", _LONGEST_METADATA)
        if metadata is None:
            metadata = read_metadata(filename, io.BytesIO(whole))
        return hashlib.sha256(whole).hexdigest(), len(whole), metadata
    sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return sha256, stream.tell(), read_metadata(filename, stream)


def read_metadata(filename: str, stream: IO[bytes]) -> bytes:
    """Return an open wheel's METADATA, byte for byte. Raises WheelError."""
    import zipfile  # noqa: PLC0415 - small wheels need it not, and one more of them waits for it

    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
            found = [n for n in names if n.endswith(".dist-info/METADATA") and n.count("/") == 1]
            sizes = [archive.getinfo(n).file_size for n in found]
            if len(found) == 1 and sizes[0] <= _LONGEST_METADATA:
                return archive.read(found[0])
    # zipfile answers damage with whatever it stumbles over: BadZipFile, zlib.error, struct.error, ...
    except Exception as error:
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise WheelError(f"{filename}: truncated or not a zip archive ({cause})", hint=_AGAIN) from error
    if found:
        found = [f"{n} of {size >> 20} MiB" for n, size in zip(found, sizes, strict=True)]
    has = ", ".join(found[:2]) or "none"
    raise WheelError(f"{filename}: needs exactly one METADATA of reasonable size, has {has}", hint=_HINT)


def headers(metadata: bytes) -> tuple[Mapping[str, list[str]], str]:
    """Return core metadata's fields, by name in lower case, and its body, the description."""
    text = metadata.decode("utf-8", "replace")
    end = _END_OF_HEAD.search(text)
    head, body = (text[: end.start()], text[end.end() :]) if end else (text, "")
    fields: dict[str, list[str]] = {}
    for name, value in _FIELD.findall(head):
        lines = map(str.strip, value.split("\n"))
        fields.setdefault(name.rstrip().lower(), []).append("\n".join(lines))
    return fields, body


def _specifier(text: str, filename: str) -> str:
    """Return the specifier as written; one that pip can't read would hide the file from everybody."""
    if not _is_specifier(text):
        raise WheelError(f"{filename}: Requires-Python {text!r} is malformed", hint=_HINT)
    return text


@lru_cache(maxsize=256)
def _is_specifier(text: str) -> bool:
    if _PLAIN.fullmatch(text):
        return True
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415 - the usual ones need it not

    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return True
