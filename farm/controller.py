"""One run: what is queued is built, verified, proved and published.

It may hold hundreds of nodes for hours before the first wheel comes: what downloads, proves and publishes is
imported when it is first needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from farm.dispatch import DEFAULT_POLICY, Dispatcher, Reporter, Tempo
from farm.errors import BusyError, FarmError
from farm.executor.ssh import SshExecutor, gather_s
from farm.paths import Paths
from farm.plan import JobSpec
from farm.provenance.key import signing_key
from farm.proving import prover
from farm.store import Job, State, Store, controller_lock

if TYPE_CHECKING:
    from farm.dispatch.gates import Prove
    from farm.nodes import Fleet, Node
    from farm.publish import Publisher
    from farm.upstream import Upstream

FOLLOW_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Run:
    """How a dispatch ended."""

    jobs: tuple[Job, ...]
    errors: tuple[FarmError, ...]
    led: bool = False
    """Whether it was this one that built and published, at least at the end."""


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

    def publisher() -> Publisher:
        from farm.publish import Publisher  # noqa: PLC0415

        return Publisher(paths, index, fleet.builders, upstream.endpoint)

    prove = prover(index, paths, lambda job: fetch(job.spec, upstream, paths)) if index.clean_room else None
    done = run(
        specs,
        nodes=fleet.builders,
        publish=lambda wheels: publisher().publish(wheels),
        paths=paths,
        upstream=upstream,
        reporter=reporter,
        policy=policy,
        tempo=tempo,
        prove=prove,
    )
    if done.led:
        try:
            publisher().tell()
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
                        fetch=lambda job: fetch(job.spec, upstream, paths),
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


def fetch(spec: JobSpec, upstream: Upstream, paths: Paths) -> Path:
    """Return a job's sdist, checked. Raises UpstreamError, HashMismatchError."""
    return upstream.fetch(spec.sdist_url, spec.sdist_filename, spec.sdist_sha256, paths.sdists)


@contextmanager
def open_store(paths: Paths, *, looking: bool = False) -> Iterator[Store]:
    """Open the farm's database, and close it; only ``looking``, none is made where there is none."""
    store = Store(Path(":memory:") if looking and not paths.database.exists() else paths.database)
    try:
        yield store
    finally:
        store.close()
