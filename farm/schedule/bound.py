"""The least time in which anybody could build a set of jobs: what timetables are compared with.

A time T is possible only if each job fits, at some width on some node that can take it, between its head (the
longest chain before it) and its tail (the longest chain after it); and if the least area that the jobs then
take fits the capacity. Area is width x time x speed of the core, and width x memory x time; capacity is that
of all nodes, and also of each group of nodes for the jobs that fit nowhere else. The bound is the smallest
such T. The common max(critical path, work / speed) is never larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final

from farm.schedule.model import Estimate, Needs, NodeState, unmet

NEGLIGIBLE_S: Final = 1e-9
"""Nothing is shorter: nothing would not double, and the smallest numbers of a float have no middle."""
GROUPS_AT_MOST: Final = 4
"""With more kinds of nodes than this, only the set of all of them is looked at: still a bound, less tight."""


@dataclass(frozen=True, slots=True)
class Build:
    """A job with its true cost, for bounds and simulations."""

    job_id: str
    truth: Estimate
    """``spread`` is not looked at."""
    needs: Needs
    after: frozenset[str] = frozenset()
    project: str = ""


@dataclass(frozen=True, slots=True)
class Loss:
    """A node that vanishes, with all that runs on it, and does not come back."""

    node: str
    at_s: float


@dataclass(frozen=True, slots=True)
class _Kind:
    """Nodes that are equal to every job; ``count`` of them. One that vanishes is a kind of its own."""

    node: NodeState
    count: int
    until_s: float

    def width(self, memory_bytes: int) -> int:
        by_memory = self.node.memory_bytes // memory_bytes if memory_bytes > 0 else self.node.cores
        return max(1, min(self.node.cores, by_memory))

    def narrowest(self, job: Estimate, deadline_s: float, overhead_s: float) -> float | None:
        """Return the least width, and so area, at which a job takes at most ``deadline_s``.

        No whole number: a job that is widened on its way has any width in the mean, and since the area is a
        convex function of the time, none takes less area than one that has the mean width all the time.
        """
        speed, most = self.node.speed, self.width(job.memory_bytes)
        spare = (min(deadline_s, self.until_s) - overhead_s) * speed - job.serial_s
        if job.parallel_s <= 0:
            return 1.0 if spare >= 0 else None
        if spare <= 0 or job.parallel_s > spare * most:
            return None
        return max(1.0, job.parallel_s / spare)


class _Problem:
    def __init__(
        self, builds: Sequence[Build], nodes: Sequence[NodeState], loss: Loss | None, overhead_s: float
    ) -> None:
        self.builds, self.overhead_s = builds, overhead_s
        self.kinds = _kinds(nodes, loss)
        self.able = {needs: self._able(needs) for needs in {build.needs for build in builds}}

    def _able(self, needs: Needs) -> tuple[int, ...]:
        # Names are not looked at: less strict, so still a lower bound.
        anywhere = Needs(
            python=needs.python,
            features=needs.features,
            apt_packages=needs.apt_packages,
            memory_bytes=needs.memory_bytes,
            disk_bytes=needs.disk_bytes,
        )
        return tuple(at for at, kind in enumerate(self.kinds) if not unmet(anywhere, kind.node))

    def least(self, build: Build) -> float:
        """Return the least wall time of a build on the best node at its full width."""
        kinds = (self.kinds[at] for at in self.able[build.needs])
        times = (
            build.truth.seconds(kind.width(build.truth.memory_bytes), kind.node.speed)
            for kind in kinds
            if kind.count
        )
        return min(times, default=math.inf) + self.overhead_s

    @cached_property
    def windows(self) -> list[tuple[Build, float, float]]:
        """Each build with its head and tail."""
        least = {build.job_id: self.least(build) for build in self.builds}
        by_id = {build.job_id: build for build in self.builds}
        order = _topological(by_id)
        head: dict[str, float] = dict.fromkeys(by_id, 0.0)
        tail: dict[str, float] = dict.fromkeys(by_id, 0.0)
        for name in order:
            for before in by_id[name].after & by_id.keys():
                head[name] = max(head[name], head[before] + least[before])
        for name in reversed(order):
            for before in by_id[name].after & by_id.keys():
                tail[before] = max(tail[before], tail[name] + least[name])
        return [(build, head[build.job_id], tail[build.job_id]) for build in self.builds]

    def possible(self, total_s: float) -> bool:
        """Tell whether nothing rules out that everything is done within ``total_s``."""
        work: dict[frozenset[int], float] = {}
        memory = 0.0
        for build, head, tail in self.windows:
            options = list(self._options(build, total_s, head, tail))
            if not options:
                return False
            where = frozenset(at for at, _, _ in options)
            work[where] = work.get(where, 0.0) + min(area for _, area, _ in options)
            memory += min(area for _, _, area in options)
        if memory > self._capacity(range(len(self.kinds)), total_s, memory=True) * (1 + 1e-9):
            return False
        return all(
            sum(area for where, area in work.items() if where <= group)
            <= self._capacity(group, total_s) * (1 + 1e-9)
            for group in self._groups()
        )

    def _options(
        self, build: Build, total_s: float, head: float, tail: float
    ) -> Iterator[tuple[int, float, float]]:
        job = build.truth
        for at in self.able[build.needs]:
            kind = self.kinds[at]
            deadline = min(total_s - tail, kind.until_s) - head
            if width := kind.narrowest(job, deadline, self.overhead_s):
                seconds = self.overhead_s + job.seconds(width, kind.node.speed)
                memory = min(width * job.memory_bytes, kind.node.memory_bytes)
                yield at, width * seconds * kind.node.speed, memory * seconds

    def _groups(self) -> list[frozenset[int]]:
        every = range(len(self.kinds))
        sizes = every if len(self.kinds) <= GROUPS_AT_MOST else []
        return [frozenset(group) for size in sizes for group in combinations(every, size)] + [
            frozenset(every)
        ]

    def _capacity(
        self, group: Sequence[int] | frozenset[int], total_s: float, *, memory: bool = False
    ) -> float:
        return sum(
            self.kinds[at].count
            * min(total_s, self.kinds[at].until_s)
            * (
                self.kinds[at].node.memory_bytes
                if memory
                else self.kinds[at].node.cores * self.kinds[at].node.speed
            )
            for at in group
        )


def lower_bound(
    builds: Sequence[Build],
    nodes: Sequence[NodeState],
    *,
    loss: Loss | None = None,
    overhead_s: float = 0.0,
) -> float:
    """Return the least possible makespan in seconds; infinite when a job fits no node at all.

    With ``loss`` it is that of somebody who knew from the start that the node would vanish.
    """
    if not builds:
        return 0.0
    problem = _Problem(builds, nodes, loss, overhead_s)
    high = max(NEGLIGIBLE_S, *(head + tail + problem.least(build) for build, head, tail in problem.windows))
    if math.isinf(high):
        return math.inf
    low = 0.0
    while not problem.possible(high):
        low, high = high, high * 2
        if high > 1e12:  # noqa: PLR2004  # 30,000 years: only nodes that vanish could have done it
            return math.inf
    while high - low > max(1e-6 * high, NEGLIGIBLE_S):
        middle = (low + high) / 2
        low, high = (low, middle) if problem.possible(middle) else (middle, high)
    return low


def _kinds(nodes: Sequence[NodeState], loss: Loss | None) -> list[_Kind]:
    """Group equal nodes."""
    first: dict[tuple[object, ...], NodeState] = {}
    count: dict[tuple[object, ...], int] = {}
    for node in nodes:
        if not node.usable:
            continue
        until = loss.at_s if loss and loss.node == node.name else math.inf
        key = (
            node.cores, node.memory_bytes, node.disk_free_bytes, node.speed,
            node.pythons, node.features, node.apt_packages, until,
        )  # fmt: skip
        first.setdefault(key, node)
        count[key] = count.get(key, 0) + 1
    return [_Kind(first[key], count[key], float(str(key[-1]))) for key in first]


def _topological(builds: Mapping[str, Build]) -> list[str]:
    """Return the ids with each after all it waits for; a cycle is an error of the caller."""
    waits = {name: set(build.after & builds.keys()) for name, build in builds.items()}
    order: list[str] = []
    while waits:
        free = sorted(name for name, before in waits.items() if not before)
        if not free:
            raise ValueError(f"jobs wait for each other: {', '.join(sorted(waits))}")
        order += free
        for name in free:
            del waits[name]
        done = set(free)
        for name in waits:
            waits[name] -= done
    return order
