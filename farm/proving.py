"""How the wheels of jobs are proved before they are published, and in which clean room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from farm.cleanroom import CleanRoom, RoomError
from farm.errors import FarmError
from farm.nodes import CLEAN_ROOM, IndexHost
from farm.paths import Paths
from farm.store import Job
from farm.verify import Report

if TYPE_CHECKING:
    from farm.dispatch.gates import Prove

WITHOUT_ROOM: Final = f"or have wheels published unproved: {CLEAN_ROOM}: false for the inventory's index host"


def well_room() -> CleanRoom:
    """Return the clean room.

    Raises:
        RoomError: it is not well; better now than after hours of building.
    """
    room = CleanRoom.at()
    try:
        room.check()
    except RoomError as error:
        raise RoomError(error.message, hint=f"{error.hint}; {WITHOUT_ROOM}") from error
    return room


def prover(index: IndexHost, paths: Paths, fetch: Callable[[Job], Path]) -> Prove:
    """Return what proves wheels by execution; dependencies come from the index that users have.

    ``fetch`` returns a job's sdist, checked. Raises RoomError: the clean room is not well.
    """
    room = well_room()

    def prove(job: Job, wheel: Path, report: Report, beside: tuple[Path, ...]) -> Report:
        # 4 MiB, hours before the first wheel comes.
        from farm.cleanroom.trial import Trial, proved  # noqa: PLC0415
        from farm.verify.debian import DebianPackages  # noqa: PLC0415

        recipe, packages = job.spec.recipe, DebianPackages(paths.debian)
        sdist = _tests_of(job, fetch) if recipe.test_sources else None
        python = job.spec.python
        trial = Trial(wheel, index.simple_url, recipe, python, beside, sdist, packages=packages)
        return proved(report, room, trial, paths.proof(job.attempt_id))

    return prove


def _tests_of(job: Job, fetch: Callable[[Job], Path]) -> Path:
    """Return a job's sdist, checked; usually it is still here."""
    try:
        return fetch(job)
    except FarmError as error:
        raise RoomError(f"{job.job_id}: its tests can't be had: {error.message}", hint=error.hint) from error
