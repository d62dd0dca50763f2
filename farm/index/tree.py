"""The local index tree: wheels that never change, and pages derived from the wheels that are there.

``DIR/packages/<project>/<file>.whl`` and what lies beside it (:mod:`farm.provenance`),
``DIR/simple/<project>/index.html``, ``DIR/simple/index.html``, ``DIR/index.html``. Every write is a temporary
file, fsync, rename. One writer at a time: the farm's lock.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from packaging.utils import canonicalize_name

from farm.errors import InputError, PublishError
from farm.files import write_file
from farm.index.model import ProjectIndex, ProjectStatus, PublishedFile
from farm.index.render import render_home, render_project, render_root
from farm.provenance.names import BESIDE, PROVENANCE, PUBLIC_KEYS
from farm.verify.name import WheelName, parse_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class IndexTree:
    """Where an index is. ``base_url`` is the URL of its home page, if known, for the pip line shown there."""

    root: Path
    base_url: str = ""

    @property
    def packages(self) -> Path:
        """The directory of the wheels."""
        return self.root / "packages"

    @property
    def keys(self) -> Path:
        """The farm's public keys, by which provenance is checked."""
        return self.root / PUBLIC_KEYS

    @property
    def simple(self) -> Path:
        """The directory of the PEP 503 pages."""
        return self.root / "simple"

    def wheels(self, project: str) -> list[Path]:
        """List a project's wheels, by name."""
        return sorted(p for p in (self.packages / project).glob("*.whl") if not p.name.startswith("."))

    def projects(self) -> list[str]:
        """List the projects that have a wheel. Raises PublishError at a name that is not normalised (F27)."""
        if not self.packages.is_dir():
            return []
        names = sorted(p.name for p in self.packages.iterdir() if p.is_dir() and self.wheels(p.name))
        for name in names:
            if name != canonicalize_name(name):
                hint = f"move its wheels to packages/{canonicalize_name(name)}"
                raise PublishError(f"packages/{name} is not a normalised project name (PEP 503)", hint=hint)
        return names


def add_wheel(tree: IndexTree, wheel: Path) -> PublishedFile:
    """Copy a wheel into the tree, with what lies beside it; the same file again is a no-op.

    Raises PublishError if the tree holds the same wheel with other bytes: a published name never changes its
    content (F06, F24).
    """
    file = PublishedFile.from_wheel(wheel)
    name = parse_name(file.filename)
    folder = tree.packages / file.project
    present = [(parse_name(path.name), path) for path in tree.wheels(file.project)]
    for other, path in present:
        if (other.version, other.build, other.tags) != (name.version, name.build, name.tags):
            continue
        held = PublishedFile.from_wheel(path)
        if held.sha256 == file.sha256:
            return _add_beside(wheel, path, held)
        free = next_build_tag(name, [n for n, _ in present])
        raise PublishError(
            f"{path.name} is published with other content ({held.sha256[:12]}, not {file.sha256[:12]})",
            hint=f"publish the rebuild with build tag {free} (PEP 427): {retagged(name, free)}",
        )
    _write(folder / file.filename, lambda out: _copy(wheel, out, file))
    return _add_beside(wheel, folder / file.filename, file)


def _add_beside(wheel: Path, published: Path, file: PublishedFile) -> PublishedFile:
    """Copy what lies beside a wheel; its provenance last, for it names the hashes of the others.

    Where a provenance was published, it and they stay as they are: the same bytes may have been built again.
    """
    if published.with_name(published.name + PROVENANCE).exists():
        return replace(file, has_provenance=True)
    for suffix in BESIDE:
        source = wheel.with_name(wheel.name + suffix)
        if source.is_file():
            data = source.read_bytes()
            _write(published.with_name(published.name + suffix), lambda out, data=data: out.write(data))  # type: ignore[misc]
    return file


