"""``merged/``: pages of our files and upstream's, for the hosted projects that upstream has something of."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from farm.errors import InputError
from farm.index.lock import tree_lock
from farm.index.merge import is_private, merge
from farm.index.model import ProjectStatus
from farm.index.render import project_html, project_json, write_pages
from farm.index.tree import IndexTree, read_project
from farm.index.upstream_pages import Answer, Asked, UpstreamPages


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did."""

    asked: tuple[Asked, ...]
    changed: frozenset[str]
    """Files written or removed, relative to the tree."""
    quarantined: tuple[str, ...]
    """Hosted projects that upstream has put into quarantine."""
    warning: str = ""
    """Why it is not known how often what was downloaded."""

    @property
    def failed(self) -> tuple[Asked, ...]:
        """The projects of which upstream could not be asked; their pages are as they were."""
        return tuple(asked for asked in self.asked if asked.answer is Answer.FAILED)


def upstream_pages(tree: IndexTree) -> UpstreamPages:
    """Return what is known of upstream beside a tree."""
    return UpstreamPages(tree.root / "upstream")


def refresh(
    tree: IndexTree,
    endpoint: str,
    projects: Iterable[str] | None = None,
    private: Iterable[str] = (),
    tries: int = 3,
) -> Refreshed:
    """Ask upstream for hosted projects (default: all) and write the merged pages that change.

    ``endpoint`` is upstream's ``/simple/`` URL; names that fit ``private`` are never asked for. A failure of
    upstream is no error but in the result.

    Raises:
        InputError: the index has no such project, or what it kept of upstream can't be read.
        PublishError: the tree can't be read or written.
        BusyError: somebody else writes it, and does not end.
    """
    hosted, private = tree.recorded(), tuple(private)
    wanted = hosted if projects is None else sorted({str(canonicalize_name(name)) for name in projects})
    for name in wanted:
        if name not in hosted:
            raise InputError(
                f"{name}: the index has no such project", hint="name projects that it has, or none"
            )
    pages = upstream_pages(tree)
    asked = pages.ask([name for name in wanted if not is_private(name, private)], endpoint, tries)
    with tree_lock(tree):
        changed = write_merged(tree, wanted if projects is not None else None, private)
    quarantined = [name for name in wanted if pages.read(name).status is ProjectStatus.QUARANTINED]
    return Refreshed(tuple(asked), changed, tuple(quarantined))


def write_merged(
    tree: IndexTree, projects: Iterable[str] | None = None, private: Iterable[str] = ()
) -> frozenset[str]:
    """Write the merged pages of projects (default: all) from what is known; no network is used.

    The caller holds :func:`farm.index.lock.tree_lock`.
    A page is there for a project that we host, that is not private, and of which upstream says something.
    What is not so any more loses its page and what was kept of upstream. Returns the files written or
    removed, relative to the tree.
    """
    pages, hosted, private = upstream_pages(tree), set(tree.recorded()), tuple(private)
    known = {*pages.projects(), *(path.parent.name for path in (tree.root / "merged").glob("*/index.*"))}
    wanted = hosted | known if projects is None else {str(canonicalize_name(name)) for name in projects}
    changed: set[str] = set()
    for project in sorted(wanted):
        folder = tree.root / "merged" / project
        if project not in hosted or is_private(project, private):
            pages.forget(project)
        theirs = pages.read(project)
        if theirs.says_something:
            index = merge(read_project(tree, project), theirs)
            written = write_pages(
                folder, project_html(index, tree.base_url), project_json(index, tree.base_url)
            )
            changed |= {path.relative_to(tree.root).as_posix() for path in written}
        else:
            changed |= {path.relative_to(tree.root).as_posix() for path in _remove(folder)}
    return frozenset(changed)


def _remove(folder: Path) -> set[Path]:
    """Remove a project's pages; the folder goes if nothing else is in there."""
    removed = set(folder.glob("index.*"))
    for path in sorted(removed):
        path.unlink()
    with suppress(OSError):
        folder.rmdir()
    return removed
