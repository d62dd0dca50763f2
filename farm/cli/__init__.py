"""The ``farm`` command: parse, call, print. Errors become a message, a hint and an exit code here."""

from __future__ import annotations

import sys
import tempfile
import traceback

import typer

from farm.cli import index, jobs, nodes, refresh, wheels, yank
from farm.cli.common import errors, show_error
from farm.errors import ExitCode, FarmError
from farm.paths import own_programs_first

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=__doc__,
    rich_markup_mode=None,
)
for part in (nodes, jobs, wheels, yank):
    app.add_typer(part.app)
index.app.add_typer(refresh.app)
app.add_typer(index.app, name="index")


def main() -> None:
    """Entry point of the ``farm`` command."""
    own_programs_first()
    try:
        app()
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
