"""The local index tree: wheels that never change, and pages derived from the wheels that are there.

``packages/<project>/<file>.whl``, its METADATA beside it (PEP 658) and what :mod:`farm.provenance` puts
there; ``records/<project>.json`` (:mod:`.record`); ``simple/`` and ``pypi/``, the pages. Every write is a
temporary file, fsync, rename. One writer at a time: :func:`farm.index.lock.tree_lock`.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from packaging.utils import canonicalize_name, is_normalized_name

from farm.errors import InputError, NameTakenError, PublishError
from farm.files import write_file
from farm.index.gone import read_gone
from farm.index.listing import METADATA, list_project
from farm.index.read import read_wheel
from farm.index.record import Record, read_record, write_record
from farm.index.scan import moment, scan_project
from farm.index.write import write_changed, writing
from farm.provenance.names import BESIDE, PROVENANCE, PUBLIC_KEYS
from farm.wheel_name import parse_name, rebuild_hint

if TYPE_CHECKING:
    from farm.index.model import ProjectIndex, PublishedFile

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class IndexTree:
    """Where an index is. ``base_url`` is the URL of its home page, if known."""

    root: Path
    base_url: str = ""

    @property
    def packages(self) -> Path:
        """The directory of the wheels."""
        return self.root / "packages"

    @property
    def records(self) -> Path:
        """The directory of what the index recorded; never served."""
        return self.root / "records"

    @property
    def keys(self) -> Path:
        """The farm's public keys, by which provenance is checked."""
        return self.root / PUBLIC_KEYS

    @property
    def simple(self) -> Path:
        """The directory of the Simple API's pages."""
        return self.root / "simple"

    def recorded(self) -> list[str]:
        """List the projects that have a record."""
        try:
            names = [entry.name for entry in os.scandir(self.records)]
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def wheels(self, project: str) -> list[Path]:
        """List a project's wheels, by name."""
        return sorted(p for p in (self.packages / project).glob("*.whl") if not p.name.startswith("."))

    def projects(self) -> list[str]:
        """List the projects that have a wheel. Raises what :meth:`folders` does."""
        return [name for name in self.folders() if self.wheels(name)]

    def folders(self) -> list[str]:
        """List the folders in ``packages/``.

        Raises PublishError at a name that is not normalised (F27), two spellings of one, or a foreign file.
        """
        try:
            with os.scandir(self.packages) as entries:
                found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except FileNotFoundError:
            return []
        for name, is_folder in found:
            if not is_folder:
                hint = "move it away: there are folders of projects in packages/, and nothing else"
                raise PublishError(f"packages/{name} does not belong into the index", hint=hint)
            if not is_normalized_name(name):
                raise self._misnamed(name)
        return [name for name, _ in found]

    def _misnamed(self, name: str) -> PublishError:
        right = canonicalize_name(name)
        if not is_normalized_name(right):
            hint = (
                "a project's name has letters, digits, and - . _ between them (PEP 508); move the folder away"
            )
            return PublishError(f"packages/{name} is not a project's name", hint=hint)
        if (self.packages / right).is_dir():
            hint = f"move its wheels to packages/{right}, where they don't clash with what is there"
            return PublishError(
                f"packages/{name} and packages/{right} are two spellings of one project", hint=hint
            )
        hint = f"move its wheels to packages/{right}"
        return PublishError(f"packages/{name} is not a normalised project name (PEP 503)", hint=hint)


def read_project(tree: IndexTree, project: str) -> ProjectIndex:
    """Return what the index has of a project, from its record.

    Raises InputError if it has nothing of it, PublishError if the record can't be read.
    """
    record = read_record(tree.records, canonicalize_name(project))
    if record is None:
        hint = "see what it has in its simple/, or `farm index build` it first"
        raise InputError(f"{project}: the index has no such project", hint=hint)
    return record.index


def add_wheel(tree: IndexTree, wheel: Path, now: float | None = None) -> PublishedFile:
    """Copy a wheel into the tree, with what lies beside it, and record when; the same file again is a no-op.

    ``now`` is the time of publication in seconds since the epoch. Raises NameTakenError if the tree holds, or
    ever held, the same wheel with other bytes: a published name never changes its content (F06, F24).
    """
    file, metadata = read_wheel(wheel)
    name, folder = parse_name(file.filename), tree.packages / file.project
    record = scan_project(list_project(folder), tree.records).record
    present = {other.filename: other for other in record.index.files}
    hashes = {**read_gone(tree.records, file.project), **{held: present[held].sha256 for held in present}}
    taken = {held.identity: held for held in map(parse_name, hashes)}
    held = taken.get(name.identity)
    if held is not None and hashes[held.filename] != file.sha256:
        raise NameTakenError(
            f"{held.filename} is published with other content"
            f" ({hashes[held.filename][:12]}, not {file.sha256[:12]})",
            hint=rebuild_hint(name, taken.values()),
        )
    if held is not None and held.filename in present:
        return _again(tree, wheel, record, present[held.filename])
    published = folder / file.filename
    with writing(published):
        write_file(published, lambda out: _copy(wheel, out, file))
    write_changed(folder / f"{file.filename}{METADATA}", metadata)
    file = replace(file, upload_time=moment(time.time() if now is None else now))
    file = _add_beside(wheel, published, file)
    _save(tree, record, file, published.stat().st_mtime_ns)
    return file


def _again(tree: IndexTree, wheel: Path, record: Record, held: PublishedFile) -> PublishedFile:
    """Take what lies beside a wheel that is published already, if nothing lay there."""
    published = tree.packages / held.project / held.filename
    file = _add_beside(wheel, published, held)
    _save(tree, record, file, record.mtimes[held.filename])
    return file


def _save(tree: IndexTree, record: Record, file: PublishedFile, mtime_ns: int) -> None:
    """Record a file; its pages are yet to be made."""
    others = [other for other in record.index.files if other.filename != file.filename]
    index = replace(record.index, files=tuple(sorted([*others, file], key=lambda f: f.sort_key)))
    if index == record.index:
        record_now = record
    else:
        record_now = replace(record.with_index(index), mtimes={**record.mtimes, file.filename: mtime_ns})
    write_record(tree.records, record_now)


def _add_beside(wheel: Path, published: Path, file: PublishedFile) -> PublishedFile:
    """Copy what the farm wrote beside a wheel, the provenance last: it names the hashes of the others.

    Where a provenance was published, it and they stay as they are: the same bytes may have been built again.
    """
    if published.with_name(published.name + PROVENANCE).exists():
        return replace(file, has_provenance=True)
    for suffix in BESIDE:
        source = wheel.with_name(wheel.name + suffix)
        if source.is_file():
            write_changed(published.with_name(published.name + suffix), source.read_bytes())
    return file


def _copy(wheel: Path, out: BinaryIO, file: PublishedFile) -> None:
    """Copy a wheel, making sure that the bytes are the ones that were judged."""
    digest = hashlib.sha256()
    with wheel.open("rb") as source:
        while piece := source.read(_CHUNK):
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != file.sha256:
        raise InputError(f"{wheel}: changed while it was published", hint="publish it again when it is whole")
