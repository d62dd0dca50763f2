"""The event loop: leases, builds on nodes, collection, verification, publication; resumes what was cut off.

One thread owns the store and decides; each node has one visitor at a time in a thread pool, and publishing
has a lane of its own. Builds run detached on their nodes, so nothing here is needed to keep them alive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final, Protocol

from farm.errors import FarmError, NodeError
from farm.estimate import expected_work
from farm.executor import AttemptState, Executor, Launch, Progress
from farm.nodes import Facts, Node, twins, unfit
from farm.paths import Paths
from farm.schedule import Candidate, Capacity, assign, unmet, width
from farm.store import Failure, Job, State, Store
from farm.verify import Gate, JobExpectation, Report, verify_wheel
from farm.visit import Visited, visit

# A poll starts an interpreter on the board, which costs it half a second of a core.
POLL_S: Final = 4.0
TICK_S: Final = 0.2
NODE_TRIES: Final = 4
BACKOFF_S: Final = 2.0
JOB_TRIES: Final = 3
COLLECT_TRIES: Final = 3


class Reporter(Protocol):
    """Who shows the run to a person."""

    def job(self, job: Job) -> None:
        """Show that a job changed."""

    def log(self, job: Job, text: str) -> None:
        """Show new output of a build."""

    def note(self, text: str) -> None:
        """Show something that is not about one job."""

    def tick(self) -> None:
        """Redraw what shows time."""


class Dispatcher:
    """Runs all jobs of the store that have not ended, until they have or no node is left."""

    def __init__(
        self,
        store: Store,
        executors: Mapping[Node, Executor],
        *,
        paths: Paths,
        sdist_of: Callable[[Job], Path],
        publish: Callable[[Path], object],
        reporter: Reporter,
        poll_s: float = POLL_S,
    ) -> None:
        self._store = store
        self._nodes = {node.name: Visited(node, executor) for node, executor in executors.items()}
        self._paths = paths
        self._sdist_of = sdist_of
        self._publish = publish
        self._reporter = reporter
        self._poll_s = poll_s
        self._publication: tuple[Job, Future[object]] | None = None
        self._publish_failed: set[str] = set()
        self.errors: list[FarmError] = []

    def run(self) -> None:
        """Run until nothing more can happen."""
        with ThreadPoolExecutor(len(self._nodes) + 1) as pool:
            while True:
                self._take_visits()
                self._take_publication()
                jobs = [job for job in self._store.jobs() if not job.state.ended]
                self._place([job for job in jobs if job.state is State.QUEUED])
                self._verify([job for job in jobs if job.state is State.BUILT])
                self._start_publication(pool)
                self._start_visits(pool)
                if not self._busy():
                    break
                self._reporter.tick()
                futures: list[Future[Any]] = [
                    visited.visit for visited in self._nodes.values() if visited.visit is not None
                ]
                if self._publication:
                    futures.append(self._publication[1])
                if futures:
                    wait(futures, timeout=TICK_S, return_when=FIRST_COMPLETED)
                else:
                    time.sleep(TICK_S)
        for visited in self._nodes.values():
            visited.executor.close()

    def _busy(self) -> bool:
        waiting = {State.LEASED, State.RUNNING, State.BUILT}
        nodes = [visited for visited in self._nodes.values() if not visited.given_up]
        if self._publication or any(visited.visit or visited.forget for visited in nodes):
            return True
        jobs = [job for job in self._store.jobs() if not job.state.ended]
        if any(job.state is State.VERIFIED and job.job_id not in self._publish_failed for job in jobs):
            return True
        return bool(nodes) and any(job.state in waiting or job.state is State.QUEUED for job in jobs)

    # -- nodes ------------------------------------------------------------------------------------------

    def _start_visits(self, pool: ThreadPoolExecutor) -> None:
        now = time.monotonic()
        for name, visited in self._nodes.items():
            if visited.given_up or visited.visit is not None or now < visited.not_before:
                continue
            active = [job for job in self._store.jobs() if job.node == name and _on_node(job)]
            if visited.facts is not None and not (active or visited.forget):
                continue
            offsets = {job.attempt_id: _size(self._paths.log(job.attempt_id)) for job in active}
            visited.visit = pool.submit(
                visit,
                visited.executor,
                probe=visited.facts is None,
                launches=tuple(visited.launches),
                offsets=offsets,
                forget=tuple(visited.forget),
                paths=self._paths,
            )
            # A launch that is lost with the link is made again when the next poll does not know the attempt.
            visited.launches.clear()

    def _take_visits(self) -> None:
        for visited in self._nodes.values():
            if visited.visit is None or not visited.visit.done():
                continue
            future, visited.visit = visited.visit, None
            visited.not_before = time.monotonic() + self._poll_s
            try:
                visit = future.result()
            except NodeError as error:
                self._node_failed(visited, error)
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                message = f"its answer can't be used: {type(error).__name__}: {error}"
                self._node_failed(visited, NodeError(visited.node.name, message))
                continue
            visited.errors = 0
            visited.forget = [name for name in visited.forget if name not in visit.forgotten]
            if visit.facts is not None:
                self._node_known(visited, visit.facts)
            for progress in visit.progress:
                problem = visit.uncollected.get(progress.attempt_id)
                if problem is not None:
                    self._not_collected(visited, progress.attempt_id, problem)
                    continue
                self._attempt_progressed(visited, progress, visit.collected.get(progress.attempt_id))

    def _not_collected(self, visited: Visited, attempt_id: str, error: NodeError) -> None:
        tries = visited.uncollected.get(attempt_id, 0) + 1
        visited.uncollected[attempt_id] = tries
        job = next((job for job in self._store.jobs() if job.attempt_id == attempt_id), None)
        if job is not None and _on_node(job) and tries >= COLLECT_TRIES:
            self._retry_elsewhere(job, error.message)

    def _node_known(self, visited: Visited, facts: Facts) -> None:
        visited.facts = facts
        known = {
            name: other.facts for name, other in self._nodes.items() if other.facts and not other.given_up
        }
        why = unfit(facts)
        twin = twins(known).get(visited.node.name) or next(
            (name for name, other in twins(known).items() if other == visited.node.name), None
        )
        if twin:
            why = f"it is the same machine as {twin}, by host name or machine id (F11)"
        if why:
            self._give_up(visited, NodeError(visited.node.name, why))
            return
        # What an earlier run gave up here and built elsewhere is not to run on for nothing.
        jobs = {job.job_id: job for job in self._store.jobs()}
        for attempt_id in facts.attempts:
            job = jobs.get(attempt_id.rpartition(".")[0])
            if job is not None and not (_on_node(job) and job.attempt_id == attempt_id):
                visited.forget.append(attempt_id)

    def _node_failed(self, visited: Visited, error: NodeError) -> None:
        visited.errors += 1
        visited.not_before = time.monotonic() + BACKOFF_S * visited.errors
        if visited.errors == 1:
            self._reporter.note(f"{error.message}; trying again" + (f" ({error.hint})" if error.hint else ""))
        if visited.errors >= NODE_TRIES:
            self._give_up(visited, error)

    def _give_up(self, visited: Visited, error: NodeError) -> None:
        """Use a node no more in this run; its jobs go elsewhere."""
        visited.given_up = True
        self.errors.append(error)
        self._reporter.note(f"{error.message}; not used any more in this run")
        for job in self._store.jobs():
            if job.node == visited.node.name and _on_node(job):
                self._retry_elsewhere(job, error.message)

    def _retry_elsewhere(self, job: Job, why: str) -> None:
        self._reporter.job(self._store.requeue(job.job_id, why))
        if sum(self._store.failed_on(job.job_id).values()) >= JOB_TRIES:
            self._fail(job, Failure.NODE, f"{JOB_TRIES} attempts ended by their nodes; the last: {why}")

    # -- jobs -------------------------------------------------------------------------------------------

    def _place(self, queued: Sequence[Job]) -> None:
        ready = {name: v for name, v in self._nodes.items() if v.facts is not None and not v.given_up}
        pending = any(v.facts is None and not v.given_up for v in self._nodes.values())
        capacities = [self._capacity(visited) for visited in ready.values()]
        candidates = {job.job_id: self._candidate(job) for job in queued}
        for assignment in assign(candidates.values(), capacities):
            job = self._store.lease(assignment.job_id, assignment.node)
            visited = ready[assignment.node]
            visited.launches.append(
                Launch(job.attempt_id, job.attempt, job.spec, self._sdist_of(job), assignment.width)
            )
            visited.not_before = 0.0
            self._reporter.job(job)
        if pending or not ready:
            return
        for job in queued:
            whys = {c.node: unmet(candidates[job.job_id], c) for c in capacities}
            if all(whys.values()):
                text = "; ".join(f"{node}: {why}" for node, why in whys.items())
                self._fail(job, Failure.NODE, f"no node can take it ({text}); run `farm provision`")

    def _capacity(self, visited: Visited) -> Capacity:
        facts = visited.facts
        assert facts is not None  # noqa: S101  # the caller chose nodes with facts
        used = sum(1 for job in self._store.jobs() if job.node == visited.node.name and _on_node(job))
        return Capacity(
            node=visited.node.name,
            free=max(0, visited.node.slots - used),
            slots=visited.node.slots,
            cores=facts.cores,
            pythons=frozenset(facts.pythons),
            apt_packages=facts.apt_packages,
        )

    def _candidate(self, job: Job) -> Candidate:
        return Candidate(
            job_id=job.job_id,
            python=job.spec.python,
            apt_packages=frozenset(job.spec.recipe.apt_packages),
            work=expected_work(self._sdist_of(job)),
            failed_on=self._store.failed_on(job.job_id),
        )

    def _attempt_progressed(self, visited: Visited, progress: Progress, wheel: Path | None) -> None:
        job = next((job for job in self._store.jobs() if job.attempt_id == progress.attempt_id), None)
        if job is None or not _on_node(job):
            return
        if progress.log:
            self._paths.log(job.attempt_id).parent.mkdir(parents=True, exist_ok=True)
            with self._paths.log(job.attempt_id).open("ab") as log:
                log.write(progress.log)
            self._reporter.log(job, progress.log.decode(errors="replace"))
        if progress.more:
            visited.not_before = 0.0
        elif progress.state is AttemptState.FINISHED and progress.result is not None:
            self._attempt_finished(visited, job, progress, wheel)
        elif progress.state is AttemptState.LOST:
            visited.forget.append(job.attempt_id)
            self._retry_elsewhere(job, f"{visited.node.name} lost the build; was it restarted?")
        elif progress.state is AttemptState.UNKNOWN:
            # Leased before a kill, never started there: the same attempt is started now.
            facts = visited.facts
            cores = facts.cores if facts else 1
            visited.launches.append(
                Launch(
                    job.attempt_id,
                    job.attempt,
                    job.spec,
                    self._sdist_of(job),
                    width(cores, visited.node.slots),
                )
            )
        elif job.state is State.LEASED:
            self._reporter.job(self._store.advance(job.job_id, State.RUNNING))

    def _attempt_finished(self, visited: Visited, job: Job, progress: Progress, wheel: Path | None) -> None:
        result = progress.result
        assert result is not None  # noqa: S101  # the caller checked
        visited.forget.append(job.attempt_id)
        visited.not_before = 0.0
        if wheel is not None:
            self._reporter.job(
                self._store.built(job.job_id, wheel.name, result.wheels[0].sha256, result.to_json())
            )
        elif result.failure == Failure.NODE:
            self._retry_elsewhere(job, f"{visited.node.name}: {result.message}")
        else:
            self._fail(job, Failure(result.failure or Failure.BUILD), result.message, result.to_json())

    def _fail(self, job: Job, failure: Failure, message: str, result: str | None = None) -> None:
        self._reporter.job(self._store.fail(job.job_id, failure, message, result))

    # -- gates and index --------------------------------------------------------------------------------

    def _verify(self, built: Iterable[Job]) -> None:
        for job in built:
            if not self._wheel(job).exists():
                # Somebody cleared the state folder: without this, no later dispatch would get past it.
                self._reporter.job(self._store.requeue(job.job_id, "its collected wheel is gone"))
                continue
            report = verify_wheel(self._wheel(job), _expectation(job))
            if report.ok and report.sha256 == job.wheel_sha256:
                self._reporter.job(self._store.advance(job.job_id, State.VERIFIED))
            else:
                self._fail(job, _failure_of(report), _why(report))

    def _start_publication(self, pool: ThreadPoolExecutor) -> None:
        ready = [
            job
            for job in self._store.jobs()
            if job.state is State.VERIFIED and job.job_id not in self._publish_failed
        ]
        if ready and self._publication is None:
            # One at a time: a wheel that the index refuses must not hold up the others.
            self._publication = (ready[0], pool.submit(self._publish, self._wheel(ready[0])))

    def _take_publication(self) -> None:
        if self._publication is None or not self._publication[1].done():
            return
        job, future = self._publication
        self._publication = None
        try:
            future.result()
        except FarmError as error:
            # The wheel stays verified: the next dispatch publishes it without building again.
            self._publish_failed.add(job.job_id)
            self.errors.append(error)
            self._reporter.note(f"{job.job_id} not published: {error.message}")
            return
        self._reporter.job(self._store.advance(job.job_id, State.PUBLISHED))

    def _wheel(self, job: Job) -> Path:
        assert job.wheel is not None  # noqa: S101  # a built job has one
        return self._paths.wheels(job.attempt_id) / job.wheel


def _on_node(job: Job) -> bool:
    return job.state in {State.LEASED, State.RUNNING}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _expectation(job: Job) -> JobExpectation:
    return JobExpectation(
        project=job.spec.project,
        version=job.spec.version,
        python_tag=job.spec.python,
        native=job.spec.recipe.native,
    )


def _failure_of(report: Report) -> Failure:
    return Failure.ISA if any(verdict.gate is Gate.ISA for verdict in report.failures) else Failure.POLICY


def _why(report: Report) -> str:
    if report.ok:
        return "the wheel on this controller is not the one that was collected"
    first = report.failures[0]
    return f"{report.wheel}: {first.gate}: {first.subject}: {first.evidence}"
