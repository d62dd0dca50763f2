"""Read a published index as a client does and check every promise it makes (F09, F15)."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote, urldefrag, urljoin, urlsplit

import requests
from packaging.utils import canonicalize_name
from pypi_simple import (
    DistributionPackage,
    IndexPage,
    ProjectPage,
    RepositoryPage,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)

from farm.errors import FarmError, InputError
from farm.index.listing import METADATA
from farm.index.model import ProjectStatus
from farm.index.read import read_metadata
from farm.provenance.check import check_provenance
from farm.provenance.dsse import read_public_keys
from farm.provenance.names import PUBLIC_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_TIMEOUT: Final = 30.0
_CHUNK: Final = 1 << 20
_LONGEST: Final = 32 << 20
HTML: Final = "text/html"
JSON: Final = "application/vnd.pypi.simple.v1+json"
_UNREADABLE: Final = (
    UnsupportedRepoVersionError,
    UnsupportedContentTypeError,
    ValueError,
    KeyError,
    TypeError,
)
_NO_ROOT: Final = "give the address of an index's list of projects, which mostly ends with /simple/"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something the index promises and does not keep."""

    url: str
    cause: str


@dataclass(frozen=True, slots=True)
class CrawlResult:
    """What a crawl saw: pages read, bytes downloaded, each good file's sha256, and the problems."""

    pages: int
    size: int
    files: Mapping[str, str]
    """Files that were downloaded and are what their page says, by name."""
    problems: tuple[Problem, ...]
    elsewhere: frozenset[str] = frozenset()
    """Files of merged pages that another host serves: their links have a hash, and were not followed."""

    @property
    def ok(self) -> bool:
        """True when every promise held."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class _Link:
    """What a page says of one file, in the form that HTML and JSON share."""

    filename: str
    url: str
    sha256: str | None
    requires_python: str | None
    yanked: str | None
    metadata_sha256: str | None
    provenance: str | None
    size: int | None
    upload_time: str | None

    @classmethod
    def of(cls, package: DistributionPackage, page: str, attributes: Mapping[str, Any]) -> _Link:
        """Read a link; in HTML, size and upload time are ``attributes`` outside of the standard."""
        yanked = (package.yanked_reason or "") if package.is_yanked else None
        uploaded = (
            package.upload_time.isoformat() if package.upload_time else attributes.get("data-upload-time")
        )
        size = package.size if package.size is not None else attributes.get("data-size")
        return cls(
            filename=package.filename,
            url=urldefrag(package.url).url,
            sha256=package.digests.get("sha256"),
            requires_python=package.requires_python,
            yanked=yanked,
            metadata_sha256=(package.metadata_digests or {}).get("sha256"),
            provenance=urljoin(page, package.provenance_url) if package.provenance_url else None,
            size=None if size is None else int(size),
            upload_time=None if uploaded is None else uploaded.replace("+00:00", "Z"),
        )


@dataclass(slots=True)
class _Crawl:
    session: requests.Session
    fetch: Collection[str] | None
    pages: int = 0
    size: int = 0
    files: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    elsewhere: set[str] = field(default_factory=set)
    keys: tuple[Ed25519PublicKey, ...] | None = None

    def problem(self, url: str, cause: str) -> None:
        self.problems.append(Problem(url, cause))

    # -- pages -----------------------------------------------------------------------------------------

    def page(self, url: str, accept: str) -> requests.Response | None:
        """Return a page, compressed where the server has it so; it must be the same uncompressed."""
        try:
            response = self.session.get(url, timeout=_TIMEOUT, headers={"Accept": accept})
            response.raise_for_status()
            if "gzip" in response.headers.get("Content-Encoding", ""):
                headers = {"Accept": accept, "Accept-Encoding": "identity"}
                plain = self.session.get(response.url, timeout=_TIMEOUT, headers=headers)
                plain.raise_for_status()
                if plain.content != response.content:
                    self.problem(url, "its compressed form is of another page")
        except requests.RequestException as error:
            self.problem(url, _cause(error))
            return None
        self.pages += 1
        return response

    def json_page(self, url: str) -> requests.Response | None:
        """Return a page as JSON, by content negotiation or as the file that it is; None if there is none."""
        response = self.page(url, JSON)
        if response is None or _is_json(response):
            return response
        self.pages -= 1  # it is the HTML once more
        try:
            beside = self.session.get(urljoin(url, "index.json"), timeout=_TIMEOUT)
        except requests.RequestException as error:
            self.problem(urljoin(url, "index.json"), _cause(error))
            return None
        if not beside.ok:
            return None
        self.pages += 1
        return beside

    def projects(self, url: str) -> set[str]:
        """Return the projects that the root lists, in both forms alike."""
        response = self.page(url, HTML)
        if response is None:
            return set()
        as_json = self.json_page(url)
        try:
            root = IndexPage.from_html(response.content)
            names = root.projects
            if not names and root.repository_version is None:
                self.problem(url, f"lists no project: {_NO_ROOT}")
            if as_json is not None and IndexPage.from_json_data(as_json.json()).projects != names:
                self.problem(url, "HTML and JSON list other projects")
        except _UNREADABLE as error:
            self.problem(url, f"unreadable page: {_first_line(error)}: {_NO_ROOT}")
            return set()
        for name in names:
            if name != canonicalize_name(name):
                self.problem(url, f"{name} is not a normalised name")
        return {str(canonicalize_name(name)) for name in names}

    def project(self, base: str, project: str) -> None:
        url = urljoin(base, f"{project}/")
        response = self.page(url, HTML)
        if response is None:
            return
        as_json = self.json_page(url)
        try:
            links = _html_links(project, response)
            status = ProjectStatus.ACTIVE.value
            if as_json is not None:
                status = self.compare(url, project, links, as_json)
        except _UNREADABLE as error:
            self.problem(url, f"unreadable page: {_first_line(error)}")
            return
        if not links and status != ProjectStatus.QUARANTINED:
            self.problem(url, "lists no file")
        for link in links:
            self.file(url, link)
            # Upstream's provenance is for upstream's keys, as its files are for upstream to serve.
            theirs = link.filename in self.elsewhere
            if link.provenance is not None and link.sha256 is not None and not theirs:
                self.provenance(base, url, link, link.provenance)

    def compare(self, url: str, project: str, links: list[_Link], response: requests.Response) -> str:
        """Compare a page's HTML with its JSON; return the project's status. Raises ValueError and others."""
        data: dict[str, Any] = response.json()
        page = ProjectPage.from_json_data(data, url)
        if canonicalize_name(page.project) != project:
            self.problem(url, f"its JSON is of {page.project}")
        in_json = [_Link.of(package, url, {}) for package in page.packages]
        if [link.filename for link in links] != [link.filename for link in in_json]:
            self.problem(url, "HTML and JSON list other files")
        by_name = {link.filename: link for link in in_json}
        for link in links:
            other = by_name.get(link.filename, link)
            if other.provenance is None:  # an index that does not know its address has none in JSON
                other = replace(other, provenance=link.provenance)
            if link != other:
                fields = [name for name in _Link.__slots__ if getattr(link, name) != getattr(other, name)]
                self.problem(url, f"HTML and JSON differ in {', '.join(fields)} of {link.filename}")
        stated = {package.version for package in page.packages if package.version}
        if page.versions is not None and not stated <= set(page.versions):
            self.problem(url, f"its versions lack {', '.join(sorted(stated - set(page.versions)))}")
        if any("dist-info-metadata" in entry for entry in data["files"]):
            self.problem(url, "its JSON has dist-info-metadata, which some clients misread (PEP 714)")
        return str(data.get("project-status", {}).get("status", ProjectStatus.ACTIVE.value))

    # -- files -----------------------------------------------------------------------------------------

    def file(self, page: str, link: _Link) -> None:
        if link.sha256 is None:
            self.problem(page, f"{link.filename} has no sha256")
        elif urlsplit(link.url)[:2] != urlsplit(page)[:2]:
            # Upstream's, on a merged page: its hash is promised here, its bytes are for upstream to serve.
            self.elsewhere.add(link.filename)
        elif self.fetch is None or link.filename in self.fetch:
            self.whole_file(page, link)
        else:
            self.glance(link)

    def whole_file(self, page: str, link: _Link) -> None:
        """Download a file, and check hash, size and the METADATA that lies beside it."""
        with tempfile.TemporaryFile() as content:
            try:
                actual, size = self.download(link.url, content)
                if actual != link.sha256:
                    self.problem(link.url, f"sha256 is {actual}, the page says {link.sha256}")
                    return
                if link.size not in {None, size}:
                    self.problem(link.url, f"its size is {size}, the page says {link.size}")
                    return
                self.files[link.filename] = actual
                if link.metadata_sha256 is not None:
                    self.metadata(link, content)
            except requests.RequestException as error:
                self.problem(_asked(error, link.url), _cause(error))
            except FarmError as error:
                self.problem(page, error.message)

    def metadata(self, link: _Link, content: IO[bytes]) -> None:
        """Check PEP 658's file: its hash, and that it is what the wheel has inside, byte for byte."""
        url = f"{link.url}{METADATA}"
        beside = self.content(url)
        if hashlib.sha256(beside).hexdigest() != link.metadata_sha256:
            self.problem(url, f"its sha256 is not {link.metadata_sha256}, which the page says")
        content.seek(0)
        if read_metadata(link.filename, content) != beside:
            self.problem(url, "is not the METADATA of the wheel")

    def glance(self, link: _Link) -> None:
        """Look whether a file is there that never changes and was read before."""
        try:
            response = self.session.head(link.url, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"})
            response.raise_for_status()
        except requests.RequestException as error:
            self.problem(link.url, _cause(error))
            return
        size = response.headers.get("Content-Length")
        if link.size is not None and size is not None and int(size) != link.size:
            self.problem(link.url, f"its size is {size}, the page says {link.size}")

    def provenance(self, base: str, page: str, link: _Link, url: str) -> None:
        """Check PEP 740's provenance, and the files beside the wheel whose hashes it names."""
        if urlsplit(url)[:2] != urlsplit(page)[:2]:
            self.problem(page, f"the provenance of {link.filename} is on another host: {url}")
            return
        try:
            if self.keys is None:
                keys = urljoin(base, f"../{PUBLIC_KEYS}")
                self.keys = read_public_keys(self.content(keys), keys)
            found = check_provenance(self.content(url), link.filename, link.sha256 or "", self.keys)
            for name, expected in found.beside.items():
                with tempfile.TemporaryFile() as nowhere:
                    actual, _ = self.download(urljoin(url, quote(name)), nowhere)
                if actual != expected:
                    self.problem(url, f"sha256 of {name} is {actual}, the provenance says {expected}")
        except requests.RequestException as error:
            self.problem(_asked(error, url), _cause(error))
        except FarmError as error:
            self.problem(url, error.message)

    def content(self, url: str) -> bytes:
        data = b""
        with self.session.get(url, timeout=_TIMEOUT, stream=True) as response:
            response.raise_for_status()
            for piece in response.iter_content(_CHUNK):
                data += piece
                if len(data) > _LONGEST:
                    raise InputError(f"{url}: longer than {_LONGEST >> 20} MiB")
        self.size += len(data)
        return data

    def download(self, url: str, out: IO[bytes]) -> tuple[str, int]:
        """Write what a URL has; return its sha256 and size."""
        digest, size = hashlib.sha256(), 0
        with self.session.get(url, timeout=_TIMEOUT, stream=True) as response:
            response.raise_for_status()
            for piece in response.iter_content(_CHUNK):
                digest.update(piece)
                out.write(piece)
                size += len(piece)
        self.size += size
        return digest.hexdigest(), size


def _is_json(response: requests.Response) -> bool:
    return response.headers.get("Content-Type", "").partition(";")[0] in {JSON, "application/json"}


def _html_links(project: str, response: requests.Response) -> list[_Link]:
    links = RepositoryPage.from_html(response.content, response.url).links
    packages = [DistributionPackage.from_link(link, project) for link in links]
    return [
        _Link.of(package, response.url, link.attrs) for package, link in zip(packages, links, strict=True)
    ]


def _cause(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    return f"can't be read ({type(error).__name__})"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _asked(error: requests.RequestException, url: str) -> str:
    return error.request.url if error.request and error.request.url else url


def crawl(
    url: str,
    projects: Iterable[str] | None,
    get: requests.Session,
    *,
    expected: Mapping[str, str] | None = None,
    fetch: Collection[str] | None = None,
) -> CrawlResult:
    """Read an index's pages and files and check that each link resolves to the bytes it promises.

    HTML is compared with JSON, a compressed page with the plain one, what lies beside a wheel with the wheel.

    Args:
        url: the index's (``…/simple/``).
        projects: limits the crawl; None: all it lists.
        get: asks.
        expected: the sha256 that was published by file name; each must be seen (F15).
        fetch: names of the files to download; of others, which never change and were read before, only
            presence and size are checked. None: all.
    """
    base = url.rstrip("/") + "/"
    state = _Crawl(get, fetch)
    listed = state.projects(base)
    wanted = listed if projects is None else {str(canonicalize_name(p)) for p in projects}
    for project in sorted(wanted):
        if project in listed:
            state.project(base, project)
        elif state.pages:
            state.problem(base, f"{project} is not listed")
    for filename, sha256 in sorted((expected or {}).items()):
        seen = state.files.get(filename)
        if seen != sha256:
            state.problem(
                base, f"{filename}: published {sha256[:12]}, served {seen[:12] if seen else 'nothing'}"
            )
    return CrawlResult(
        state.pages, state.size, dict(state.files), tuple(state.problems), frozenset(state.elsewhere)
    )
