"""Commands about wheels and the index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from farm.cleanroom import CleanRoom
from farm.cleanroom.trial import proved
from farm.cli.care import To, registry_targets, upload
from farm.cli.common import (
    INVENTORY,
    PYPI,
    RECIPES,
    AsJson,
    Inventory,
    Recipes,
    State_,
    UpstreamUrl,
    console,
    errors,
    print_json,
    publisher_of,
    show_error,
)
from farm.cli.rebuild import verify_by_rebuild
from farm.errors import ExitCode, InputError, WheelError
from farm.nodes import read_fleet
from farm.paths import REPOSITORY, Paths
from farm.provenance.check import Beside, checked_beside, trusted_keys
from farm.recipe_file import load_recipe
from farm.store import controller_lock
from farm.upstream import Upstream
from farm.verify import Report
from farm.verify.debian import DebianPackages
from farm.verify.expect import Allowances
from farm.verify.judge import verify_wheel
from farm.verify.remote import Unread, verify_all
from farm.vetting import trial_of_other, vet
from farm.views import report_lines, verified_json

app = typer.Typer()
LOGS: Final = REPOSITORY / "var" / "verify"
TrustedKeys = Annotated[
    Path | None,
    typer.Option(
        "--provenance",
        metavar="KEYS",
        help="an index's provenance.pub: what lies beside each file or URL must be signed by a key in it",
    ),
]
Rebuild = Annotated[
    bool,
    typer.Option(
        "--rebuild",
        help="build the job or wheel again, on another node, and compare bit by bit; with --provenance also"
        " what another farm built",
    ),
]
Wheels = Annotated[list[Path], typer.Argument(metavar="WHEEL...", help="wheel files")]


@app.command()
def verify(
    wheels: Annotated[
        list[str], typer.Argument(metavar="WHEEL...", help="wheel files or URLs; with --index NAME==VERSION")
    ],
    index: Annotated[
        str | None, typer.Option("--index", help="simple index (…/simple/) whose riscv64 wheels to verify")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="one line for each file and gate")] = False,
    keys: TrustedKeys = None,
    rebuild: Rebuild = False,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    upstream: UpstreamUrl = PYPI,
    as_json: AsJson = False,
    run: Annotated[
        bool, typer.Option("--run", help="install, import and test them in the clean room")
    ] = False,
    index_url: Annotated[
        str, typer.Option("--index-url", help="with --run: index that dependencies come from")
    ] = PYPI,
    recipes: Recipes = RECIPES,
    logs: Annotated[Path, typer.Option("--logs", help="with --run: folder of logs")] = LOGS,
) -> None:
    """Put wheels through every gate; exit code 1 if one does not pass. Only --rebuild needs a farm."""
    if rebuild:
        if run or index:
            raise InputError("--rebuild is a question of its own", hint="ask one after the other")
        _exit(ok=verify_by_rebuild(wheels, inventory, state, upstream, keys, as_json=as_json))
        return
    trusted = trusted_keys(keys) if keys else ()  # before anything is fetched
    paths = Paths.of(inventory, state)
    packages = DebianPackages(paths.debian)

    def judge(wheel: Path, beside: Beside) -> Report:
        recipe = load_recipe(recipes, wheel.name.partition("-")[0])
        report = verify_wheel(wheel, allow=Allowances.of(recipe), packages=packages)
        if run:
            trial = trial_of_other(
                wheel,
                recipe,
                index_url=index_url,
                upstream=Upstream(upstream),
                sdists=paths.sdists,
                packages=packages,
            )
            report = proved(report, CleanRoom.at(), trial, logs / f"{wheel.name}.log")
        return report.extended(checked_beside(wheel, trusted, beside)) if keys else report

    results = []
    for result in verify_all(wheels, index, judge):
        results.append(result)
        if not as_json:
            _show(result, everything=everything)
    if as_json:
        print_json([verified_json(result) for result in results])
    _exit(ok=all(isinstance(result, Report) and result.ok for result in results))


def _exit(*, ok: bool) -> None:
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


def _show(result: Report | Unread, *, everything: bool) -> None:
    if isinstance(result, Unread):
        show_error(result.error)
        return
    for line in report_lines(result, everything=everything):
        console.print(line, soft_wrap=True)
    try:
        result.raise_if_failed()
    except WheelError as error:
        show_error(error)


@app.command()
def publish(
    wheels: Wheels,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    to: To = None,
    recipes: Recipes = RECIPES,
    upstream: UpstreamUrl = PYPI,
) -> None:
    """Verify wheels that were built elsewhere, as `farm dispatch` does its own, and publish them.

    With --to, elsewhere, too.
    """
    index = read_fleet(inventory).require_index()
    paths = Paths.of(inventory, state)
    targets = registry_targets(to, inventory, paths)
    with controller_lock(paths.lock):
        pass  # who holds the farm is told now, not after minutes in the clean room
    failed = 0
    for report in vet(wheels, index=index, paths=paths, recipes=recipes, upstream=Upstream(upstream)):
        failed += not report.ok
        _show(report, everything=False)
    if failed:
        raise WheelError(
            f"nothing is published: {failed} of {len(wheels)} wheels did not pass every gate",
            hint="mend them, or have their recipes allow what is meant to be so",
        )
    with controller_lock(paths.lock):
        done = publisher_of(inventory, state, upstream).publish(wheels)
    if done.warning:
        errors.print(f"warning: {done.warning}", markup=False, soft_wrap=True)
    changed = f"{done.pages} pages changed, {done.checked_files} files read back"
    console.print(f"published {len(done.files)} files, {changed}: {index.simple_url}", soft_wrap=True)
    upload(done.files, targets, paths)
