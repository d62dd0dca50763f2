"""What the upstream index (PyPI) offers: files, versions, hashes; and the one download of an sdist.

This, :mod:`farm.index.crawl` and :mod:`farm.index.upstream_pages` are the only modules that speak HTTP;
others download by :func:`download`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from farm.errors import HashMismatchError, UpstreamError
from farm.recipe import SourceArchive

if TYPE_CHECKING:
    # 13 MiB, which who has all files already can do without: it is imported where it is used.
    import requests
    from pypi_simple import DistributionPackage, PyPISimple

PYPI: Final = "https://pypi.org/simple/"
TIMEOUT_S: Final = 60
_ABSENT: Final = frozenset({404, 410})
_CHUNK: Final = 1 << 20
_NO_SDISTS: Final[Mapping[str, SourceArchive]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UpstreamFile:
    """One file that the upstream index offers."""

    filename: str
    version: Version
    url: str
    sha256: str | None
    requires_python: str | None
    yanked: bool
    is_wheel: bool
    provenance_url: str | None = None
    """Where the page says that its provenance is (PEP 740)."""


@dataclass(frozen=True, slots=True)
class UpstreamProject:
    """A project (PEP 503 normalised name) and all its files whose names can be understood."""

    name: str
    files: tuple[UpstreamFile, ...]

    def with_sdists(self, sdists: Mapping[str, SourceArchive]) -> UpstreamProject:
        """Return it with the sdists that a recipe names, by version; they replace upstream's own."""
        own = {Version(version): archive for version, archive in sdists.items()}
        kept = (file for file in self.files if file.is_wheel or file.version not in own)
        added = (
            UpstreamFile(
                archive.filename, version, archive.url, archive.sha256, None, yanked=False, is_wheel=False
            )
            for version, archive in own.items()
        )
        return UpstreamProject(self.name, (*kept, *added))


class Upstream:
    """A client of an index that speaks the simple API (PEP 503 or 691)."""

    def __init__(self, endpoint: str = PYPI) -> None:
        self.endpoint = endpoint.rstrip("/") + "/"
        """Its ``/simple/`` URL."""

    @cached_property
    def _http(self) -> requests.Session:
        return http_session()

    @cached_property
    def _simple(self) -> PyPISimple:
        from pypi_simple import PyPISimple  # noqa: PLC0415

        return PyPISimple(endpoint=self.endpoint, session=self._http)

    def project(self, name: str, sdists: Mapping[str, SourceArchive] = _NO_SDISTS) -> UpstreamProject:
        """Return what the index offers of ``name``, with the ``sdists`` of its recipe in place of its own.

        Raises:
            UpstreamError: there is no such project, or the index can't be reached.
        """
        import requests  # noqa: PLC0415
        from pypi_simple import (  # noqa: PLC0415
            NoSuchProjectError,
            UnsupportedContentTypeError,
            UnsupportedRepoVersionError,
        )

        normalised = canonicalize_name(name)
        try:
            page = self._simple.get_project_page(normalised, timeout=TIMEOUT_S)
        except NoSuchProjectError as error:
            raise UpstreamError(
                f"{name}: no such project on {self.endpoint}", hint="check the spelling"
            ) from error
        except (requests.RequestException, UnsupportedContentTypeError, UnsupportedRepoVersionError) as error:
            raise UpstreamError(
                f"{name}: the index {self.endpoint} can't be read: {error}",
                hint="check the network; what runs on the boards goes on meanwhile",
            ) from error
        base = self._simple.get_project_url(normalised)
        files = (_understood(package, base) for package in page.packages)
        offered = UpstreamProject(normalised, tuple(file for file in files if file is not None))
        return offered.with_sdists(sdists)

    def fetch_sdist(
        self,
        name: str,
        version: Version,
        directory: Path,
        sdists: Mapping[str, SourceArchive] = _NO_SDISTS,
    ) -> Path:
        """Download the sdist of a version into ``directory``, checked by its sha256; see ``project``.

        Raises:
            UpstreamError: the index has no sdist of it, or promises no sha256, or can't be read.
            HashMismatchError: the bytes are not the promised ones.
        """
        for file in self.project(name, sdists).files:
            if file.version == version and not file.is_wheel and file.sha256 is not None:
                return self.fetch(file.url, file.filename, file.sha256, directory)
        raise UpstreamError(
            f"{self.endpoint} has no sdist of {name} {version} with a sha256",
            hint="name an index that has it",
        )

    def fetch(self, url: str, filename: str, sha256: str, directory: Path) -> Path:
        """Download a file into ``directory`` unless it is there, and return its path.

        The bytes are checked against ``sha256`` before the file gets its name.

        Raises:
            HashMismatchError: the bytes are not the promised ones; nothing is kept.
            UpstreamError: the download failed.
        """
        target = directory / sha256 / filename
        if target.exists() and sha256_of(target) == sha256:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file_object:
            partial = Path(file_object.name)
        try:
            expect_sha256(filename, sha256, download(self._http, url, partial))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target


