"""A farm that runs only on paper: a policy decides by estimates, builds take their true time. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from farm.schedule.bound import Build, Loss
from farm.schedule.model import Assignment, Estimate, FarmState, NodeState, Policy, QueuedJob, RunningJob
from farm.schedule.widths import Widths


@dataclass(frozen=True, slots=True)
class Span:
    """A build on a node from ``start_s`` to ``end_s`` after the beginning."""

    job_id: str
    node: str
    widths: Widths
    start_s: float
    end_s: float
    lost: bool = False
    """It ended because its node vanished; the job runs again elsewhere."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """What ran where and when; in the order of starts."""

    spans: tuple[Span, ...]
    unplaced: tuple[str, ...] = ()
    """Jobs that no node could take, and those that wait for them."""

    @property
    def makespan_s(self) -> float:
        """The end of the last build."""
        return max((span.end_s for span in self.spans), default=0.0)

    @property
    def rows(self) -> Mapping[str, tuple[Span, ...]]:
        """The spans of each node that did anything, by its name."""
        names = sorted({span.node for span in self.spans})
        return {name: tuple(span for span in self.spans if span.node == name) for name in names}


class Forecast(Protocol):
    """What is believed of builds; it may learn while the simulation goes on."""

    def estimate(self, build: Build) -> Estimate:
        """Return the estimate; the same object as long as it did not change."""

    def running(self, build: Build, node: str, width: float, elapsed_s: float) -> None:
        """Take note of a build that has not ended yet."""

    def ended(self, build: Build, node: str, width: float, duration_s: float) -> None:
        """Take note of a build that has ended."""


class Fixed:
    """A forecast that learns nothing."""

    def __init__(self, estimates: Mapping[str, Estimate] | None = None) -> None:
        """Believe ``estimates``, by job id; of all others, the truth."""
        self._estimates = estimates or {}

    def estimate(self, build: Build) -> Estimate:
        """Return the estimate."""
        return self._estimates.get(build.job_id, build.truth)

    def running(self, build: Build, node: str, width: float, elapsed_s: float) -> None:
        """Learn nothing."""

    def ended(self, build: Build, node: str, width: float, duration_s: float) -> None:
        """Learn nothing."""


def simulate(
    builds: Sequence[Build],
    nodes: Sequence[NodeState],
    policy: Policy,
    *,
    forecast: Forecast | None = None,
    loss: Loss | None = None,
    overhead_s: float = 0.0,
) -> Timetable:
    """Let a policy build everything and return what happened.

    Each build takes ``overhead_s`` besides its true time. The policy is asked at the start, whenever builds
    end and when a node vanishes, as the dispatcher asks it.
    """
    farm = _Farm(builds, nodes, forecast or Fixed(), overhead_s)
    farm.start(policy)
    while farm.ends or (loss and farm.queued):
        if loss and (not farm.ends or loss.at_s <= farm.ends[0][0]):
            farm.lose(loss)
            loss = None
        elif farm.ends:
            farm.end_next()
        farm.start(policy)
    return Timetable(
        tuple(sorted(farm.spans, key=lambda s: (s.start_s, s.job_id))), tuple(sorted(farm.queued))
    )


@dataclass(slots=True)
class _Run:
    node: str
    widths: Widths
    since_s: float


class _Farm:
    def __init__(
        self, builds: Sequence[Build], nodes: Sequence[NodeState], forecast: Forecast, overhead_s: float
    ) -> None:
        self.builds = {build.job_id: build for build in builds}
        self.nodes = list(nodes)
        self.forecast, self.overhead_s = forecast, overhead_s
        self.now_s = 0.0
        self.waits = {build.job_id: set(build.after & self.builds.keys()) for build in builds}
        self.needed_by: dict[str, list[str]] = {}
        for build in builds:
            for before in build.after & self.builds.keys():
                self.needed_by.setdefault(before, []).append(build.job_id)
        self.queued = {build.job_id: self._queue(build.job_id, {}) for build in builds}
        self.running: dict[str, _Run] = {}
        self.ends: list[tuple[float, str]] = []
        self.spans: list[Span] = []

    def _queue(self, name: str, failed_on: Mapping[str, int]) -> QueuedJob:
        build = self.builds[name]
        after = frozenset(self.waits[name])
        return QueuedJob(name, self.forecast.estimate(build), build.needs, after, failed_on, build.project)

    def start(self, policy: Policy) -> None:
        """Ask the policy; start and widen what it says."""
        for item in policy.assign(self.state()):
            truth = self.builds[item.job_id].truth
            speed = next(node.speed for node in self.nodes if node.name == item.node)
            run = self.running.get(item.job_id)
            if run is None:
                del self.queued[item.job_id]
                run = self.running[item.job_id] = _Run(item.node, Widths(item.width), self.now_s)
                end = self.now_s + self.overhead_s + truth.seconds(item.width, speed)
            else:
                end = self._widen(item, run, truth, speed)
            heapq.heappush(self.ends, (end, item.job_id))

    def _widen(self, item: Assignment, run: _Run, truth: Estimate, speed: float) -> float:
        """Return when a build ends whose width changes now: the rest of its own work takes less time."""
        (end,) = [end for end, name in self.ends if name == item.job_id]
        self.ends = [pair for pair in self.ends if pair[1] != item.job_id]
        heapq.heapify(self.ends)
        begin = max(self.now_s, run.since_s + self.overhead_s)
        before_s = truth.seconds(run.widths.now, speed)
        share = (end - begin) / before_s if before_s > 0 else 0.0
        run.widths = run.widths.widened(self.now_s - run.since_s, item.width)
        return begin + share * truth.seconds(item.width, speed)

    def state(self) -> FarmState:
        """Return what the policy may know; queued jobs are made anew only where something changed."""
        running = []
        for name, run in self.running.items():
            build, elapsed_s = self.builds[name], self.now_s - run.since_s
            self.forecast.running(build, run.node, run.widths.mean(elapsed_s), elapsed_s)
            estimate = self.forecast.estimate(build)
            as_if_s = run.widths.as_if(elapsed_s, estimate)
            running.append(RunningJob(name, run.node, run.widths.now, as_if_s, estimate, build.project))
        for name, job in self.queued.items():
            if self.forecast.estimate(self.builds[name]) is not job.estimate:
                self.queued[name] = self._queue(name, job.failed_on)
        return FarmState(list(self.queued.values()), running, self.nodes)

    def end_next(self) -> None:
        """Go to the next end, and take all that end then."""
        self.now_s = self.ends[0][0]
        while self.ends and self.ends[0][0] <= self.now_s:
            _, name = heapq.heappop(self.ends)
            run = self._stop(name, lost=False)
            for later in self.needed_by.get(name, ()):
                self.waits[later].discard(name)
                self.queued[later] = self._queue(later, self.queued[later].failed_on)
            elapsed_s = self.now_s - run.since_s
            self.forecast.ended(self.builds[name], run.node, run.widths.mean(elapsed_s), elapsed_s)

    def lose(self, loss: Loss) -> None:
        """Take a node away; what ran on it waits again."""
        self.now_s = max(self.now_s, loss.at_s)
        self.nodes = [node for node in self.nodes if node.name != loss.node]
        for name in [name for name, run in self.running.items() if run.node == loss.node]:
            self._stop(name, lost=True)
            self.queued[name] = self._queue(name, {loss.node: 1})
        self.ends = [(end, name) for end, name in self.ends if name in self.running]
        heapq.heapify(self.ends)

    def _stop(self, name: str, *, lost: bool) -> _Run:
        run = self.running.pop(name)
        self.spans.append(Span(name, run.node, run.widths, run.since_s, self.now_s, lost))
        return run
