"""Commands about wheels and the index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import requests
import typer

from farm.cli.common import INVENTORY, AsJson, Inventory, State_, console, errors, print_json, show_error
from farm.errors import ExitCode, InputError, PublishError, WheelError
from farm.index.crawl import crawl
from farm.index.tree import IndexTree, build_index
from farm.nodes import read_fleet
from farm.paths import Paths
from farm.publish import publish as publish_wheels
from farm.store import controller_lock
from farm.verify import Report, verify_wheel
from farm.verify.debian import DebianPackages
from farm.verify.remote import Unread, verify_all
from farm.views import report_lines, verified_json

app = typer.Typer()
index_app = typer.Typer(no_args_is_help=True, help="Build and check an index.")
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
    state: State_ = None,
    as_json: AsJson = False,
) -> None:
    """Put wheels through every gate; exit code 1 if one does not pass. No farm is needed."""
    packages = DebianPackages(Paths.of(INVENTORY, state).debian)
    results = []
    for result in verify_all(wheels, index, packages):
        results.append(result)
        if not as_json:
            _show(result, everything=everything)
    if as_json:
        print_json([verified_json(result) for result in results])
    if not all(isinstance(result, Report) and result.ok for result in results):
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
) -> None:
    """Verify wheels that were built elsewhere and publish them."""
    index = read_fleet(inventory).require_index()
    for wheel in wheels:
        report = verify_wheel(wheel)
        if not report.ok:
            failure = report.failures[0]
            raise PublishError(
                f"{wheel.name}: {failure.gate}: {failure.evidence}",
                hint=f"`farm verify {wheel}` shows every gate",
            )
    paths = Paths.of(inventory, state)
    with controller_lock(paths.lock):
        done = publish_wheels(wheels, paths.tree, index)
    console.print(
        f"published {len(done.files)} files, {done.pages} pages changed: {index.simple_url}", soft_wrap=True
    )


@index_app.command("build")
def index_build(directory: Annotated[Path, typer.Argument(help="has packages/PROJECT/*.whl")]) -> None:
    """Write the pages of a folder of wheels; only what changed is touched."""
    if not (directory / "packages").is_dir():
        raise InputError(f"{directory}: has no folder packages/", hint="put wheels under packages/PROJECT/")
    changed = build_index(IndexTree(directory))
    console.print(f"{len(changed)} pages changed")


@index_app.command("crawl")
def index_crawl(url: Annotated[str, typer.Argument(help="the /simple/ page of an index")]) -> None:
    """Follow every link of an index and check every hash."""
    with requests.Session() as session:
        result = crawl(url, None, session)
    for problem in result.problems:
        errors.print(f"error: {problem.url}: {problem.cause}", markup=False, soft_wrap=True)
    console.print(f"{result.pages} pages, {len(result.files)} files, {len(result.problems)} problems")
    if result.problems:
        raise typer.Exit(ExitCode.PUBLISH)
