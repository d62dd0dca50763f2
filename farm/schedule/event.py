"""One decision of the default policy: a deadline, a plan, what of it starts now, who gets what is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from farm.schedule.ledger import LEAST_USE, Load
from farm.schedule.model import Assignment, NodeState, QueuedJob, RunningJob
from farm.schedule.plan import Booking, Item, Plan, Planner, Profile, Style, remaining

WARM: Final = Style(0.2, balance=True)
"""Costs are known: cores are used badly, if need be, rather than that a giant ends late."""
SAFE: Final = Style(0.2, insure=0.7, balance=True)
"""The same, but builds are insured against being longer than feared; ..."""
PREMIUM: Final = 1.05
"""... as long as that makes the plan's end later by no more than this factor.

Where all cores have work till the end, as on few boards, it takes from everybody what it gives to one.
"""
COLD: Final = (
    Style(0.5),
    Style(0.2),
    Style(0.7),
    Style(0.5, share=0.5),
    Style(0.5, share=0.34),
    Style(0.5, share=0.25),
)
"""Some costs are unknown: the sum of what is guessed says too little of what deadline could be met."""
STEP: Final = 1.06
"""A deadline that can't be met is made later by this factor, then by its square, ..."""
STEP_MOST: Final = 20.0
HALVINGS: Final = 3
"""... and, once one is met, the gap to the last one that was not is halved so many times."""
SLACK: Final = 1.1
"""No job is asked to end sooner than in so many times the least time it could take, as long as feared."""
NOW_S: Final = 1e-9
SMALL: Final = 4000
"""Jobs x nodes up to which all are planned at once, in all styles."""
CHUNK: Final = 24
"""Beyond that: so many jobs that could start, the weightiest first, at a time, ..."""
OPEN_NODES: Final = 6
"""... on so many of the emptiest nodes, ..."""
SOON_NODES: Final = 2
"""... and so many of each kind with the fewest builds left; ..."""
FRUITLESS: Final = 1
"""... until so many chunks in a row started nothing."""
WEIGHTY: Final = 64
"""So many of the weightiest jobs are looked at for the deadline; the rest count as one core wide."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What starts now, and where the plan puts jobs that could start but wait."""

    assignments: tuple[Assignment, ...]
    waits: Mapping[str, Booking]


@dataclass(frozen=True, slots=True)
class _Trial:
    """A plan, and the profiles that it is booked on."""

    plan: Plan
    profiles: dict[str, Profile]


