"""The queue as placing sees it: whose sdist is here, what each job waits for, how much it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from farm.dispatch import placing
from farm.dispatch.experience import Experience
from farm.dispatch.ledger import Ledger
from farm.dispatch.sources import Source
from farm.errors import CycleError
from farm.requires import OrderedJob, find_cycle, order, refuse_cycle
from farm.schedule import Estimate, Needs, QueuedJob
from farm.store import Failure, Job, State


class Waiting:
    """What is known of queued and running jobs; kept until it changes, for policies cache by it, too."""

    def __init__(self, ledger: Ledger, experience: Experience) -> None:
        self._ledger = ledger
        self._experience = experience
        self.sdists: dict[str, Path] = {}
        self._ordered: dict[str, OrderedJob] = {}
        self._edges: Mapping[str, frozenset[str]] | None = None
        self._no_cycle = True
        self._estimates: dict[str, Estimate] = {}
        self._queued: dict[str, QueuedJob] = {}
        self._largest = 0

    def arrived(self, job_id: str, source: Source) -> None:
        """Take note that a job's sdist is on this controller."""
        self.sdists[job_id] = source.sdist
        self._ordered[job_id] = source.ordered
        self._edges, self._no_cycle = None, False
        self._estimates.pop(job_id, None)

    def changed(self, job: Job) -> None:
        """Forget what was concluded of a job."""
        self._queued.pop(job.job_id, None)
        self._estimates.pop(job.job_id, None)
        # One that had ended may be queued again, and with it a cycle.
        self._no_cycle &= job.state is not State.QUEUED

    def learnt(self, project: str) -> None:
        """Forget the estimates of a project's jobs: there is something new to learn from."""
        for job_id, ordered in self._ordered.items():
            if ordered.project == project:
                self._queued.pop(job_id, None)
                self._estimates.pop(job_id, None)

    def met(self, largest_bytes: int) -> None:
        """Take note of a node: all estimates may have changed with what its history means."""
        self._largest = max(self._largest, largest_bytes)
        self._queued.clear()
        self._estimates.clear()

    def after(self, job_id: str) -> frozenset[str]:
        """Return the unfinished jobs that must be published before one."""
        if self._edges is None:
            self._edges = order(self._ordered.values())
        edges = self._edges.get(job_id, frozenset())
        # Which jobs have ended is known to the ledger alone: one may be queued again at any time.
        return frozenset(other for other in edges if other in self._ledger.jobs)

    def waiting_for(self, job_id: str) -> list[str]:
        """Return the jobs that wait for one that has not ended."""
        return sorted(other for other in self._ledger.jobs if job_id in self.after(other))

    def cycle(self) -> tuple[str, CycleError] | None:
        """Return a job that waits for itself by way of others, and the error that names the way; or None."""
        if self._no_cycle:
            return None
        edges = {job.job_id: self.after(job.job_id) for job in self._ledger.in_state(State.QUEUED)}
        path = find_cycle(edges)
        if path is None:
            self._no_cycle = True
            return None
        try:
            refuse_cycle(self._ordered.values(), edges)
        except CycleError as error:
            return path[0], error
        return None

    @property
    def more(self) -> bool:
        """Whether there are queued jobs whose sdist is still on its way."""
        return any(job.job_id not in self.sdists for job in self._ledger.in_state(State.QUEUED))

    def candidates(self) -> list[QueuedJob]:
        """Return the queued jobs whose sdist is here."""
        return [
            self._candidate(job) for job in self._ledger.in_state(State.QUEUED) if job.job_id in self.sdists
        ]

    def _candidate(self, job: Job) -> QueuedJob:
        known, after = self._queued.get(job.job_id), self.after(job.job_id)
        if known is None or known.after != after:
            failures = self._failures(job)
            estimate = self.estimate(job)
            known = self._queued[job.job_id] = placing.queued(
                job, self.needs(job, estimate), estimate, after, failures
            )
        return known

    def estimate(self, job: Job) -> Estimate:
        """Return how much a job is expected to be, corrected by what its recipe and its failures say."""
        known = self._estimates.get(job.job_id)
        if known is None:
            estimate = self._experience.estimate(job.spec, self.sdists.get(job.job_id))
            known = self._estimates[job.job_id] = placing.corrected(
                estimate, job.spec.recipe, self._failures(job), self._largest
            )
        return known

    def _failures(self, job: Job) -> Mapping[Failure, Mapping[str, int]]:
        return self._ledger.store.failures(job.job_id) if job.attempt else {}

    def needs(self, job: Job, estimate: Estimate) -> Needs:
        """Return what a node must have for a job."""
        sdist = self.sdists.get(job.job_id)
        return placing.needs_of(job.spec, estimate, sdist.stat().st_size if sdist else 0)
