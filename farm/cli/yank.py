"""Commands that change what the index says of a version: ``farm yank``, ``farm unyank``."""

from __future__ import annotations

from typing import Annotated

import typer

from farm.cli.common import INVENTORY, AsJson, Inventory, State_, print_json, say
from farm.index.change import yank as set_yanked
from farm.index.tree import IndexTree
from farm.nodes import read_fleet
from farm.paths import Paths
from farm.publish import change

app = typer.Typer()
Name = Annotated[str, typer.Argument(metavar="NAME", help="a project of the index")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="one of its versions: all its wheels")]


@app.command()
def yank(
    name: Name,
    version: Version,
    reason: Annotated[str, typer.Option("--reason", help="shown by pip to whoever asks for it")] = "",
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    as_json: AsJson = False,
) -> None:
    """Have clients take a version only where it is asked for exactly (PEP 592)."""
    _change(name, version, reason, inventory, state, as_json=as_json)


@app.command()
def unyank(
    name: Name,
    version: Version,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    as_json: AsJson = False,
) -> None:
    """Take `farm yank` back."""
    _change(name, version, None, inventory, state, as_json=as_json)


def _change(
    name: str, version: str, reason: str | None, inventory: Inventory, state: State_, *, as_json: bool
) -> None:
    files: tuple[str, ...] = ()

    def act(tree: IndexTree) -> set[str]:
        nonlocal files
        files = set_yanked(tree, name, version, reason)
        return {name}

    change(Paths.of(inventory, state), read_fleet(inventory).require_index(), act)
    if as_json:
        print_json({"project": name, "version": version, "yanked": reason, "files": list(files)})
        return
    what = "is no longer yanked" if reason is None else "is yanked"
    for file in files:
        say(f"{file} {what}")
    if not files:
        say(f"nothing to do: {name} {version} {what}")
