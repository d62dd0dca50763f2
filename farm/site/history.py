"""What the farm's store knows, as it is needed by pages: read once, then plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.index.scan import moment as rfc3339
from farm.site.model import BuildRow
from farm.site.text import clean, path_of
from farm.store import Attempt, Job, Mark, NodeMark, Run, Store


@dataclass(frozen=True, slots=True)
class History:
    """Jobs by name, all attempts (oldest first), boards that are kept out, the newest run."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    attempts: Sequence[Attempt] = ()
    marks: Mapping[str, Mapping[Mark, NodeMark]] = field(default_factory=dict)
    run: Run | None = None

    @classmethod
    def of(cls, store: Store) -> History:
        """Read a store."""
        jobs = {job.job_id: job for job in store.jobs()}
        return cls(jobs, store.attempts(), store.marks(), store.last_run())

    @property
    def as_of(self) -> float:
        """The last moment that anything is known of, in seconds since the epoch; 0.0 if nothing is.

        It stands in for the clock: pages made twice from one store must not differ.
        """
        times = [time for job in self.jobs.values() for time in (job.queued_at, job.ended_at or 0.0)]
        times += [time for attempt in self.attempts for time in (attempt.leased_at, attempt.ended_at or 0.0)]
        times += [mark.since for marks in self.marks.values() for mark in marks.values()]
        if self.run is not None:
            times += [self.run.began_at, self.run.ended_at or 0.0]
        return max(times, default=0.0)


def attempt_id(attempt: Attempt) -> str:
    """Return an attempt's name."""
    return f"{attempt.job_id}.{attempt.attempt}"


def build_path(name: str) -> str:
    """Return the path of the page of an attempt."""
    return f"{path_of('build', name)}/"


def moment(seconds: float | None) -> str:
    """Return a time as RFC 3339 writes it, in UTC and whole seconds; empty if there is none."""
    return rfc3339(seconds) if seconds else ""


def outcome_of(attempt: Attempt) -> str:
    """Return ``running``, ``done`` or the class of an attempt's failure."""
    if attempt.failure is not None:
        return str(attempt.failure)
    return "done" if attempt.ended_at is not None else "running"


def message_of(attempt: Attempt, job: Job | None) -> str:
    """Return why an attempt ended as it did: the job's message for its last one, else what the node said."""
    if job is not None and job.attempt == attempt.attempt and job.message:
        return clean(job.message)
    return clean(str(attempt.result.get("message") or ""))


def final_failure(attempt: Attempt, job: Job | None) -> str:
    """Return the outcome of an attempt, with what came after the build: a gate that did not pass."""
    if job is not None and job.attempt == attempt.attempt and job.failure is not None:
        return str(job.failure)
    return outcome_of(attempt)


def build_row(attempt: Attempt, job: Job | None) -> BuildRow:
    """Return an attempt as a line of a list."""
    name = attempt_id(attempt)
    return BuildRow(
        attempt=name,
        path=build_path(name),
        project=attempt.project,
        version=job.spec.version if job else "",
        python=attempt.python,
        node=attempt.node,
        outcome=final_failure(attempt, job),
        message=message_of(attempt, job),
        began=moment(attempt.leased_at),
        ended=moment(attempt.ended_at),
        seconds=round(attempt.ended_at - attempt.leased_at, 1) if attempt.ended_at else None,
    )
