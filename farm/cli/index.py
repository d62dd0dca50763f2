"""Commands about an index as a whole: ``farm index …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import requests
import typer

from farm.cli.common import console, errors
from farm.errors import ExitCode, InputError
from farm.index import IndexTree, build_index
from farm.index.crawl import crawl

app = typer.Typer(no_args_is_help=True, help="Build and check an index.")


@app.command("build")
def index_build(directory: Annotated[Path, typer.Argument(help="has packages/PROJECT/*.whl")]) -> None:
    """Write the pages of a folder of wheels; only what changed is touched."""
    if not (directory / "packages").is_dir():
        raise InputError(f"{directory}: has no folder packages/", hint="put wheels under packages/PROJECT/")
    changed = build_index(IndexTree(directory))
    console.print(f"{len(changed)} pages changed")


@app.command("crawl")
def index_crawl(url: Annotated[str, typer.Argument(help="the /simple/ page of an index")]) -> None:
    """Follow every link of an index and check every hash."""
    with requests.Session() as session:
        result = crawl(url, None, session)
    for problem in result.problems:
        errors.print(f"error: {problem.url}: {problem.cause}", markup=False, soft_wrap=True)
    console.print(f"{result.pages} pages, {len(result.files)} files, {len(result.problems)} problems")
    if result.problems:
        raise typer.Exit(ExitCode.PUBLISH)