class Event:
    """The farm at one moment, while jobs are placed on it."""

    def __init__(
        self,
        loads: Mapping[str, Load],
        running: Mapping[str, Sequence[RunningJob]],
        items: Sequence[Item],
        able_of: Callable[[QueuedJob], Sequence[str]],
        *,
        more: bool = False,
    ) -> None:
        """Take the free nodes by name, what runs on them, the queue by weight, and who may take what.

        With ``more`` to come to the queue, what is free stays free.
        """
        self._loads, self._running, self._items, self._able_of = loads, running, items, able_of
        self._more = more
        self._profiles: dict[str, Profile] = {}
        self._started: dict[str, tuple[Booking, int]] = {}
        self._waits: dict[str, Booking] = {}
        self._wanted: set[str] = set()

    def decide(self) -> Decision:
        """Return what starts now, and what is widened."""
        self._choose_pilots()
        small = len(self._items) * len(self._loads) <= SMALL
        if small:
            self._whole()
        else:
            self._in_chunks()
        self._fill_empty_nodes()
        # Where not all was planned, nobody knows who will want a node's cores.
        planned = small or all(item.job.job_id in self._started for item in self._items if not item.job.after)
        wider = self._share_rest() if planned and not self._more else []
        started = tuple(
            Assignment(job_id, booking.node.name, width) for job_id, (booking, width) in self._started.items()
        )
        return Decision((*started, *wider), self._waits)

    def _choose_pilots(self) -> None:
        """Of a project whose cost is unknown let one build go ahead: it teaches what the others cost."""
        cold = [item for item in self._items if item.cold]
        if not cold:
            return
        seen = {job.project for jobs in self._running.values() for job in jobs}
        for item in cold:
            project = item.job.project
            item.pilot = not project or project not in seen
            if not item.job.after:
                seen.add(project)

    def _whole(self) -> None:
        profiles = {name: self._profile(name) for name in self._loads}
        able = {item.job.job_id: self._able_of(item.job) for item in self._items}
        cold = any(item.cold for item in self._items)
        # Where costs are guessed, so are these ends: nothing is booked on the strength of them.
        ends = {} if cold else self._ends()

        def trial(deadline: float, style: Style, floors: Mapping[str, float]) -> _Trial:
            copies = {name: profile.copy() for name, profile in profiles.items()}
            planner = Planner(copies, deadline, style, floors, ends)
            return _Trial(planner.plan(self._items, able), copies)

        deadline = self._deadline()
        if cold:
            best = min((trial(deadline, style, {}) for style in COLD), key=lambda found: found.plan.score)
        else:
            kinds = self._kinds()
            floors = {item.job.job_id: SLACK * _soonest(item, kinds) for item in self._items}
            best = _earliest(deadline, lambda tried: trial(tried, WARM, floors))
            safe = _earliest(deadline, lambda tried: trial(tried, SAFE, floors))
            if safe.plan.score <= PREMIUM * best.plan.score:
                best = safe
        self._profiles = best.profiles
        self._start(best.plan)

    def _ends(self) -> dict[str, float]:
        """Return when running jobs are expected to end."""
        return {
            job.job_id: remaining(job, self._loads[name].node.speed)
            for name, jobs in self._running.items()
            for job in jobs
        }

    def _in_chunks(self) -> None:
        deadline = self._deadline()
        ready = [item for item in self._items if not item.job.after]
        soon = self._soon()
        fruitless = 0
        for at in range(0, len(ready), CHUNK):
            nodes = self._emptiest()
            if not nodes or fruitless >= FRUITLESS:
                return
            profiles = {name: self._profile(name) for name in {*nodes, *soon}}
            chunk = ready[at : at + CHUNK]
            able = {item.job.job_id: self._able_of(item.job) for item in chunk}
            before = len(self._started)
            self._start(Planner(profiles, deadline, COLD[0]).plan(chunk, _within(able, profiles)))
            fruitless = 0 if len(self._started) > before else fruitless + 1

    def _emptiest(self) -> list[str]:
        nodes = (load for load in self._loads.values() if load.open)
        found = nsmallest(OPEN_NODES, nodes, key=lambda load: (-load.cores * load.node.speed, load.name))
        return [load.name for load in found]

    def _soon(self) -> list[str]:
        kinds: dict[tuple[int, float], list[Load]] = {}
        for load in self._loads.values():
            kinds.setdefault((load.node.cores, load.node.speed), []).append(load)
        return [
            load.name
            for loads in kinds.values()
            for load in nsmallest(SOON_NODES, loads, key=lambda load: (load.jobs, -load.cores, load.name))
        ]

    def _profile(self, name: str) -> Profile:
        if name not in self._profiles:
            node = self._loads[name].node
            left = ((remaining(job, node.speed), job) for job in self._running[name])
            self._profiles[name] = Profile(node, left)
        return self._profiles[name]

    def _deadline(self) -> float:
        """Return the least time in which the work fits the capacity, each job just wide enough to end in it.

        A job that can't end in it takes what it can use well; it does not make the others slower.
        """
        capacity = sum(load.node.cores * load.node.speed for load in self._loads.values())
        base = sum(
            remaining(job, self._loads[name].node.speed) * job.width * self._loads[name].node.speed
            for name, jobs in self._running.items()
            for job in jobs
        )
        heavy, light = self._items[:WEIGHTY], self._items[WEIGHTY:]
        if len(self._items) * len(self._loads) <= SMALL:
            heavy, light = self._items, []
        base += sum(item.work for item in light)
        kinds = self._kinds()
        low = max(1.0, (base + sum(item.work for item in heavy)) / capacity)
        high = low
        while base + sum(_area(item, kinds, high) for item in heavy) > high * capacity:
            low, high = high, high * 1.2
        for _ in range(2):
            middle = (low + high) / 2
            fits = base + sum(_area(item, kinds, middle) for item in heavy) <= middle * capacity
            low, high = (low, middle) if fits else (middle, high)
        return high

    def _kinds(self) -> list[NodeState]:
        """Return one node of each kind."""
        nodes = (load.node for load in self._loads.values())
        return list({(node.cores, node.memory_bytes, node.speed): node for node in nodes}.values())

    def _start(self, plan: Plan) -> None:
        """Start what the plan starts now, as far as it really fits; the rest waits."""
        for booking in plan.bookings:
            job = booking.job
            if job.after:
                self._wanted.add(booking.node.name)
                continue
            load = self._loads[booking.node.name]
            room = load.room(job.estimate.memory_bytes) if booking.start_s <= NOW_S else 0
            if room < 1:
                self._waits[job.job_id] = booking
                continue
            width = min(room, booking.width)
            load.take(width, job.estimate.memory_bytes)
            self._started[job.job_id] = (booking, width)

    def _fill_empty_nodes(self) -> None:
        """Let no node stand empty that would end a waiting job sooner than its place in the plan."""
        empty = {name for name, load in self._loads.items() if load.jobs == 0 and load.open}
        empty -= {booking.node.name for booking in self._waits.values()}
        for item in self._items:
            if not empty:
                return
            job = item.job
            if job.after or job.job_id in self._started:
                continue
            planned = self._waits.get(job.job_id)
            for name in sorted(empty.intersection(self._able_of(job))):
                node = self._loads[name].node
                width = self._loads[name].room(item.memory)
                end = item.seconds(width, node.speed)
                if planned is None or end < planned.end_s:
                    booking = Booking(job, node, width, 0.0, end)
                    self._loads[name].take(width, item.memory)
                    self._started[job.job_id] = (booking, width)
                    self._waits.pop(job.job_id, None)
                    empty.discard(name)
                    break

    def _share_rest(self) -> list[Assignment]:
        """Share what is free on nodes that nobody waits for; returns which running builds get more.

        The build with most left goes first, whether it starts now or runs: what was underestimated is helped.
        What waits for another job to be published waits for its node, too.
        """
        waited_for = self._wanted.union(booking.node.name for booking in self._waits.values())
        starting: dict[str, list[tuple[QueuedJob, int]]] = {}
        for booking, width in self._started.values():
            starting.setdefault(booking.node.name, []).append((booking.job, width))
        wider: list[Assignment] = []
        for name, load in self._loads.items():
            if load.cores <= 0 or name in waited_for:
                continue
            speed = load.node.speed
            builds: list[tuple[float, QueuedJob | RunningJob, int]] = [
                (remaining(job, speed), job, job.width) for job in self._running[name] if job.widens
            ]
            builds += [
                (job.estimate.seconds(width, speed), job, width) for job, width in starting.get(name, ())
            ]
            for _, job, width in sorted(builds, key=lambda build: (-build[0], build[1].job_id)):
                most = load.widest(job.estimate, width)
                if most <= width:
                    continue
                load.widen(most - width, job.estimate.memory_bytes)
                if isinstance(job, RunningJob):
                    wider.append(Assignment(job.job_id, name, most))
                else:
                    self._started[job.job_id] = (self._started[job.job_id][0], most)
        return wider


