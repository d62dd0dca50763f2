"""What the commands do, free of how they are typed and shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.utils import canonicalize_name

from farm import rebuild as rebuilding
from farm import timeline
from farm.controller import FOLLOW_S, fetch, open_store
from farm.dispatch.experience import Experience
from farm.dispatch.sources import FETCHES
from farm.errors import BusyError, FarmError, InputError, NodeError
from farm.executor import Executor
from farm.executor.ssh import SshExecutor
from farm.hosted import hosted_projects
from farm.index import IndexTree
from farm.nodes import Facts, IndexHost, Node, unfit
from farm.paths import Paths
from farm.plan import Choice, JobSpec, Python, choose, job_spec, parse_requirements
from farm.provenance.check import trusted_keys
from farm.rebuild import Rebuilt
from farm.recipe_file import load_recipe
from farm.store import Failure, Job, State, Store, controller_lock
from farm.timeline import Timeline
from farm.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Planned:
    """What was decided for one requirement and one Python: a choice, or the error that stands in its way."""

    requirement: str
    python: Python
    choice: Choice | None
    error: FarmError | None


def plan(
    texts: Sequence[str], pythons: Sequence[Python], upstream: Upstream, recipes: Path, *, force: bool = False
) -> list[Planned]:
    """Decide for each requirement and Python what is to be built; an error concerns its requirement only."""
    planned: list[Planned] = []
    for requirement in parse_requirements(texts):
        try:
            project = upstream.project(requirement.name, load_recipe(recipes, requirement.name).sdists)
        except FarmError as error:
            planned += [Planned(str(requirement), python, None, error) for python in pythons]
            continue
        for python in pythons:
            try:
                choice = choose(requirement, project, python, force=force)
            except FarmError as error:
                planned.append(Planned(str(requirement), python, None, error))
            else:
                planned.append(Planned(str(requirement), python, choice, None))
    return planned


def read_requirements(file: Path) -> list[str]:
    """Return a file's requirements, one a line; ``#`` begins a comment.

    Raises:
        InputError: it can't be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file}: {getattr(error, 'strerror', error)}", hint="give a file with one requirement a line"
        ) from error
    return [text for line in lines if (text := line.partition("#")[0].strip())]


def everything(host: IndexHost, inventory: Path, paths: Paths) -> list[str]:
    """Return requirements of all that the index has, and of all that it shall have.

    The latter are in a file that the inventory names (``farm_wanted``), relative to the inventory's folder;
    what it says of a project that is hosted holds.

    Raises:
        InputError: there is nothing, or the file is wrong.
    """
    wanted: list[str] = []
    if host.wanted:
        wanted = read_requirements((inventory if inventory.is_dir() else inventory.parent) / host.wanted)
    named = {canonicalize_name(requirement.name) for requirement in parse_requirements(wanted)}
    texts = wanted + [
        it.name for it in hosted_projects(IndexTree(paths.tree)) if it.kept_up and it.name not in named
    ]
    if not texts:
        hint = "name projects, or in the inventory a file of them as farm_wanted"
        raise InputError("the index has nothing yet, and nothing is wanted", hint=hint)
    return texts


def jobs_of(planned: Sequence[Planned], recipes: Path, *, debug: bool = False) -> list[JobSpec]:
    """Return the jobs that a plan asks for, all of them with debug information if ``debug`` is true."""
    jobs = []
    for item in planned:
        if item.choice is not None and item.choice.build:
            recipe = load_recipe(recipes, item.choice.project)
            jobs.append(job_spec(item.choice, replace(recipe, debug=True) if debug else recipe))
    return jobs


def cancel(names: Sequence[str], *, nodes: Sequence[Node], paths: Paths, note: Callable[[str], None]) -> None:
    """End jobs: queued ones at once, running ones with their whole process tree on their node.

    Raises:
        InputError: there is no such job, or it ended already.
        NodeError: a job's node can't be reached; the next dispatch that reaches it ends the job.
    """
    with open_store(paths) as store:
        jobs = [store.cancel(store.job(name).job_id) for name in names]
        running = [job.job_id for job in jobs if job.cancelling]
        while running := [job_id for job_id in running if not store.job(job_id).state.ended]:
            try:
                with controller_lock(paths.lock):
                    for job_id in running:
                        _end_on_node(store, store.job(job_id), nodes)
            except BusyError as error:
                note(f"{error.message}: it ends {', '.join(running)}")
                time.sleep(FOLLOW_S)
        for job in jobs:
            note(f"{job.job_id}: {store.job(job.job_id).message}")


