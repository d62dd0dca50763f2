"""The ``farm`` command: parse, call, print. Errors become a message, a hint and an exit code here."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import requests
import typer
from rich.console import Console
from rich.text import Text

from farm import service
from farm.display import Board, Lines, job_row, show_failures, table
from farm.errors import ExitCode, FarmError, InputError, NodeError, PublishError
from farm.index.crawl import crawl
from farm.index.tree import IndexTree, build_index
from farm.nodes import read_fleet, unfit
from farm.paths import REPOSITORY, Paths, own_programs_first
from farm.plan import Python
from farm.provision import provision as run_playbook
from farm.publish import publish as publish_wheels
from farm.store import Failure, State, Store, controller_lock
from farm.upstream import Upstream
from farm.verify import verify_wheel
from farm.views import job_json, node_json, node_row, outcome, planned_json

DEFAULT_PYTHON: Final = "3.13"
PYPI: Final = "https://pypi.org/simple/"
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=__doc__,
    rich_markup_mode=None,
)
index_app = typer.Typer(no_args_is_help=True, help="Build and check an index.")
app.add_typer(index_app, name="index")
console = Console()
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

INVENTORY: Final = REPOSITORY / "inventory" / "virtual"
EXIT_CODES: Final = {Failure.SOURCE: ExitCode.UPSTREAM, Failure.NODE: ExitCode.NODE}
RECIPES: Final = REPOSITORY / "recipes"


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


def show_error(error: FarmError) -> None:
    """Print an error in one line, with the line that names the fix."""
    errors.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True, highlight=False)
    if error.hint:
        errors.print(Text.assemble(("  fix: ", "bold"), error.hint), soft_wrap=True, highlight=False)


@app.command()
def provision(
    nodes: Annotated[list[str] | None, typer.Argument(metavar="[NODE]...")] = None,
    inventory: Inventory = INVENTORY,
    playbook: Annotated[str, typer.Option(help="playbook to run")] = "site.yml",
) -> None:
    """Bring machines to the state the farm needs (Ansible); may be run at any time."""
    run_playbook(inventory, nodes or (), playbook)


@app.command("nodes")
def show_nodes(inventory: Inventory = INVENTORY, as_json: AsJson = False) -> None:
    """Ask every builder what it is and whether it may be given jobs."""
    found = service.probe_all(read_fleet(inventory).builders)
    if as_json:
        print_json({name: node_json(facts) for name, facts in found.items()})
    else:
        columns = (
            "node",
            "state",
            "board",
            "ISA",
            "cores",
            "memory",
            "Pythons",
            "toolchains",
            "load",
            "disk free",
        )
        console.print(table(*columns, rows=[node_row(name, facts) for name, facts in found.items()]))
    for facts in found.values():
        if isinstance(facts, NodeError):
            show_error(facts)
    if any(isinstance(facts, NodeError) or unfit(facts) for facts in found.values()):
        raise typer.Exit(ExitCode.NODE)


@app.command()
def plan(
    requirements: Requirements = None,
    file: RequirementFile = None,
    python: Pythons = None,
    force: Force = False,
    upstream: UpstreamUrl = PYPI,
    as_json: AsJson = False,
) -> None:
    """Say what would be built, and why or why not; changes nothing."""
    planned = service.plan(_texts(requirements, file), _pythons(python), Upstream(upstream), force=force)
    if as_json:
        print_json([planned_json(item) for item in planned])
    else:
        rows: list[list[str | Text]] = []
        for item in planned:
            if item.choice:
                verb = Text("build", "green") if item.choice.build else Text("skip", "dim")
                rows.append(
                    [item.choice.project, str(item.choice.version), item.python.tag, verb, item.choice.reason]
                )
            elif item.error:
                rows.append([item.requirement, "", item.python.tag, Text("error", "red"), item.error.message])
        console.print(table("project", "version", "Python", "what", "why", rows=rows))
    _raise_first([item.error for item in planned if item.error])


@app.command()
def dispatch(
    requirements: Requirements = None,
    file: RequirementFile = None,
    python: Pythons = None,
    force: Force = False,
    debug: Debug = False,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    recipes: Recipes = RECIPES,
    upstream: UpstreamUrl = PYPI,
) -> None:
    """Build, verify and publish; without REQ, finish what an earlier run left."""
    paths = Paths.of(inventory, state)
    fleet = read_fleet(inventory)
    client = Upstream(upstream)
    planned = service.plan(_texts(requirements, file, needed=False), _pythons(python), client, force=force)
    failed = [item.error for item in planned if item.error]
    for item in planned:
        if item.error:
            show_error(item.error)
        elif item.choice and not item.choice.build:
            console.print(f"{item.choice.project} {item.choice.version}: not built: {item.choice.reason}")
    specs = service.jobs_of(planned, recipes, debug=debug)
    with Board(console) if console.is_terminal else Lines(console) as reporter:
        run = service.dispatch(specs, fleet=fleet, paths=paths, upstream=client, reporter=reporter)
    _show_run(run, paths, fleet.require_index().simple_url)
    for error in run.errors:
        show_error(error)
    _exit_with_code(failed, run)


def _show_run(run: service.Run, paths: Paths, url: str) -> None:
    show_failures(console, run.jobs, paths)
    if not run.jobs:
        console.print("nothing to build")
        return
    console.print(table("job", "state", "node", "time", "wheel", rows=[job_row(job) for job in run.jobs]))
    done = [job for job in run.jobs if job.state is State.PUBLISHED]
    console.print(f"{len(done)} of {len(run.jobs)} published; index: {url}", highlight=False, soft_wrap=True)


def _exit_with_code(failed: list[FarmError], run: service.Run) -> None:
    """End with the code of what went wrong; a lost node is no failure when all was published."""
    unfinished = [job for job in run.jobs if job.state is not State.PUBLISHED]
    if failed:
        raise typer.Exit(failed[0].exit_code)
    ended = [job.failure for job in unfinished if job.failure is not None]
    if ended:
        raise typer.Exit(EXIT_CODES.get(ended[0], ExitCode.FAILED))
    if unfinished:
        raise typer.Exit(run.errors[0].exit_code if run.errors else ExitCode.FAILED)


@app.command()
def status(inventory: Inventory = INVENTORY, state: State_ = None, as_json: AsJson = False) -> None:
    """List all jobs: their state, where they ran, how long it took."""
    with _opened(Paths.of(inventory, state)) as store:
        jobs = store.jobs() if store else []
        if as_json:
            print_json([job_json(job, store.result(job.job_id)) for job in jobs] if store else [])
            return
    if not jobs:
        console.print("no jobs yet; start some with `farm dispatch NAME`")
        return
    console.print(table("job", "state", "node", "time", "remark", rows=[job_row(job) for job in jobs]))
    counts = {state: sum(job.state is state for job in jobs) for state in State}
    console.print(", ".join(f"{count} {state}" for state, count in counts.items() if count))


@contextmanager
def _opened(paths: Paths) -> Iterator[Store | None]:
    """Open the store to read it; None where nothing was ever dispatched."""
    if not paths.database.exists():
        yield None
        return
    store = Store(paths.database)
    try:
        yield store
    finally:
        store.close()


@app.command()
def logs(
    job: Annotated[str, typer.Argument(metavar="JOB", help="a job's name or its beginning")],
    inventory: Inventory = INVENTORY,
    state: State_ = None,
) -> None:
    """Print the log of a job's last attempt."""
    paths = Paths.of(inventory, state)
    with _opened(paths) as store:
        if store is None:
            raise InputError(
                f"{job}: no such job", hint="no job was ever dispatched; `farm dispatch NAME` does it"
            )
        found = store.job(job)
    path = paths.log(found.attempt_id)
    if not path.exists():
        raise InputError(f"{found.job_id}: no log yet, it is {found.state}", hint="look again when it runs")
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            sys.stdout.write(line)


