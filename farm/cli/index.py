"""Commands about an index as a whole: ``farm index …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import requests
import typer

from farm.cli.common import (
    INVENTORY,
    AsJson,
    Inventory,
    State_,
    console,
    errors,
    print_json,
    publisher_of,
    say,
)
from farm.errors import ExitCode, InputError
from farm.index import IndexTree, ProjectStatus, PublishedFile, build_index
from farm.index.change import everything, prune, rollback, set_status
from farm.index.crawl import crawl
from farm.index.journal import Entry, read_journal
from farm.index.lock import tree_lock
from farm.index.refresh import write_merged
from farm.index.retention import read_lock, superfluous
from farm.paths import Paths
from farm.site import build_site

app = typer.Typer()


@app.command("build")
def index_build(
    directory: Annotated[Path, typer.Argument(help="has packages/PROJECT/*.whl")],
    projects: Annotated[
        list[str] | None, typer.Option("--project", metavar="NAME", help="look at this one only; may repeat")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="read every wheel again, whatever its size and mtime say")
    ] = False,
    url: Annotated[str, typer.Option("--url", help="address of the index's home page")] = "",
) -> None:
    """Write the pages of a folder of wheels; only what changed is touched."""
    if not (directory / "packages").is_dir():
        raise InputError(f"{directory}: has no folder packages/", hint="put wheels under packages/PROJECT/")
    tree = IndexTree(directory, url)
    with tree_lock(tree):
        changed = build_index(tree, projects, full=full)
        changed |= write_merged(tree, projects) | build_site(tree, projects=projects)
    console.print(f"{len(changed)} files changed")


@app.command("crawl")
def index_crawl(
    url: Annotated[str, typer.Argument(help="the /simple/ page of an index")], as_json: AsJson = False
) -> None:
    """Follow every link of an index, and check each hash, HTML against JSON, METADATA against wheels."""
    with requests.Session() as session:
        result = crawl(url, None, session)
    if as_json:
        problems = [{"url": problem.url, "cause": problem.cause} for problem in result.problems]
        print_json(
            {
                "pages": result.pages,
                "files": dict(result.files),
                "elsewhere": sorted(result.elsewhere),
                "problems": problems,
            }
        )
    else:
        for problem in result.problems:
            errors.print(f"error: {problem.url}: {problem.cause}", markup=False, soft_wrap=True)
        elsewhere = f", {len(result.elsewhere)} files on other hosts (not read)" if result.elsewhere else ""
        say(f"{result.pages} pages, {len(result.files)} files{elsewhere}, {len(result.problems)} problems")
    if result.problems:
        raise typer.Exit(ExitCode.PUBLISH)


@app.command("status")
def index_status(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a project of the index")],
    status: Annotated[
        ProjectStatus, typer.Argument(metavar="STATUS", help="quarantined: its files are not offered")
    ],
    reason: Annotated[str, typer.Option("--reason", help="e.g. upstream ships riscv64 now")] = "",
    inventory: Inventory = INVENTORY,
    state: State_ = None,
) -> None:
    """Say what the state of a project is (PEP 792)."""

    def act(tree: IndexTree) -> set[str]:
        set_status(tree, name, status, reason)
        return {name}

    publisher_of(inventory, state).change(act)
    say(f"{name} is {status.value}")


@app.command("prune")
def index_prune(
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=1, help="newest versions of each project")],
    locks: Annotated[
        list[Path] | None,
        typer.Option("--keep-lock", metavar="FILE", help="keep what this lock file names; may repeat"),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="do it; without this, show what would go")] = False,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    as_json: AsJson = False,
) -> None:
    """Remove old versions' wheels; their names stay taken. Shows what would go, unless told to do it."""
    locked = {pin for path in locks or () for pin in read_lock(path)}
    paths = Paths.of(inventory, state)
    files = superfluous(everything(IndexTree(paths.tree)), keep, locked)
    if remove and files:
        chosen: list[PublishedFile] = []

        def act(tree: IndexTree) -> set[str]:
            # Once more, with the lock: somebody may have published meanwhile.
            chosen.extend(superfluous(everything(tree), keep, locked))
            return prune(tree, chosen)

        publisher_of(inventory, state).change(act)
        files = chosen
    if as_json:
        print_json([{"project": f.project, "filename": f.filename, "size": f.size} for f in files])
        return
    for file in files:
        say(f"{file.project}  {file.filename}")
    done = "removed" if remove else "would be removed; do it with --remove"
    say(f"{len(files)} files, {sum(file.size for file in files) / 1e6:.1f} MB {done}")


@app.command("journal")
def index_journal(inventory: Inventory = INVENTORY, state: State_ = None, as_json: AsJson = False) -> None:
    """Show what was lately done to the index, the newest last."""
    entries = read_journal(IndexTree(Paths.of(inventory, state).tree).records)
    if as_json:
        print_json([_entry_json(entry) for entry in entries])
        return
    for entry in entries:
        say(_entry_line(entry))


@app.command("rollback")
def index_rollback(
    number: Annotated[
        int | None,
        typer.Option(
            "--to-before", metavar="NUMBER", help="undo this change of `farm index journal` and later ones"
        ),
    ] = None,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    as_json: AsJson = False,
) -> None:
    """Undo the last publication, and what was done to the index after it."""
    undone: list[Entry] = []

    def act(tree: IndexTree) -> set[str]:
        touched, entries = rollback(tree, number)
        undone.extend(entries)
        return touched

    publisher_of(inventory, state).change(act)
    if as_json:
        print_json([_entry_json(entry) for entry in undone])
        return
    for entry in undone:
        say(f"undone: {_entry_line(entry)}")


def _entry_line(entry: Entry) -> str:
    about = [f"{project}: {', '.join(names)}" if names else project for project, names in entry.files.items()]
    return f"{entry.number}  {entry.at}  {entry.kind.value}  {'; '.join(about)}"


def _entry_json(entry: Entry) -> dict[str, object]:
    files = {project: list(names) for project, names in entry.files.items()}
    return {"number": entry.number, "at": entry.at, "kind": entry.kind.value, "files": files}
