"""Which job runs on which node now. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queued job, as far as placing it needs to know."""

    job_id: str
    python: str
    apt_packages: frozenset[str]
    work: float
    """Expected work, in any unit that grows with it; the longest goes first."""
    failed_on: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a node can take now."""

    node: str
    free: int
    slots: int
    cores: int
    pythons: frozenset[str]
    apt_packages: frozenset[str]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One job to one node, with the number of parallel tasks its build may use."""

    job_id: str
    node: str
    width: int


def width(cores: int, slots: int) -> int:
    """Return how many parallel tasks one build may use, so that full slots never overload the node."""
    return max(1, cores // slots)


def unmet(job: Candidate, node: Capacity) -> str | None:
    """Return why ``node`` can't take ``job`` at all, or None."""
    if job.python not in node.pythons:
        return f"no {job.python}"
    missing = sorted(job.apt_packages - node.apt_packages)
    return f"missing packages: {' '.join(missing)}" if missing else None


def assign(queue: Iterable[Candidate], nodes: Sequence[Capacity]) -> list[Assignment]:
    """Place queued jobs on free slots: most work first, each on the node with the most free cores a job.

    A node that failed a job before is only used for it again when no other node could take it. A job's
    width is the node's cores shared among its slots, so that full slots never overload the node.
    """
    free = {node.node: node.free for node in nodes}
    placed: list[Assignment] = []
    for job in sorted(queue, key=lambda job: (-job.work, job.job_id)):
        able = [node for node in nodes if unmet(job, node) is None]
        fewest = min((job.failed_on.get(node.node, 0) for node in able), default=0)
        open_nodes = [
            node for node in able if free[node.node] > 0 and job.failed_on.get(node.node, 0) == fewest
        ]
        if open_nodes:
            best = max(open_nodes, key=lambda node: (free[node.node] / node.slots, node.cores, node.node))
            free[best.node] -= 1
            placed.append(Assignment(job.job_id, best.node, width(best.cores, best.slots)))
    return placed
