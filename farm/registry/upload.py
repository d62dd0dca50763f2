"""Posting wheels to a registry: what is there is looked at first, and read back afterwards (F06, F15)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self
from urllib.parse import urljoin, urlsplit

import requests
from pypi_simple import ACCEPT_ANY, ProjectPage, UnsupportedContentTypeError, UnsupportedRepoVersionError
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from farm.errors import FarmError, PublishError, WheelError
from farm.registry.config import Registry
from farm.registry.form import Body, Upload, form_of
from farm.wheel_name import WheelName, parse_name, rebuild_hint

CONNECT_S: Final = 20.0
ANSWER_S: Final = 300.0
"""A registry reads and hashes a file of many megabytes before it answers."""

_BUSY: Final = (429, 500, 502, 503, 504)
_REDIRECTS: Final = 3
_SAID: Final = 200


class Fate(StrEnum):
    """What became of one file."""

    SENT = "sent"
    PRESENT = "present"
    """It was there, with the same bytes."""
    FAILED = "failed"
    UNTRIED = "untried"
    """An earlier one failed in a way in which this one would, too."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One file, and why it was not sent."""

    filename: str
    fate: Fate
    error: FarmError | None = None
    listed: bool = True
    """Whether the registry's page lists it already; PyPI's takes minutes."""

    @property
    def ok(self) -> bool:
        """Whether the registry has the file."""
        return self.fate in {Fate.SENT, Fate.PRESENT}


class StopError(PublishError):
    """An error that every other file would meet, too."""


def upload(
    wheels: Sequence[Path], registry: Registry, token: str, *, tries: int = 4, pause_s: float = 0.5
) -> list[Sent]:
    """Post verified wheels to a registry, and say of each what became of it.

    What the registry has with the same bytes is left alone; a server that is busy or broken (429, 5xx) is
    asked again, ``tries`` times, after twice as long each time, or after as long as it says. The token goes
    nowhere but to the registry: redirects of a post are not followed.
    """
    with _Client(registry, token, tries, pause_s) as client:
        results: list[Sent] = []
        stopped = False
        for wheel in wheels:
            if stopped:
                results.append(Sent(wheel.name, Fate.UNTRIED))
                continue
            try:
                results.append(client.bring(wheel))
            except FarmError as error:
                stopped = isinstance(error, StopError)
                results.append(Sent(wheel.name, Fate.FAILED, error))
        return results


