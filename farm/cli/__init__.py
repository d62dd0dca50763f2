"""The ``farm`` command: parse, call, print. Errors become a message, a hint and an exit code here."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final

import typer

from farm.cli.common import errors, show_error
from farm.errors import ExitCode, FarmError
from farm.paths import own_programs_first

COMMANDS: Final[Mapping[str, Sequence[str]]] = {
    "nodes": ("provision", "nodes", "drain", "resume"),
    "jobs": ("plan", "dispatch", "status", "logs", "cancel", "retry"),
    "wheels": ("verify", "publish"),
    "care": ("doctor", "outdated", "watch"),
    "yank": ("yank", "unyank"),
}
"""The commands of each module; all others are of ``index``."""


ALLOCATOR: Final[Mapping[str, str]] = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""What a dispatch runs with: it has a thread for each node, and glibc shall keep no freed memory for each."""


def app_for(command: str = "") -> typer.Typer:
    """Return the application, or only that part of it that has a command.

    A module brings what its commands need; a dispatch, which stays for days, is not to have it all.
    """
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=__doc__,
        rich_markup_mode=None,
    )
    found = [module for module, commands in COMMANDS.items() if command in commands]
    for module in found or COMMANDS:
        app.add_typer(import_module(f"farm.cli.{module}").app)
    if not found:
        app.add_typer(_index(), name="index")
    return app


def _index() -> typer.Typer:
    from farm.cli import care, index, refresh  # noqa: PLC0415

    group = typer.Typer(no_args_is_help=True, help="Build, check and change an index.")
    for part in (index.app, refresh.app, care.on_index):
        group.add_typer(part)
    return group


def _with_allocator() -> None:
    """Begin anew with ALLOCATOR, which glibc reads but once; not where this was not started as a command."""
    if ALLOCATOR.items() <= os.environ.items():
        for name in ALLOCATOR:
            del os.environ[name]  # not for what is started from here
    elif sys.orig_argv[-len(sys.argv) :] == sys.argv and not ALLOCATOR.keys() & os.environ.keys():
        command = [sys.executable, *sys.orig_argv[1:]]
        with contextlib.suppress(OSError):  # it only takes more memory then
            os.execve(command[0], command, {**os.environ, **ALLOCATOR})  # noqa: S606  # this program itself


def main() -> None:
    """Entry point of the ``farm`` command."""
    if sys.argv[1:2] == ["dispatch"]:
        _with_allocator()
    own_programs_first()
    try:
        app_for(*sys.argv[1:2])()
    except FarmError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        errors.print("stopped; builds go on on their nodes, run `farm dispatch` to take them up again")
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001  # the last resort: a fault of the farm's own, not of its user
        with tempfile.NamedTemporaryFile("w", prefix="farm-fault-", suffix=".txt", delete=False) as report:
            report.write(f"{sys.argv}\n{traceback.format_exc()}")
        show_error(
            FarmError(
                f"a fault of the farm itself: {type(error).__name__}: {error}",
                hint=f"report it with {report.name}; what runs on the boards goes on",
            )
        )
        sys.exit(ExitCode.FAULT)
