"""What the commands do, free of how they are typed and shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from farm import rebuild as rebuilding
from farm import timeline
from farm.dispatch import DEFAULT_POLICY, Dispatcher, Reporter, Tempo
from farm.dispatch.experience import Experience
from farm.dispatch.gates import Prove
from farm.dispatch.sources import FETCHES
from farm.errors import BusyError, FarmError, InputError, NodeError
from farm.executor import Executor
from farm.executor.ssh import SshExecutor, gather_s
from farm.hosted import hosted_projects
from farm.index import IndexTree
from farm.nodes import Facts, Fleet, IndexHost, Node, unfit
from farm.paths import Paths
from farm.plan import Choice, JobSpec, Python, choose, job_spec, parse_requirements
from farm.provenance.check import trusted_keys
from farm.provenance.key import signing_key
from farm.proving import prover
from farm.publish import Publisher
from farm.rebuild import Rebuilt
from farm.recipe import load_recipe
from farm.store import Failure, Job, State, Store, controller_lock
from farm.timeline import Timeline
from farm.upstream import Upstream

FOLLOW_S: Final = 0.5


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
    led: bool = False
    """Whether it was this one that built and published, at least at the end."""


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
            jobs.append(job_spec(item.choice, recipe.model_copy(update={"debug": True}) if debug else recipe))
    return jobs


def dispatch(
    specs: Sequence[JobSpec],
    *,
    fleet: Fleet,
    paths: Paths,
    upstream: Upstream,
    reporter: Reporter,
    policy: str = DEFAULT_POLICY,
    tempo: Tempo | None = None,
) -> Run:
    """Build, verify and publish ``specs`` and whatever an earlier run left unfinished.

    Raises:
        InputError: the inventory has no index host.
    """
    index = fleet.require_index()
    publisher = Publisher(paths, index, fleet.builders, upstream.endpoint)
    prove = prover(index, paths, lambda job: _fetch(job.spec, upstream, paths)) if index.clean_room else None
    done = run(
        specs,
        nodes=fleet.builders,
        publish=publisher.publish,
        paths=paths,
        upstream=upstream,
        reporter=reporter,
        policy=policy,
        tempo=tempo,
        prove=prove,
    )
    if done.led:
        try:
            publisher.tell()
        except FarmError as error:  # wheels are published; what failed can be read here, too
            reporter.note(f"the web pages do not tell of this run yet: {error.message}")
    return done


def run(
    specs: Sequence[JobSpec],
    *,
    nodes: Sequence[Node],
    publish: Callable[[Sequence[Path]], object],
    paths: Paths,
    upstream: Upstream,
    reporter: Reporter,
    policy: str = DEFAULT_POLICY,
    tempo: Tempo | None = None,
    prove: Prove | None = None,
) -> Run:
    """Build and verify on ``nodes``, and hand the wheels to ``publish``.

    Where another controller is at work, the jobs join its queue and are followed to their end; should it
    die, this one goes on in its place.

    Raises:
        InputError: the key that signs provenance can't be used.
    """
    signing_key(paths.signing_key)  # before hours of building, not after
    with open_store(paths) as store:
        wanted = _enqueue(specs, store, paths)
        for job_id in wanted:
            reporter.job(store.job(job_id))
        follower = _Follower(store, wanted, reporter)
        while True:
            try:
                with controller_lock(paths.lock):
                    dispatcher = Dispatcher(
                        store,
                        {node: SshExecutor(node, gather_s=gather_s(len(nodes))) for node in nodes},
                        paths=paths,
                        fetch=lambda job: _fetch(job.spec, upstream, paths),
                        publish=publish,
                        reporter=reporter,
                        policy=policy,
                        tempo=tempo,
                        prove=prove,
                    )
                    if store.jobs(ended=False):
                        dispatcher.run()
                    return Run(tuple(map(store.job, wanted)), tuple(dispatcher.errors), led=True)
            except BusyError as error:
                if follower.look(error):
                    return Run(tuple(map(store.job, wanted)), ())
            time.sleep(FOLLOW_S)


class _Follower:
    """Shows jobs that another controller runs."""

    def __init__(self, store: Store, wanted: Sequence[str], reporter: Reporter) -> None:
        self._store = store
        self._reporter = reporter
        self._shown = {job_id: store.job(job_id) for job_id in wanted}
        self._told = False

    def look(self, busy: BusyError) -> bool:
        """Show what changed; returns whether all jobs have ended."""
        if not self._told:
            self._told = True
            self._reporter.note(f"{busy.message}: it takes these jobs, too; this is what becomes of them")
        for job_id, shown in self._shown.items():
            job = self._store.job(job_id)
            if job != shown:
                self._shown[job_id] = job
                self._reporter.job(job)
        self._reporter.tick()
        return all(job.state.ended for job in self._shown.values())


def _enqueue(specs: Sequence[JobSpec], store: Store, paths: Paths) -> list[str]:
    """Queue what was asked for; returns its jobs and those an earlier run left unfinished."""
    for spec in specs:
        job = store.enqueue(spec)
        # F01: what is published is known from the files, not from what the database once wrote down.
        if job.state is State.PUBLISHED and not _in_index(job, paths):
            store.requeue(job.job_id, "its wheel is no longer in the index")
    wanted = [spec.job_id for spec in specs]
    return wanted + [job.job_id for job in store.jobs(ended=False) if job.job_id not in wanted]


def _in_index(job: Job, paths: Paths) -> bool:
    return job.wheel is not None and (paths.tree / "packages" / job.spec.project / job.wheel).exists()


def _fetch(spec: JobSpec, upstream: Upstream, paths: Paths) -> Path:
    return upstream.fetch(spec.sdist_url, spec.sdist_filename, spec.sdist_sha256, paths.sdists)


@contextmanager
def open_store(paths: Paths, *, looking: bool = False) -> Iterator[Store]:
    """Open the farm's database, and close it; only ``looking``, none is made where there is none."""
    store = Store(Path(":memory:") if looking and not paths.database.exists() else paths.database)
    try:
        yield store
    finally:
        store.close()


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
                fetch=lambda job: _fetch(job.spec, upstream, paths),
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
            sdists = pool.map(lambda spec: _fetch(spec, upstream, paths), wanted.values())
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