class _Client:
    """One registry, and a connection to it."""

    def __init__(self, registry: Registry, token: str, tries: int, pause_s: float) -> None:
        self._registry = registry
        self._token = token
        self._login = (registry.user, token)
        retry = Retry(
            total=tries,
            backoff_factor=pause_s,
            status_forcelist=_BUSY,
            allowed_methods=None,  # a post, too: what is there twice is told by its hash
            raise_on_status=False,
        )
        self._http = requests.Session()
        for scheme in ("https://", "http://"):
            self._http.mount(scheme, HTTPAdapter(max_retries=retry))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def bring(self, wheel: Path) -> Sent:
        """Send one wheel unless it is there. Raises PublishError or WheelError."""
        name = parse_name(wheel.name)
        try:
            form = form_of(wheel, name)
        except OSError as error:
            raise WheelError(f"{wheel}: {error.strerror}", hint="name a wheel that exists") from error
        if self._has(name, form):
            return Sent(wheel.name, Fate.PRESENT)
        self._post(name, form)
        return Sent(wheel.name, Fate.SENT, listed=self._has(name, form))

    def _has(self, name: WheelName, form: Upload) -> bool:
        """Return whether the registry lists the file with these bytes. Raises PublishError at other ones."""
        present = self._present(name.project)
        if name.filename not in present:
            return False
        held = present[name.filename]
        if held == form.sha256:
            return True
        bytes_ = (
            f"with other bytes ({held[:12]}, not {form.sha256[:12]})"
            if held
            else "and does not say its sha256"
        )
        raise PublishError(
            f"{self._registry.name} has {name.filename} {bytes_}",
            hint=rebuild_hint(name, map(parse_name, present)),
        )

    def _present(self, project: str) -> Mapping[str, str]:
        """Return the registry's own wheels of a project, name to sha256 (empty where it gives none)."""
        response = self._page(urljoin(self._registry.simple_url.rstrip("/") + "/", f"{project}/"))
        if response is None:
            return {}
        try:
            packages = ProjectPage.from_response(response, project).packages
        except (UnsupportedContentTypeError, UnsupportedRepoVersionError, ValueError) as error:
            raise StopError(
                f"{self._registry.name}: {response.url} is no page of an index: {self._safe(str(error))}",
                hint="simple_url must be what pip is given as --index-url",
            ) from error
        found = {}
        for package in packages:
            if package.package_type == "wheel":
                found[package.filename] = package.digests.get("sha256", "")
        return found

    def _page(self, url: str) -> requests.Response | None:
        """Fetch a project's page; None where the registry has none, or sends us to another server's."""
        login = self._login if self._registry.asks_with_token else None
        for _ in range(_REDIRECTS):
            response = self._ask("GET", url, auth=login, headers={"Accept": ACCEPT_ANY})
            if not response.is_redirect:
                break
            target = urljoin(url, response.headers["Location"])
            # GitLab and pypiserver send names that they lack to PyPI: what that has is not the registry's.
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                return None
            url = target
        if response.status_code == requests.codes.not_found:
            return None
        if not response.ok:
            raise self._refused(response, "asked what it has")
        return response

    def _post(self, name: WheelName, form: Upload) -> None:
        body = Body(form)
        response = self._ask(
            "POST",
            self._registry.url,
            auth=self._login,
            data=body,
            headers={"Content-Type": body.content_type},
        )
        if response.is_redirect:
            raise StopError(
                f"{self._registry.name}: it redirects posts to {self._safe(response.headers['Location'])}",
                hint="write that address as url, if it is the registry's own",
            )
        if response.ok:
            return
        refused = self._refused(response, f"given {name.filename}")
        # Somebody else was faster, or an answer of ours was lost: what counts is what is there now.
        if not isinstance(refused, StopError) and self._has(name, form):
            return
        raise refused

    def _ask(self, method: str, url: str, **options: object) -> requests.Response:
        try:
            return self._http.request(
                method,
                url,
                timeout=(CONNECT_S, ANSWER_S),
                allow_redirects=False,
                **options,  # type: ignore[arg-type]
            )
        except requests.RequestException as error:
            raise StopError(
                f"{self._registry.name}: {url} can't be reached: {self._safe(_cause(error))}",
                hint="check the network and the address; what was sent stays, run it again",
            ) from error

    def _refused(self, response: requests.Response, when: str) -> PublishError:
        status = f"HTTP status {response.status_code}"
        said = self._safe(" ".join((response.reason or "").split()))
        message = f"{self._registry.name}: {when}, it answers {status} {said}".rstrip()
        text = self._safe(" ".join(response.text.split()))[:_SAID]
        if response.status_code in {401, 403}:
            # GitLab says so of a project that is protected; a page for people would say less.
            if "json" in response.headers.get("Content-Type", ""):
                message += f": {text}"
            source = self._registry.token_env or self._registry.token_vault
            hint = f"the token in {source} is wrong, expired, or may not write; `farm doctor` knows more"
            return StopError(message, hint=hint)
        if response.status_code in _BUSY:
            return StopError(message, hint="try again later; what was sent stays")
        return PublishError(
            f"{message}: {text}" if text else message, hint="the registry's own words say why"
        )

    def _safe(self, text: str) -> str:
        """Return a stranger's text as printable letters, without the token, should it send it back."""
        shown = "".join(letter if letter.isprintable() else "?" for letter in text)
        return shown.replace(self._token, "(token)")


def _cause(error: requests.RequestException) -> str:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return type(reason).__name__ if reason is not None else type(error).__name__
