"""One visit to a node: all that is to be done there now, in one go and in one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from farm.errors import NodeError
from farm.executor import Executor, Launch, Progress
from farm.nodes import Facts, Node
from farm.paths import Paths


@dataclass(slots=True)
class Visited:
    """A node, as this run sees it."""

    node: Node
    executor: Executor
    facts: Facts | None = None
    errors: int = 0
    given_up: bool = False
    not_before: float = 0.0
    visit: Future[Visit] | None = None
    launches: list[Launch] = field(default_factory=list)
    forget: list[str] = field(default_factory=list)
    uncollected: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Visit:
    """What one visit brought."""

    facts: Facts | None
    progress: Sequence[Progress]
    collected: Mapping[str, Path]
    forgotten: frozenset[str]
    uncollected: Mapping[str, NodeError]


def visit(
    executor: Executor,
    *,
    probe: bool,
    launches: Sequence[Launch],
    offsets: Mapping[str, int],
    forget: Sequence[str],
    paths: Paths,
) -> Visit:
    """Do all that is to be done on a node now; runs in the pool."""
    facts = executor.probe() if probe else None
    for attempt_id in forget:
        executor.cancel(attempt_id)
        executor.forget(attempt_id)
    for launch in launches:
        executor.start(launch)
    progress = executor.poll(offsets)
    collected: dict[str, Path] = {}
    uncollected: dict[str, NodeError] = {}
    for item in progress:
        if item.result is not None and item.result.failure is None and not item.more:
            directory = paths.wheels(item.attempt_id)
            wheel, *beside = item.result.wheels
            try:
                for file in beside:
                    executor.collect(item.attempt_id, file, paths.log(item.attempt_id).parent)
                collected[item.attempt_id] = executor.collect(item.attempt_id, wheel, directory)
            except NodeError as error:
                # One wheel that can't be had says nothing of the node's other builds.
                uncollected[item.attempt_id] = error
    return Visit(facts, progress, collected, frozenset(forget), uncollected)
