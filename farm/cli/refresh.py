"""``farm index refresh``: ask upstream what else there is of the projects that the index has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    publisher_of,
)
from farm.errors import ExitCode, InputError
from farm.index.refresh import Refreshed, refresh
from farm.index.tree import IndexTree

app = typer.Typer()
Projects = Annotated[
    list[str] | None, typer.Argument(metavar="[PROJECT]...", help="default: all that are hosted")
]
Directory = Annotated[
    Path | None,
    typer.Option("--directory", help="an index tree of its own, that is not pushed, instead of the farm's"),
]
Private = Annotated[
    list[str] | None,
    typer.Option("--private", metavar="NAME", help="never ask for it; * for any part of a name; may repeat"),
]


@app.command("refresh")
def index_refresh(
    projects: Projects = None,
    directory: Directory = None,
    private: Private = None,
    upstream: UpstreamUrl = PYPI,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    as_json: AsJson = False,
) -> None:
    """Merge what upstream offers into the pages of hosted projects; bring what changed to the index host."""
    if directory is not None:
        if not (directory / "packages").is_dir():
            raise InputError(f"{directory}: has no folder packages/", hint="name the root of an index")
        done = refresh(IndexTree(directory), upstream, projects, private or ())
    else:
        done = publisher_of(inventory, state, upstream).refresh(projects, private or ())
    _show(done, upstream, as_json=as_json)
    if done.failed:
        raise typer.Exit(ExitCode.UPSTREAM)


def _show(done: Refreshed, upstream: str, *, as_json: bool) -> None:
    for asked in done.failed:
        errors.print(f"error: {asked.project}: {asked.cause}", markup=False, soft_wrap=True)
    if done.failed:
        errors.print(
            f"  fix: what was known stays; run it again when {upstream} answers", markup=False, soft_wrap=True
        )
    for project in done.quarantined:
        errors.print(
            f"warning: {project} is in quarantine upstream, so /simple/{project}/ offers nothing any more",
            markup=False,
            soft_wrap=True,
        )
    if done.warning:
        errors.print(f"warning: {done.warning}", markup=False, soft_wrap=True)
    if as_json:
        print_json(
            {
                "asked": {asked.project: asked.answer.value for asked in done.asked},
                "failed": {asked.project: asked.cause for asked in done.failed},
                "quarantined": list(done.quarantined),
                "warning": done.warning,
                "changed": sorted(done.changed),
            }
        )
        return
    console.print(
        f"{len(done.asked)} projects asked for, {len(done.changed)} files changed, {len(done.failed)} failed"
    )
