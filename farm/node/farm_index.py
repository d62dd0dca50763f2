"""The farm's own index, as the Python of a build on this board can use it.

uv gets a view of it, a local simple index (PEP 503), and not its address. Of two indexes that both list a
version, uv knows the files of the first only: a version that the farm has built for another Python, and not
for this one, could not be had from PyPI any more. In the view is only what this Python can install.
"""

from __future__ import annotations

import hashlib
import html
import itertools
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

from farm.node.failure import StepError

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

TIMEOUT_S = 10
# Not there; or the index sends who asks for it to PyPI, by way of which nothing is the farm's.
ELSEWHERE = frozenset({301, 302, 303, 307, 308, 404})
# Not html.parser: pages of an index are simple, there are many, and a virtual board is slow.
ANCHOR = re.compile(r"""<a\s((?:[^>"']|"[^"]*"|'[^']*')*)>([^<]*)</a>""", re.IGNORECASE)
ATTRIBUTE = re.compile(r"""([a-z0-9-]+)(?:\s*=\s*("[^"]*"|'[^']*'))?""", re.IGNORECASE)
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class NoAnswerError(Exception):
    """The index did not give a page; ``status`` is HTTP's, if there was one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Link:
    """An anchor of a page: its text, the page's address, and what is written in the tag."""

    text: str
    page: str
    tag: str

    @cached_property
    def attributes(self) -> dict[str, str | None]:
        """The tag's attributes, by name."""
        found = ATTRIBUTE.findall(self.tag)
        return {name.lower(): html.unescape(value[1:-1]) if value else None for name, value in found}

    @cached_property
    def url(self) -> str:
        """Where it leads to."""
        return urljoin(self.page, self.attributes.get("href") or "")

    @property
    def sha256(self) -> str:
        """The hash that the page promises, or an empty text."""
        return urldefrag(self.url).fragment.removeprefix("sha256=")

    def to_html(self) -> str:
        """Return the anchor, with an absolute URL."""
        named = {**self.attributes, "href": self.url}
        text = " ".join(
            name if value is None else f'{name}="{html.escape(value)}"' for name, value in named.items()
        )
        return f"<a {text}>{html.escape(self.text)}</a>"


