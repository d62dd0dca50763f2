"""A plan on paper: each job gets a node, a width and a start, most urgent first. Seconds from now."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from farm.schedule.model import NodeState, QueuedJob, RunningJob

UNITS_A_CORE: Final = 4
"""Memory is booked in units of a quarter of what a node has for each core."""
COLD_SPREAD: Final = 1.7
DOUBT: Final = 0.7
"""A job is feared to take longer by so many times its spread above 1, as found best by bench.schedule, ..."""
FEAR: Final = 3.0
"""... but never more than this many times as long as expected."""
INSURED: Final = 2.0
"""A style that insures gives a job width against taking longer by so many times its spread above 1."""
COLD_LEAST: Final = 3
"""A job of unknown cost gets so many tasks even where its guessed serial share says that they are wasted."""
COLD_SLOW: Final = 8
"""The same on a node slower than the fastest: a giant that nobody knew for one is twice as long there."""
COLD_WIDTH: Final = 8
"""Whose cost is unknown gets a slot of 8 tasks: one that proves to be a giant may never be widened."""
OVERDUE: Final = 0.3
"""Past its expected end a build is expected to need this share of the time it had, per spread above 1."""
AREA_STEPS: Final = 10
"""Areas within a factor of exp(1/10) count as equal; then the earlier end decides."""
LATE: Final = 1.0001


@dataclass(frozen=True, slots=True)
class Style:
    """A way to choose widths; the planner tries several."""

    efficiency: float
    """No wider than so much of the work done in one core's time per core is left (Amdahl)."""
    share: float = 1.0
    """No wider than this share of a node, so that giants run side by side and not one after another."""
    insure: float = 1.0
    """Wider than needed by the fear that decides otherwise, as long as so much of the cores' time is of use.

    A build is widened only when cores are left over: one that is just wide enough for its deadline misses it
    by as much as it was underestimated. Amdahl's law makes the first cores cheap. 1.0: never.
    """
    balance: bool = False
    """Of nodes that are as good, take the emptier one: giants that all sit on one node can't be wide."""


class Item:
    """A job with what planning computes again and again."""

    __slots__ = ("cold", "job", "memory", "parallel", "pessimism", "pilot", "serial", "tail", "work")

    def __init__(self, job: QueuedJob, tail: float = 0.0) -> None:
        estimate = job.estimate
        self.job, self.tail = job, tail
        self.serial, self.parallel, self.memory = (
            estimate.serial_s,
            estimate.parallel_s,
            estimate.memory_bytes,
        )
        self.work = self.serial + self.parallel
        # Widths are chosen as if the job took this many times as long: the last one decides, and that is one
        # that was underestimated.
        self.pessimism = min(FEAR, 1 + DOUBT * max(0.0, estimate.spread - 1))
        self.cold = estimate.spread >= COLD_SPREAD
        self.pilot = True

    def cap(self, node: NodeState, share: float = 1.0) -> int:
        """Return the largest width that the node's cores and memory allow when it runs alone."""
        by_memory = node.memory_bytes // self.memory if self.memory > 0 else node.cores
        return max(1, int(min(node.cores, by_memory) * share))

    def narrowest(self, limit_s: float, speed: float, top: int) -> int:
        """Return the least width at which the job, as long as feared, ends within ``limit_s``; or ``top``."""
        return self._least(limit_s * speed / self.pessimism, top)

    def insured(self, limit_s: float, speed: float, top: int) -> int:
        """Return the least width at which it ends within ``limit_s`` even if far longer; or ``top``."""
        fear = 1 + INSURED * max(0.0, self.job.estimate.spread - 1)
        return self._least(limit_s * speed / fear, top)

    def _least(self, limit: float, top: int) -> int:
        spare = limit - self.serial
        if spare <= 0 or self.parallel > spare * top:
            return top
        return max(1, math.ceil(self.parallel / spare - 1e-9))

    def seconds(self, width: int, speed: float) -> float:
        """Return the expected wall time."""
        return (self.serial + self.parallel / width) / speed


