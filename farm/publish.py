"""From verified wheels to the index that pip uses: files first, pages last, then read back over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import requests
from packaging.utils import canonicalize_name

from farm.downloads import ask_counts
from farm.errors import PublishError, UpstreamError, WheelError
from farm.index import IndexTree, add_wheel, build_index
from farm.index.crawl import crawl
from farm.index.journal import Entry, Kind, note
from farm.index.lock import tree_lock
from farm.index.merge import is_private
from farm.index.refresh import Refreshed, refresh, upstream_pages, write_merged
from farm.index.remote import push
from farm.index.storage import Room
from farm.nodes import IndexHost, Node
from farm.paths import Paths
from farm.provenance.check import checked_beside
from farm.provenance.dsse import read_public_keys
from farm.provenance.key import publish_key
from farm.provenance.names import PROVENANCE
from farm.site import build_site
from farm.store import Store
from farm.wheel_name import parse_name


@dataclass(frozen=True, slots=True)
class Published:
    """What one publication did."""

    files: tuple[str, ...]
    pages: int
    checked_files: int
    warning: str = ""
    """That there is little room left."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """A farm's index: its tree here and its host. Whatever changes the one is brought to the other.

    ``nodes`` are shown on the web pages. ``upstream`` is the ``/simple/`` URL whose files hosted projects are
    merged with; empty: what is known of it has to do.
    """

    paths: Paths
    host: IndexHost
    nodes: Sequence[Node] = ()
    upstream: str = ""

    @property
    def tree(self) -> IndexTree:
        """The index as it is here."""
        return IndexTree(self.paths.tree, base_url=self.host.url)

    def publish(self, wheels: Sequence[Path]) -> Published:
        """Add wheels to the tree, bring it to the index host and check there what changed.

        Wheels go before the pages that link to them (F09). What was published is then fetched as pip would
        (F15). What lies beside a wheel goes along, if its provenance is this farm's own.

        Raises:
            PublishError: a name is taken by other bytes, there is no room, rsync failed, or the host serves
                something else.
            WheelError: the provenance beside a wheel does not hold.
            BusyError: somebody else is publishing, and does not end.
        """
        index = self.tree
        self._ask({str(parse_name(wheel.name).project) for wheel in wheels})
        with tree_lock(index):
            size = sum(wheel.stat().st_size for wheel in wheels if wheel.exists())
            warning = Room.of(index.root).require(size, index.root)
            publish_key(self.paths.signing_key, index.keys)
            for wheel in wheels:
                refuse_foreign(wheel, index)
            _note(index, wheels)
            added = [add_wheel(index, wheel) for wheel in wheels]
            projects = {str(file.project) for file in added}
            pages = build_index(index) | self._derive(projects)
            push(index.root, self.host)
        checked = check(self.host, projects, {file.filename: file.sha256 for file in added})
        return Published(tuple(file.filename for file in added), len(pages), checked, warning)

    def change(self, act: Callable[[IndexTree], Collection[str]]) -> frozenset[str]:
        """Change the tree, bring it to the index host and check there the projects that ``act`` returns.

        Returns what changed, as paths in the tree. Raises what ``act`` raises, and what :meth:`publish` does.
        """
        index = self.tree
        with tree_lock(index):
            projects = {str(canonicalize_name(name)) for name in act(index)}
            changed = build_index(index, projects) | self._derive(projects)
            push(index.root, self.host)
            left = projects & set(index.recorded())
        check(self.host, left, {})
        return changed

    def refresh(self, projects: Sequence[str] | None = None, private: Collection[str] = ()) -> Refreshed:
        """Ask upstream what it has of hosted projects (default: all), and bring what changes to the host.

        When all are asked for, the host is asked how often what was downloaded, for the web pages.

        Raises:
            InputError: the index has no such project.
            PublishError: the tree can't be written, or rsync failed.
            BusyError: somebody else is publishing, and does not end.
        """
        index = self.tree
        done = refresh(index, self.upstream, projects, {*self.host.private_names, *private})
        warning = self._ask_counts() if projects is None else ""
        with tree_lock(index):
            merged = {path.split("/")[1] for path in done.changed}
            changed = done.changed | self._web(merged)
            if changed:
                push(index.root, self.host)
        return replace(done, changed=changed, warning=warning)

    def tell(self) -> frozenset[str]:
        """Bring the web pages of builds, boards and failures to the host; return the paths that changed.

        Raises PublishError, BusyError.
        """
        index = self.tree
        with tree_lock(index):
            changed = build_index(index, ()) | self._web(())
            if changed:
                push(index.root, self.host)
        return changed

    def _ask_counts(self) -> str:
        """Ask the host for the counts of downloads; return why they can't be had: it is no error."""
        try:
            ask_counts(self.host.url, self.tree.root)
        except UpstreamError as error:
            return f"the pages show older counts of downloads: {error.message}"
        return ""

    def _ask(self, projects: Collection[str]) -> None:
        """Ask upstream of projects that were never asked for, so that their pages hide nothing of it.

        It is asked once: when it does not answer, the next refresh asks again.
        """
        pages = upstream_pages(self.tree)
        new = sorted(set(projects) - set(pages.projects()))
        if self.upstream:
            pages.ask(
                [name for name in new if not is_private(name, self.host.private_names)], self.upstream, 1
            )

    def _derive(self, projects: Collection[str]) -> frozenset[str]:
        merged = write_merged(self.tree, projects, self.host.private_names)
        return merged | self._web(projects)

    def _web(self, projects: Collection[str]) -> frozenset[str]:
        build = partial(
            build_site,
            self.tree,
            paths=self.paths,
            nodes=self.nodes,
            projects=projects,
            logs=self.host.publish_logs,
        )
        if not self.paths.database.exists():
            return build()
        with closing(Store(self.paths.database)) as store:
            return build(store=store)


def check(host: IndexHost, projects: Collection[str], expected: Mapping[str, str]) -> int:
    """Read projects back from the host, and of their files the ``expected`` ones; return how many.

    Raises PublishError if it serves something else.
    """
    with requests.Session() as session:
        result = crawl(host.simple_url, projects, session, expected=expected, fetch=expected.keys())
    if result.problems:
        problem = result.problems[0]
        raise PublishError(
            f"{problem.url}: not what was published: {problem.cause}",
            hint=f"`farm provision {host.address.name}` mends nginx; then run the command again",
        )
    return len(result.files)


def _note(index: IndexTree, wheels: Sequence[Path]) -> None:
    """Write down what will be new, so that it can be undone."""
    new: dict[str, list[str]] = {}
    for wheel in wheels:
        project = parse_name(wheel.name).project
        if not (index.packages / project / wheel.name).exists():
            new.setdefault(project, []).append(wheel.name)
    if new:
        note(index.records, Entry(0, "", Kind.PUBLISH, new))


def refuse_foreign(wheel: Path, index: IndexTree) -> None:
    """Refuse a wheel beside which a provenance lies that is not of it, or not signed by this farm.

    Raises:
        WheelError: it is so.
    """
    if not wheel.with_name(wheel.name + PROVENANCE).exists():
        return
    keys = read_public_keys(index.keys.read_bytes(), str(index.keys)) if index.keys.exists() else ()
    verdict = checked_beside(wheel, keys)
    if not verdict.ok:
        hint = f"publish it without {wheel.name}{PROVENANCE}, or from the farm that built it"
        raise WheelError(f"{wheel.name}: {verdict.evidence.removeprefix(f'{wheel.name}: ')}", hint=hint)
