"""A published file, as its own content describes it (PEP 427, core metadata)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import compat32
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from farm.errors import InputError, WheelError
from farm.provenance.names import PROVENANCE
from farm.verify.name import parse_name
from farm.verify.wheel import read_file

if TYPE_CHECKING:
    from pathlib import Path

_HINT = "verify the wheel first: farm verify"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One wheel of the index. ``project`` is normalised (PEP 503); ``size`` is in bytes."""

    filename: str
    project: NormalizedName
    version: str
    sha256: str
    size: int
    requires_python: str | None
    has_provenance: bool = False
    """Whether PEP 740's provenance object lies beside it."""
    metadata_sha256: str | None = None
    """Of the sidecar (PEP 658)."""
    upload_time: str | None = None
    """When it was published, ISO 8601 in UTC (PEP 700)."""
    yanked: str | None = None
    """Why it was yanked (PEP 592), which may be empty; None if it was not."""
    url: str = ""
    """Where it is; empty: in this index."""

    @classmethod
    def from_wheel(cls, path: Path) -> PublishedFile:
        """Read a wheel's own name, hash and METADATA.

        Raises InputError if it can't be opened, WheelError if it is no wheel or its METADATA disagrees with
        its file name.
        """
        name = parse_name(path.name)
        try:
            with path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                size = stream.tell()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", hint="name a wheel that exists") from error
        message = BytesParser(policy=compat32).parsebytes(read_file(path, "METADATA"), headersonly=True)
        stated = str(message.get("Name", "")), str(message.get("Version", ""))
        try:
            agrees = (canonicalize_name(stated[0]), Version(stated[1])) == (name.project, name.version)
        except InvalidVersion:
            agrees = False
        if not agrees:
            raise WheelError(f"{path.name}: its METADATA is of {stated[0]} {stated[1]}", hint=_HINT)
        requires = message.get("Requires-Python")
        text = _specifier(str(requires).strip(), path.name) if requires is not None else None
        beside = path.with_name(path.name + PROVENANCE).is_file()
        return cls(path.name, name.project, str(name.version), sha256, size, text or None, beside)

    @property
    def href(self) -> str:
        """Its URL relative to its project page, with its hash (PEP 503, F09)."""
        return f"../../{self._path}#sha256={self.sha256}"

    def provenance_url(self, base_url: str) -> str | None:
        """Return where its provenance is, if it has one.

        PEP 740 wants a whole URL; where the index does not know its own (``base_url`` is empty), it is
        relative to the project page.
        """
        return f"{base_url or '../../'}{self._path}{PROVENANCE}" if self.has_provenance else None

    @property
    def _path(self) -> str:
        return f"packages/{self.project}/{quote(self.filename)}"

    @property
    def sort_key(self) -> tuple[Version, int, str, str]:
        """Order by version, then by build tag, then by name."""
        build = parse_name(self.filename).build
        digits = len(build) - len(build.lstrip("0123456789"))
        return (Version(self.version), int(build[:digits] or 0), build[digits:], self.filename)


class ProjectStatus(StrEnum):
    """What is said of a whole project (PEP 792)."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    QUARANTINED = "quarantined"
    DEPRECATED = "deprecated"


@dataclass(frozen=True, slots=True)
class ProjectIndex:
    """All that the index has of one project."""

    project: NormalizedName
    files: tuple[PublishedFile, ...]
    status: ProjectStatus = ProjectStatus.ACTIVE
    status_reason: str = ""


def _specifier(text: str, filename: str) -> str:
    """Return the specifier as written; one that pip can't read would hide the file from everybody."""
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise WheelError(f"{filename}: Requires-Python {text!r} is malformed", hint=_HINT) from error
    return text
