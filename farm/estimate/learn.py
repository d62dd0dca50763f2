"""Learning from builds: log time = project + node + Amdahl share. Pure; the caller keeps the history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from farm.estimate.cold import Giant, cold_estimate
from farm.estimate.features import SdistFeatures
from farm.schedule.model import Estimate

RATE: Final = 0.3
"""Weight of the newest build of a project (EWMA)."""
CLASS_RATE: Final = 0.05
NODE_RATE: Final = 0.1
SPIKE: Final = math.log(3.0)
"""A build that took more than 3 times as long, or less than a third, counts as 3 times: a node that swapped
or an emptied cache must not spoil what was learnt; a real change gets through in a few builds."""
CORRECTION: Final = math.log(2.0)
"""A node, and a kind of node, can turn out at most twice as fast or slow as calibrated: one project that
changed must not make a node look useless to all others."""
SPREAD_LEAST: Final = 1.15
SPREAD_ONCE: Final = 1.4
"""Known from one build: another Python, other caches."""
OVERDUE: Final = 1.5
"""A build that runs longer than expected is taken to need this many times what it has had already."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One build that ended well; or one that still runs (``finished`` False), end unknown."""

    project: str
    python: str
    node_class: str
    """Nodes of one kind of hardware, e.g. ``bananapi-f3``: they share what is learnt of their speed."""
    node: str
    width: float
    """The mean over time, of a build that was widened while it ran."""
    duration_s: float
    """Wall time on the node; of a running build, up to now."""
    processor_s: float | None = None
    """User and system time of all its processes, where the node measured it."""
    peak_memory_bytes: int | None = None
    """Of the whole build, all tasks together."""
    finished: bool = True
    most: int = 0
    """The largest width it had; 0: it was always the same."""


@dataclass(slots=True)
class _Project:
    work: float
    """Logarithm of the reference seconds of one core in all."""
    serial: float
    memory_bytes: int
    error: float
    """Usual absolute error of ``work``; a logarithm."""
    count: int = 1


class Knowledge:
    """What the farm has learnt of projects and nodes. Feed it observations in the order they were made."""

    def __init__(self, calibrated: Mapping[str, float], table: Mapping[str, Giant] | None = None) -> None:
        """Start from the nodes' calibrated speeds, by name; ``table`` replaces that of giants."""
        self._calibrated = dict(calibrated)
        self._table = table
        self._projects: dict[str, _Project] = {}
        self._floors: dict[str, float] = {}
        self._classes: dict[str, float] = {}
        self._nodes: dict[str, float] = {}

    @classmethod
    def of(
        cls,
        history: Iterable[Observation],
        calibrated: Mapping[str, float],
        table: Mapping[str, Giant] | None = None,
    ) -> Knowledge:
        """Return what a whole history teaches."""
        knowledge = cls(calibrated, table)
        for observation in history:
            knowledge.observe(observation)
        return knowledge

    def speed(self, node: str, node_class: str = "") -> float:
        """Return a node's speed: the calibrated one, corrected by how long builds really took on it."""
        correction = self._classes.get(node_class, 0.0) + self._nodes.get(node, 0.0)
        return self._calibrated.get(node, 1.0) * math.exp(correction)

    def knows(self, project: str) -> bool:
        """Tell whether a build of the project was ever seen to its end."""
        return project in self._projects

    def estimate(self, project: str, python: str, features: SdistFeatures | None = None) -> Estimate:
        """Return what a build is expected to be.

        ``python`` is not used yet: what a project costs differs little between CPythons.
        """
        del python
        if known := self._projects.get(project):
            work, share = math.exp(known.work), known.serial
            usual = math.exp(known.error)
            spread = max(SPREAD_ONCE if known.count == 1 else SPREAD_LEAST, usual)
            return Estimate(work * share, work * (1 - share), known.memory_bytes, spread)
        cold = cold_estimate(project, features, self._table)
        factor = max(1.0, self._floors.get(project, 0.0) / cold.work_s)
        return Estimate(cold.serial_s * factor, cold.parallel_s * factor, cold.memory_bytes, cold.spread)

    def observe(self, seen: Observation, features: SdistFeatures | None = None) -> None:
        """Learn from one build; ``features`` gives what is missing in the first one of a project."""
        known = self._projects.get(seen.project)
        before = self.estimate(seen.project, seen.python, features)
        work, serial = self._work_of(seen, before)
        if not seen.finished:
            if known is None:
                self._floors[seen.project] = max(self._floors.get(seen.project, 0.0), work * OVERDUE)
            return
        memory = self._memory_of(seen, before)
        if known is None:
            self._floors.pop(seen.project, None)
            error = math.log(SPREAD_ONCE)
            self._projects[seen.project] = _Project(math.log(work), serial, memory, error)
            return
        off = max(-SPIKE, min(SPIKE, math.log(work) - known.work))
        off -= self._teach_node(seen, off)
        known.count += 1
        rate = max(RATE, 1 / known.count)
        known.work += rate * off
        known.serial += rate * (serial - known.serial)
        known.error += RATE * (abs(off) - known.error)
        # A need of memory is forgotten slowly: too little kills a build, too much only makes it narrower.
        known.memory_bytes = max(memory, round(known.memory_bytes * 0.9 + memory * 0.1))

    def _work_of(self, seen: Observation, before: Estimate) -> tuple[float, float]:
        """Return reference seconds of one core in all, and the serial share, of what was seen."""
        speed, width = self.speed(seen.node, seen.node_class), seen.width
        wall = max(seen.duration_s, 0.1) * speed
        share = before.serial_s / before.work_s if before.work_s > 0 else 0.5
        if seen.processor_s is None or seen.processor_s <= 0:
            return wall / (share + (1 - share) / width), share
        work = max(seen.processor_s * speed, 0.1)
        if width > 1:
            # Amdahl's law, solved for the serial part.
            serial = (wall - work / width) / (1 - 1 / width)
            share = max(0.01, min(0.99, serial / work))
        return work, share

    def _memory_of(self, seen: Observation, before: Estimate) -> int:
        if seen.peak_memory_bytes is None:
            return before.memory_bytes
        return max(1, round(seen.peak_memory_bytes / (seen.most or seen.width)))

    def _teach_node(self, seen: Observation, off: float) -> float:
        """Learn from a build that took exp(off) times as long as expected; return the node's part in that."""
        taught = _corrected(self._classes, seen.node_class, CLASS_RATE * off)
        return taught + _corrected(self._nodes, seen.node, NODE_RATE * off)


def _corrected(corrections: dict[str, float], name: str, slower: float) -> float:
    """Make a logarithm of speed smaller by ``slower``, within limits; return by how much it did."""
    before = corrections.get(name, 0.0)
    corrections[name] = max(-CORRECTION, min(CORRECTION, before - slower))
    return before - corrections[name]
