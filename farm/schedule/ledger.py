"""What is free on each node while a policy places jobs, and who may take which job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from farm.schedule.model import Estimate, FarmState, NodeState, QueuedJob, unmet

LEAST_USE: Final = 0.2
"""What nobody else wants is given to a build as long as so much of it is of use."""


class Load:
    """The free cores, memory and places of one node; counts down as jobs are placed."""

    __slots__ = ("cores", "jobs", "memory", "name", "node", "slots")

    def __init__(self, node: NodeState) -> None:
        self.node = node
        self.name = node.name
        self.cores = node.cores
        self.memory = node.memory_bytes
        self.jobs = 0
        self.slots = (1 << 30) if node.max_jobs is None else node.max_jobs

    @property
    def open(self) -> bool:
        """Tell whether anything at all could still start here."""
        return self.cores > 0 and self.jobs < self.slots and (self.memory > 0 or self.jobs == 0)

    def room(self, memory_bytes: int) -> int:
        """Return the largest width at which a job could start now; 0: it can't.

        A job alone on a node may always run one task: that it is able was checked with `unmet`, and an
        estimate of memory that is too high must not make it wait for ever.
        """
        if not self.open:
            return 0
        fits = self.cores if memory_bytes <= 0 else min(self.cores, max(0, self.memory) // memory_bytes)
        return max(fits, 1) if self.jobs == 0 else fits

    def widest(self, estimate: Estimate, width: int) -> int:
        """Return the largest width that a build of ``width`` here could have now and use.

        Used is what keeps at least ``LEAST_USE`` of its cores' time busy, by Amdahl's law.
        """
        memory = estimate.memory_bytes
        fits = self.cores if memory <= 0 else min(self.cores, max(0, self.memory) // memory)
        return min(width + fits, estimate.efficient(LEAST_USE))

    def widen(self, tasks: int, memory_bytes: int) -> None:
        """Count so many tasks more of a build that is counted already."""
        self.cores -= tasks
        self.memory -= tasks * memory_bytes

    def take(self, width: int, memory_bytes: int) -> None:
        """Count a job of ``width`` tasks as running here."""
        self.widen(width, memory_bytes)
        self.jobs += 1


def loads_of(state: FarmState) -> dict[str, Load]:
    """Return the load of each node that may get jobs, by name; what runs on it is counted."""
    loads = {node.name: Load(node) for node in state.nodes if node.usable}
    for job in state.running:
        if (load := loads.get(job.node)) is not None:
            load.take(job.width, job.estimate.memory_bytes)
    return loads


def ready(queued: Iterable[QueuedJob]) -> list[QueuedJob]:
    """Return the jobs that wait for no other one, by id: no policy depends on the order of the queue."""
    return sorted((job for job in queued if not job.after), key=lambda job: job.job_id)


def able(job: QueuedJob, nodes: Iterable[NodeState]) -> list[NodeState]:
    """Return the usable nodes that can take the job and, of those, failed it least often."""
    fit = [node for node in nodes if node.usable and not unmet(job.needs, node)]
    if not job.failed_on:
        return fit
    fewest = min((job.failed_on.get(node.name, 0) for node in fit), default=0)
    return [node for node in fit if job.failed_on.get(node.name, 0) == fewest]