def http_session(tries: int = 4) -> requests.Session:
    """Return a session that asks again, ``tries`` times, where a server says that it is busy or broken."""
    import requests  # noqa: PLC0415
    from requests.adapters import HTTPAdapter  # noqa: PLC0415
    from urllib3.util import Retry  # noqa: PLC0415

    retry = Retry(total=tries, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def download(http: requests.Session, url: str, target: Path, most_bytes: int | None = None) -> str:
    """Write what ``url`` has into ``target`` and return its sha256.

    Raises:
        UpstreamError: it can't be had whole, or has more than ``most_bytes``.
    """
    digest, size = hashlib.sha256(), 0
    try:
        # "identity": some servers call a .tar.gz gzip-encoded, and requests would then unpack it.
        plain = {"Accept-Encoding": "identity"}
        with (
            http.get(url, stream=True, timeout=TIMEOUT_S, headers=plain) as response,
            target.open("wb") as out,
        ):
            response.raise_for_status()
            for chunk in response.iter_content(_CHUNK):
                size += len(chunk)
                if most_bytes is not None and size > most_bytes:
                    raise UpstreamError(
                        f"{url}: more than {most_bytes >> 20} MiB",
                        hint="that is not what it should be",
                    )
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:  # requests' own errors are OSErrors; so is a full disk
        raise UpstreamError(
            f"{url}: {error}", hint="check the network and the disk, then run it again"
        ) from error
    return digest.hexdigest()


def is_absent(error: UpstreamError) -> bool:
    """Tell whether a download failed because the server has no such file."""
    import requests  # noqa: PLC0415

    cause = error.__cause__
    return isinstance(cause, requests.HTTPError) and cause.response.status_code in _ABSENT


def expect_sha256(what: str, expected: str, actual: str) -> None:
    """Raise HashMismatchError if bytes are not the promised ones."""
    if actual != expected:
        hint = "the index, or a proxy in between, sent other bytes; try again, then report it upstream"
        raise HashMismatchError(what, expected=expected, actual=actual, hint=hint)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _understood(package: DistributionPackage, page: str) -> UpstreamFile | None:
    """Return the file, or None for what is no wheel or sdist of PEP 427/625 (eggs, installers, odd names)."""
    name = package.filename
    try:
        if name.endswith(".whl"):
            version = parse_wheel_filename(name)[1]
        elif name.endswith((".tar.gz", ".zip")):
            version = parse_sdist_filename(name)[1]
        else:
            return None
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    return UpstreamFile(
        filename=name,
        version=version,
        url=package.url,
        sha256=package.digests.get("sha256"),
        requires_python=package.requires_python,
        yanked=package.is_yanked,
        is_wheel=name.endswith(".whl"),
        provenance_url=urljoin(page, package.provenance_url) if package.provenance_url else None,
    )
