"""Builds of one project cost about the same under each Python: what is believed of them is averaged. Pure.

Where each Python has an estimate of its own, these err independently; n of them together are off by a factor
of sqrt(n) less than one alone. Estimates by project, as `farm.estimate` makes them, are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import sqrt
from statistics import fmean

from farm.schedule.model import Estimate, FarmState, QueuedJob, RunningJob


class Pool:
    """Averages states; an estimate that is equal to the last one is the same object."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._means: dict[str, tuple[frozenset[Estimate], int, Estimate]] = {}
        self._queued: dict[str, tuple[QueuedJob, QueuedJob]] = {}

    def pooled(self, state: FarmState) -> FarmState:
        """Return the state with one estimate for each project."""
        groups: dict[str, list[Estimate]] = {}
        jobs: list[QueuedJob | RunningJob] = [*state.queued, *state.running]
        for job in jobs:
            if job.project:
                groups.setdefault(job.project, []).append(job.estimate)
        means = {
            project: self._mean(project, estimates)
            for project, estimates in groups.items()
            if any(estimate is not estimates[0] for estimate in estimates)
        }
        if not means:
            return state
        return replace(
            state,
            queued=[
                self._one(job, means[job.project]) if job.project in means else job for job in state.queued
            ],
            running=[
                replace(job, estimate=means[job.project]) if job.project in means else job
                for job in state.running
            ],
        )

    def _mean(self, project: str, estimates: list[Estimate]) -> Estimate:
        known = self._means.get(project)
        among = frozenset(estimates)
        if known is None or known[0] != among or known[1] != len(estimates):
            known = self._means[project] = (among, len(estimates), mean(estimates))
        return known[2]

    def _one(self, job: QueuedJob, estimate: Estimate) -> QueuedJob:
        known = self._queued.get(job.job_id)
        if known is None or known[0] is not job or known[1].estimate is not estimate:
            known = self._queued[job.job_id] = (job, replace(job, estimate=estimate))
        return known[1]


def mean(estimates: Iterable[Estimate]) -> Estimate:
    """Return the mean of what is believed; a task's memory is the largest, for too little kills a build."""
    kept = sorted(estimates, key=lambda item: (item.work_s, item.serial_s))  # sums in one order: one result
    spread = fmean(item.spread for item in kept)
    distinct = len(set(kept))
    return Estimate(
        fmean(item.serial_s for item in kept),
        fmean(item.parallel_s for item in kept),
        max(item.memory_bytes for item in kept),
        1 + (spread - 1) / sqrt(distinct),
    )
