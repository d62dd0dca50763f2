"""Derive the index's pages from the files that are present, and write those whose bytes change (F01)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from farm.index.gone import add_gone
from farm.index.listing import METADATA, Listing, Stat, list_project
from farm.index.pypi import newest, pypi_json
from farm.index.record import Record, made_of, read_record, write_record
from farm.index.render import PAGES, project_html, project_json, root_html, root_json, write_pages
from farm.index.scan import Scan, scan_project
from farm.index.write import remove, write_changed
from farm.provenance.names import BESIDE

if TYPE_CHECKING:
    from farm.index.model import ProjectIndex
    from farm.index.tree import IndexTree

RENDERER: Final = 1
"""Raised with every change of what pages look like: pages of another one are made again."""


def build_index(
    tree: IndexTree, projects: Iterable[str] | None = None, *, full: bool = False
) -> frozenset[str]:
    """Bring the pages up to date with the files; return what changed, as paths in the tree.

    With ``projects``, only these are looked at, and the page that lists all. Otherwise every project is, by
    size and mtime of its files; with ``full``, by reading them again, and all pages are made anew. Nothing is
    written that has the right bytes. Pages come after files, the page that lists a project after the
    project's; a project without files loses its pages last.

    Raises PublishError or WheelError at what can't be in an index; every page is then as it was, or right.
    """
    before = set(tree.recorded())
    if projects is None or not before:
        asked = {*tree.folders(), *before}
    else:
        asked = {str(canonicalize_name(name)) for name in projects}
    # All is read before a page is written: what is refused changes no page.
    scans = {}
    for name in sorted(asked):
        listing = list_project(tree.packages / name)
        if full or not _is_made(tree, listing):
            scans[name] = scan_project(listing, tree.records, full=full)
    present = (before - scans.keys()) | {name for name, scan in scans.items() if scan.record.index.files}
    changed = {f"packages/{name}/{file}" for name, scan in scans.items() for file in scan.changed}
    for name, scan in scans.items():
        add_gone(tree.records, name, scan.lost)
        if name in present:
            changed |= _make(tree, scan.record)
    root = write_pages(tree.simple, root_html(present), root_json(present))
    changed |= {path.relative_to(tree.root).as_posix() for path in root}
    for scan in scans.values():
        changed |= _remove_doomed(tree, scan)
    stale = asked - present
    if projects is None:
        stale |= _paged(tree) - present
    return frozenset(changed.union(*(_unmake(tree, name) for name in sorted(stale))))


def _paged(tree: IndexTree) -> set[str]:
    """Return the projects that have pages, whether rightly or not."""
    with suppress(FileNotFoundError):
        return {entry.name for entry in os.scandir(tree.simple) if entry.is_dir()}
    return set()


def _pages(project: str) -> tuple[str, ...]:
    return (*(f"simple/{project}/{page}" for page in PAGES), f"pypi/{project}.json")


def _is_made(tree: IndexTree, listing: Listing) -> bool:
    """Whether a project's pages were made of these very files, and are as they were then."""
    pages = made_of(str(tree.records), listing.folder.name, listing.digest(), _made_by(tree))
    return bool(pages) and all(_stat(tree, page) == tuple(held) for page, held in pages.items())


def _stat(tree: IndexTree, page: str) -> Stat | None:
    try:
        status = os.stat(f"{tree.root}/{page}")  # noqa: PTH116 - there are many
    except FileNotFoundError:
        return None
    return (status.st_size, status.st_mtime_ns)


def _made_by(tree: IndexTree) -> str:
    return f"{RENDERER} {tree.base_url}"


def _make(tree: IndexTree, record: Record) -> set[str]:
    """Write a project's pages, then its record, which says that they are made."""
    index, base = record.index, tree.base_url
    changed = write_pages(tree.simple / index.project, project_html(index, base), project_json(index, base))
    pypi = tree.root / "pypi" / f"{index.project}.json"
    if write_changed(pypi, pypi_json(index, _metadata(tree, index), base).encode()):
        changed.add(pypi)
    stats = {page: held for page in _pages(index.project) if (held := _stat(tree, page))}
    write_record(tree.records, replace(record, pages=stats, made_by=_made_by(tree)))
    return {path.relative_to(tree.root).as_posix() for path in changed}


def _remove_doomed(tree: IndexTree, scan: Scan) -> set[str]:
    """Remove the files that no page has a link to any more, then strike them out of the record."""
    record, project = scan.record, scan.record.index.project
    if not record.doomed:
        return set()
    names = [f"{name}{suffix}" for name in record.doomed for suffix in ("", METADATA, *BESIDE)]
    removed = {f"packages/{project}/{name}" for name in names if remove(tree.packages / project / name)}
    if record.index.files:
        seen = list_project(tree.packages / project).digest()
        written = read_record(tree.records, project) or record
        write_record(tree.records, replace(written, doomed=(), seen=seen))
    return removed


def _metadata(tree: IndexTree, index: ProjectIndex) -> bytes:
    """Return the METADATA of a file of a project's newest version."""
    version = newest(index.offered)
    for file in index.offered:
        if file.version == version:
            return (tree.packages / index.project / f"{file.filename}{METADATA}").read_bytes()
    return b""


def _unmake(tree: IndexTree, project: str) -> set[str]:
    """Remove what was made for a project that is no more (F01), the page of it and upstream's files, too."""
    merged = tuple(f"merged/{project}/{page}" for page in (*PAGES, "index.html.gz"))
    older = (f"simple/{project}/index.html.gz",)
    removed = {page for page in (*_pages(project), *older, *merged) if remove(tree.root / page)}
    remove(tree.records / f"{project}.json")
    with suppress(OSError):  # a folder that something else is in
        (tree.packages / project).rmdir()
    return removed
