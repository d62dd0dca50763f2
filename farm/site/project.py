"""A project's pages: one that shows its newest version, and one of each version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from packaging.version import Version

from farm.index import ProjectIndex, PublishedFile
from farm.site.downloads import Counted
from farm.site.history import attempt_id, build_path, build_row
from farm.site.model import (
    About,
    BuildRow,
    Cell,
    CellState,
    MatrixRow,
    ProjectPage,
    ProjectRow,
    Release,
    Upstream,
)
from farm.site.text import anchor, clean, path_of
from farm.site.wheels import Shelf, column_of, python_order, pythons_of, runs_on
from farm.store import Attempt, Job, State
from farm.wheel_name import parse_name

MOST_RELEASES: Final = 5
MOST_BUILDS: Final = 25


@dataclass(frozen=True, slots=True)
class Builds:
    """A project's jobs and attempts, oldest first."""

    jobs: Mapping[str, Job]
    attempts: Sequence[Attempt]


def project_path(project: str, version: str = "") -> str:
    """Return the path of a project's page, or of the page of one of its versions."""
    return f"{path_of('project', project, version) if version else path_of('project', project)}/"


def project_pages(
    index: ProjectIndex,
    about: About,
    upstream: Upstream | None,
    builds: Builds,
    shelf: Shelf,
    counted: Counted | None = None,
) -> Iterator[ProjectPage]:
    """Yield the project's own page, then that of each version, the newest first."""
    versions = _by_version(index.files)
    newest = newest_version(index.files)
    columns, rows = matrix(index, builds, counted.by_version(index.project) if counted else {})
    for version, files in sorted(versions.items(), key=lambda item: Version(item[0]), reverse=True):
        wheels = tuple(shelf.wheel(file) for file in files)
        for path in (project_path(index.project),) * (version == newest) + (
            project_path(index.project, version),
        ):
            yield ProjectPage(
                path=path,
                project=index.project,
                version=version,
                is_newest=version == newest,
                newest=newest,
                about=about,
                status=index.status,
                status_reason=clean(index.status_reason),
                upstream=upstream,
                columns=columns,
                rows=rows,
                downloads=counted.of(index.project) if counted else None,
                wheels=wheels,
                builds=_builds(builds, version),
            )


def newest_version(files: Sequence[PublishedFile]) -> str:
    """Return the version that installers choose: the highest, final and not yanked if one is."""

    def rank(file: PublishedFile) -> tuple[bool, bool, Version]:
        version = Version(file.version)
        return (file.yanked is None, not version.is_prerelease, version)

    return max(files, key=rank).version


def project_row(index: ProjectIndex, about: About, counted: Counted | None = None) -> ProjectRow:
    """Return a project as a line of the list of all projects."""
    newest = newest_version(index.files)
    releases = [
        _release(index.project, version, files, about) for version, files in _by_version(index.files).items()
    ]
    releases.sort(key=lambda release: (release.uploaded, Version(release.version)), reverse=True)
    return ProjectRow(
        project=index.project,
        path=project_path(index.project),
        summary=about.summary,
        version=newest,
        pythons=pythons_of([file for file in index.files if file.version == newest]),
        wheels=len(index.files),
        size=sum(file.size for file in index.files),
        uploaded=releases[0].uploaded,
        status=index.status,
        releases=tuple(releases[:MOST_RELEASES]),
        downloads=counted.of(index.project) if counted else None,
    )


def _release(project: str, version: str, files: Sequence[PublishedFile], about: About) -> Release:
    return Release(
        project=project,
        version=version,
        path=project_path(project, version),
        summary=about.summary,
        uploaded=max(file.upload_time or "" for file in files),
        pythons=pythons_of(files),
        wheels=len(files),
    )


def _by_version(files: Sequence[PublishedFile]) -> dict[str, list[PublishedFile]]:
    found: dict[str, list[PublishedFile]] = {}
    for file in files:
        found.setdefault(file.version, []).append(file)
    return found


def _builds(builds: Builds, version: str) -> tuple[BuildRow, ...]:
    rows = [
        build_row(attempt, builds.jobs.get(attempt.job_id))
        for attempt in reversed(builds.attempts)
        if builds.jobs[attempt.job_id].spec.version == version
    ]
    return tuple(rows[:MOST_BUILDS])


# -- versions and Pythons -----------------------------------------------------------------------------------


def matrix(
    index: ProjectIndex, builds: Builds, downloads: Mapping[Version, int]
) -> tuple[tuple[str, ...], tuple[MatrixRow, ...]]:
    """Return the columns (Pythons) and rows (versions, newest first) of what there is, and what is not.

    A version that only failed to build is a row, too: what is not there is half of what a reader asks.
    """
    cells: dict[str, dict[str, Cell]] = {}
    tried = {attempt.job_id: build_path(attempt_id(attempt)) for attempt in builds.attempts}
    for job in builds.jobs.values():
        cell = _job_cell(job, tried.get(job.job_id, ""))
        if cell is not None:
            cells.setdefault(job.spec.version, {})[_python(job.spec.python)] = cell
    for file in index.files:
        for word in runs_on(parse_name(file.filename)).split():
            row = cells.setdefault(file.version, {})
            row[column_of(word)] = _file_cell(file, word, row.get(column_of(word)))
    columns = sorted({column for row in cells.values() for column in row}, key=python_order)
    uploaded = {
        version: max(f.upload_time or "" for f in files)
        for version, files in _by_version(index.files).items()
    }
    rows = (
        MatrixRow(
            version,
            project_path(index.project, version) if version in uploaded else "",
            uploaded.get(version, ""),
            tuple(cells[version].get(column, Cell(CellState.NOTHING)) for column in columns),
            downloads.get(Version(version), 0),
        )
        for version in sorted(cells, key=Version, reverse=True)
    )
    return tuple(columns), tuple(rows)


def _python(tag: str) -> str:
    return f"3.{tag.removeprefix('cp3')}"


def _file_cell(file: PublishedFile, word: str, other: Cell | None) -> Cell:
    if file.yanked is not None and other is not None and other.state is CellState.PUBLISHED:
        return other
    state = CellState.PUBLISHED if file.yanked is None else CellState.YANKED
    path = f"{project_path(file.project, file.version)}#{anchor(file.filename)}"
    return Cell(state, word if word.endswith("+") else "", path)


def _job_cell(job: Job, path: str) -> Cell | None:
    if job.state is State.FAILED:
        return Cell(CellState.FAILED, str(job.failure or ""), path)
    return None if job.state is State.PUBLISHED else Cell(CellState.WAITING, str(job.state), path)
