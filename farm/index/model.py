"""What the index knows of a published file and of a project (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote

from packaging.version import InvalidVersion, Version

from farm.errors import WheelError
from farm.provenance.names import PROVENANCE
from farm.wheel_name import build_order, parse_name

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.utils import NormalizedName

_NO_VERSION = Version("0.dev0")


class ProjectStatus(StrEnum):
    """What a project's owner says of it (PEP 792)."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    QUARANTINED = "quarantined"
    DEPRECATED = "deprecated"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file of the index. ``project`` is normalised (PEP 503); ``size`` is in bytes."""

    filename: str
    project: NormalizedName
    version: str
    sha256: str
    size: int
    requires_python: str | None
    has_provenance: bool = False
    """Whether PEP 740's provenance object lies beside it."""
    metadata_sha256: str | None = None
    """Of its METADATA, which lies beside it (PEP 658); None: not offered."""
    upload_time: str | None = None
    """When it was published (PEP 700): ISO 8601, UTC, whole seconds; None: not known."""
    yanked: str | None = None
    """None: it is not yanked; else the reason, which may be empty (PEP 592)."""
    url: str = ""
    """Absolute, of a file of another index; empty: ours, in ``packages/``."""
    provenance: str = ""
    """URL of PEP 740's provenance object of a file of another index; empty: it has none there."""

    @classmethod
    def from_wheel(cls, path: Path) -> PublishedFile:
        """Read a wheel's own name, hash and METADATA.

        Raises InputError if it can't be opened, WheelError if it is no wheel or its METADATA disagrees with
        its file name.
        """
        from farm.index.read import read_wheel  # noqa: PLC0415 - that module needs this one

        return read_wheel(path)[0]

    @property
    def path(self) -> str:
        """Where it is below the index's root, as a URL."""
        return f"packages/{self.project}/{quote(self.filename)}"

    @property
    def location(self) -> str:
        """Its URL, relative to its project page if it is ours."""
        return self.url or f"../../{self.path}"

    @property
    def href(self) -> str:
        """Its URL with its hash (PEP 503, F09)."""
        return f"{self.location}#sha256={self.sha256}"

    def provenance_url(self, base_url: str) -> str | None:
        """Return where its provenance is, if it has one.

        PEP 740 wants a whole URL; where the index does not know its own (``base_url`` is empty), it is
        relative to the project page. Another index's files have theirs where that index says.
        """
        if self.url:
            return self.provenance or None
        return f"{base_url or '../../'}{self.path}{PROVENANCE}" if self.has_provenance else None

    @property
    def sort_key(self) -> tuple[Version, tuple[int, str], str]:
        """Order by version, then by build tag, then by name; what has no version comes first."""
        try:
            name = parse_name(self.filename)
        except WheelError:  # an sdist
            return (_orderable(self.version), build_order(""), self.filename)
        return (name.version, build_order(name.build), self.filename)


def _orderable(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:  # an old file of another index
        return _NO_VERSION


@dataclass(frozen=True, slots=True)
class ProjectIndex:
    """A project with its files, in the order of their ``sort_key``."""

    project: NormalizedName
    files: tuple[PublishedFile, ...]
    status: ProjectStatus = ProjectStatus.ACTIVE
    status_reason: str = ""

    @property
    def offered(self) -> tuple[PublishedFile, ...]:
        """What a client may install: nothing of a project that is quarantined (PEP 792)."""
        return () if self.status is ProjectStatus.QUARANTINED else self.files
