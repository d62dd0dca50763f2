"""The home page, the search data and the feed: all made of one line for each project."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from farm.site.model import Downloads, HomePage, ProjectRow, Release

MOST_NEW: Final = 15
NOWHERE: Final = "https://THIS-HOST/"
"""Stands for the index's address where it is not known; the script puts in where it is."""


NEVER: Final = "1970-01-01T00:00:00Z"
"""When a feed without a dated entry was updated: Atom wants a time, and there is none."""
# RFC 4122, version 5: names of the feed and its entries, the same each time they are made.
_NAMESPACE: Final = uuid.UUID("5f0f1c0e-6a76-4a0c-8f0b-0c4f2d4a5b11")


@dataclass(frozen=True, slots=True)
class Snippet:
    """Something to copy: for which installer, when, which file or shell it goes into, and its lines."""

    client: str
    when: str
    where: str
    text: str


def home_page(
    rows: Iterable[ProjectRow], base_url: str, *, signed: bool = False, downloads: Downloads | None = None
) -> HomePage:
    """Return the home page. Projects by name, releases by time: the newest of all projects."""
    projects = tuple(sorted(rows, key=lambda row: row.project))
    releases = [release for row in projects for release in row.releases]
    releases.sort(key=lambda release: (release.uploaded, release.project, release.version), reverse=True)
    return HomePage(
        base_url=base_url.rstrip("/") + "/" if base_url else "",
        signed=signed,
        wheels=sum(row.wheels for row in projects),
        size=sum(row.size for row in projects),
        downloads=downloads,
        projects=projects,
        newest=tuple(releases[:MOST_NEW]),
    )


def search_json(page: HomePage) -> str:
    """Return what the search reads: of each project its name, newest version, summary and path."""
    projects = [
        {"name": row.project, "version": row.version, "summary": row.summary, "path": row.path}
        for row in page.projects
    ]
    return json.dumps({"projects": projects}, ensure_ascii=False, separators=(",", ":")) + "\n"


def snippets(base_url: str) -> tuple[Snippet, ...]:
    """Return the configuration of pip and uv for this index (docs/index.md says why it is like that)."""
    url = base_url or NOWHERE
    host = trusted_host(url) if base_url else ""
    trust = f" \\\n  --trusted-host {host}" if host else ""
    trusts = f"\ntrusted-host = {host}" if host else ""
    index = '[[tool.uv.index]]\nname = "riscv64"\nurl = '
    return (
        Snippet("pip", "once", "shell", f"pip install{trust} \\\n  --index-url {url}simple/ NAME"),
        Snippet("pip", "always", "~/.config/pip/pip.conf", f"[global]\nindex-url = {url}simple/{trusts}"),
        Snippet("uv", "once", "shell", f"uv pip install \\\n  --default-index {url}simple/ NAME"),
        Snippet("uv", "in a project", "pyproject.toml", f'{index}"{url}simple/"\ndefault = true'),
        Snippet(
            "uv",
            "for chosen packages only",
            "pyproject.toml",
            f'{index}"{url}ours/simple/"\nexplicit = true\n\n'
            '[tool.uv.sources]\nNAME = { index = "riscv64" }',
        ),
    )


def trusted_host(url: str) -> str:
    """Return the host that pip must be told to trust: plain HTTP beyond loopback; else an empty string."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.hostname == "localhost":
        return ""
    try:
        return "" if ip_address(parts.hostname).is_loopback else parts.hostname
    except ValueError:
        return parts.hostname


def newest_time(releases: Iterable[Release]) -> str:
    """Return when the newest of some releases was published; empty if that is not known."""
    return max((release.uploaded for release in releases), default="")


# -- feed (RFC 4287) ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A release in the feed, with the name by which readers know it again."""

    id: str
    release: Release


def feed_id(base_url: str) -> str:
    """Return the feed's own name: of the index, wherever its address is known."""
    return uuid.uuid5(_NAMESPACE, base_url).urn


def feed_entries(page: HomePage) -> tuple[Entry, ...]:
    """Return the newest releases, each under a name that stays the same when more wheels of it come."""
    return tuple(
        Entry(uuid.uuid5(_NAMESPACE, f"{page.base_url} {release.project} {release.version}").urn, release)
        for release in page.newest
    )
