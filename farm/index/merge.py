"""One page for a hosted project: our files, and upstream's other ones as absolute URLs (pure).

Without it, an ``--index-url`` that has a project would hide all that upstream has of it: sdists, wheels for
other machines, newer versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urldefrag, urljoin, urlsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion

from farm.errors import UpstreamError
from farm.index.model import ProjectIndex, ProjectStatus, PublishedFile

KEPT: Final = "_wheel-farm"
"""Where a kept page has what the farm noted of it. PEP 691 leaves such keys to whoever writes them."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
# What pip and uv still install: PEP 625's sdists, and those of before.
_SDISTS: Final = (".tar.gz", ".zip", ".tar.bz2")
_HINT: Final = "it must speak the Simple API 1.1 in JSON (PEP 691, 700), as pypi.org does"


@dataclass(frozen=True, slots=True)
class UpstreamPage:
    """What upstream offers of a project, as far as an installer can use it."""

    project: NormalizedName
    files: tuple[PublishedFile, ...] = ()
    status: ProjectStatus = ProjectStatus.ACTIVE
    status_reason: str = ""

    @property
    def says_something(self) -> bool:
        """Whether it changes anything for who asks us."""
        return bool(self.files) or self.status is not ProjectStatus.ACTIVE


def merge(ours: ProjectIndex, theirs: UpstreamPage) -> ProjectIndex:
    """Return our files and theirs; where both have a file name, ours is the one.

    Upstream's status is carried where we have said nothing ourselves. One that upstream put into quarantine
    is in quarantine here, too (PEP 792): our wheels were built from its sources.
    """
    if ours.project != theirs.project:
        raise ValueError(f"{ours.project} can't be merged with {theirs.project}")
    own = {file.filename for file in ours.files}
    files = [*ours.files, *(file for file in theirs.files if file.filename not in own)]
    status, reason = ours.status, ours.status_reason
    if theirs.status is ProjectStatus.QUARANTINED and status is not ProjectStatus.QUARANTINED:
        status, reason = theirs.status, f"upstream: {theirs.status_reason or 'no reason given'}"
    elif status is ProjectStatus.ACTIVE and theirs.status is not ProjectStatus.ACTIVE:
        status, reason = theirs.status, theirs.status_reason
    return ProjectIndex(ours.project, tuple(sorted(files, key=lambda file: file.sort_key)), status, reason)


def is_private(project: str, patterns: Iterable[str]) -> bool:
    """Whether upstream must not be asked of a project: the index host's ``index_server_private_names``.

    Who registered such a name there would be believed. ``*`` stands for any part of a normalised name.
    """
    return any(_pattern(pattern).fullmatch(canonicalize_name(project)) for pattern in patterns)


def _pattern(text: str) -> re.Pattern[str]:
    name = re.sub(r"[-_.]+", "-", text.lower())
    return re.compile("[a-z0-9-]*".join(re.escape(part) for part in name.split("*")))


def read_page(project: str, content: bytes, url: str) -> UpstreamPage:
    """Read a project's page in JSON. ``url`` is where it came from; links may be relative to it.

    Files that no installer takes (eggs, names of other projects), that have no sha256 or size, or whose URL
    is not of the web, are left out.

    Raises:
        UpstreamError: it is not such a page, or another project's.
    """
    name = canonicalize_name(project)
    try:
        page = json.loads(content)
        if canonicalize_name(page["name"]) != name:
            raise UpstreamError(f"{url}: the page is of {page['name']!r}, not of {name}", hint=_HINT)
        said = page.get("project-status", {})
        status = ProjectStatus(said.get("status", "active"))
        files = tuple(file for entry in page["files"] if (file := _file(name, entry, url)) is not None)
        reason = said.get("reason") or ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UpstreamError(f"{url}: not a page of the Simple API ({error})", hint=_HINT) from error
    return UpstreamPage(name, files, status, str(reason))


def _file(project: NormalizedName, entry: Mapping[str, object], page: str) -> PublishedFile | None:
    filename, hashes, size = entry["filename"], entry["hashes"], entry.get("size")
    if not isinstance(filename, str) or not isinstance(hashes, dict):
        raise TypeError("a file without name or hashes")
    version, sha256 = _version(project, filename), hashes.get("sha256")
    url = _web(page, str(entry["url"]))
    if version is None or url is None or not _is_sha256(sha256) or not isinstance(size, int) or size < 0:
        return None
    metadata, provenance = entry.get("core-metadata"), _text(entry.get("provenance"))
    metadata_sha256 = metadata.get("sha256") if isinstance(metadata, dict) else None
    return PublishedFile(
        filename=filename,
        project=project,
        version=version,
        sha256=str(sha256),
        size=size,
        requires_python=_text(entry.get("requires-python")),
        metadata_sha256=metadata_sha256 if _is_sha256(metadata_sha256) else None,
        upload_time=_text(entry.get("upload-time")),
        yanked=_yanked(entry.get("yanked", False)),
        url=url,
        provenance=_web(page, provenance) or "" if provenance else "",
    )


def _version(project: NormalizedName, filename: str) -> str | None:
    """Return the version of a wheel or sdist of this project; None for anything else."""
    try:
        if filename.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(filename)
        else:
            (end,) = [end for end in _SDISTS if filename.endswith(end)]
            name, version = parse_sdist_filename(filename.removesuffix(end) + ".tar.gz")
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion, ValueError):
        return None
    return str(version) if name == project else None


def _web(page: str, link: str) -> str | None:
    try:
        url = urldefrag(urljoin(page, link)).url
        parts = urlsplit(url)
    except ValueError:  # "http://[": no address at all
        return None
    return url if parts.scheme in {"http", "https"} and parts.hostname else None


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _yanked(value: object) -> str | None:
    """Return PEP 592's reason; JSON has `true`, a reason or `false`."""
    if isinstance(value, str):
        return value
    return "" if value else None