def _end_on_node(store: Store, job: Job, nodes: Sequence[Node]) -> None:
    node = next((node for node in nodes if node.name == job.node), None)
    if node is not None:
        executor = SshExecutor(node)
        try:
            executor.prepare()
            executor.cancel(job.attempt_id)
            executor.forget(job.attempt_id)
        finally:
            executor.close()
    store.fail(job.job_id, Failure.CANCELLED, "cancelled")


def rebuild(
    subject: str,
    *,
    nodes: Sequence[Node],
    paths: Paths,
    upstream: Upstream,
    note: Callable[[str], None],
    keys: Path | None = None,
) -> Rebuilt:
    """Build a job's wheel again and compare; nothing is published.

    ``keys`` is a file of the public keys whose provenance is believed, for wheels that the store does not
    know; None: the farm's own.

    Raises:
        BusyError: another controller is at work: it would take the rebuild for something that nobody wants.
        InputError, NodeError, FarmError: see :func:`farm.rebuild.rebuild`.
    """
    own = IndexTree(paths.tree).keys
    trusted = trusted_keys(keys or own) if keys or own.exists() else ()
    executors: dict[Node, Executor] = {node: SshExecutor(node) for node in nodes}
    try:
        with controller_lock(paths.lock), open_store(paths, looking=True) as store:
            return rebuilding.rebuild(
                subject,
                store=store,
                executors=executors,
                paths=paths,
                fetch=lambda job: fetch(job.spec, upstream, paths),
                note=note,
                keys=trusted,
            )
    finally:
        for executor in executors.values():
            executor.close()


def foresee(
    specs: Sequence[JobSpec], *, nodes: Sequence[Node], paths: Paths, upstream: Upstream, policy: str
) -> Timeline:
    """Return how ``specs`` and what is queued already would be built by the nodes that answer now.

    Sdists are fetched, because what is unknown is estimated by them; nothing else changes.

    Raises:
        NodeError: no node answers.
        CycleError: some need each other to be built.
    """
    found = {name: probe.answer for name, probe in probe_all(nodes).items()}
    fit = {
        node: facts
        for node in nodes
        if isinstance(facts := found[node.name], Facts) and unfit(facts, node) is None
    }
    if not fit:
        raise next(
            (error for error in found.values() if isinstance(error, NodeError)),
            NodeError("every node", "unfit to build", hint="`farm nodes` says why"),
        )
    with open_store(paths, looking=True) as store:
        wanted = {job.job_id: job.spec for job in store.jobs(ended=False)}
        published = {job.job_id for job in store.jobs() if job.state is State.PUBLISHED}
        wanted |= {spec.job_id: spec for spec in specs if spec.job_id not in published}
        experience = Experience(store, time.time())
        with ThreadPoolExecutor(FETCHES) as pool:
            sdists = pool.map(lambda spec: fetch(spec, upstream, paths), wanted.values())
            return timeline.foresee(list(zip(wanted.values(), sdists, strict=True)), fit, experience, policy)


def last_run(paths: Paths) -> Timeline | None:
    """Return how the newest run went, or goes; None where there was none."""
    with open_store(paths, looking=True) as store:
        run = store.last_run()
        return timeline.review(run, store.attempts(since=run.began_at), time.time()) if run else None


@dataclass(frozen=True, slots=True)
class Probe:
    """What a node said of itself, or why it could not; and what makes its link slow, in words."""

    answer: Facts | NodeError
    warnings: tuple[str, ...]


def probe_all(nodes: Sequence[Node]) -> Mapping[str, Probe]:
    """Ask all nodes at once what they are."""

    def probe(node: Node) -> Probe:
        executor = SshExecutor(node)
        try:
            return Probe(executor.prepare(), executor.warnings)
        except NodeError as error:
            return Probe(error, ())
        finally:
            executor.close()

    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        return dict(zip([node.name for node in nodes], pool.map(probe, nodes), strict=True))
