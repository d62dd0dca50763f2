"""Who may be proved now, who waits, what is published together. Pure.

A wheel that passed the static gates is staged: a proof may install it, users and builds do not see it. What
is published is a wheel that was proved, with wheels that are published or were proved, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum


class Phase(Enum):
    """How far a job of the queue is that has not ended."""

    AHEAD = "ahead"  # it has no wheel yet that passed the static gates
    STAGED = "staged"
    PROVED = "proved"


@dataclass(frozen=True, slots=True)
class Item:
    """A job of the queue, by its name, as far as proofs are concerned."""

    job_id: str
    phase: Phase
    needs: frozenset[str] = frozenset()
    """Once it is staged: jobs of the queue whose wheels pip would install with its own."""
    after: frozenset[str] = frozenset()
    """While it is ahead: jobs that are published before it is built."""
    relies_on: frozenset[str] = frozenset()
    """Once it is proved: jobs of the queue whose wheels its proof took."""
    stale: bool = False
    """Once it is proved: one of the wheels that its proof took is no longer to be had."""
    held: bool = False
    """Nothing more is done about it in this run: the clean room or the index was not well."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows; a job that is in none of these goes on by itself."""

    prove: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Jobs to be proved now, each with those whose wheels lie beside."""
    wait: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Staged and proved jobs that wait, and for whom."""
    again: frozenset[str] = frozenset()
    """Proved jobs whose proof no longer counts: they are staged again."""
    publish: tuple[frozenset[str], ...] = ()
    """What can be published now: each group at once, after the groups that it relies on."""


def decide(items: Iterable[Item]) -> Decision:
    """Say what is done about staged and proved jobs.

    A proof waits for what it would install: until that is proved, so that a wheel is not blamed for another
    one's fault, or has ended. Two exceptions, without which it would wait for ever: jobs that need each other
    are proved as soon as all are staged; and a job that is itself waiting for this one is left out.
    """
    known = {item.job_id: item for item in items}
    reach = _Reach({name: _waited_for(item) & known.keys() for name, item in known.items()})
    prove: dict[str, frozenset[str]] = {}
    wait: dict[str, frozenset[str]] = {}
    again = frozenset(item.job_id for item in known.values() if item.phase is Phase.PROVED and item.stale)
    for item in known.values():
        if item.phase is not Phase.STAGED or item.held:
            continue
        needs = [known[name] for name in item.needs & known.keys() if name != item.job_id]
        looped = {other.job_id for other in needs if item.job_id in reach.of(other.job_id)}
        ahead = {other.job_id for other in needs if other.phase is Phase.AHEAD}
        unproved = {other.job_id for other in needs if other.phase is not Phase.PROVED or other.stale}
        if unproved - looped:
            wait[item.job_id] = frozenset(unproved - looped)
        else:
            prove[item.job_id] = frozenset(other.job_id for other in needs) - ahead
    fit = {name: item for name, item in known.items() if item.phase is Phase.PROVED and name not in again}
    ready = _publishable({name: item for name, item in fit.items() if not item.held}, known)
    for name, item in fit.items():
        if name not in ready and not item.held:
            wait[name] = item.relies_on & known.keys() - ready
    return Decision(prove, wait, again, _groups({name: fit[name].relies_on & ready for name in ready}))


def blocked(decision: Decision, held: frozenset[str]) -> Mapping[str, str]:
    """Return who waits, in the end, for a job that is held, and for which one."""
    found: dict[str, str] = {}
    more = True
    while more:
        more = False
        for name, others in decision.wait.items():
            culprit = next(
                (found.get(other, other) for other in sorted(others) if other in held | found.keys()), None
            )
            if name not in found and culprit is not None:
                found[name] = culprit
                more = True
    return found


def _waited_for(item: Item) -> frozenset[str]:
    match item.phase:
        case Phase.AHEAD:
            return item.after
        case Phase.STAGED:
            return item.needs
        case Phase.PROVED:
            # What is stale is proved again, and then waits for all that it needs.
            return item.needs | item.relies_on if item.stale else item.relies_on


class _Reach:
    """Who waits, directly or through others, for whom; worked out for those that are asked for only."""

    def __init__(self, edges: Mapping[str, Iterable[str]]) -> None:
        self._edges = edges
        self._known: dict[str, set[str]] = {}

    def of(self, name: str) -> set[str]:
        """Return all that a job waits for."""
        if name not in self._known:
            found: set[str] = set()
            todo = list(self._edges[name])
            while todo:
                other = todo.pop()
                if other not in found:
                    found.add(other)
                    todo += self._edges[other]
            self._known[name] = found
        return self._known[name]


def _publishable(proved: Mapping[str, Item], known: Mapping[str, Item]) -> frozenset[str]:
    """Return the largest set of proved jobs that relies on nothing outside that is not published."""
    ready = set(proved)
    more = True
    while more:
        out = {name for name in ready if (proved[name].relies_on & known.keys()) - ready}
        ready -= out
        more = bool(out)
    return frozenset(ready)


def _groups(relies_on: Mapping[str, frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Order jobs so that each comes after what it relies on; those that rely on each other are one group."""
    reach = _Reach(relies_on)
    groups: list[frozenset[str]] = []
    done: set[str] = set()
    # Whoever reaches less comes first: what a job relies on reaches no more than the job itself does.
    for name in sorted(relies_on, key=lambda one: (len(reach.of(one) | {one}), one)):
        if name not in done:
            group = frozenset({name} | {other for other in reach.of(name) if name in reach.of(other)})
            groups.append(group)
            done |= group
    return tuple(groups)