class Profile:
    """When the cores, units of memory and places of one node become free: sorted times for each."""

    __slots__ = ("cores", "memory", "node", "places", "unit")

    def __init__(self, node: NodeState, running: Iterable[tuple[float, RunningJob]]) -> None:
        self.node = node
        units = UNITS_A_CORE * node.cores
        self.unit = max(1.0, node.memory_bytes / units)
        cores: list[float] = []
        memory: list[float] = []
        places: list[float] = []
        for left, job in sorted(running, key=lambda pair: pair[0]):
            cores += [left] * job.width
            memory += [left] * self.units(job.width * job.estimate.memory_bytes)
            places.append(left)
        self.cores = _filled(cores, node.cores)
        self.memory = _filled(memory, units)
        self.places = [] if node.max_jobs is None else _filled(places, node.max_jobs)

    def copy(self) -> Profile:
        """Return a copy that can be booked on independently."""
        other = Profile.__new__(Profile)
        other.node, other.unit = self.node, self.unit
        other.cores, other.memory, other.places = self.cores, self.memory, self.places
        return other

    def units(self, memory_bytes: int) -> int:
        """Return how many units of memory a build takes; one that is too large for the node takes all."""
        count, most = math.ceil(memory_bytes / self.unit - 1e-9), UNITS_A_CORE * self.node.cores
        return 1 if count < 1 else min(count, most)

    def start(self, width: int, memory_bytes: int, not_before: float) -> float:
        """Return when so many cores and so much memory are free at once."""
        units = self.units(width * memory_bytes)
        begin = max(self.cores[width - 1], self.memory[units - 1], not_before)
        return max(begin, self.places[0]) if self.places else begin

    def book(self, start: float, end: float, width: int, memory_bytes: int) -> None:
        """Take them from ``start`` to ``end``."""
        self.cores = _booked(self.cores, start, end, width)
        self.memory = _booked(self.memory, start, end, self.units(width * memory_bytes))
        if self.places:
            self.places = _booked(self.places, start, end, 1)


def _filled(busy: list[float], length: int) -> list[float]:
    kept = busy[-length:] if length else []
    return [0.0] * (length - len(kept)) + kept


def _booked(free: list[float], start: float, end: float, count: int) -> list[float]:
    # Of those that are free by then the ones that became so last: earlier ones stay for others.
    upto = bisect_right(free, start)
    rest = free[: upto - count] + free[upto:]
    at = bisect_right(rest, end)
    return rest[:at] + [end] * count + rest[at:]


def remaining(job: RunningJob, speed: float) -> float:
    """Return how long a running build is still expected to take.

    One past its expected end is believed to be a longer one than thought, the more so the longer it lasts.
    """
    left = job.estimate.seconds(job.width, speed) - job.elapsed_s
    return max(left, OVERDUE * (job.estimate.spread - 1) * job.elapsed_s, 1.0)


def _in_order(items: Sequence[Item], known: Container[str], able: Mapping[str, Sequence[str]]) -> list[Item]:
    """Return the items with each after all it waits for, else as they are; last, what waits for others.

    Booked before what it waits for, a job would hold a place that it can't use yet; perhaps the only one. The
    same holds for what waits for a job that is neither here nor ``known``, or that no node is ``able`` to
    take: when it can start is not known.
    """
    by_id = {item.job.job_id: item for item in items}
    ordered: dict[str, Item] = {}
    blocked: set[str] = set()

    def add(item: Item, path: frozenset[str]) -> None:
        name = item.job.job_id
        for before in sorted(item.job.after):
            if before in by_id and before not in ordered and before not in path:
                add(by_id[before], path | {name})
        lost = [before for before in item.job.after if before not in by_id and before not in known]
        if lost or not able[name] or not blocked.isdisjoint(item.job.after):
            blocked.add(name)
        ordered.setdefault(name, item)

    for item in items:
        add(item, frozenset({item.job.job_id}))
    return sorted(ordered.values(), key=lambda item: item.job.job_id in blocked)


