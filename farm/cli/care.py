"""Commands that look after a farm: other registries, what is wrong, what is new, what goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from farm import registry
from farm.cli.common import say, show_error
from farm.errors import ExitCode
from farm.nodes import index_variables, read_inventory
from farm.paths import Paths
from farm.registry import Fate, Registry
from farm.verify.name import parse_name

app = typer.Typer()
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to", metavar="REGISTRY", help="publish to this registry of the inventory as well; may repeat"
    ),
]
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
