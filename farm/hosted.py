"""What users are offered: hosted projects, their status, and their wheels but for yanked ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farm.errors import InputError
from farm.index import IndexTree
from farm.index.model import ProjectStatus
from farm.index.tree import read_project


@dataclass(frozen=True, slots=True)
class HostedProject:
    """One project of the local tree; ``wheels`` are those that clients take by themselves."""

    name: str
    status: ProjectStatus
    wheels: tuple[Path, ...]

    @property
    def offered(self) -> bool:
        """Whether clients are offered its files (PEP 792)."""
        return self.status is not ProjectStatus.QUARANTINED and bool(self.wheels)

    @property
    def kept_up(self) -> bool:
        """Whether new versions of it are wanted."""
        return self.status in {ProjectStatus.ACTIVE, ProjectStatus.DEPRECATED}


def hosted_projects(tree: IndexTree) -> list[HostedProject]:
    """Return all projects of a tree; one that has no record yet is active, and nothing of it is yanked."""
    return [_hosted(tree, name) for name in tree.projects()]


def _hosted(tree: IndexTree, name: str) -> HostedProject:
    try:
        index = read_project(tree, name)
    except InputError:
        return HostedProject(name, ProjectStatus.ACTIVE, tuple(tree.wheels(name)))
    yanked = {file.filename for file in index.files if file.yanked is not None}
    wheels = tuple(wheel for wheel in tree.wheels(name) if wheel.name not in yanked)
    return HostedProject(name, index.status, wheels)
