"""Verify wheels wherever they are: files, URLs, or what an index has of a project. No farm is needed.

What is downloaded is checked against the sha256 that the index or the URL's fragment states, is limited in
size, and is gone when its verdicts are there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, unquote, urldefrag, urlsplit, urlunsplit

import requests
from packaging.version import Version

from farm.errors import FarmError, InputError, UpstreamError, WheelError
from farm.plan import parse_requirements
from farm.provenance.check import Beside, files_beside
from farm.provenance.names import PROVENANCE
from farm.upstream import Upstream, download, expect_sha256, http_session, is_absent
from farm.verify import Report
from farm.wheel_name import parse_name

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from farm.upstream import UpstreamFile

MOST_BYTES: Final = 2 << 30
MOST_BESIDE: Final = 64 << 20
Judge = Callable[[Path, Beside], Report]
"""Judges a wheel; what lies beside it is read where the wheel came from, and only if it is asked for."""
_FORM: Final = "name a wheel file, a URL that ends with .whl, or --index URL NAME==VERSION"


@dataclass(frozen=True, slots=True)
class RemoteWheel:
    """A wheel that can be downloaded; ``sha256`` is what somebody promised, or None."""

    url: str
    filename: str
    sha256: str | None
    provenance_url: str | None = None
    """Where an index says that its provenance is (PEP 740)."""

    def url_of(self, name: str) -> str:
        """Return where a file is that lies beside the wheel; its name begins with the wheel's."""
        if self.provenance_url and name == self.filename + PROVENANCE:
            return self.provenance_url
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=parts.path + quote(name.removeprefix(self.filename))))


@dataclass(frozen=True, slots=True)
class Unread:
    """A wheel without verdicts: it could not be had."""

    subject: str
    error: FarmError


def verify_all(arguments: Sequence[str], index: str | None, judge: Judge) -> Iterator[Report | Unread]:
    """Judge each wheel in turn; what can't be read or fetched does not keep the rest from being verified.

    With ``index``, a simple index (PEP 503 or 691), the arguments are requirements, and all riscv64 wheels of
    the versions they name are verified; of a bare name, those of the newest version that has any.
    """
    with http_session() as http:
        for argument in arguments:
            try:
                subjects = [*_subjects(argument, index)]
            except FarmError as error:
                yield Unread(argument, error)
                continue
            for subject in subjects:
                try:
                    yield _verified(subject, http, judge)
                except FarmError as error:
                    name = subject.url if isinstance(subject, RemoteWheel) else str(subject)
                    yield Unread(name, error)


def _subjects(argument: str, index: str | None) -> Iterator[Path | RemoteWheel]:
    if index is not None:
        yield from offered(Upstream(index), parse_requirements([argument])[0])
    elif argument.startswith(("https://", "http://")):
        yield remote_wheel(argument)
    else:
        yield Path(argument)


def _verified(subject: Path | RemoteWheel, http: requests.Session, judge: Judge) -> Report:
    if isinstance(subject, Path):
        return judge(subject, files_beside(subject))
    with tempfile.TemporaryDirectory(prefix="farm-verify-") as name:
        folder = Path(name)
        return judge(fetch(subject, http, folder), _beside(subject, http, folder))


def _beside(wheel: RemoteWheel, http: requests.Session, folder: Path) -> Beside:
    """Return what downloads the files beside a wheel; on an index, all that a provenance names is there."""

    def read(name: str) -> bytes | None:
        target, url = folder / name, wheel.url_of(name)
        try:
            download(http, url, target, MOST_BESIDE)
        except UpstreamError as error:
            if not is_absent(error):
                raise
            if name == wheel.filename + PROVENANCE:
                return None
            hint = "who keeps the index must publish the wheel again"
            raise UpstreamError(f"{url}: named by the provenance, and not there", hint=hint) from error
        return target.read_bytes()

    return read


def remote_wheel(url: str) -> RemoteWheel:
    """Read a wheel's URL; a fragment ``#sha256=...`` is what its bytes must have.

    Raises InputError if its last part is not a wheel's file name.
    """
    plain, fragment = urldefrag(url)
    filename = unquote(PurePosixPath(urlsplit(plain).path).name)
    if not filename.endswith(".whl") or "/" in filename or "\\" in filename:
        raise InputError(f"{url}: not the URL of a wheel", hint=_FORM)
    return RemoteWheel(plain, filename, next(iter(parse_qs(fragment).get("sha256", [])), None))


def offered(upstream: Upstream, requirement: Requirement) -> tuple[RemoteWheel, ...]:
    """List the riscv64 wheels that an index has of what is asked for.

    Raises UpstreamError if it has none, or can't be read.
    """
    files = [file for file in upstream.project(requirement.name).files if file.is_wheel and _riscv64(file)]
    if requirement.specifier:
        wanted = [file for file in files if requirement.specifier.contains(file.version, prereleases=True)]
    else:
        newest = max((_rank(file) for file in files), default=None)
        wanted = [file for file in files if _rank(file) == newest]
    if not wanted:
        have = ", ".join(str(version) for version in sorted({file.version for file in files}))
        hint = f"the index has riscv64 wheels of: {have}" if have else "build one: farm dispatch"
        raise UpstreamError(f"{requirement}: no riscv64 wheel", hint=hint)
    return tuple(
        RemoteWheel(urldefrag(file.url).url, file.filename, file.sha256, file.provenance_url)
        for file in wanted
    )


def _rank(file: UpstreamFile) -> tuple[bool, bool, Version]:
    return (not file.yanked, not file.version.is_prerelease, file.version)


def _riscv64(file: UpstreamFile) -> bool:
    try:
        name = parse_name(file.filename)
    except WheelError:
        return False
    return name.is_riscv64


def fetch(wheel: RemoteWheel, http: requests.Session, folder: Path) -> Path:
    """Download a wheel into ``folder``.

    Raises HashMismatchError for other bytes than promised, UpstreamError if it can't be had whole or is
    larger than 2 GiB.
    """
    target = folder / wheel.filename
    actual = download(http, wheel.url, target, MOST_BYTES)
    if wheel.sha256 is not None:
        expect_sha256(wheel.filename, wheel.sha256.lower(), actual)
    return target
