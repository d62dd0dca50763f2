"""The event loop. One thread owns the store and decides; nodes are visited and wheels published in others.

Builds run detached on their nodes, so nothing here is needed to keep them alive: a dispatcher that is killed
at any moment is followed by one that reads the store, asks the nodes what they hold and goes on.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from farm.dispatch import placing
from farm.dispatch.contacts import Contact, Contacts
from farm.dispatch.crew import beat_s
from farm.dispatch.experience import Experience
from farm.dispatch.gates import Gates, Prove
from farm.dispatch.health import Trouble, waited_for_s
from farm.dispatch.ledger import Ledger
from farm.dispatch.logs import Logs
from farm.dispatch.outcome import Then, after
from farm.dispatch.placer import Placer, build_of
from farm.dispatch.sources import Source, Sources
from farm.dispatch.tempo import Tempo
from farm.dispatch.visit import Visit
from farm.dispatch.waiting import Waiting
from farm.errors import FarmError, LyingNodeError, NodeError
from farm.executor import AttemptState, Executor, Progress, Result, Task
from farm.nodes import Node
from farm.paths import Paths
from farm.schedule import POLICIES
from farm.store import Failure, Job, State, Store

COLLECT_TRIES: Final = 3
CHORES_S: Final = 0.1
LOOK_ELSEWHERE_S: Final = 0.5
WAITING: Final = {State.QUEUED, State.STAGED, State.VERIFIED}
"""Jobs in these states go on when something else does."""

DEFAULT_POLICY: Final = next(iter(POLICIES))


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
    """Runs all jobs of the store that have not ended, until they have or no node can go on."""

    def __init__(
        self,
        store: Store,
        executors: Mapping[Node, Executor],
        *,
        paths: Paths,
        fetch: Callable[[Job], Path],
        publish: Callable[[Sequence[Path]], object],
        reporter: Reporter,
        policy: str = DEFAULT_POLICY,
        tempo: Tempo | None = None,
        task_of: Callable[[Job, Path], Task] = build_of,
        prove: Prove | None = None,
    ) -> None:
        self._store = store
        self._reporter = reporter
        self._policy = policy
        self._tempo = tempo or Tempo()
        self._beat_s = beat_s(len(executors))
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ledger = Ledger(store)
        self._experience = Experience(store, time.time())
        self._waiting = Waiting(self._ledger, self._experience)
        self._logs = Logs(paths)
        self._contacts = Contacts(
            executors,
            ledger=self._ledger,
            paths=paths,
            tempo=self._tempo,
            logs=self._logs,
            listener=self,
            post=self._inbox.put,
        )
        self._placer = Placer(
            POLICIES[policy](),
            ledger=self._ledger,
            waiting=self._waiting,
            contacts=self._contacts,
            experience=self._experience,
            tree=paths.tree,
            task_of=task_of,
            changed=self._changed,
            fail=self._fail,
        )
        self._sources = Sources(
            fetch, post=self._inbox.put, arrived=self._arrived, failed=self._no_sdist, note=reporter.note
        )
        self._gates = Gates(
            self._ledger,
            publish,
            paths=paths,
            post=self._inbox.put,
            changed=self._changed,
            fail=self._fail,
            note=reporter.note,
            after=self._waiting.after,
            prove=prove,
        )
        self._uncollected: dict[str, int] = {}
        self._dragged_down: dict[str, list[str]] = {}
        self._dirty = True
        self._chores_at = 0.0
        self._looked_at = 0.0
        self._stuck_since: float | None = None
        self.errors: list[FarmError] = []

    def run(self) -> None:
        """Run until nothing more can happen."""
        number = self._store.begin_run(self._policy)
        for job in self._ledger.on_nodes():
            if job.node not in self._contacts.all:
                self._again(job, Failure.NODE, f"{job.node} is no longer in the inventory")
        try:
            while not self._chores(number):
                next_visit_s = self._contacts.start_visits()
                self._take_events(min(CHORES_S, next_visit_s))
            self._store.end_run(number)
        finally:
            self._contacts.close()
            self._sources.close()
            self._gates.close()
        self.errors += [*self._gates.refused.values(), *self._contacts.troubles()]

    def _chores(self, number: int) -> bool:
        """Do what concerns all jobs and nodes, when something changed or now and then; True ends the run.

        Not after each event: hundreds of nodes bring a thousand a second, and most are lines of a log.
        """
        now = time.monotonic()
        if not self._dirty and now < self._chores_at:
            return False
        self._chores_at = now + CHORES_S
        self._look_elsewhere()
        self._give_up_lost()
        if self._dirty:
            self._dirty = False
            self._placer.note_nodes(number)
            self._move_on()
        self._reporter.tick()
        return self._over()

    def _take_events(self, timeout_s: float) -> None:
        with contextlib.suppress(queue.Empty):
            first = self._inbox.get(timeout=max(0.0, timeout_s))
            time.sleep(self._beat_s)
            first()
            while True:
                self._inbox.get_nowait()()

    def _look_elsewhere(self) -> None:
        """Take over what `farm cancel`, `farm drain` or a second `farm dispatch` wrote."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_ELSEWHERE_S:
            return
        self._looked_at = now
        if self._store.changed_elsewhere():
            before = self._ledger.jobs
            self._ledger.reload()
            for job in {**before, **self._ledger.jobs}.values():
                if before.get(job.job_id) != self._ledger.jobs.get(job.job_id):
                    self._show(self._store.job(job.job_id))
            self._contacts.read_marks()
            self._dirty = True
        self._dirty |= self._sources.due

    def _move_on(self) -> None:
        """Begin all that can begin now."""
        for job in self._ledger.jobs.values():
            if job.job_id not in self._waiting.sdists:
                self._sources.want(job)
        self._refuse_cycles()
        self._cancel()
        self._placer.place()
        self._gates.move_on()

    def _over(self) -> bool:
        """Return whether the run has ended; where jobs are left, ``errors`` says why."""
        jobs = [job for job in self._ledger.jobs.values() if job.job_id not in self._gates.refused]
        moving = self._sources.busy or self._gates.busy
        if not jobs:
            return not (self._contacts.pending() or moving)
        idle = all(job.state in WAITING for job in jobs) and not moving and not self._dirty
        if not idle:
            self._stuck_since = None
            return False
        contacts = self._contacts.all.values()
        if all(contact.drained for contact in contacts):
            names = " ".join(self._contacts.all)
            message = f"{len(jobs)} jobs wait, and every node is drained"
            self.errors.append(FarmError(message, hint=f"`farm resume {names}`"))
            return True
        if all(contact.trouble is Trouble.UNFIT or contact.drained for contact in contacts):
            return True
        now = time.monotonic()
        self._stuck_since = self._stuck_since or now
        return now - self._stuck_since >= self._tempo.patience_s

    # -- sdists and order -------------------------------------------------------------------------------

    def _arrived(self, job_id: str, source: Source) -> None:
        self._dirty = True
        if job_id in self._ledger.jobs:
            self._waiting.arrived(job_id, source)

    def _no_sdist(self, job_id: str, error: FarmError) -> None:
        job = self._ledger.jobs.get(job_id)
        if job is not None and job.state is State.QUEUED:
            self.errors.append(error)
            self._fail(job, Failure.SOURCE, error.message)

    def _refuse_cycles(self) -> None:
        while (found := self._waiting.cycle()) is not None:
            job_id, error = found
            self.errors.append(error)
            self._fail(self._ledger.jobs[job_id], Failure.DEPENDENCY, f"in a circle: {error.message}")

    # -- what nodes bring -------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """See Listener."""
        self._reporter.note(text)

    def node_changed(self) -> None:
        """See Listener."""
        self._dirty = True

    def node_known(self, contact: Contact) -> None:
        """See Listener."""
        if contact.facts is not None:
            self._experience.meet(contact.node.name, contact.facts)
            self._waiting.met(placing.build_memory(contact.facts))
            self._placer.remind(contact)
            self._dirty = True

    def distrusted(self, contact: Contact, why: str) -> None:
        """See Listener."""
        for job in self._ledger.on(contact.node.name):
            self._again(job, Failure.NODE, why)

    def visited(self, contact: Contact, visit: Visit) -> None:
        """See Listener."""
        for attempt_id, error in visit.uncollected.items():
            self._not_collected(contact, attempt_id, error)
        for attempt_id, error in visit.not_started.items():
            job = self._ledger.of_attempt(attempt_id)
            if job is not None and contact.trouble is not None:
                self._again(job, Failure.NODE, error.message)
        for progress in visit.progress:
            job = self._ledger.of_attempt(progress.attempt_id)
            if job is not None and progress.attempt_id not in visit.uncollected:
                self._progressed(contact, job, progress, visit.collected.get(progress.attempt_id))

    def _not_collected(self, contact: Contact, attempt_id: str, error: NodeError) -> None:
        if isinstance(error, LyingNodeError):
            self._contacts.distrust(contact, error.message)
            return
        tries = self._uncollected[attempt_id] = self._uncollected.get(attempt_id, 0) + 1
        job = self._ledger.of_attempt(attempt_id)
        if job is not None and tries >= COLLECT_TRIES:
            contact.forget.add(attempt_id)
            self._again(job, Failure.NODE, error.message)

    def _progressed(self, contact: Contact, job: Job, progress: Progress, wheel: Path | None) -> None:
        if progress.log:
            self._logs.append(job.attempt_id, progress.log)
            self._reporter.log(job, progress.log.decode(errors="replace"))
        if progress.more:
            return
        if progress.state is AttemptState.FINISHED and progress.result is not None:
            contact.forget.add(job.attempt_id)
            self._finished(contact, job, progress.result, wheel)
        elif progress.state is AttemptState.LOST:
            contact.forget.add(job.attempt_id)
            self._again(job, Failure.NODE, f"{contact.node.name} lost the build; was it restarted?")
        elif progress.state is AttemptState.UNKNOWN:
            # Leased before a kill or with a link that broke, never started there: the same attempt is now.
            if job.cancelling:
                self._fail(job, Failure.CANCELLED, "cancelled before it ran")
            elif job.job_id in self._waiting.sdists:
                self._placer.launch(contact, job)
        elif job.state is State.LEASED:
            self._changed(self._store.advance(job.job_id, State.RUNNING))

    def _finished(self, contact: Contact, job: Job, result: Result, wheel: Path | None) -> None:
        text = result.to_json()
        if job.cancelling:
            self._fail(job, Failure.CANCELLED, "cancelled", text)
        elif wheel is not None:
            contact.streak.succeeded()
            contact.holds = 0
            self._changed(self._store.built(job.job_id, wheel.name, result.wheels[0].sha256, text))
            self._experience.learn(self._store.attempt(job.job_id))
            self._waiting.learnt(job.spec.project)
        elif result.failure in {Failure.NODE, Failure.MEMORY}:
            self._again(job, Failure(result.failure), f"{contact.node.name}: {result.message}", text)
        else:
            self._fail(job, Failure(result.failure or Failure.BUILD), result.message, text)
            self._doubt(contact, job, result.duration_s)

    def _doubt(self, contact: Contact, job: Job, seconds: float) -> None:
        """F21: a node on which one build after the other fails at once is not believed; others try them."""
        others = any(other.usable for other in self._contacts.all.values() if other is not contact)
        if not contact.streak.failed(job.job_id, seconds, self._store.failures(job.job_id)) or not others:
            return
        jobs = contact.streak.blamed()
        builds = f"{len(jobs)} builds in a row" if len(jobs) > 1 else "one more build"
        reason = f"{builds} failed there at once: {', '.join(jobs)} (F21)"
        self._contacts.quarantine(contact, Trouble.FAILING, reason)
        for job_id in jobs:
            self._changed(self._store.blame_node(job_id, f"{contact.node.name} is doubted: {reason}"))
            for other in self._dragged_down.pop(job_id, ()):
                self._changed(self._store.retry(other))

    def _give_up_lost(self) -> None:
        """Build elsewhere what an unreachable node has had for too long."""
        now, wall = time.monotonic(), time.time()
        for contact in self._contacts.all.values():
            if contact.lost_since is None or contact.trouble is None:
                continue
            for job in self._ledger.on(contact.node.name):
                lost_s = now - contact.lost_since
                elapsed = wall - lost_s - (job.started_at or wall)
                if lost_s < waited_for_s(elapsed, self._tempo.lost_s):
                    continue
                contact.launches.pop(job.attempt_id, None)
                why = f"{contact.node.name} was away for {lost_s:.0f} s: {contact.reason}"
                if job.cancelling:
                    self._fail(job, Failure.CANCELLED, f"cancelled; {why}")
                else:
                    self._again(job, Failure.NODE, why)

    def _cancel(self) -> None:
        for job in self._ledger.on_nodes():
            contact = self._contacts.all.get(job.node or "")
            if job.cancelling and contact is not None:
                contact.launches.pop(job.attempt_id, None)
                contact.cancel.add(job.attempt_id)
                self._contacts.wake(contact)

    # -- jobs' ends -------------------------------------------------------------------------------------

    def _again(self, job: Job, failure: Failure, message: str, result: str | None = None) -> None:
        """Give a job back to the queue, unless that was done often enough."""
        self._changed(self._store.requeue(job.job_id, message, failure, result))
        failures = self._store.failures(job.job_id)
        if after(failure, failures) is Then.FAIL:
            times = sum(failures[failure].values())
            self._fail(job, failure, f"{times} attempts ended so; the last: {message}")

    def _fail(self, job: Job, failure: Failure, message: str, result: str | None = None) -> None:
        behind = self._waiting.waiting_for(job.job_id)
        self._changed(self._store.fail(job.job_id, failure, message, result))
        for job_id in behind:
            other = self._ledger.jobs.get(job_id)
            if other is not None and other.state is State.QUEUED:
                self._dragged_down.setdefault(job.job_id, []).append(job_id)
                self._fail(
                    other, Failure.DEPENDENCY, f"needs {job.job_id}, which failed ({failure}): {message}"
                )

    def _changed(self, job: Job) -> Job:
        self._ledger.took(job)
        if not job.state.on_node:
            self._logs.done(job.attempt_id)
        return self._show(job)

    def _show(self, job: Job) -> Job:
        self._waiting.changed(job)
        self._dirty = True
        self._reporter.job(job)
        return job
