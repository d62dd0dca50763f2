"""Commands that look after a farm: other registries, what is wrong, what is new, what goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from farm import registry
from farm.cli.common import (
    INVENTORY,
    AsJson,
    Inventory,
    State_,
    console,
    print_json,
    say,
    show_error,
)
from farm.doctor import Check, Level, examine
from farm.errors import ExitCode
from farm.nodes import index_variables, read_inventory
from farm.paths import Paths
from farm.registry import Fate, Registry
from farm.verify.model import printable
from farm.verify.name import parse_name

app = typer.Typer()
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


def _show_check(check: Check) -> None:
    word = check.level.upper() if check.level is Level.FAIL else str(check.level)
    line = Text.assemble((f"{word:5}", STYLES[check.level]), f"{check.name}: {printable(check.evidence)}")
    console.print(line, soft_wrap=True, highlight=False)
    if check.hint:
        say(f"       fix: {check.hint}")
