"""What the commands share: options, consoles, how errors and JSON are printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from farm.errors import FarmError, InputError
from farm.nodes import Fleet, read_fleet
from farm.paths import REPOSITORY, Paths
from farm.plan import Python

if TYPE_CHECKING:
    from farm.publish import Publisher

DEFAULT_PYTHON: Final = "3.13"
PYPI: Final = "https://pypi.org/simple/"
INVENTORY: Final = REPOSITORY / "inventory" / "virtual"
RECIPES: Final = REPOSITORY / "recipes"
_PIPE_COLUMNS: Final = 200
# Without a terminal rich takes 80 columns: too few for whole lines, which is what a pipe wants.
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS)
errors = Console(stderr=True)

Inventory = Annotated[
    Path, typer.Option("--inventory", "-i", envvar="FARM_INVENTORY", help="Ansible inventory of the machines")
]
State_ = Annotated[
    Path | None,
    typer.Option(
        "--state", envvar="FARM_STATE", help="the controller's state (default: var/INVENTORY in the checkout)"
    ),
]
Recipes = Annotated[Path, typer.Option("--recipes", envvar="FARM_RECIPES", help="folder of recipes")]
UpstreamUrl = Annotated[
    str, typer.Option("--upstream", envvar="FARM_UPSTREAM", help="index that has the sdists")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
Requirements = Annotated[list[str] | None, typer.Argument(metavar="[REQ]...", help="NAME or NAME==VERSION")]
RequirementFile = Annotated[Path | None, typer.Option("-r", help="file with one requirement a line")]
Pythons = Annotated[
    list[str] | None, typer.Option("--python", help="build for this CPython (3.13); may repeat")
]
Debug = Annotated[
    bool, typer.Option("--debug-info", help="keep debug information, split off, beside the build's log")
]
Force = Annotated[bool, typer.Option("--force", help="build even where upstream ships a riscv64 wheel")]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help="a job's name or its beginning")]
NodeNames = Annotated[list[str], typer.Argument(metavar="NODE...", help="names of the inventory")]


def show_error(error: FarmError) -> None:
    """Print an error in one line, with the line that names the fix."""
    errors.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True, highlight=False)
    if error.hint:
        errors.print(Text.assemble(("  fix: ", "bold"), error.hint), soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(content: object) -> None:
    """Print JSON for programs."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def requirement_texts(requirements: list[str] | None, file: Path | None, *, needed: bool = True) -> list[str]:
    """Return what was asked for, on the command line and in a file.

    Raises:
        InputError: the file can't be read, or nothing was asked for although something is ``needed``.
    """
    texts = list(requirements or ())
    if file is not None:
        from farm import service  # noqa: PLC0415

        texts += service.read_requirements(file)
    if needed and not texts:
        raise InputError("nothing to plan", hint="name projects, or a file of them with -r")
    return texts


def pythons_of(texts: list[str] | None) -> list[Python]:
    """Return the Pythons to build for."""
    return [Python.parse(text) for text in texts or [DEFAULT_PYTHON]]


def publisher_of(inventory: Path, state: Path | None, upstream: str = "") -> Publisher:
    """Return the inventory's index. Raises InputError if it has none."""
    from farm.publish import Publisher  # noqa: PLC0415

    fleet = read_fleet(inventory)
    return Publisher(Paths.of(inventory, state), fleet.require_index(), fleet.builders, upstream)


def known_nodes(fleet: Fleet, names: list[str]) -> list[str]:
    """Return names of builders, checked.

    Raises:
        InputError: one is no builder of the inventory.
    """
    known = [node.name for node in fleet.builders]
    for name in names:
        if name not in known:
            raise InputError(f"{name}: no such builder", hint=f"the inventory has: {', '.join(known)}")
    return names
