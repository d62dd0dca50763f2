"""Each command is found in the one module that is imported for it."""

from __future__ import annotations

from importlib import import_module

import pytest
from typer.main import get_group

from farm.cli import COMMANDS, app_for


@pytest.mark.parametrize("module", COMMANDS)
def test_each_command_is_found_in_its_module(module: str) -> None:
    own = import_module(f"farm.cli.{module}").app
    names = {command.name or command.callback.__name__ for command in own.registered_commands}
    assert names == set(COMMANDS[module])


def test_a_command_is_the_same_alone_and_among_all() -> None:
    whole = get_group(app_for()).commands
    assert set(whole) == {"index"}.union(*COMMANDS.values())
    for name in set(whole) - {"index"}:
        alone = get_group(app_for(name)).commands[name]
        assert [option.name for option in alone.params] == [option.name for option in whole[name].params]