def next_build_tag(name: WheelName, present: Iterable[WheelName]) -> int:
    """Return the lowest build tag above those of the same version (PEP 427: higher wins, none is lowest)."""
    builds = [other.build for other in present if other.version == name.version]
    numbers = [int(b[: len(b) - len(b.lstrip("0123456789"))]) for b in builds if b]
    return max(numbers, default=0) + 1


def retagged(name: WheelName, build: int) -> str:
    """Return the wheel's file name with another build tag."""
    parts = name.filename.split("-")
    return "-".join([*parts[:2], str(build), *parts[-3:]])


def build_index(tree: IndexTree, projects: Iterable[str] | None = None) -> frozenset[str]:
    """Derive the pages from the files that are present (F01) and write those whose bytes change.

    ``projects`` limits the work to projects known to have changed. Returns the changed pages, removed ones
    included, relative to the tree. Project pages come first, the page that lists them after; a project
    without files loses its page last.
    """
    everything = tree.projects()
    asked = None if projects is None else {str(canonicalize_name(p)) for p in projects}
    changed = set()
    for project in everything:
        if asked is None or project in asked:
            page = render_project(project, _files(tree, project), tree.base_url)
            changed |= _update(tree, f"simple/{project}/index.html", page)
    count = sum(len(tree.wheels(project)) for project in everything)
    changed |= _update(tree, "simple/index.html", render_root(everything))
    changed |= _update(tree, "index.html", render_home(everything, count, tree.base_url))
    return frozenset(changed | _remove_stale(tree, set(everything)))


def _files(tree: IndexTree, project: str) -> list[PublishedFile]:
    files = [PublishedFile.from_wheel(path) for path in tree.wheels(project)]
    for file in files:
        if file.project != project:
            hint = f"move it to packages/{file.project}"
            raise PublishError(f"packages/{project}/{file.filename} is a wheel of {file.project}", hint=hint)
    return files


def read_project(tree: IndexTree, project: str) -> ProjectIndex:
    """Read what the index has of a project: the wheels that are there, and what was recorded of them."""
    record = tree.root / "records" / f"{project}.json"
    said = json.loads(record.read_bytes()) if record.exists() else {}
    noted = {item["filename"]: item for item in said.get("files", [])}
    files = [
        replace(
            file,
            upload_time=noted.get(file.filename, {}).get("upload_time"),
            yanked=noted.get(file.filename, {}).get("yanked"),
        )
        for file in _files(tree, project)
    ]
    ordered = tuple(sorted(files, key=lambda file: file.sort_key))
    status = ProjectStatus(said.get("status", ProjectStatus.ACTIVE))
    return ProjectIndex(canonicalize_name(project), ordered, status, said.get("status_reason", ""))


def _update(tree: IndexTree, page: str, text: str) -> set[str]:
    """Write a page unless it has these bytes already (nginx's ETag is mtime and size)."""
    path, data = tree.root / page, text.encode()
    with suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return set()
    _write(path, lambda out: out.write(data))
    return {page}


def _remove_stale(tree: IndexTree, present: set[str]) -> set[str]:
    """Remove the pages of projects whose files are gone: a listed one would be a lie (F01)."""
    removed = set()
    for page in sorted(tree.simple.glob("*/index.html")):
        if page.parent.name not in present:
            page.unlink()
            with suppress(OSError):  # something else is in there; leave it
                page.parent.rmdir()
            removed.add(page.relative_to(tree.root).as_posix())
    return removed


def _copy(wheel: Path, out: BinaryIO, file: PublishedFile) -> None:
    """Copy a wheel, making sure that the bytes are the ones that were judged."""
    digest = hashlib.sha256()
    with wheel.open("rb") as source:
        while piece := source.read(_CHUNK):
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != file.sha256:
        raise InputError(f"{wheel}: changed while it was published", hint="publish it again when it is whole")


def _write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    try:
        write_file(path, fill)
    except OSError as error:
        hint = "check the index directory's permissions and free space"
        raise PublishError(f"{path}: can't be written: {error.strerror}", hint=hint) from error
