"""The staging index: wheels that passed the static gates, and what pip would install with each.

The wheels themselves lie where they were collected. What was found out of them is kept in memory only: a
dispatcher that follows a killed one reads them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from farm.dispatch.ledger import Ledger
from farm.dispatch.staging import Decision, Item, Phase, decide
from farm.paths import Paths
from farm.requires import OrderedJob, Queue, installed_with, queue_of
from farm.store import Failure, Job, State
from farm.verify import Report

PHASES = {State.STAGED: Phase.STAGED, State.VERIFIED: Phase.PROVED}


@dataclass(slots=True)
class Staged:
    """A wheel that passed the static gates."""

    report: Report
    ordered: OrderedJob
    lacked: set[str] = field(default_factory=set)
    """Requirements that a proof found to be missing, by way of projects that are not in the queue."""


class Shelf:
    """What is staged, and who waits for whom."""

    def __init__(self, ledger: Ledger, paths: Paths, after: Callable[[str], frozenset[str]]) -> None:
        self._ledger = ledger
        self._paths = paths
        self._after = after
        self._staged: dict[str, Staged] = {}

    def wheel(self, job: Job) -> Path:
        """Return where a collected wheel is."""
        assert job.wheel is not None  # noqa: S101  # a built job has one
        return self._paths.wheels(job.attempt_id) / job.wheel

    def put(self, job: Job, staged: Staged) -> None:
        """Take what the static gates found."""
        self._staged[job.attempt_id] = staged

    def get(self, job: Job) -> Staged | None:
        """Return what is known of a job's wheel, or None where it was not read in this run."""
        return self._staged.get(job.attempt_id)

    def decide(self, held: Iterable[str]) -> Decision:
        """Say what is done about all that is staged."""
        jobs = self._ledger.jobs
        self._staged = {job.attempt_id: self._staged[job.attempt_id] for job in self._here()}
        needs = self._needs()
        known = frozenset(held)
        ahead = {job.job_id for job in jobs.values() if self._phase(job) is Phase.AHEAD}
        builds = any(ahead & others for others in needs.values())
        items = []
        for job in jobs.values():
            phase = self._phase(job)
            # Who waits to be built matters only where somebody waits for a build.
            after = self._after(job.job_id) if builds and phase is Phase.AHEAD else frozenset[str]()
            relies_on, stale = self._relied_on(job) if phase is Phase.PROVED else (frozenset[str](), False)
            of_job = needs.get(job.job_id, frozenset())
            items.append(Item(job.job_id, phase, of_job, after, relies_on, stale, job.job_id in known))
        return decide(items)

    def lacks(self, job: Job, requirements: Sequence[str]) -> str | None:
        """Take note of what pip did not find.

        Returns None where it is worth another try: a job that may bring it has not ended, or is published
        only now. Else why nobody brings it, in words; empty where the farm has never had a job for it.
        """
        staged = self._staged[job.attempt_id]
        new = set(requirements) - staged.lacked
        staged.lacked |= new
        others = [other for text in requirements for other in self._jobs_for(job, text)]
        if new and any(other.failure is None for other in others):
            return None
        return "; ".join(_said_of(other) for other in others)

    def _here(self) -> list[Job]:
        return [job for job in self._ledger.jobs.values() if job.attempt_id in self._staged]

    def _phase(self, job: Job) -> Phase:
        return PHASES.get(job.state, Phase.AHEAD) if job.attempt_id in self._staged else Phase.AHEAD

    def _needs(self) -> Mapping[str, frozenset[str]]:
        here = {job.job_id: self._staged[job.attempt_id] for job in self._here()}
        if not here:
            return {}
        queue = self._queue(here)
        jobs = self._ledger.jobs
        return {
            job_id: installed_with(
                staged.ordered, [*jobs[job_id].spec.recipe.test_requires, *sorted(staged.lacked)], queue
            )
            for job_id, staged in here.items()
        }

    def _queue(self, here: Mapping[str, Staged]) -> Queue:
        ordered = []
        for job_id, job in self._ledger.jobs.items():
            spec = job.spec
            bare = OrderedJob(job_id, spec.project, spec.version, spec.python)
            ordered.append(here[job_id].ordered if job_id in here else bare)
        return queue_of(ordered)

    def _relied_on(self, job: Job) -> tuple[frozenset[str], bool]:
        """Return the unpublished jobs whose wheels a proof took, and whether one is another wheel by now."""
        relied, stale = set(), False
        for attempt_id in job.proved_with:
            other = self._ledger.store.job(attempt_id.rpartition(".")[0])
            if other.attempt_id != attempt_id or not (
                other.state.collected or other.state is State.PUBLISHED
            ):
                stale = True
            elif other.state is not State.PUBLISHED:
                relied.add(other.job_id)
        return frozenset(relied), stale

    def _jobs_for(self, job: Job, text: str) -> list[Job]:
        """Return the jobs, ended ones too, that could have brought what a requirement asks for."""
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            return []
        return [
            other
            for other in self._ledger.store.jobs()
            if other.spec.project == canonicalize_name(wanted.name)
            and other.spec.python == job.spec.python
            and other.job_id != job.job_id
            and wanted.specifier.contains(other.spec.version, prereleases=True)
        ]


def _said_of(job: Job) -> str:
    """Say why a job did not bring what another one needs."""
    if job.state is State.FAILED:
        return f"needs {job.job_id}, which failed ({job.failure or Failure.BUILD}): {job.message}"
    if job.state is State.PUBLISHED:
        return f"needs {job.job_id}, which is published, and pip does not take it"
    return f"needs {job.job_id}, which can only be built after it"
