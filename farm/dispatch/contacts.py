"""Keeps contact with all nodes: visits, who is well, who is in quarantine and probed."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from farm.dispatch.crew import Crew
from farm.dispatch.health import Trouble, changed, hold_s, sick
from farm.dispatch.ledger import Ledger
from farm.dispatch.logs import Logs
from farm.dispatch.outcome import Streak
from farm.dispatch.tempo import Tempo
from farm.dispatch.visit import Begun, Errand, Trip, Visit, begin, finish
from farm.errors import FarmError, LyingNodeError, NodeError
from farm.executor import AttemptState, Executor, Launch, Vitals, Widening
from farm.nodes import Facts, Node, twins, unfit
from farm.paths import Paths
from farm.store import Mark

ERRORS_BEFORE_TROUBLE: Final = 3
REFUSALS_BEFORE_TROUBLE: Final = 2
OVERDUE_EVERY_S: Final = 1.0
"""So often it is looked for nodes that did not answer in time."""


@dataclass(slots=True)
class Contact:
    """A node, as this run sees it. Times are of the monotonic clock, in seconds."""

    node: Node
    executor: Executor
    facts: Facts | None = None
    baseline: Vitals | None = None
    vitals: Vitals | None = None
    drained: bool = False
    trouble: Trouble | None = None
    reason: str = ""
    holds: int = 0
    probe_at: float = 0.0
    errors: int = 0
    lost_since: float | None = None
    trip: Trip | None = None
    due_at: float = 0.0
    streak: Streak = field(default_factory=Streak)
    launches: dict[str, Launch] = field(default_factory=dict)
    forget: set[str] = field(default_factory=set)
    cancel: set[str] = field(default_factory=set)
    widen: dict[str, Widening] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)

    @property
    def visiting(self) -> bool:
        """Whether a visit is under way."""
        return self.trip is not None

    @property
    def usable(self) -> bool:
        """Whether it may have new jobs."""
        return self.facts is not None and self.trouble is None and not self.drained


class Listener(Protocol):
    """Who is told of what happened on the nodes; all in the main thread."""

    def visited(self, contact: Contact, visit: Visit) -> None:
        """Take what a visit brought."""

    def distrusted(self, contact: Contact, why: str) -> None:
        """Build elsewhere what the node has: what it says can't be trusted."""

    def note(self, text: str) -> None:
        """Show a line to the person at the terminal."""

    def node_known(self, contact: Contact) -> None:
        """Take what a node said of itself."""

    def node_changed(self) -> None:
        """Placing may come out differently now."""