class FarmIndex:
    """What the farm has published, for one project's build environments and one Python."""

    def __init__(self, url: str, view: Path, say: Callable[[str], None], python: str = "") -> None:
        """Ask the index at ``url`` what it has; it is not used where it has no address or does not answer.

        ``python`` is the version that is built for (``3.13.5``); empty: this interpreter's.
        """
        self._view = view
        self._python = python or platform.python_version()
        self._states: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self._hosted: frozenset[str] = frozenset()
        self.url = f"{url.rstrip('/')}/" if url else ""
        if not self.url:
            return
        try:
            names = {link.text for link in self._links(self.url)}
        except NoAnswerError as error:
            why = "has nothing yet" if error.status in ELSEWHERE else f"does not answer ({error})"
            say(f"the farm's index {self.url} {why}: build requirements come from PyPI alone")
            self.url = ""
        else:
            self._hosted = frozenset(name for name in names if NAME.fullmatch(name))

    def variables(self) -> dict[str, str]:
        """Return what makes uv look into the view first, and elsewhere only for what is not in it."""
        if not self.url:
            return {}
        self._view.mkdir(parents=True, exist_ok=True)
        return {"UV_INDEX": self._view.as_uri(), "UV_INDEX_STRATEGY": "unsafe-first-match"}

    def state(self, projects: Iterable[str]) -> dict[str, str]:
        """Return what there is of these projects; it differs when something was published or removed."""
        return {name: state for name in projects if (state := self._read(name))}

    def read_all(self) -> None:
        """Bring the whole view up to date: who needs what is only known when versions are chosen."""
        if self.url:
            for folder in self._view.iterdir():
                if folder.name not in self._hosted:
                    shutil.rmtree(folder)
        for name in sorted(self._hosted):
            self._read(name)

    def taken(self, lock: Path) -> list[str]:
        """Return the names of the files of the farm's own that a lock allows."""
        words = lock.read_text(encoding="utf-8").split()
        hashes = [word.removeprefix("--hash=sha256:") for word in words]
        return sorted(self._files[item] for item in hashes if item in self._files)

    def _read(self, name: str) -> str:
        """Bring one project's page to the view; returns its digest, or an empty text without any."""
        if name not in self._hosted:
            return ""
        if name not in self._states:
            try:
                links = self._usable(urljoin(self.url, f"{name}/"))
            except NoAnswerError as error:
                raise StepError("node", f"the farm's index {self.url} answers no more: {error}") from error
            self._files |= {link.sha256: link.text for link in links if link.sha256}
            self._states[name] = self._write(name, [link.to_html() for link in links])
        return self._states[name]

    def _write(self, name: str, anchors: list[str]) -> str:
        page = self._view / name / "index.html"
        if not anchors:
            # Without a page, uv goes on to the next index.
            shutil.rmtree(page.parent, ignore_errors=True)
            return ""
        content = "<!DOCTYPE html>\n" + "\n".join(anchors) + "\n"
        page.parent.mkdir(parents=True, exist_ok=True)
        partial = page.with_suffix(".partial")
        partial.write_text(content, encoding="utf-8")
        partial.replace(page)
        return hashlib.sha256(content.encode()).hexdigest()

    def _usable(self, url: str) -> list[Link]:
        try:
            return [link for link in self._links(url) if self._runs_here(link)]
        except NoAnswerError as error:
            if error.status in ELSEWHERE:
                return []
            raise

    def _runs_here(self, link: Link) -> bool:
        return (
            link.text.endswith(".whl")
            and self._fits(link.text.removesuffix(".whl").split("-")[-3:])
            and "data-yanked" not in link.attributes
            and self._accepts(link.attributes.get("data-requires-python") or "")
        )

    def _fits(self, tags: list[str]) -> bool:
        """Return whether one of a wheel's tags is this Python's (PEP 425); pages have thousands of wheels."""
        parts = [part.split(".") for part in tags]
        return any("-".join(tag) in self._tags for tag in itertools.product(*parts))

    def _accepts(self, pythons: str) -> bool:
        if not pythons:
            return True
        from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415  # slow on a board

        try:
            return self._python in SpecifierSet(pythons)
        except InvalidSpecifier:
            return False

    @cached_property
    def _tags(self) -> frozenset[str]:
        # Like auditwheel, it is among the build tools.
        from packaging.tags import compatible_tags, cpython_tags, platform_tags  # noqa: PLC0415

        version = tuple(map(int, self._python.split(".")[:2]))
        platforms = list(platform_tags())
        interpreter = "cp" + "".join(map(str, version))
        own = cpython_tags(python_version=version, platforms=platforms)
        pure = compatible_tags(python_version=version, interpreter=interpreter, platforms=platforms)
        return frozenset(map(str, itertools.chain(own, pure)))

    @cached_property
    def _opener(self) -> OpenerDirector:
        # Made once: it reads all certificate authorities, which takes a virtual board 0.1 s.
        from urllib.request import HTTPRedirectHandler, build_opener  # noqa: PLC0415

        class Stay(HTTPRedirectHandler):
            def redirect_request(self, *_: object) -> None:
                """Follow none."""

        return build_opener(Stay)

    def _links(self, url: str) -> list[Link]:
        from http.client import HTTPException  # noqa: PLC0415  # slow to import on a board
        from urllib.request import HTTPError, Request  # noqa: PLC0415

        try:
            # "text/html": an index may give JSON to who does not say what it wants.
            request = Request(url, headers={"Accept": "text/html"})  # noqa: S310  # provisioning wrote it
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return read_links(response.read().decode(), url)
        except HTTPError as error:
            with error:
                raise NoAnswerError(str(error), error.code) from error
        except (OSError, HTTPException, ValueError) as error:
            raise NoAnswerError(str(error)) from error


def read_links(page: str, url: str) -> list[Link]:
    """Return the anchors of a page that is at ``url``."""
    return [Link(html.unescape(match[2]).strip(), url, match[1]) for match in ANCHOR.finditer(page)]


def answers(url: str) -> bool:
    """Return whether a server answers with success."""
    import urllib.request  # noqa: PLC0415  # slow to import on a board

    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310  # provisioning wrote it
            return bool(response.status == 200)  # noqa: PLR2004
    except OSError:
        return False