@app.command()
def verify(
    wheels: Annotated[list[Path], typer.Argument(metavar="WHEEL...", help="wheel files")],
    as_json: AsJson = False,
) -> None:
    """Put wheels through every gate; exit code 1 if one does not pass."""
    reports = [verify_wheel(wheel) for wheel in wheels]
    if as_json:
        print_json([json.loads(report.to_json()) for report in reports])
    else:
        for report in reports:
            console.print(Text.assemble((report.wheel, "bold"), ": ", outcome(report.ok)), soft_wrap=True)
            rows: list[list[str | Text]] = [
                [outcome(v.ok), v.gate, v.subject, v.evidence] for v in report.verdicts
            ]
            console.print(table("", "gate", "file", "evidence", rows=rows))
            for verdict in report.failures:
                errors.print(f"error: {verdict.subject}: {verdict.evidence}", markup=False, soft_wrap=True)
                if verdict.hint:
                    errors.print(f"  fix: {verdict.hint}", markup=False, soft_wrap=True)
    if not all(report.ok for report in reports):
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def publish(
    wheels: Annotated[list[Path], typer.Argument(metavar="WHEEL...", help="wheel files")],
    inventory: Inventory = INVENTORY,
    state: State_ = None,
) -> None:
    """Verify wheels that were built elsewhere and publish them."""
    index = read_fleet(inventory).require_index()
    for wheel in wheels:
        report = verify_wheel(wheel)
        if not report.ok:
            failure = report.failures[0]
            raise PublishError(
                f"{wheel.name}: {failure.gate}: {failure.evidence}",
                hint=f"`farm verify {wheel}` shows every gate",
            )
    paths = Paths.of(inventory, state)
    with controller_lock(paths.lock):
        done = publish_wheels(wheels, paths.tree, index)
    console.print(
        f"published {len(done.files)} files, {done.pages} pages changed: {index.simple_url}", soft_wrap=True
    )


