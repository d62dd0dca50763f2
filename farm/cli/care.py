"""Commands that look after a farm: other registries, what is wrong, what is new, what goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.live import Live
from rich.text import Text

from farm import outdated as outdating
from farm import registry, tryout
from farm import watch as watching
from farm.cleanroom import CleanRoom
from farm.cli.common import (
    INVENTORY,
    PYPI,
    RECIPES,
    AsJson,
    Inventory,
    Pythons,
    Recipes,
    State_,
    UpstreamUrl,
    console,
    print_json,
    say,
    show_error,
)
from farm.display import table
from farm.doctor import Check, Level, examine
from farm.errors import ExitCode
from farm.index.tree import IndexTree
from farm.nodes import index_variables, read_fleet, read_inventory
from farm.paths import Paths
from farm.plan import Python
from farm.registry import Fate, Registry
from farm.upstream import Upstream
from farm.verify.model import printable
from farm.wheel_name import parse_name

app = typer.Typer()
on_index = typer.Typer()
TRIED_PIPS: Final = (tryout.NEWEST, tryout.OLDEST)
STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to", metavar="REGISTRY", help="publish to this registry of the inventory as well; may repeat"
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="say nothing of what is well")]
Targets = Sequence[tuple[Registry, str]]


def registry_targets(names: Sequence[str] | None, inventory: Path, paths: Paths) -> Targets:
    """Return registries with their tokens, before anything is published anywhere.

    Raises:
        InputError: one is not in the inventory, or its token is not where the inventory says.
    """
    if not names:
        return []
    known = registry.registries_of(index_variables(read_inventory(inventory)), str(inventory))
    targets = [registry.find(known, name) for name in dict.fromkeys(names)]
    return [(target, registry.token_of(target, paths.state)) for target in targets]


def upload(filenames: Sequence[str], targets: Targets, paths: Paths) -> None:
    """Send published files to registries, from the tree, so that all places have the same bytes.

    Ends with PUBLISH where a registry lacks one then; what went and what did not is said of each.
    """
    wheels = [paths.tree / "packages" / parse_name(name).project / name for name in filenames]
    lacking = 0
    for target, token in targets:
        for sent in registry.upload(wheels, target, token):
            lacking += not sent.ok
            later = "" if sent.listed else ", and not listed there yet"
            words = {
                Fate.SENT: f"sent to {target.name}{later}",
                Fate.PRESENT: f"{target.name} has it already",
                Fate.FAILED: f"NOT sent to {target.name}",
                Fate.UNTRIED: f"NOT sent to {target.name}, for the same cause",
            }
            say(f"{sent.filename}: {words[sent.fate]}")
            if sent.error:
                show_error(sent.error)
    if lacking:
        raise typer.Exit(ExitCode.PUBLISH)


@app.command()
def doctor(
    inventory: Inventory = INVENTORY, state: State_ = None, quiet: Quiet = False, as_json: AsJson = False
) -> None:
    """Say what on this controller, the nodes and the index is not as it should be, and how to mend it."""
    found: list[Check] = []
    for check in examine(inventory, Paths.of(inventory, state)):
        if quiet and check.level is Level.OK:
            continue
        found.append(check)
        if not as_json:
            _show_check(check)
    if as_json:
        print_json([check.to_json() for check in found])
    elif not quiet:
        counts = {level: sum(check.level is level for check in found) for level in Level}
        say(", ".join(f"{count} {level}" for level, count in counts.items() if count))
    if any(check.level is Level.FAIL for check in found):
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def outdated(
    python: Pythons = None,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    recipes: Recipes = RECIPES,
    upstream: UpstreamUrl = PYPI,
    as_json: AsJson = False,
) -> None:
    """List new upstream versions of what is hosted, and what upstream now ships for riscv64 itself."""
    tree = IndexTree(Paths.of(inventory, state).tree)
    pythons = [Python.parse(text) for text in python or ()]
    items, unknown = outdating.look(tree, pythons, Upstream(upstream), recipes)
    todo = outdating.commands(items)
    if as_json:
        errors = [{"project": it.project, "error": it.error.message, "hint": it.error.hint} for it in unknown]
        print_json({"news": [item.to_json() for item in items], "commands": todo, "errors": errors})
    elif items:
        rows = [[it.project, it.python.version, str(it.hosted), str(it.upstream), it.news] for it in items]
        console.print(table("project", "Python", "hosted", "upstream", "news", rows=rows))
        for command in todo:
            say(command)
    elif not unknown:
        say("nothing is outdated")
    for it in unknown:
        show_error(it.error)
    if unknown:
        raise typer.Exit(unknown[0].error.exit_code)


@app.command()
def watch(inventory: Inventory = INVENTORY, state: State_ = None) -> None:
    """Show the queue and the nodes as they change, until Ctrl-C; on no terminal, a line for each change."""
    names = [node.name for node in read_fleet(inventory).builders]
    try:
        with closing(watching.pictures(Paths.of(inventory, state), names)) as pictures:
            _draw(pictures) if console.is_terminal and not console.is_dumb_terminal else _tell(pictures)
    except KeyboardInterrupt:
        return  # looking is over; nothing was stopped


def _draw(pictures: Iterator[watching.Picture]) -> None:
    with Live(console=console, auto_refresh=False, screen=True) as live:
        for picture in pictures:
            live.update(watching.drawn(picture, console.height), refresh=True)
            time.sleep(watching.LOOK_S)


def _tell(pictures: Iterator[watching.Picture]) -> None:
    changes = watching.Changes()
    for picture in pictures:
        for line in changes.lines(picture):
            say(line)
        console.file.flush()
        time.sleep(watching.LOOK_S)


@on_index.command("try")
def index_try(
    projects: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="only these")] = None,
    pip: Annotated[
        list[str] | None, typer.Option("--pip", help="`newest` or a version; may repeat (default: both ends)")
    ] = None,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    recipes: Recipes = RECIPES,
    upstream: UpstreamUrl = PYPI,
    as_json: AsJson = False,
) -> None:
    """Install and import the newest wheel of every hosted project in the clean room, from the index."""
    paths, url = Paths.of(inventory, state), read_fleet(inventory).require_index().simple_url
    room, client = CleanRoom.at(), Upstream(upstream)
    room.check()
    wheels = tryout.newest_wheels(IndexTree(paths.tree), projects or ())
    pips = [tryout.pip_of(version, client, paths.sdists, room) for version in pip or TRIED_PIPS]
    if not pip:
        tryout.remove_others(pips, room)
    before, results = tryout.load(paths.tried), []
    for it in tryout.tries(wheels, pips, room, url, recipes, paths.state / "logs" / "tried"):
        results.append(it)
        if not as_json:
            _show_tried(it)
    report = tryout.compared(before, results, time.time())
    tryout.save(paths.tried, before, report, whole=not projects)
    if as_json:
        print_json(report.to_json())
    else:
        for words, names in (("new since the last try", report.new), ("mended since then", report.mended)):
            if names:
                say(f"{words}: {', '.join(names)}")
    if report.broken:
        raise typer.Exit(ExitCode.FAILED)
    if any(it.fate is tryout.Fate.UNTRIED for it in results):
        raise typer.Exit(ExitCode.NODE)


def _show_tried(it: tryout.Tried) -> None:
    style = "bold red" if it.broken else "green" if it.fate is tryout.Fate.WELL else "yellow"
    head = f" {it.project} {it.version}, {it.python}, pip {it.pip}: "
    line = Text.assemble((it.fate, style), head, printable(it.evidence))
    console.print(line, soft_wrap=True, highlight=False)
    if it.hint:
        say(f"  fix: {it.hint}")


def _show_check(check: Check) -> None:
    word = check.level.upper() if check.level is Level.FAIL else str(check.level)
    line = Text.assemble((f"{word:5}", STYLES[check.level]), f"{check.name}: {printable(check.evidence)}")
    console.print(line, soft_wrap=True, highlight=False)
    if check.hint:
        say(f"       fix: {check.hint}")
