"""Which gates wheels are put through that were built elsewhere, before they are published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from farm.cleanroom.trial import Trial, proved
from farm.dispatch.gates import may_be_staged
from farm.errors import FarmError
from farm.nodes import IndexHost
from farm.paths import Paths
from farm.proving import well_room
from farm.recipe import Recipe
from farm.recipe_file import load_recipe
from farm.upstream import Upstream
from farm.verify import Allowances, Report
from farm.verify.debian import DebianPackages
from farm.verify.judge import verify_wheel
from farm.wheel_name import parse_name


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
    room = well_room() if index.clean_room else None
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
