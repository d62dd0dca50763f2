"""What upstream (PyPI) last said of each hosted project: asked conditionally, kept in ``upstream/``.

``upstream/<project>.json`` is upstream's own page (PEP 691) with one key more,
:data:`farm.index.merge.KEPT`, for its address and ETag. It is never served.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import local
from typing import Final

import requests
from packaging.utils import canonicalize_name

from farm.errors import InputError, UpstreamError
from farm.files import write_file
from farm.index.merge import KEPT, UpstreamPage, read_page
from farm.upstream import http_session

JSON: Final = "application/vnd.pypi.simple.v1+json"
TIMEOUT_S: Final = (10, 30)
"""To connect, and between two pieces of an answer."""
MOST_BYTES: Final = 64 << 20
"""The largest pages of PyPI have 10 MB."""
_AT_ONCE: Final = 8
_CHUNK: Final = 1 << 16


class Answer(StrEnum):
    """What upstream said when it was asked."""

    NEW = "new"
    SAME = "same"
    NOTHING = "nothing"
    """It has no such project."""
    FAILED = "failed"
    """What was known is kept."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One project, and what came of asking for it; ``cause`` says why it failed."""

    project: str
    answer: Answer
    cause: str = ""


@dataclass(frozen=True, slots=True)
class UpstreamPages:
    """The kept pages, in ``folder``."""

    folder: Path

    def path(self, project: str) -> Path:
        """Where the page of a project (PEP 503 normalised) is kept."""
        return self.folder / f"{project}.json"

    def projects(self) -> list[str]:
        """Return the projects of which a page is kept."""
        return sorted(path.stem for path in self.folder.glob("*.json") if not path.name.startswith("."))

    def read(self, project: str) -> UpstreamPage:
        """Return what upstream last offered; an empty page if it offered nothing or was never asked.

        Raises:
            InputError: the kept page can't be read.
        """
        path = self.path(project)
        try:
            content = path.read_bytes()
            return read_page(project, content, str(json.loads(content)[KEPT]["url"]))
        except FileNotFoundError:
            return UpstreamPage(canonicalize_name(project))
        except (OSError, ValueError, KeyError, TypeError, RecursionError, UpstreamError) as error:
            raise InputError(
                f"{path}: not what the farm kept ({error})",
                hint="remove it; `farm index refresh` fetches it again",
            ) from error

    def forget(self, project: str) -> None:
        """Drop what is known of a project."""
        self.path(project).unlink(missing_ok=True)

    def ask(self, projects: Iterable[str], endpoint: str, tries: int = 3) -> list[Asked]:
        """Ask upstream for each project, a few at a time, and keep what it says.

        ``endpoint`` is the ``/simple/`` URL of an index. Nothing is raised for what a network or an upstream
        can do; each project's fate is in the list, in the order asked for.
        """
        sessions = local()

        def one(project: str) -> Asked:
            if not hasattr(sessions, "session"):
                sessions.session = http_session(tries)
            try:
                return Asked(project, self._ask(project, endpoint, sessions.session))
            except UpstreamError as error:
                return Asked(project, Answer.FAILED, error.message)
            # requests' errors are OSErrors; so is a full disk.
            except OSError as error:
                return Asked(project, Answer.FAILED, f"{type(error).__name__}: {error}")

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(one, projects))

    def _ask(self, project: str, endpoint: str, session: requests.Session) -> Answer:
        url = f"{endpoint.rstrip('/')}/{project}/"
        headers = {"Accept": JSON, **self._condition(project, url)}
        with session.get(url, headers=headers, timeout=TIMEOUT_S, stream=True) as response:
            if response.status_code == requests.codes.not_modified:
                return Answer.SAME
            if response.status_code == requests.codes.not_found:
                was_known = self.path(project).exists()
                self.forget(project)
                return Answer.NOTHING if was_known else Answer.SAME
            response.raise_for_status()
            content = _body(response)
        read_page(project, content, response.url)
        page = json.loads(content)
        page[KEPT] = {"asked": url, "url": response.url, "etag": response.headers.get("ETag", "")}
        data = json.dumps(page, separators=(",", ":"), sort_keys=True).encode()
        if self.path(project).exists() and self.path(project).read_bytes() == data:
            return Answer.SAME
        write_file(self.path(project), data)
        return Answer.NEW

    def _condition(self, project: str, url: str) -> dict[str, str]:
        """Return the header that asks for a page only if it is another than the one that is kept."""
        try:
            kept = json.loads(self.path(project).read_bytes())[KEPT]
            return {"If-None-Match": str(kept["etag"])} if kept["etag"] and kept["asked"] == url else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}  # nothing is kept, or nothing that can be read: all of it is asked for


def _body(response: requests.Response) -> bytes:
    content = bytearray()
    for chunk in response.iter_content(_CHUNK):
        content += chunk
        if len(content) > MOST_BYTES:
            raise UpstreamError(
                f"{response.url}: more than {MOST_BYTES >> 20} MiB", hint="that is no project's page"
            )
    return bytes(content)
