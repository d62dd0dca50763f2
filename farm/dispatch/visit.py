"""One visit to a node: what is to be done there now, a poll that nobody waits for, what it brought."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from farm.errors import LyingNodeError, NodeError
from farm.executor import AttemptState, Executor, Launch, Progress, Vitals, Widening
from farm.nodes import Facts
from farm.paths import Paths


@dataclass(frozen=True, slots=True)
class Errand:
    """What a visit is to do."""

    prepare: bool
    cancel: Sequence[str]
    forget: Sequence[str]
    launches: Sequence[Launch]
    offsets: Mapping[str, int]
    wait_s: float
    widen: Mapping[str, Widening] = field(default_factory=dict)


@dataclass(slots=True)
class Trip:
    """A visit under way. Times are of the monotonic clock, in seconds."""

    errand: Errand
    overdue_at: float = math.inf
    """When its poll should have been answered; not known before it was asked."""
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Visit:
    """What one visit brought. ``at`` is the controller's clock when the vitals came, since the epoch."""

    errand: Errand
    facts: Facts | None
    held: Mapping[str, AttemptState] | None
    vitals: Vitals
    at: float
    progress: Sequence[Progress]
    collected: Mapping[str, Path]
    uncollected: Mapping[str, NodeError]
    refused: Mapping[str, NodeError]
    undone: Sequence[NodeError]
    """What could not be cancelled, forgotten or widened."""
    widened: frozenset[str]
    """The attempts that have the width they were to have, or can't: they are not told again and again."""

    @property
    def not_started(self) -> Mapping[str, NodeError]:
        """Why starts failed that did nothing: where a link broke, the answer may be lost, not the start."""
        if not self.refused:
            return {}
        unknown = {item.attempt_id for item in self.progress if item.state is AttemptState.UNKNOWN}
        return {name: error for name, error in self.refused.items() if name in unknown}


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of a visit before its poll is answered."""

    facts: Facts | None
    held: Mapping[str, AttemptState] | None
    refused: Mapping[str, NodeError]
    undone: Sequence[NodeError]
    widened: frozenset[str]


def visit(node: str, executor: Executor, errand: Errand, paths: Paths) -> Visit:
    """Do an errand in one go, and wait for its poll.

    Raises:
        NodeError: the node could not be reached or understood; what was done so far may be repeated.
    """
    return finish(node, executor, errand, _before_poll(executor, errand), paths)


def begin(executor: Executor, errand: Errand, ready: Callable[[Begun], None]) -> float:
    """Do an errand up to its poll; ``ready`` is called, in any thread, when :func:`finish` would not wait.

    Returns after how many seconds an answer is overdue; raises as :func:`visit` does.
    """
    begun = _before_poll(executor, errand)
    return executor.ask(errand.offsets, errand.wait_s, partial(ready, begun))


def finish(node: str, executor: Executor, errand: Errand, begun: Begun, paths: Paths) -> Visit:
    """Take what the poll brought, and collect what was built; raises as :func:`visit` does."""
    update = executor.poll(errand.offsets, errand.wait_s)
    at = time.time()
    collected: dict[str, Path] = {}
    uncollected: dict[str, NodeError] = {}
    for item in update.progress:
        if item.result is not None and item.result.failure is None and not item.more:
            try:
                collected[item.attempt_id] = _collect(node, executor, item, paths)
            except NodeError as error:
                # One wheel that can't be had says nothing of the node's other builds.
                uncollected[item.attempt_id] = error
    return Visit(
        errand=errand,
        facts=begun.facts,
        held=begun.held,
        vitals=update.vitals,
        at=at,
        progress=update.progress,
        collected=collected,
        uncollected=uncollected,
        refused=begun.refused,
        undone=begun.undone,
        widened=begun.widened,
    )


def _before_poll(executor: Executor, errand: Errand) -> Begun:
    facts = executor.prepare() if errand.prepare else None
    held = executor.list() if errand.prepare else None
    undone = [*_each(executor.cancel, errand.cancel), *_each(executor.forget, errand.forget)]
    refused = dict(_start(executor, errand.launches))
    widened: set[str] = set()

    def widen(attempt_id: str) -> None:
        wanted = errand.widen[attempt_id]
        try:
            settled = executor.widen(attempt_id, wanted.width, wanted.limits)
        except NodeError:
            widened.add(attempt_id)
            raise
        if settled:
            widened.add(attempt_id)

    undone += _each(widen, [*errand.widen])
    return Begun(facts, held, refused, undone, frozenset(widened))


def _each(do: Callable[[str], None], attempts: Sequence[str]) -> Iterator[NodeError]:
    """Do something to attempts; one that can't be ended says nothing of the node's other builds."""
    for attempt_id in attempts:
        try:
            do(attempt_id)
        except LyingNodeError:
            raise
        except NodeError as error:
            yield error  # if it was the link, the poll will tell


def _start(executor: Executor, launches: Sequence[Launch]) -> Mapping[str, NodeError]:
    refused: dict[str, NodeError] = {}
    for launch in launches:
        try:
            executor.start(launch)
        except LyingNodeError:
            raise
        except NodeError as error:
            # The next poll says whether it began after all.
            refused[launch.attempt_id] = error
    return refused


def _collect(node: str, executor: Executor, item: Progress, paths: Paths) -> Path:
    assert item.result is not None  # noqa: S101  # the caller checked
    if not item.result.wheels:
        raise LyingNodeError(node, f"{item.attempt_id}: it says built, and has no wheel")
    wheel, *beside = item.result.wheels
    for file in beside:
        # They share a folder with other attempts' files, which they must not replace.
        if not file.filename.startswith(f"{item.attempt_id}."):
            raise LyingNodeError(node, f"{item.attempt_id}: {file.filename} is not a name of this attempt's")
        executor.collect(item.attempt_id, file, paths.log(item.attempt_id).parent)
    return executor.collect(item.attempt_id, wheel, paths.wheels(item.attempt_id))
