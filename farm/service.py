"""What the commands do, free of how they are typed and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from farm.dispatch import Dispatcher, Reporter
from farm.errors import FarmError, NodeError
from farm.executor.ssh import SshExecutor
from farm.nodes import Facts, Fleet, Node
from farm.paths import Paths
from farm.plan import Choice, JobSpec, Python, choose, job_spec, parse_requirements
from farm.publish import publish
from farm.recipe import load_recipe
from farm.store import Failure, Job, State, Store, controller_lock
from farm.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Planned:
    """What was decided for one requirement and one Python: a choice, or the error that stands in its way."""

    requirement: str
    python: Python
    choice: Choice | None
    error: FarmError | None


@dataclass(frozen=True, slots=True)
class Run:
    """How a dispatch ended."""

    jobs: tuple[Job, ...]
    errors: tuple[FarmError, ...]


def plan(
    texts: Sequence[str], pythons: Sequence[Python], upstream: Upstream, *, force: bool = False
) -> list[Planned]:
    """Decide for each requirement and Python what is to be built; an error concerns its requirement only."""
    planned: list[Planned] = []
    for requirement in parse_requirements(texts):
        for python in pythons:
            try:
                choice = choose(requirement, upstream.project(requirement.name), python, force=force)
            except FarmError as error:
                planned.append(Planned(str(requirement), python, None, error))
            else:
                planned.append(Planned(str(requirement), python, choice, None))
    return planned


def jobs_of(planned: Sequence[Planned], recipes: Path, *, debug: bool = False) -> list[JobSpec]:
    """Return the jobs that a plan asks for, all of them with debug information if ``debug`` is true."""
    jobs = []
    for item in planned:
        if item.choice is not None and item.choice.build:
            recipe = load_recipe(recipes, item.choice.project)
            jobs.append(job_spec(item.choice, recipe.model_copy(update={"debug": True}) if debug else recipe))
    return jobs


def dispatch(
    specs: Sequence[JobSpec], *, fleet: Fleet, paths: Paths, upstream: Upstream, reporter: Reporter
) -> Run:
    """Build, verify and publish ``specs`` and whatever an earlier run left unfinished.

    Raises:
        BusyError: another controller is at work.
        InputError: the inventory has no index host.
    """
    index = fleet.require_index()
    return run(
        specs,
        nodes=fleet.builders,
        publish=lambda wheel: publish([wheel], paths.tree, index),
        paths=paths,
        upstream=upstream,
        reporter=reporter,
    )


def run(
    specs: Sequence[JobSpec],
    *,
    nodes: Sequence[Node],
    publish: Callable[[Path], object],
    paths: Paths,
    upstream: Upstream,
    reporter: Reporter,
) -> Run:
    """Build and verify on ``nodes``, and hand each wheel to ``publish``.

    An sdist that can't be had fails alone.

    Raises:
        BusyError: another controller is at work.
    """
    errors: list[FarmError] = []
    with controller_lock(paths.lock):
        store = Store(paths.database)
        try:
            wanted = _enqueue(specs, store, paths)
            sdists = _fetch_sdists(store, paths, upstream, reporter, errors)
            dispatcher = Dispatcher(
                store,
                {node: SshExecutor(node) for node in nodes},
                paths=paths,
                sdist_of=lambda job: sdists[job.job_id],
                publish=publish,
                reporter=reporter,
            )
            if any(not job.state.ended for job in store.jobs()):
                dispatcher.run()
            jobs = tuple(store.job(job_id) for job_id in wanted)
        finally:
            store.close()
    return Run(jobs, (*errors, *dispatcher.errors))


def _enqueue(specs: Sequence[JobSpec], store: Store, paths: Paths) -> list[str]:
    """Queue what was asked for; returns its jobs and those an earlier run left unfinished."""
    for spec in specs:
        job = store.enqueue(spec)
        # F01: what is published is known from the files, not from what the database once wrote down.
        if job.state is State.PUBLISHED and not _in_index(job, paths):
            store.requeue(job.job_id, "its wheel is no longer in the index")
    wanted = [spec.job_id for spec in specs]
    return wanted + [job.job_id for job in store.jobs() if not job.state.ended and job.job_id not in wanted]


def _in_index(job: Job, paths: Paths) -> bool:
    return job.wheel is not None and (paths.tree / "packages" / job.spec.project / job.wheel).exists()


def _fetch_sdists(
    store: Store, paths: Paths, upstream: Upstream, reporter: Reporter, errors: list[FarmError]
) -> dict[str, Path]:
    """Fetch each sdist once; a job whose sdist can't be had fails alone."""
    sdists: dict[str, Path] = {}
    for job in store.jobs():
        if job.state.ended:
            continue
        spec = job.spec
        try:
            sdists[job.job_id] = upstream.fetch(
                spec.sdist_url, spec.sdist_filename, spec.sdist_sha256, paths.sdists
            )
        except FarmError as error:
            errors.append(error)
            reporter.job(store.fail(job.job_id, Failure.SOURCE, error.message))
        else:
            reporter.job(job)
    return sdists


def probe_all(nodes: Sequence[Node]) -> Mapping[str, Facts | NodeError]:
    """Ask all nodes at once what they are."""

    def probe(node: Node) -> Facts | NodeError:
        executor = SshExecutor(node)
        try:
            return executor.probe()
        except NodeError as error:
            return error
        finally:
            executor.close()

    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        return dict(zip([node.name for node in nodes], pool.map(probe, nodes), strict=True))
