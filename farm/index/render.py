"""The index's pages as text: PEP 503 HTML with PEP 629's version, and a home page."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import farm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from farm.index.model import PublishedFile

API_VERSION = "1.3"
"""PEP 629. 1.1 and 1.2 (PEP 700, 708) add nothing that HTML must have; 1.3 is provenance (PEP 740)."""

TEMPLATES = Path(farm.__file__).resolve().parent.parent / "index_site" / "templates"


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render_root(projects: Iterable[str]) -> str:
    """Render ``simple/index.html``: one anchor a project (PEP 503). Names are normalised already."""
    return _environment().get_template("root.html").render(api=API_VERSION, projects=sorted(set(projects)))


def render_project(project: str, files: Iterable[PublishedFile], base_url: str = "") -> str:
    """Render ``simple/<project>/index.html``: one anchor a file, with hash, Requires-Python, provenance.

    ``base_url`` is the URL of the home page, if known (PEP 503, PEP 740).
    """
    ordered = sorted(files, key=lambda file: file.sort_key)
    template = _environment().get_template("project.html")
    return template.render(api=API_VERSION, project=project, files=ordered, base_url=_folder(base_url))


def render_home(projects: Iterable[str], file_count: int, base_url: str = "") -> str:
    """Render the home page with the pip line; without ``base_url`` the browser fills in where it is."""
    url = _folder(base_url)
    names = sorted(set(projects))
    return (
        _environment()
        .get_template("home.html")
        .render(projects=names, file_count=file_count, base_url=url, trusted_host=_trusted_host(url))
    )


def _folder(base_url: str) -> str:
    return base_url.rstrip("/") + "/" if base_url else ""


def _trusted_host(url: str) -> str:
    """Return the host that pip must be told to trust: plain HTTP beyond loopback; else an empty string."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.hostname == "localhost":
        return ""
    try:
        return "" if ip_address(parts.hostname).is_loopback else parts.hostname
    except ValueError:
        return parts.hostname
