"""Which wheels are put through which gates before they are published, and in which clean room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from farm.cleanroom import CleanRoom, RoomError, Trial, proved
from farm.dispatch.gates import Prove, may_be_staged
from farm.errors import FarmError
from farm.nodes import CLEAN_ROOM, IndexHost
from farm.paths import Paths
from farm.recipe import Recipe, load_recipe
from farm.store import Job
from farm.upstream import Upstream
from farm.verify import Allowances, Report, verify_wheel
from farm.verify.debian import DebianPackages
from farm.wheel_name import parse_name

WITHOUT_ROOM: Final = f"or have wheels published unproved: {CLEAN_ROOM}: false for the inventory's index host"


def trial_of_other(
    wheel: Path,
    recipe: Recipe,
    *,
    index_url: str,
    upstream: Upstream,
    sdists: Path,
    packages: DebianPackages | None = None,
    beside: tuple[Path, ...] = (),
) -> Trial:
    """Return the trial of a wheel that no job of this farm built; ``index_url`` has what it depends on.

    The tests that a recipe takes from an sdist come from that of the same version. Where that can't be
    had, they are not run, and the verdicts say why: a wheel may be of a project that upstream has never seen.
    """
    sdist, why = None, ""
    if recipe.test_sources:
        try:
            name = parse_name(wheel.name)
            sdist = upstream.fetch_sdist(name.project, name.version, sdists, recipe.sdists)
        except FarmError as error:
            why = error.message
    return Trial(wheel, index_url, recipe, beside=beside, sdist=sdist, no_sdist=why, packages=packages)


def vet(
    wheels: Sequence[Path], *, index: IndexHost, paths: Paths, recipes: Path, upstream: Upstream
) -> Iterator[Report]:
    """Put wheels that were built elsewhere through every gate, with what their recipes allow.

    Where the index host wants it they are proved in the clean room, each with the others beside it: they are
    to be published together.

    Raises:
        InputError: a file or a recipe can't be read.
        RoomError: the clean room is not well.
    """
    packages = DebianPackages(paths.debian)
    room = _room() if index.clean_room else None
    for wheel in wheels:
        recipe = load_recipe(recipes, wheel.name.partition("-")[0])
        report = verify_wheel(wheel, allow=Allowances.of(recipe), packages=packages)
        if room is not None and may_be_staged(report):
            others = tuple(other for other in wheels if other != wheel)
            trial = trial_of_other(
                wheel,
                recipe,
                index_url=index.simple_url,
                upstream=upstream,
                sdists=paths.sdists,
                packages=packages,
                beside=others,
            )
            report = proved(report, room, trial, paths.proof(wheel.name))
        yield report


def _room() -> CleanRoom:
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
    room, packages = _room(), DebianPackages(paths.debian)

    def prove(job: Job, wheel: Path, report: Report, beside: tuple[Path, ...]) -> Report:
        recipe = job.spec.recipe
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
