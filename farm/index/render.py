"""The index's pages as text: the Simple API 1.4 in HTML and JSON.

They are put together as strings: with a template engine, a full build took twice its time.
"""

from __future__ import annotations

import gzip
import json
from html import escape
from typing import TYPE_CHECKING, Final

from farm.index.write import write_changed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from farm.index.model import ProjectIndex, PublishedFile

API_VERSION: Final = "1.4"
"""PEP 629. 1.4 is project status (PEP 792); HTML stays there (PEP 833)."""
PAGES: Final = ("index.html", "index.json", "index.json.gz")
"""What :func:`write_pages` writes into a folder. HTML, which pip and uv do not ask for, is not kept
compressed: a server does that when a browser asks."""
_GZIP_LEVEL: Final = 6


def project_html(index: ProjectIndex, base_url: str = "") -> str:
    """Render a project's page for ``simple/<project>/``: one anchor a file (PEP 503, 592, 658, 740, 792).

    ``base_url`` is the URL of the home page, if known: PEP 740 wants a whole URL.
    """
    status = f'<meta name="pypi:project-status" content="{index.status}">\n'
    if index.status_reason:
        status += f'<meta name="pypi:project-status-reason" content="{escape(index.status_reason)}">\n'
    base = folder_url(base_url)
    anchors = "".join([_anchor(file, base) for file in index.offered])
    return _page(f"Links for {index.project}", status, anchors)


def root_html(projects: Iterable[str]) -> str:
    """Render ``simple/``: one anchor a project (PEP 503). Names are normalised already."""
    anchors = "".join(f'<a href="{name}/">{name}</a><br>\n' for name in sorted(set(projects)))
    return _page("Simple index", "", anchors)


def project_json(index: ProjectIndex, base_url: str = "") -> str:
    """Render a project's page as JSON (PEP 691, 700, 714, 740, 792); links are relative to the page."""
    base, files = folder_url(base_url), index.offered
    status = {"status": index.status.value}
    if index.status_reason:
        status["reason"] = index.status_reason
    return _json(
        {
            "meta": {"api-version": API_VERSION},
            "name": index.project,
            "project-status": status,
            "versions": versions(files),
            "files": [_entry(file, base) for file in files],
        }
    )


def root_json(projects: Iterable[str]) -> str:
    """Render ``simple/`` as JSON (PEP 691)."""
    names = [{"name": name} for name in sorted(set(projects))]
    return _json({"meta": {"api-version": API_VERSION}, "projects": names})


def write_pages(folder: Path, html: str, json: str) -> set[Path]:  # the format's name
    """Write the pages of a folder, :data:`PAGES`; return those whose bytes changed, as paths.

    Each is written beside its place, flushed and renamed; what has these bytes already is not touched. Raises
    PublishError.
    """
    content = json.encode()
    pages = (html.encode(), content, compressed(content))
    paths = [folder / name for name in PAGES]
    return {path for path, data in zip(paths, pages, strict=True) if write_changed(path, data)}


def compressed(data: bytes) -> bytes:
    """Return data as gzip has it, the same for the same data: without a name, at no time."""
    return gzip.compress(data, _GZIP_LEVEL, mtime=0)


def versions(files: Sequence[PublishedFile]) -> list[str]:
    """Return the versions of a project's files, each once, in the files' order (PEP 700)."""
    return list(dict.fromkeys(file.version for file in files))


def folder_url(base_url: str) -> str:
    """Return a URL with one slash at its end, or nothing if there is none."""
    return base_url.rstrip("/") + "/" if base_url else ""


def _page(title: str, meta: str, anchors: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="pypi:repository-version" content="{API_VERSION}">\n{meta}'
        f"<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n{anchors}</body>\n</html>\n"
    )


def _anchor(file: PublishedFile, base_url: str) -> str:
    more = f' data-size="{file.size}"'
    if file.requires_python:
        more += f' data-requires-python="{escape(file.requires_python)}"'
    if file.metadata_sha256:
        more += f' data-core-metadata="sha256={file.metadata_sha256}"'
    if file.upload_time:
        more += f' data-upload-time="{file.upload_time}"'
    if file.yanked is not None:
        more += f' data-yanked="{escape(file.yanked)}"'
    if provenance := file.provenance_url(base_url):
        more += f' data-provenance="{escape(provenance)}"'
    return f'<a href="{escape(file.href)}"{more}>{escape(file.filename)}</a><br>\n'


def _entry(file: PublishedFile, base_url: str) -> dict[str, object]:
    entry: dict[str, object] = {
        "filename": file.filename,
        "url": file.location,
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "yanked": False if file.yanked is None else file.yanked or True,
        "core-metadata": {"sha256": file.metadata_sha256} if file.metadata_sha256 else False,
    }
    if file.requires_python:
        entry["requires-python"] = file.requires_python
    if file.upload_time:
        entry["upload-time"] = file.upload_time
    provenance = file.provenance_url(base_url)
    if provenance and (base_url or file.url):  # PEP 740 has whole URLs in JSON, and clients insist
        entry["provenance"] = provenance
    return entry


def _json(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))
