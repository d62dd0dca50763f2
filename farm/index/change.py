"""Change what the index says of files, or take files out; :func:`farm.index.build.build_index` then makes the
pages.

Each change is in the journal before it is made. The caller holds :func:`farm.index.lock.tree_lock`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from farm.errors import InputError
from farm.index.journal import Entry, Kind, forget, note, read_journal, since
from farm.index.listing import list_project
from farm.index.model import ProjectIndex, ProjectStatus, PublishedFile
from farm.index.record import Record, read_record, write_record
from farm.index.scan import scan_project

if TYPE_CHECKING:
    from farm.index.tree import IndexTree


def yank(tree: IndexTree, project: str, version: str, reason: str | None) -> tuple[str, ...]:
    """Yank all files of a version (PEP 592), or, with None for a ``reason``, take that back.

    Returns the names of the files of which that is new. Raises InputError if there is no such version.
    """
    record = _record(tree, project)
    index = record.index
    found = _of_version(index, version)
    changed = {file.filename: file.yanked for file in found if file.yanked != reason}
    if changed:
        note(tree.records, Entry(0, "", Kind.YANK, {index.project: tuple(changed)}, yanked=changed))
        _set_yanked(tree, record, dict.fromkeys(changed, reason))
    return tuple(changed)


def set_status(tree: IndexTree, project: str, status: ProjectStatus, reason: str) -> bool:
    """Say what a project's state is (PEP 792); return whether that is new. Raises InputError."""
    record = _record(tree, project)
    index = record.index
    if (index.status, index.status_reason) == (status, reason):
        return False
    before = (index.status.value, index.status_reason)
    note(tree.records, Entry(0, "", Kind.STATUS, {index.project: ()}, status=before))
    _set_status(tree, record, status, reason)
    return True


def prune(tree: IndexTree, files: Sequence[PublishedFile]) -> set[str]:
    """Take files out for good; return their projects. The next build removes their links, then themselves."""
    by_project: dict[str, list[str]] = {}
    for file in files:
        by_project.setdefault(file.project, []).append(file.filename)
    if by_project:
        note(tree.records, Entry(0, "", Kind.PRUNE, by_project))
    for project, names in by_project.items():
        _doom(tree, _record(tree, project), names)
    return set(by_project)


def rollback(tree: IndexTree, number: int | None = None) -> tuple[set[str], tuple[Entry, ...]]:
    """Undo the last publication, or the change ``number``, and all that was done after it.

    Returns the projects whose pages are to be made again, and what was undone, the newest first. The names of
    files that were published stay taken. Raises InputError if there is nothing such, or files were removed
    since.
    """
    undone = since(read_journal(tree.records), number)
    touched: set[str] = set()
    for entry in undone:
        for project, names in entry.files.items():
            touched.add(project)
            record = scan_project(list_project(tree.packages / project), tree.records).record
            present = {file.filename for file in record.index.files}
            if not present:
                continue
            if entry.kind is Kind.PUBLISH:
                _doom(tree, record, [name for name in names if name in present])
            elif entry.kind is Kind.YANK:
                _set_yanked(
                    tree, record, {name: was for name, was in entry.yanked.items() if name in present}
                )
            else:
                _set_status(tree, record, ProjectStatus(entry.status[0]), entry.status[1])
    forget(tree.records, undone)
    return touched, undone


def everything(tree: IndexTree) -> list[ProjectIndex]:
    """Return everything that the index has, from its records."""
    return [record.index for name in tree.recorded() if (record := read_record(tree.records, name))]


def _record(tree: IndexTree, project: str) -> Record:
    record = read_record(tree.records, canonicalize_name(project))
    if record is None:
        hint = "see what it has in its simple/, or `farm index build` it first"
        raise InputError(f"{project}: the index has no such project", hint=hint)
    return record


def _of_version(index: ProjectIndex, version: str) -> list[PublishedFile]:
    has = ", ".join(dict.fromkeys(file.version for file in index.files))
    try:
        wanted = Version(version)
    except InvalidVersion as error:
        raise InputError(f"{version} is not a version (PEP 440)", hint=f"there is {has}") from error
    found = [file for file in index.files if Version(file.version) == wanted]
    if not found:
        raise InputError(f"the index has no {index.project} {version}", hint=f"it has {has}")
    return found


def _set_yanked(tree: IndexTree, record: Record, yanked: Mapping[str, str | None]) -> None:
    files = tuple(
        replace(file, yanked=yanked[file.filename]) if file.filename in yanked else file
        for file in record.index.files
    )
    write_record(tree.records, record.with_index(replace(record.index, files=files)))


def _set_status(tree: IndexTree, record: Record, status: ProjectStatus, reason: str) -> None:
    index = replace(record.index, status=status, status_reason=reason)
    write_record(tree.records, record.with_index(index))


def _doom(tree: IndexTree, record: Record, names: Sequence[str]) -> None:
    doomed = tuple(sorted({*record.doomed, *names}))
    write_record(tree.records, replace(record.with_index(record.index), doomed=doomed))
