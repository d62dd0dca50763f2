"""The page of the farm's state: what waits, what failed and why, which boards are kept out."""

from __future__ import annotations

from collections import Counter
from typing import Final

from farm.site.farm_model import Count, KeptOut, QueueRow, StatusPage
from farm.site.history import History, build_row, moment
from farm.site.model import BuildRow
from farm.site.text import clean
from farm.store import Job, State

MOST_QUEUED: Final = 100
MOST_FAILURES: Final = 100
MOST_RECENT: Final = 30


def status_page(history: History) -> StatusPage:
    """Return the farm's state at the last moment that the store knows of."""
    jobs = list(history.jobs.values())
    waiting = [job for job in jobs if not job.state.ended]
    failed = [job for job in jobs if job.state is State.FAILED]
    failed.sort(key=lambda job: (job.ended_at or 0.0, job.job_id), reverse=True)
    states = Counter(job.state for job in jobs)
    classes = Counter(str(job.failure or "unknown") for job in failed)
    last = {attempt.job_id: attempt for attempt in history.attempts}
    return StatusPage(
        as_of=moment(history.as_of),
        states=tuple(Count(str(state), states[state]) for state in State),
        failure_classes=tuple(Count(name, count) for name, count in classes.most_common()),
        queue=tuple(map(_queued, waiting[:MOST_QUEUED])),
        queued=len(waiting),
        failures=tuple(
            build_row(last[job.job_id], job) if job.job_id in last else _never_ran(job)
            for job in failed[:MOST_FAILURES]
        ),
        failed=len(failed),
        kept_out=tuple(
            KeptOut(mark.node, str(mark.mark), clean(mark.reason), moment(mark.since))
            for marks in history.marks.values()
            for mark in marks.values()
        ),
        recent=tuple(
            build_row(attempt, history.jobs.get(attempt.job_id))
            for attempt in list(history.attempts)[: -MOST_RECENT - 1 : -1]
        ),
    )


def _queued(job: Job) -> QueueRow:
    spec = job.spec
    return QueueRow(
        job.job_id,
        spec.project,
        spec.version,
        spec.python,
        str(job.state),
        job.node or "",
        clean(job.message),
        moment(job.queued_at),
    )


def _never_ran(job: Job) -> BuildRow:
    """Return a job that failed before any board had it."""
    spec = job.spec
    return BuildRow(
        attempt=job.job_id,
        path="",
        project=spec.project,
        version=spec.version,
        python=spec.python,
        node="",
        outcome=str(job.failure or "unknown"),
        message=clean(job.message),
        began="",
        ended=moment(job.ended_at),
        seconds=None,
    )
