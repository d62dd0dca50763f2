"""Read a published index as a client does and check every promise it makes (F09, F15)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urldefrag, urljoin, urlsplit

import requests
from packaging.utils import canonicalize_name
from pypi_simple import IndexPage, ProjectPage, UnsupportedRepoVersionError

from farm.errors import FarmError, InputError
from farm.provenance.check import check_provenance
from farm.provenance.dsse import read_public_keys
from farm.provenance.names import PUBLIC_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_TIMEOUT = 30.0
_CHUNK = 1 << 20
_LONGEST = 32 << 20


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
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """True when every promise held."""
        return not self.problems


@dataclass(slots=True)
class _Crawl:
    session: requests.Session
    pages: int = 0
    size: int = 0
    files: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    keys: tuple[Ed25519PublicKey, ...] | None = None

    def problem(self, url: str, cause: str) -> None:
        self.problems.append(Problem(url, cause))

    def page(self, url: str) -> requests.Response | None:
        try:
            response = self.session.get(url, timeout=_TIMEOUT, headers={"Accept": "text/html"})
            response.raise_for_status()
        except requests.RequestException as error:
            self.problem(url, _cause(error))
            return None
        self.pages += 1
        return response

    def projects(self, url: str) -> set[str]:
        response = self.page(url)
        if response is None:
            return set()
        try:
            names = IndexPage.from_html(response.content).projects
        except (UnsupportedRepoVersionError, ValueError) as error:
            self.problem(url, f"unreadable page: {error}")
            return set()
        for name in names:
            if name != canonicalize_name(name):
                self.problem(url, f"{name} is not a normalised name")
        return {str(canonicalize_name(name)) for name in names}

    def project(self, base: str, project: str) -> None:
        url = urljoin(base, f"{project}/")
        response = self.page(url)
        if response is None:
            return
        try:
            packages = ProjectPage.from_html(project, response.content, response.url).packages
        except (UnsupportedRepoVersionError, ValueError) as error:
            self.problem(url, f"unreadable page: {error}")
            return
        if not packages:
            self.problem(url, "lists no file")
        for package in packages:
            sha256 = package.digests.get("sha256")
            self.file(url, package.filename, package.url, sha256)
            if package.provenance_url is not None and sha256 is not None:
                where = urljoin(url, package.provenance_url)
                self.provenance(base, url, package.filename, sha256, where)

    def file(self, page: str, filename: str, url: str, sha256: str | None) -> None:
        if urlsplit(url)[:2] != urlsplit(page)[:2]:
            self.problem(page, f"{filename} is on another host: {url}")
            return
        if sha256 is None:
            self.problem(page, f"{filename} has no sha256")
            return
        try:
            actual = self.download(urldefrag(url).url)
        except requests.RequestException as error:
            self.problem(url, _cause(error))
            return
        if actual != sha256:
            self.problem(url, f"sha256 is {actual}, the page says {sha256}")
        else:
            self.files[filename] = actual

    def provenance(self, base: str, page: str, filename: str, sha256: str, url: str) -> None:
        """Check PEP 740's provenance, and the files beside the wheel whose hashes it names."""
        if urlsplit(url)[:2] != urlsplit(page)[:2]:
            self.problem(page, f"the provenance of {filename} is on another host: {url}")
            return
        try:
            if self.keys is None:
                keys = urljoin(base, f"../{PUBLIC_KEYS}")
                self.keys = read_public_keys(self.content(keys), keys)
            found = check_provenance(self.content(url), filename, sha256, self.keys)
            for name, expected in found.beside.items():
                actual = self.download(urljoin(url, quote(name)))
                if actual != expected:
                    self.problem(url, f"sha256 of {name} is {actual}, the provenance says {expected}")
        except requests.RequestException as error:
            self.problem(error.request.url if error.request and error.request.url else url, _cause(error))
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

    def download(self, url: str) -> str:
        digest = hashlib.sha256()
        with self.session.get(url, timeout=_TIMEOUT, stream=True) as response:
            response.raise_for_status()
            for piece in response.iter_content(_CHUNK):
                digest.update(piece)
                self.size += len(piece)
        return digest.hexdigest()


def _cause(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    return f"can't be read ({type(error).__name__})"


def crawl(
    url: str,
    projects: Iterable[str] | None,
    get: requests.Session,
    *,
    expected: Mapping[str, str] | None = None,
) -> CrawlResult:
    """Download an index's pages and files and check that each link resolves to the bytes it promises.

    ``url`` is the index's (``…/simple/``); ``projects`` limits the crawl (None: all it lists); ``expected``
    maps file names to the sha256 that was published, and each must be seen (F15).
    """
    base = url.rstrip("/") + "/"
    state = _Crawl(get)
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
    return CrawlResult(state.pages, state.size, dict(state.files), tuple(state.problems))
