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
from farm.store import Job, State


class Waiting:
    """What is known of queued and running jobs; kept until it changes, for policies cache by it, too."""

    def __init__(self, ledger: Ledger, experience: Experience) -> None:
        self._ledger = ledger
        self._experience = experience
        self.sdists: dict[str, Path] = {}
        self._ordered: dict[str, OrderedJob] = {}
        self._edges: Mapping[str, frozenset[str]] | None = None
        self._queued: dict[str, QueuedJob] = {}
        self._largest = 0

    def arrived(self, job_id: str, source: Source) -> None:
        """Take note that a job's sdist is on this controller."""
        self.sdists[job_id] = source.sdist
        self._ordered[job_id] = source.ordered
        self._edges = None

    def changed(self, job: Job) -> None:
        """Forget what was concluded of a job; where it ended, of those that wait for it, too."""
        self._queued.pop(job.job_id, None)
        if job.state.ended and self._ordered.pop(job.job_id, None) is not None:
            for other in self.waiting_for(job.job_id):
                self._queued.pop(other, None)
            self._edges = None

    def learnt(self, project: str) -> None:
        """Forget the estimates of a project's jobs: there is something new to learn from."""
        for job_id, ordered in self._ordered.items():
            if ordered.project == project:
                self._queued.pop(job_id, None)

    def met(self, largest_bytes: int) -> None:
        """Take note of a node: all estimates may have changed with what its history means."""
        self._largest = max(self._largest, largest_bytes)
        self._queued.clear()

    def edges(self) -> Mapping[str, frozenset[str]]:
        """Return for each job the unfinished ones that must be published first."""
        if self._edges is None:
            self._edges = order(self._ordered.values())
        return self._edges

    def waiting_for(self, job_id: str) -> list[str]:
        """Return the jobs that wait for one."""
        return sorted(other for other, after in self.edges().items() if job_id in after)

    def cycle(self) -> tuple[str, CycleError] | None:
        """Return a job that waits for itself by way of others, and the error that names the way; or None."""
        path = find_cycle(self.edges())
        if path is None:
            return None
        try:
            refuse_cycle(self._ordered.values(), self.edges())
        except CycleError as error:
            return path[0], error
        return None

    def candidates(self) -> list[QueuedJob]:
        """Return the queued jobs whose sdist is here."""
        return [
            self._candidate(job) for job in self._ledger.in_state(State.QUEUED) if job.job_id in self.sdists
        ]

    def _candidate(self, job: Job) -> QueuedJob:
        known = self._queued.get(job.job_id)
        if known is None:
            failures = self._ledger.store.failures(job.job_id) if job.attempt else {}
            estimate = self.estimate(job)
            known = self._queued[job.job_id] = placing.queued(
                job, self.needs(job, estimate), estimate, self.edges().get(job.job_id, frozenset()), failures
            )
        return known

    def estimate(self, job: Job) -> Estimate:
        """Return how much a job is expected to be, corrected by what its recipe and its failures say."""
        failures = self._ledger.store.failures(job.job_id) if job.attempt else {}
        estimate = self._experience.estimate(job.spec, self.sdists.get(job.job_id))
        return placing.corrected(estimate, job.spec.recipe, failures, self._largest)

    def needs(self, job: Job, estimate: Estimate) -> Needs:
        """Return what a node must have for a job."""
        sdist = self.sdists.get(job.job_id)
        return placing.needs_of(job.spec, estimate, sdist.stat().st_size if sdist else 0)