def _earliest(deadline: float, trial: Callable[[float], _Trial]) -> _Trial:
    """Return the plan of about the least deadline that is met; where none is, the one that ends first.

    This is dual approximation (Hochbaum and Shmoys, 1987): just below what can be met, greedy plans are far
    worse, since what is late takes all the cores it can get.
    """
    low = high = deadline
    step = STEP
    found = best = trial(high)
    while found.plan.late_s > 0 and step < STEP_MOST:
        low, high, step = high, high * step, step * step
        found = trial(high)
        best = min(best, found, key=lambda one: one.plan.score)
    if found.plan.late_s > 0:
        return best
    for _ in range(HALVINGS if high > low else 0):
        middle = math.sqrt(low * high)
        tried = trial(middle)
        if tried.plan.late_s > 0:
            low = middle
        else:
            high, found = middle, tried
    return found


def _soonest(item: Item, kinds: Sequence[NodeState]) -> float:
    """Return when a job that starts at once, as long as feared, and what waits for it would end at best."""
    efficient = item.job.estimate.efficient(WARM.efficiency)
    times = (item.seconds(min(item.cap(node), efficient), node.speed) for node in kinds)
    return item.tail + item.pessimism * min(times)


def _area(item: Item, kinds: Sequence[NodeState], total_s: float) -> float:
    """Return the reference seconds of cores that a job takes when it is to end within ``total_s``."""
    best = fallback = float("inf")
    efficient = item.job.estimate.efficient(LEAST_USE)
    for node in kinds:
        cap = item.cap(node)
        width = item.narrowest(total_s - item.tail, node.speed, cap)
        area = width * item.serial + item.parallel
        if item.pessimism * item.seconds(width, node.speed) <= (total_s - item.tail) * 1.0001:
            best = min(best, area)
        fallback = min(fallback, min(cap, efficient) * item.serial + item.parallel)
    return best if best < float("inf") else fallback


def _within(able: Mapping[str, Sequence[str]], nodes: Mapping[str, Profile]) -> dict[str, list[str]]:
    """Return of the nodes looked at those that may take each job; equal lists are compared once."""
    lists: dict[int, list[str]] = {}
    result: dict[str, list[str]] = {}
    for job_id, names in able.items():
        if (allowed := lists.get(id(names))) is None:
            known = frozenset(names)
            allowed = lists[id(names)] = sorted(name for name in nodes if name in known)
        result[job_id] = allowed
    return result
