"""Commands about jobs: what is to be built, what is being built, what became of it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from farm import controller
from farm.cli.common import (
    INVENTORY,
    PYPI,
    RECIPES,
    AsJson,
    Debug,
    Force,
    Inventory,
    Jobs,
    Pythons,
    Recipes,
    RequirementFile,
    Requirements,
    State_,
    UpstreamUrl,
    console,
    print_json,
    pythons_of,
    requirement_texts,
    say,
    show_error,
)
from farm.dispatch import DEFAULT_POLICY, Tempo
from farm.display import Board, Lines, job_row, show_failures, table
from farm.errors import ExitCode, FarmError, InputError
from farm.nodes import read_fleet
from farm.paths import Paths
from farm.schedule import POLICIES
from farm.store import Failure, Job, State
from farm.upstream import Upstream

if TYPE_CHECKING:
    from farm.plan import JobSpec
    from farm.service import Planned
    from farm.timeline import Timeline

EXIT_CODES: Final = {Failure.SOURCE: ExitCode.UPSTREAM, Failure.NODE: ExitCode.NODE}
FOLLOW_S: Final = 0.3
PATIENCE_S: Final = Tempo().patience_s
app = typer.Typer()
Policy = Annotated[str, typer.Option(help=f"how jobs are placed: {', '.join(POLICIES)}", metavar="NAME")]
All = Annotated[
    bool, typer.Option("--all", help="everything hosted, at its newest version, and what farm_wanted names")
]
Simulate = Annotated[
    bool, typer.Option("--simulate", help="which node would build what when, with what is queued already")
]
Patience = Annotated[
    float, typer.Option(min=0, help="seconds to wait for a usable node while nothing runs", metavar="S")
]


@app.command()
def plan(
    requirements: Requirements = None,
    file: RequirementFile = None,
    everything: All = False,
    python: Pythons = None,
    force: Force = False,
    simulate: Simulate = False,
    policy: Policy = DEFAULT_POLICY,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    recipes: Recipes = RECIPES,
    upstream: UpstreamUrl = PYPI,
    as_json: AsJson = False,
) -> None:
    """Say what would be built, and why or why not; changes nothing."""
    from farm import service  # noqa: PLC0415
    from farm.views import planned_json  # noqa: PLC0415

    client = Upstream(upstream)
    texts = requirement_texts(requirements, file, needed=not (simulate or everything))
    if everything:
        texts += service.everything(
            read_fleet(inventory).require_index(), inventory, Paths.of(inventory, state)
        )
    planned = service.plan(texts, pythons_of(python), client, recipes, force=force)
    if simulate:
        foreseen = service.foresee(
            service.jobs_of(planned, recipes),
            nodes=read_fleet(inventory).builders,
            paths=Paths.of(inventory, state),
            upstream=client,
            policy=_known(policy),
        )
        show_timeline(foreseen, as_json=as_json)
    elif as_json:
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
    for item in planned:
        if item.error:
            raise item.error


@app.command()
def dispatch(
    requirements: Requirements = None,
    file: RequirementFile = None,
    everything: All = False,
    python: Pythons = None,
    force: Force = False,
    debug: Debug = False,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    recipes: Recipes = RECIPES,
    upstream: UpstreamUrl = PYPI,
    policy: Policy = DEFAULT_POLICY,
    patience: Patience = PATIENCE_S,
) -> None:
    """Build, verify and publish; without REQ, finish what an earlier run left."""
    policy = _known(policy)
    paths = Paths.of(inventory, state)
    fleet = read_fleet(inventory)
    client = Upstream(upstream)
    texts = requirement_texts(requirements, file, needed=False)
    planned: list[Planned] = []
    specs: list[JobSpec] = []
    if texts or everything:
        # Who only finishes what is queued, as with hundreds of nodes for days, does without 25 MiB.
        from farm import service  # noqa: PLC0415

        if everything:
            texts += service.everything(fleet.require_index(), inventory, paths)
        planned = service.plan(texts, pythons_of(python), client, recipes, force=force)
        specs = service.jobs_of(planned, recipes, debug=debug)
    failed = [item.error for item in planned if item.error]
    for item in planned:
        if item.error:
            show_error(item.error)
        elif item.choice and not item.choice.build:
            console.print(f"{item.choice.project} {item.choice.version}: not built: {item.choice.reason}")
    with Board(console) if console.is_terminal else Lines(console) as reporter:
        run = controller.dispatch(
            specs,
            fleet=fleet,
            paths=paths,
            upstream=client,
            reporter=reporter,
            policy=policy,
            tempo=Tempo(patience_s=patience),
        )
    _show_run(run, paths, fleet.require_index().simple_url)
    for error in run.errors:
        show_error(error)
    _exit_with_code(failed, run)


def _known(policy: str) -> str:
    if policy not in POLICIES:
        raise InputError(f"{policy}: no such policy", hint=f"there are: {', '.join(POLICIES)}")
    return policy


def show_timeline(timeline: Timeline, *, as_json: bool) -> None:
    """Print which node builds what when, as a table and a chart."""
    from farm.gantt import gantt, spans_rows, timeline_json  # noqa: PLC0415

    if as_json:
        print_json(timeline_json(timeline))
    elif timeline.timetable.spans:
        console.print(table("node", "job", "width", "start", "end", rows=spans_rows(timeline)))
        console.print(gantt(timeline, console.width))
    else:
        say("nothing to build")


def _show_run(run: controller.Run, paths: Paths, url: str) -> None:
    show_failures(console, run.jobs, paths)
    if not run.jobs:
        console.print("nothing to build")
        return
    console.print(table("job", "state", "node", "time", "wheel", rows=[job_row(job) for job in run.jobs]))
    done = [job for job in run.jobs if job.state is State.PUBLISHED]
    console.print(f"{len(done)} of {len(run.jobs)} published; index: {url}", highlight=False, soft_wrap=True)


def _exit_with_code(failed: list[FarmError], run: controller.Run) -> None:
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
def status(
    show_gantt: Annotated[bool, typer.Option("--gantt", help="how the last run went, node by node")] = False,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    as_json: AsJson = False,
) -> None:
    """List all jobs: their state, where they ran, how long it took."""
    paths = Paths.of(inventory, state)
    if show_gantt:
        from farm import service  # noqa: PLC0415

        timeline = service.last_run(paths)
        if timeline is None:
            raise InputError("nothing was ever dispatched", hint="`farm dispatch NAME` does it")
        show_timeline(timeline, as_json=as_json)
        return
    with controller.open_store(paths, looking=True) as store:
        jobs = store.jobs()
        if as_json:
            from farm.views import job_json  # noqa: PLC0415

            print_json([job_json(job, store.result(job.job_id)) for job in jobs])
            return
    if not jobs:
        console.print("no jobs yet; start some with `farm dispatch NAME`")
        return
    console.print(table("job", "state", "node", "time", "remark", rows=[job_row(job) for job in jobs]))
    counts = {state: sum(job.state is state for job in jobs) for state in State}
    console.print(", ".join(f"{count} {state}" for state, count in counts.items() if count))


@app.command()
def logs(
    job: Annotated[str, typer.Argument(metavar="JOB", help="a job's name or its beginning")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on until the job has ended")] = False,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
) -> None:
    """Print the log of a job's last attempt."""
    paths = Paths.of(inventory, state)
    with controller.open_store(paths, looking=True) as store:
        found = store.job(job)
        if not paths.log(found.attempt_id).exists() and not follow:
            raise InputError(f"{found.job_id}: no log yet, it is {found.state}", hint="follow it with -f")
        offset = _print_log(found, paths, 0)
        while follow and not (found.state.ended or found.state.collected):
            time.sleep(FOLLOW_S)
            before, found = found, store.job(found.job_id)
            # Another attempt has another log.
            offset = _print_log(found, paths, offset if before.attempt == found.attempt else 0)


def _print_log(job: Job, paths: Paths, offset: int) -> int:
    path = paths.log(job.attempt_id)
    if not path.exists():
        return offset
    with path.open("rb") as log:
        log.seek(offset)
        text = log.read()
    sys.stdout.write(text.decode(errors="replace"))
    sys.stdout.flush()
    return offset + len(text)


@app.command()
def cancel(jobs: Jobs, inventory: Inventory = INVENTORY, state: State_ = None) -> None:
    """End jobs; of one that is being built, the whole process tree on its node."""
    from farm import service  # noqa: PLC0415

    service.cancel(jobs, nodes=read_fleet(inventory).builders, paths=Paths.of(inventory, state), note=say)


@app.command()
def retry(jobs: Jobs, inventory: Inventory = INVENTORY, state: State_ = None) -> None:
    """Queue failed jobs again; a running `farm dispatch` takes them up, else the next one."""
    with controller.open_store(Paths.of(inventory, state)) as store:
        for job_id in [store.job(name).job_id for name in jobs]:
            store.retry(job_id)
            say(f"{job_id}: queued again; `farm dispatch` builds it, unless one runs already")