@index_app.command("build")
def index_build(directory: Annotated[Path, typer.Argument(help="has packages/PROJECT/*.whl")]) -> None:
    """Write the pages of a folder of wheels; only what changed is touched."""
    if not (directory / "packages").is_dir():
        raise InputError(f"{directory}: has no folder packages/", hint="put wheels under packages/PROJECT/")
    changed = build_index(IndexTree(directory))
    console.print(f"{len(changed)} pages changed")


@index_app.command("crawl")
def index_crawl(url: Annotated[str, typer.Argument(help="the /simple/ page of an index")]) -> None:
    """Follow every link of an index and check every hash."""
    with requests.Session() as session:
        result = crawl(url, None, session)
    for problem in result.problems:
        errors.print(f"error: {problem.url}: {problem.cause}", markup=False, soft_wrap=True)
    console.print(f"{result.pages} pages, {len(result.files)} files, {len(result.problems)} problems")
    if result.problems:
        raise typer.Exit(ExitCode.PUBLISH)


def print_json(content: object) -> None:
    """Print JSON for programs."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def _texts(requirements: list[str] | None, file: Path | None, *, needed: bool = True) -> list[str]:
    texts = list(requirements or ())
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{file}: {getattr(error, 'strerror', error)}", hint="give a file with one requirement a line"
            ) from error
        texts += [text for line in lines if (text := line.partition("#")[0].strip())]
    if needed and not texts:
        raise InputError("nothing to plan", hint="name projects, or a file of them with -r")
    return texts


def _pythons(texts: list[str] | None) -> list[Python]:
    return [Python.parse(text) for text in texts or [DEFAULT_PYTHON]]


def _raise_first(found: list[FarmError]) -> None:
    if found:
        raise found[0]