class Contacts:
    """All nodes of a run."""

    def __init__(
        self,
        executors: Mapping[Node, Executor],
        *,
        ledger: Ledger,
        paths: Paths,
        tempo: Tempo,
        logs: Logs,
        listener: Listener,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self.all = {node.name: Contact(node, executor) for node, executor in executors.items()}
        self._ledger = ledger
        self._paths = paths
        self._tempo = tempo
        self._logs = logs
        self._listener = listener
        self._post = post
        self._crew = Crew()
        self._overdue_looked_at = 0.0
        self._due: list[tuple[float, str]] = []
        marks = ledger.store.marks()
        self._marked = {name for name in self.all if Mark.QUARANTINED in marks.get(name, {})}
        self.read_marks()
        for name in self.all:
            self._schedule(name, 0.0)

    def pending(self) -> bool:
        """Return whether a node was not heard of at all yet, or has something to forget."""
        return any(
            (c.facts is None and c.trouble is None) or (c.lost_since is None and (c.forget or c.cancel))
            for c in self.all.values()
        )

    def read_marks(self) -> None:
        """Take over which nodes somebody drained or resumed."""
        marks = self._ledger.store.marks()
        for name, contact in self.all.items():
            drained = Mark.DRAINED in marks.get(name, {})
            if drained != contact.drained:
                contact.drained = drained
                self._listener.note(f"{name}: {'drained: no new jobs' if drained else 'takes jobs again'}")
            if contact.trouble is not None and Mark.QUARANTINED not in marks.get(name, {}):
                # `farm resume`: somebody says it is well; a probe has the last word.
                contact.probe_at = 0.0
                self.wake(contact)

    def wake(self, contact: Contact) -> None:
        """Visit a node as soon as it can be."""
        if contact.visiting:
            contact.executor.wake()
        elif contact.due_at > time.monotonic():
            self._schedule(contact.node.name, 0.0)

    # -- visits -----------------------------------------------------------------------------------------

    def start_visits(self) -> float:
        """Begin all visits that are due; returns in how many seconds the next one is."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            at, name = heapq.heappop(self._due)
            contact = self.all[name]
            if contact.visiting or at != contact.due_at:
                continue
            contact.trip = Trip(self._errand(contact, now))
            # Connecting and being looked at takes seconds.
            slow = contact.facts is None or contact.errors > 0
            self._crew.send(partial(self._begin, contact, contact.trip), slow=slow)
        self._crew.relieve()
        self._drop_overdue(now)
        return self._due[0][0] - now if self._due else self._tempo.idle_wait_s

    def _errand(self, contact: Contact, now: float) -> Errand:
        active = self._ledger.on(contact.node.name)
        # Who is away is asked at the first contact: how long it was held off says nothing once it answers.
        away = contact.trouble is Trouble.UNREACHABLE
        probe = contact.facts is None or away or (contact.trouble is not None and now >= contact.probe_at)
        launches = tuple(contact.launches.values())
        # A launch that is lost with the link is made again when a later poll does not know the attempt.
        contact.launches.clear()
        busy = bool(active or self._ledger.jobs)
        return Errand(
            prepare=probe,
            cancel=tuple(contact.cancel),
            forget=tuple(contact.forget),
            launches=launches,
            widen={
                job.attempt_id: contact.widen[job.attempt_id]
                for job in active
                if job.attempt_id in contact.widen
            },
            offsets={job.attempt_id: self._logs.size(job.attempt_id) for job in active},
            wait_s=self._tempo.busy_wait_s if busy else self._tempo.idle_wait_s,
        )

    def _schedule(self, name: str, delay_s: float) -> None:
        contact = self.all[name]
        contact.due_at = time.monotonic() + delay_s
        heapq.heappush(self._due, (contact.due_at, name))

    def _begin(self, contact: Contact, trip: Trip) -> None:
        """Do the first part of a visit, in a thread of the crew; nobody waits for the answer to its poll."""

        def ready(begun: Begun) -> None:
            trip.answered = True
            # By way of the thread that decides, which gathers answers: each alone would wake one of the crew.
            self._post(partial(self._crew.send, partial(self._finish, contact, trip, begun)))

        try:
            trip.overdue_at = time.monotonic() + begin(contact.executor, trip.errand, ready)
        except BaseException as error:  # noqa: BLE001  # it is raised where it can be dealt with
            self._post(partial(self._take, contact, error))

    def _finish(self, contact: Contact, trip: Trip, begun: Begun) -> None:
        """Do the second part, in a thread of the crew."""
        outcome: Visit | BaseException
        try:
            outcome = finish(contact.node.name, contact.executor, trip.errand, begun, self._paths)
        except BaseException as error:  # noqa: BLE001  # likewise
            outcome = error
        self._post(partial(self._take, contact, outcome))

    def _drop_overdue(self, now: float) -> None:
        """Drop the links of nodes that did not answer in time: their visits end with that."""
        if now < self._overdue_looked_at + OVERDUE_EVERY_S:
            return
        self._overdue_looked_at = now
        for contact in self.all.values():
            trip = contact.trip
            if trip is not None and not trip.answered and trip.overdue_at < now:
                trip.overdue_at = math.inf
                self._crew.send(contact.executor.close)

    def _take(self, contact: Contact, outcome: Visit | BaseException) -> None:
        contact.trip = None
        try:
            if isinstance(outcome, BaseException):
                raise outcome
        except LyingNodeError as error:
            self._schedule(contact.node.name, self._tempo.backoff_s)
            self.distrust(contact, error.message)
            return
        except NodeError as error:
            self._failed(contact, error)
            return
        except OSError as error:
            raise _own_disk(error, self._paths) from error
        self._answered(contact, outcome)
        try:
            self._listener.visited(contact, outcome)
        except OSError as error:
            raise _own_disk(error, self._paths) from error
        self._schedule(contact.node.name, self._next_visit_s(contact))

    def _next_visit_s(self, contact: Contact) -> float:
        idle = not (self._ledger.on(contact.node.name) or contact.forget or contact.cancel)
        if contact.trouble is not None and idle:
            return max(0.0, contact.probe_at - time.monotonic())
        return 0.0

    def _answered(self, contact: Contact, visit: Visit) -> None:
        contact.errors, contact.lost_since = 0, None
        # What could not be done is tried again when the node is next asked what it holds, not all the time.
        for error in visit.undone:
            self._listener.note(error.message)
            self._listener.node_changed()  # a job that is to be cancelled still is
        contact.cancel.difference_update(visit.errand.cancel)
        contact.forget.difference_update(visit.errand.forget)
        for attempt_id, wanted in visit.errand.widen.items():
            # One that has not begun yet is told again; it may be wanted wider still by now.
            gone = self._ledger.of_attempt(attempt_id) is None
            if gone or (attempt_id in visit.widened and contact.widen.get(attempt_id) == wanted):
                contact.widen.pop(attempt_id, None)
        contact.vitals = visit.vitals
        if visit.facts is not None:
            contact.baseline = visit.vitals
            self._known(contact, visit.facts, visit.held or {})
        elif contact.baseline is not None and changed(contact.baseline, visit.vitals):
            contact.facts = None
        for attempt_id, error in visit.not_started.items():
            self._refused(contact, attempt_id, error)
        self._look_at_vitals(contact, visit)

    def _known(self, contact: Contact, facts: Facts, held: Mapping[str, AttemptState]) -> None:
        contact.facts = facts
        self._listener.node_known(contact)
        why = unfit(facts, contact.node) or self._twin(contact)
        if why:
            self.quarantine(contact, Trouble.UNFIT, why)
        elif contact.trouble is not Trouble.SICK:
            self._release(contact)
        for attempt_id in held:
            # What an earlier run gave up here and built elsewhere is not to run on for nothing.
            if self._ledger.of_attempt(attempt_id) is None:
                contact.cancel.add(attempt_id)
                contact.forget.add(attempt_id)
        self._listener.node_changed()

    def _twin(self, contact: Contact) -> str | None:
        known = {
            name: other.facts
            for name, other in self.all.items()
            if other.facts and (other is contact or other.trouble is None)
        }
        pairs = twins(known)
        name = contact.node.name
        twin = pairs.get(name) or next((one for one, other in pairs.items() if other == name), None)
        return f"it is the same machine as {twin}, by host name or machine id (F11)" if twin else None

    def _look_at_vitals(self, contact: Contact, visit: Visit) -> None:
        if contact.facts is None:
            return
        why = sick(contact.facts, visit.vitals, visit.at)
        if why:
            self.quarantine(contact, Trouble.SICK, why)
        elif contact.trouble is Trouble.SICK and time.monotonic() >= contact.probe_at:
            self._release(contact)

    def _refused(self, contact: Contact, attempt_id: str, error: NodeError) -> None:
        times = contact.refusals[attempt_id] = contact.refusals.get(attempt_id, 0) + 1
        if times >= REFUSALS_BEFORE_TROUBLE:
            del contact.refusals[attempt_id]
            self.quarantine(contact, Trouble.SICK, f"it can't start a build: {_told(error)}")

    def _failed(self, contact: Contact, error: NodeError) -> None:
        contact.errors += 1
        now = time.monotonic()
        if contact.lost_since is None:
            contact.lost_since = now
        hint = f" ({error.hint})" if error.hint else ""
        if contact.errors == 1 and contact.trouble is None:
            self._listener.note(f"{error.message}; trying again{hint}")
        if contact.errors >= ERRORS_BEFORE_TROUBLE and contact.trouble in {None, Trouble.UNREACHABLE}:
            self.quarantine(contact, Trouble.UNREACHABLE, f"{_told(error)}{hint}")
        delay = min(30.0, self._tempo.backoff_s * 2.0 ** min(contact.errors - 1, 10))
        self._schedule(contact.node.name, delay)

    # -- quarantine -------------------------------------------------------------------------------------

    def distrust(self, contact: Contact, why: str) -> None:
        """Quarantine a node that lied; what it has is built elsewhere."""
        self.quarantine(contact, Trouble.LYING, why.removeprefix(f"{contact.node.name}: "))
        for job in self._ledger.on(contact.node.name):
            contact.cancel.add(job.attempt_id)
            contact.forget.add(job.attempt_id)
            contact.launches.pop(job.attempt_id, None)
        self._listener.distrusted(contact, why)

    def quarantine(self, contact: Contact, trouble: Trouble, reason: str) -> None:
        """Give a node no new jobs until a probe finds it well."""
        is_new = contact.trouble is not trouble
        if not is_new and time.monotonic() < contact.probe_at:
            return
        self._ledger.store.mark(contact.node.name, Mark.QUARANTINED, reason)
        self._marked.add(contact.node.name)
        contact.trouble, contact.reason = trouble, reason
        contact.probe_at = time.monotonic() + hold_s(trouble, contact.holds) * self._tempo.quarantine
        contact.holds += 1
        if is_new:
            self._listener.note(f"{contact.node.name} in quarantine: {reason}")
            self._listener.node_changed()

    def _release(self, contact: Contact) -> None:
        doubted = contact.trouble in {Trouble.FAILING, Trouble.LYING}
        # A doubted node must first stay out of things for a while: being probed is not being well.
        if doubted and time.monotonic() < contact.probe_at:
            return
        if contact.node.name in self._marked:
            self._marked.discard(contact.node.name)
            self._ledger.store.unmark(contact.node.name, Mark.QUARANTINED)
            self._listener.note(f"{contact.node.name}: well again")
        if not doubted:
            contact.holds = 0
        contact.trouble, contact.reason = None, ""
        self._listener.node_changed()

    def close(self) -> None:
        """Drop all connections; builds go on."""
        # First the links: a visit may hold a poll open for seconds.
        for contact in self.all.values():
            contact.executor.close()
        self._crew.close()

    def troubles(self) -> Iterable[NodeError]:
        """Return what is wrong with which node, as errors to show at the end."""
        for name, contact in self.all.items():
            if contact.trouble is not None:
                hint = "look at it with `farm nodes`; when it is mended, run `farm dispatch` again"
                yield NodeError(name, contact.reason, hint=hint)


def _own_disk(error: OSError, paths: Paths) -> FarmError:
    """What a visit writes is below the state folder: no node is to blame."""
    return FarmError(
        f"{error.filename or paths.state} can't be written: {error.strerror or error}",
        hint="make room on this controller, then run `farm dispatch` again: nothing is lost",
    )


def _told(error: NodeError) -> str:
    return error.message.removeprefix(f"{error.node}: ")