@dataclass(frozen=True, slots=True)
class Booking:
    """Where, how wide and when a job is planned to run."""

    job: QueuedJob
    node: NodeState
    width: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Bookings in the order of urgency."""

    bookings: tuple[Booking, ...]
    end_s: float
    """When the last job ends if each takes as long as feared."""
    late_s: float
    """By how much the jobs then miss their deadlines, all together."""

    @property
    def score(self) -> float:
        """Return what to compare plans by. One giant often decides the end; so what else is late counts."""
        return self.end_s + self.late_s / 10


class Planner:
    """Books jobs so that each, feared to be longer than expected, ends by a common deadline."""

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        deadline_s: float,
        style: Style,
        floors_s: Mapping[str, float] = MappingProxyType({}),
        ends_s: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Book on ``profiles``, which are changed.

        Jobs with a floor, by id, are given at least that time; ``ends_s`` has when running jobs end.
        """
        self._profiles, self._deadline, self._style = profiles, deadline_s, style
        self._floors = floors_s
        self._ends = dict(ends_s)
        self._fastest = max((profile.node.speed for profile in profiles.values()), default=0.0)

    def plan(self, items: Sequence[Item], able: Mapping[str, Sequence[str]]) -> Plan:
        """Place all items; ``able`` has the names of the nodes for each job id."""
        kinds = {
            (profile.node.cores, profile.node.memory_bytes, profile.node.speed): profile.node
            for profile in self._profiles.values()
        }
        order = sorted(
            items, key=lambda item: (-self._urgency(item, kinds.values()), -item.work, item.job.job_id)
        )
        bookings: list[Booking] = []
        end = late = 0.0
        for item in _in_order(order, self._ends, able):
            if booking := self._place(item, able[item.job.job_id]):
                bookings.append(booking)
                self._ends[item.job.job_id] = booking.end_s
                feared = (booking.end_s - booking.start_s) * item.pessimism
                end = max(end, booking.start_s + feared + item.tail)
                late += max(0.0, booking.start_s + feared - LATE * self._limit(item))
        return Plan(tuple(bookings), end, late)

    def _limit(self, item: Item) -> float:
        """Return when the job must end for all that waits for it to end in time."""
        return max(self._deadline, self._floors.get(item.job.job_id, 0.0)) - item.tail

    def _urgency(self, item: Item, kinds: Iterable[NodeState]) -> float:
        limit = self._limit(item)
        times = (
            item.seconds(self._width(item, limit, node.speed, item.cap(node)), node.speed) for node in kinds
        )
        return (item.pessimism if item.pilot else 1.0) * min(times) + item.tail

    def _width(self, item: Item, limit_s: float, speed: float, top: int) -> int:
        """Return the least width with which the job ends in time, insured as far as that is cheap."""
        width = item.narrowest(limit_s, speed, top)
        if self._style.insure >= 1:
            return width
        return max(
            width, item.insured(limit_s, speed, min(top, item.job.estimate.efficient(self._style.insure)))
        )

    def _place(self, item: Item, names: Sequence[str]) -> Booking | None:
        # Blocked by a job that can't be planned: it can't start now, when it will is unknown.
        begin = max((self._ends.get(before, 1e-6) for before in item.job.after), default=0.0)
        tops: dict[tuple[int, int], int] = {}
        efficient = item.job.estimate.efficient(self._style.efficiency)
        best: tuple[tuple[bool, float, float, int, str], Profile, int, float, float] | None = None
        for name in names:
            profile = self._profiles[name]
            node = profile.node
            kind = node.cores, node.memory_bytes
            if (top := tops.get(kind)) is None:
                top = tops[kind] = min(efficient, item.cap(node, self._style.share))
            found = self._fit(item, profile, begin, top)
            if best is None or found[0] < best[0]:
                best = found
        if best is None:
            return None
        _, profile, width, start, end = best
        profile.book(start, end, width, item.memory)
        return Booking(item.job, profile.node, width, start, end)

    def _fit(
        self, item: Item, profile: Profile, begin: float, top: int
    ) -> tuple[tuple[bool, float, float, int, str], Profile, int, float, float]:
        node, limit = profile.node, self._limit(item)
        width = 1
        if item.cold:
            # Its share of serial work is not known, either: what is efficient can't be said.
            least = COLD_LEAST if node.speed >= self._fastest else COLD_SLOW
            width = max(min(top, COLD_WIDTH), min(item.cap(node), least))
            top = max(top, width)
        start = profile.start(width, item.memory, begin)
        # Wider starts later, and what starts later must be wider: two rounds come near enough.
        for _ in range(2 if width < top else 0):
            wider = self._width(item, limit - start, node.speed, top)
            if wider <= width:
                break
            width = wider
            start = profile.start(width, item.memory, begin)
        seconds = item.seconds(width, node.speed)
        feared = start + item.pessimism * seconds
        late = feared > limit * LATE
        area = int(AREA_STEPS * math.log(max(1e-9, width * seconds * node.speed)))
        idle = profile.cores.count(0.0) if self._style.balance else 0
        key = (late, feared if late else float(area), feared, -idle, node.name)
        return key, profile, width, start, start + seconds
