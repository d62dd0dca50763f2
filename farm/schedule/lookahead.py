"""The default policy: critical path first, width by need; it may wait for a faster node.

A common deadline is computed at which the work, each job just wide enough to meet it, fits the farm's
capacity (as CPA does); from there the least one is sought that a plan can meet. Jobs are planned in the order
of urgency on the node where each meets the deadline with the least area, or, if it can't, ends first (as HEFT
does); a node that is free now may be left to others. Only what the plan starts now is started; after the next
event all is planned anew. What is free then and waited for by nobody goes to builds that run: they become
wider.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from farm.schedule.event import SMALL, Decision, Event
from farm.schedule.ledger import able, loads_of
from farm.schedule.model import Assignment, FarmState, Needs, NodeState, QueuedJob, RunningJob
from farm.schedule.plan import Item
from farm.schedule.pool import Pool


class LookAhead:
    """See the module. What the object remembers of jobs and nodes saves time and changes no answer."""

    name: ClassVar[str] = "lookahead"

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._items: dict[str, Item] = {}
        self._sorted: list[Item] = []
        self._nodes: list[NodeState] = []
        self._able: dict[Needs, list[str]] = {}
        self._pool = Pool()

    def assign(self, state: FarmState) -> Sequence[Assignment]:
        """Return what is to be started now, and what is to be widened."""
        return self.decide(state).assignments

    def decide(self, state: FarmState) -> Decision:
        """Plan, and return what starts now with what waits for which place."""
        if len(state.queued) * len(state.nodes) <= SMALL:
            # Among more, errors of single estimates even out by themselves, and this would cost too much.
            state = self._pool.pooled(state)
        loads = loads_of(state)
        if not any(load.cores > 0 for load in loads.values()):
            return Decision((), {})
        nodes = [load.node for load in loads.values()]
        items = self._ordered(state, nodes)
        self._know(nodes)
        running: dict[str, list[RunningJob]] = {name: [] for name in loads}
        for job in state.running:
            if job.node in running:
                running[job.node].append(job)
        return Event(loads, running, items, self._able_of, more=state.more).decide()

    def _ordered(self, state: FarmState, nodes: Sequence[NodeState]) -> list[Item]:
        """Return the queue by weight; what did not change is not computed again."""
        tails = _tails(state.queued, nodes)
        tail = tails.get
        known, fresh = self._items, False
        items: dict[str, Item] = {}
        for job in state.queued:
            name = job.job_id
            item = known.get(name)
            if item is None or item.job is not job or item.tail != tail(name, 0.0):
                item, fresh = Item(job, tail(name, 0.0)), True
            items[name] = item
        self._items = items
        if fresh:
            self._sorted = sorted(items.values(), key=lambda item: (-_weight(item), item.job.job_id))
        else:
            self._sorted = [item for item in self._sorted if items.get(item.job.job_id) is item]
        return self._sorted

    def _know(self, nodes: list[NodeState]) -> None:
        if nodes != self._nodes:
            self._nodes = nodes
            self._able = {}

    def _able_of(self, job: QueuedJob) -> list[str]:
        if any(job.failed_on.values()):
            return [node.name for node in able(job, self._nodes)]
        if (names := self._able.get(job.needs)) is None:
            names = self._able[job.needs] = [node.name for node in able(job, self._nodes)]
        return names


def _weight(item: Item) -> float:
    return item.pessimism * item.seconds(8, 1.0) + item.tail


def _tails(queued: Iterable[QueuedJob], nodes: Sequence[NodeState]) -> dict[str, float]:
    """Return for each job that others wait for the least time that these need after it, in seconds."""
    waiting: dict[str, list[QueuedJob]] = {}
    for job in queued:
        for before in job.after:
            waiting.setdefault(before, []).append(job)
    if not waiting:
        return {}
    best = max(nodes, key=lambda node: (node.speed * node.cores, node.name))
    tails: dict[str, float] = {}

    def tail(name: str, path: frozenset[str]) -> float:
        if name not in tails:
            tails[name] = max(
                (
                    Item(job).seconds(Item(job).cap(best), best.speed) * job.estimate.spread
                    + tail(job.job_id, path | {name})
                    for job in waiting.get(name, ())
                    # A circle never becomes ready; it must not keep us here, either.
                    if job.job_id not in path
                ),
                default=0.0,
            )
        return tails[name]

    for name in sorted(waiting):
        tail(name, frozenset({name}))
    return tails
