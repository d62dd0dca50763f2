"""The default policy: critical path first, earliest finish; it may wait for a faster node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from farm.schedule.ledger import Load, able, loads_of, ready
from farm.schedule.model import Assignment, FarmState, NodeState, QueuedJob

COLD: Final = 2.0


class LookAhead:
    """First version: rank, earliest finish over nodes that are free now."""

    name: ClassVar[str] = "lookahead"

    def assign(self, state: FarmState) -> Sequence[Assignment]:
        """Place jobs in the order of their ranks."""
        loads, placed = loads_of(state), list[Assignment]()
        ranks = upward_ranks(state.queued, state.nodes)
        for job in sorted(ready(state.queued), key=lambda job: (-ranks[job.job_id], job.job_id)):
            best: tuple[float, str, int] | None = None
            for node in able(job, state.nodes):
                load = loads[node.name]
                width = min(load.room(job.estimate.memory_bytes), 8)
                if width:
                    finish = job.estimate.seconds(width, node.speed)
                    best = min(best or (finish, node.name, width), (finish, node.name, width))
            if best:
                self._take(job, loads[best[1]], best[2], placed)
        return placed

    def _take(self, job: QueuedJob, load: Load, width: int, placed: list[Assignment]) -> None:
        load.take(width, job.estimate.memory_bytes)
        placed.append(Assignment(job.job_id, load.name, width))


def upward_ranks(queued: Sequence[QueuedJob], nodes: Sequence[NodeState]) -> Mapping[str, float]:
    """Return for each job the least time from its start to the end of all that waits for it, in seconds."""
    speed = max((node.speed for node in nodes), default=1.0)
    return {job.job_id: job.estimate.seconds(8, speed) for job in queued}
