"""Commands about wheels and the index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import requests
import typer
from rich.text import Text

from farm.cli.common import (
    INVENTORY,
    PYPI,
    AsJson,
    Inventory,
    State_,
    UpstreamUrl,
    console,
    errors,
    print_json,
)
from farm.cli.rebuild import verify_by_rebuild
from farm.display import table
from farm.errors import ExitCode, InputError, PublishError
from farm.index.crawl import crawl
from farm.index.tree import IndexTree, build_index
from farm.nodes import read_fleet
from farm.paths import Paths
from farm.provenance.check import with_provenance
from farm.publish import publish as publish_wheels
from farm.store import controller_lock
from farm.verify import verify_wheel
from farm.views import outcome

app = typer.Typer()
index_app = typer.Typer(no_args_is_help=True, help="Build and check an index.")
TrustedKeys = Annotated[
    Path | None,
    typer.Option(
        "--provenance",
        metavar="KEYS",
        help="an index's provenance.pub: what lies beside each wheel must be signed by a key in it",
    ),
]
Rebuild = Annotated[
    bool,
    typer.Option("--rebuild", help="build the job or wheel again, on another node, and compare bit by bit"),
]
Wheels = Annotated[list[Path], typer.Argument(metavar="WHEEL...", help="wheel files")]


@app.command()
def verify(
    wheels: Wheels,
    keys: TrustedKeys = None,
    rebuild: Rebuild = False,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    upstream: UpstreamUrl = PYPI,
    as_json: AsJson = False,
) -> None:
    """Put wheels through every gate; exit code 1 if one does not pass."""
    if rebuild and keys is not None:
        raise InputError("--rebuild and --provenance are two questions", hint="ask one after the other")
    if rebuild:
        names = [str(wheel) for wheel in wheels]
        if not verify_by_rebuild(names, inventory, state, upstream, as_json=as_json):
            raise typer.Exit(ExitCode.FAILED)
        return
    reports = [verify_wheel(wheel) for wheel in wheels]
    if keys is not None:
        reports = with_provenance(wheels, reports, keys)
    if as_json:
        print_json([json.loads(report.to_json()) for report in reports])
    else:
        for report in reports:
            console.print(Text.assemble((report.wheel, "bold"), ": ", outcome(report.ok)), soft_wrap=True)
            rows: list[list[str | Text]] = [
                [outcome(v.ok), v.gate, v.subject, v.evidence] for v in report.verdicts
            ]
            console.print(table("", "gate", "file", "evidence", rows=rows))
            for verdict in report.failures:
                errors.print(f"error: {verdict.subject}: {verdict.evidence}", markup=False, soft_wrap=True)
                if verdict.hint:
                    errors.print(f"  fix: {verdict.hint}", markup=False, soft_wrap=True)
    if not all(report.ok for report in reports):
        raise typer.Exit(ExitCode.FAILED)


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
        done = publish_wheels(wheels, paths, index)
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
