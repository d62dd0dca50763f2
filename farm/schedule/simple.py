"""Policies to compare with: what farms do that don't plan. All keep the limits of nodes; none looks ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from farm.schedule.ledger import Load, able, loads_of, ready
from farm.schedule.model import Assignment, FarmState, QueuedJob

SLOT: Final = 8
"""Threads of a slot where a policy cuts nodes into slots."""


def _start(job: QueuedJob, load: Load, width: int) -> Assignment | None:
    room = load.room(job.estimate.memory_bytes)
    if room < 1:
        return None
    width = min(width, room)
    load.take(width, job.estimate.memory_bytes)
    return Assignment(job.job_id, load.name, width)


class LabelGrab:
    """First responder takes every job: the fastest node, one build at a time with all its cores (F11).

    Only when it can't take a job at all, another one gets it.
    """

    name: ClassVar[str] = "label-grab"

    def assign(self, state: FarmState) -> Sequence[Assignment]:
        """Start a job on each first responder that runs nothing."""
        loads, placed = loads_of(state), list[Assignment]()
        for job in ready(state.queued):
            nodes = able(job, state.nodes)
            if nodes:
                load = loads[max(nodes, key=lambda node: (node.speed * node.cores, node.name)).name]
                item = _start(job, load, load.node.cores) if load.jobs == 0 else None
                placed += [item] if item else []
        return placed


class RoundRobin:
    """Static shards by name; one build at a time with all of a node's cores."""

    name: ClassVar[str] = "round-robin"

    def assign(self, state: FarmState) -> Sequence[Assignment]:
        """Start the next job of each node's shard where the node runs nothing."""
        loads, placed = loads_of(state), list[Assignment]()
        for job in ready(state.queued):
            nodes = sorted(able(job, state.nodes), key=lambda node: node.name)
            if nodes:
                # Not hash(): it differs from process to process.
                load = loads[nodes[sum(map(ord, job.job_id)) % len(nodes)].name]
                item = _start(job, load, load.node.cores) if load.jobs == 0 else None
                placed += [item] if item else []
        return placed


class Slots:
    """Nodes are cut into slots of some threads; each job, in some order, goes to the first free slot."""

    name: ClassVar[str] = "slots"
    width: ClassVar[int] = SLOT

    def order(self, jobs: list[QueuedJob]) -> list[QueuedJob]:
        """Return the jobs in the order they are started."""
        return jobs

    def assign(self, state: FarmState) -> Sequence[Assignment]:
        """Fill free slots."""
        loads, placed = loads_of(state), list[Assignment]()
        for job in self.order(ready(state.queued)):
            free = [node for node in able(job, state.nodes) if self._free(loads[node.name])]
            for node in sorted(free, key=lambda node: (-node.speed, node.name)):
                if item := _start(job, loads[node.name], self.width):
                    placed.append(item)
                    break
            if not any(load.open for load in loads.values()):
                break
        return placed

    def _free(self, load: Load) -> bool:
        return load.jobs < max(1, load.node.cores // self.width)


class FifoOne(Slots):
    """As GNU parallel does it: one thread a job, as many jobs as cores."""

    name: ClassVar[str] = "fifo-1"
    width: ClassVar[int] = 1


class FifoEight(Slots):
    """First come, first served, in slots of eight threads."""

    name: ClassVar[str] = "fifo-8"


class LongestFirst(Slots):
    """The most work first, in slots of eight threads."""

    name: ClassVar[str] = "longest-first"

    def order(self, jobs: list[QueuedJob]) -> list[QueuedJob]:
        """Return the jobs with the most work first."""
        return sorted(jobs, key=lambda job: (-job.estimate.work_s, job.job_id))
