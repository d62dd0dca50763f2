"""From verified wheels to the index that pip uses: files first, pages last, then read back over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from farm.errors import PublishError, WheelError
from farm.index import IndexTree, add_wheel, build_index
from farm.index.crawl import crawl
from farm.index.filename import normalised, parse
from farm.index.journal import Entry, Kind, note
from farm.index.lock import tree_lock
from farm.index.remote import push
from farm.index.storage import Room
from farm.nodes import IndexHost
from farm.paths import Paths
from farm.provenance.check import checked_beside
from farm.provenance.dsse import read_public_keys
from farm.provenance.key import publish_key
from farm.provenance.names import PROVENANCE


@dataclass(frozen=True, slots=True)
class Published:
    """What one publication did."""

    files: tuple[str, ...]
    pages: int
    checked_files: int
    warning: str = ""
    """That there is little room left."""


def publish(wheels: Sequence[Path], paths: Paths, host: IndexHost) -> Published:
    """Add wheels to the local tree, bring it to the index host and check there what changed.

    Wheels go before the pages that link to them (F09). What was published is then fetched as pip would (F15).
    What lies beside a wheel goes along, if its provenance is this farm's own.

    Raises:
        PublishError: a name is taken by other bytes, there is no room, rsync failed, or the host serves
            something else.
        WheelError: the provenance beside a wheel does not hold.
        BusyError: somebody else is publishing, and does not end.
    """
    index = IndexTree(paths.tree, base_url=host.url)
    with tree_lock(index):
        size = sum(wheel.stat().st_size for wheel in wheels if wheel.exists())
        warning = Room.of(paths.tree).require(size, paths.tree)
        publish_key(paths.signing_key, index.keys)
        for wheel in wheels:
            refuse_foreign(wheel, index)
        _note(index, wheels)
        added = [add_wheel(index, wheel) for wheel in wheels]
        pages = build_index(index)
        push(paths.tree, host)
    checked = check(host, {file.project for file in added}, {file.filename: file.sha256 for file in added})
    return Published(tuple(file.filename for file in added), len(pages), checked, warning)


def change(paths: Paths, host: IndexHost, act: Callable[[IndexTree], Collection[str]]) -> frozenset[str]:
    """Change the local tree, bring it to the index host and check there the projects that ``act`` returns.

    Returns what changed, as paths in the tree. Raises what ``act`` raises, and what :func:`publish` does.
    """
    index = IndexTree(paths.tree, base_url=host.url)
    with tree_lock(index):
        projects = {str(normalised(name)) for name in act(index)}
        changed = build_index(index, projects)
        push(paths.tree, host)
        left = projects & set(index.recorded())
    check(host, left, {})
    return changed


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
        project = parse(wheel.name).project
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
