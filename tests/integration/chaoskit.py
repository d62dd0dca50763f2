"""Chaos: many short builds while controllers, links, sshds and agents are killed at random moments.

Nothing is pretended: the builds are the real farm-node's, over real sshds, for the real dispatcher in a
process of its own. What comes out is counted afterwards from files that no part of the farm writes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from farm.nodes import Address, Node
from farm.store import Attempt, Failure, Job, State
from tests.integration.farmkit import QUICK, Farm
from tests.integration.nodekit import install_farm_node, kill_quietly
from tests.integration.proxykit import Proxy
from tests.integration.sshkit import Sshd, descendants, free_port, keygen

LINES: Final = 40
LEFT_S: Final = 10.0
# Longer than the longest of the frozen links below, and shorter: both happen.
USER_TIMEOUT_S: Final = 2.0
FROZEN_S: Final = (0.3, 4.0)
# Of the moments between two faults, in seconds: so short that one meets what another left half done.
PAUSE_S: Final = (0.02, 1.0)
BACKEND: Final = """
import os, pathlib, time
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    for number in range({lines}):
        print("line", number, flush=True)
        time.sleep({pause_s})
    wheel = pathlib.Path({wheel!r})
    pathlib.Path(wheel_directory, wheel.name).write_bytes(wheel.read_bytes())
    done = os.open({done!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(done, b"{project}\\n")
    return wheel.name
"""


@dataclass(frozen=True, slots=True)
class Storm:
    """How much is to happen. The seed chooses the faults; when they strike depends on the machine, too."""

    jobs: int
    kills: int
    nodes: int = 3
    slots: int = 3
    seed: int = 1
    limit_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    jobs: int
    kills: int
    by_kind: Mapping[str, int]
    seconds: float
    lost: Sequence[str] = ()
    """Jobs that were not published exactly once."""
    duplicated: Sequence[str] = ()
    """Jobs that ran to their completion more than once."""
    incomplete_logs: Sequence[str] = ()
    inconsistent: Sequence[str] = ()
    """What is wrong in the store."""
    left: Sequence[str] = ()
    """Folders and processes that are left on nodes."""
    crashes: Sequence[str] = ()
    """Ends of controllers that nobody killed, before all was published."""
    again: int = 0
    """Attempts beyond the first of a job: it was begun anew though its node lived on."""

    @property
    def faults(self) -> list[str]:
        """All that must not be."""
        return [
            *self.crashes,
            *self.lost,
            *self.duplicated,
            *self.incomplete_logs,
            *self.inconsistent,
            *self.left,
        ]


@dataclass(slots=True)
class Place:
    """A node behind a proxy, and ways to hurt it."""

    sshd: Sshd
    slots: int
    proxy: Proxy = field(init=False)

    def __post_init__(self) -> None:
        self.sshd.start()
        self.proxy = Proxy(self.sshd.port)

    @property
    def node(self) -> Node:
        direct = self.sshd.node
        known_hosts = self.sshd.directory / "known_hosts_proxy"
        text = direct.address.known_hosts.read_text()
        known_hosts.write_text(text.replace(f":{self.sshd.port} ", f":{self.proxy.port} "))
        address: Address = replace(direct.address, port=self.proxy.port, known_hosts=known_hosts)
        return replace(direct, address=address, slots=self.slots)

    def agents(self) -> list[int]:
        """The processes that answer controllers; one that was forked to be a supervisor has no requests."""
        mine = f"\0--root\0{self.sshd.node.root}\0serve\0".encode()
        return [pid for pid in _processes() if mine in _read(pid, "cmdline") and not _at_null(pid)]

    def cut(self) -> None:
        """Kill the sessions of sshd, not sshd itself."""
        if self.sshd.process is not None:
            for pid in descendants(self.sshd.process.pid):
                if b"sshd" in _read(pid, "comm"):
                    kill_quietly(pid, signal.SIGKILL)

    def restart(self) -> None:
        self.sshd.stop()
        self.sshd.start()

    def kill_agents(self) -> None:
        for pid in self.agents():
            kill_quietly(pid, signal.SIGKILL)

    def close(self) -> None:
        self.proxy.close()
        self.sshd.stop()


class Chaos:
    """One storm over one farm."""

    def __init__(self, farm: Farm, places: Sequence[Place], storm: Storm) -> None:
        self._farm = farm
        self._places = places
        self._storm = storm
        self._dice = random.Random(storm.seed)  # noqa: S311  # it chooses faults, the same in every run
        self._done = farm.directory / "done"
        self._kinds: Counter[str] = Counter()
        self._thaws: list[threading.Timer] = []
        self._controller: subprocess.Popen[bytes] | None = None

    def run(self) -> Outcome:
        """Queue, begin, strike until all strikes are done, and count when the controller has ended."""
        names = [f"p{number:04}" for number in range(self._storm.jobs)]
        for name in names:
            self._queue(name)
        began = time.monotonic()
        self._controller = self._farm.controller()
        try:
            for number in range(self._storm.kills):
                # Spread over the whole run, whatever the machine's speed; and by what a controller brought to
                # its end, or all strikes would fall together while one starts.
                due = (number + self._dice.random()) * self._storm.jobs / (self._storm.kills + 1)
                if not self._wait(lambda due=due: self._published() >= due, began):  # type: ignore[misc]
                    break
                time.sleep(self._dice.uniform(*PAUSE_S))
                self._strike()
            self._wait(lambda: False, began)
            crashes = [] if self._controller.returncode == 0 else [self._told()]
        finally:
            self._controller.kill()
            self._controller.wait()
            for thaw in self._thaws:
                thaw.join()
        seconds = time.monotonic() - began
        return replace(self._count(names, seconds), crashes=crashes)

    def _queue(self, name: str) -> None:
        pause_s = self._dice.uniform(0, 0.03)
        values = {"lines": LINES, "pause_s": pause_s, "done": str(self._done), "project": name}
        self._farm.queue(name, BACKEND.format(**values, wheel=str(self._farm.wheel(name))))

    def _published(self) -> int:
        tree = self._farm.paths.tree / "packages"
        return len(list(tree.iterdir())) if tree.exists() else 0

    def _lines(self) -> list[str]:
        return self._done.read_text().split() if self._done.exists() else []

    def _wait(self, look: Callable[[], bool], began: float) -> bool:
        """Wait until it is so; False if the controller ended by itself before."""
        assert self._controller is not None
        while not look():
            if self._controller.poll() is not None:
                return False
            if time.monotonic() - began > self._storm.limit_s:
                raise AssertionError(f"not done after {self._storm.limit_s:g} s: {self._told()}")
            time.sleep(0.02)
        return True

    # -- strikes ----------------------------------------------------------------------------------------

    def _strike(self) -> None:
        strikes: Mapping[str, tuple[int, Callable[[Place], None]]] = {
            "controller": (8, self._kill_controller),
            "link": (5, Place.cut),
            "sshd": (2, Place.restart),
            "agent": (3, Place.kill_agents),
            "frozen": (2, self._freeze),
        }
        weights = [weight for weight, _ in strikes.values()]
        (kind,) = self._dice.choices(list(strikes), weights)
        self._kinds[kind] += 1
        strikes[kind][1](self._dice.choice(self._places))

    def _kill_controller(self, _place: Place) -> None:
        assert self._controller is not None
        self._controller.kill()
        self._controller.wait()
        self._controller = self._farm.controller()

    def _freeze(self, place: Place) -> None:
        ends = place.proxy.freeze()
        thaw = threading.Timer(self._dice.uniform(*FROZEN_S), place.proxy.thaw, [ends])
        self._thaws.append(thaw)
        thaw.start()

    # -- what came of it --------------------------------------------------------------------------------

    def _count(self, names: Sequence[str], seconds: float) -> Outcome:
        runs = Counter(self._lines())
        with self._farm.store() as store:
            jobs = {job.spec.project: job for job in store.jobs()}
            attempts = Counter(item.job_id for item in store.attempts())
            inconsistent = list(_inconsistent(jobs.values(), store.attempts()))
        tree = self._farm.paths.tree / "packages"
        lost = [
            f"{name}: {jobs[name].state}, {jobs[name].message}, ran {runs[name]} times"
            for name in names
            if jobs[name].state is not State.PUBLISHED
            or len(list((tree / name).glob("*.whl"))) != 1
            or not runs[name]
        ]
        return Outcome(
            jobs=len(names),
            kills=self._kinds.total(),
            by_kind=dict(self._kinds),
            seconds=round(seconds, 1),
            lost=lost,
            duplicated=[f"{name}: ran to its end {runs[name]} times" for name in names if runs[name] > 1],
            incomplete_logs=[f"{name}: {why}" for name in names if (why := self._log_fault(jobs[name]))],
            inconsistent=inconsistent,
            left=[what for place in self._places for what in _left(place)],
            again=attempts.total() - len(attempts),
        )

    def _log_fault(self, job: Job) -> str:
        path = self._farm.paths.log(job.attempt_id)
        lines = path.read_text().splitlines() if path.exists() else []
        numbered = [line for line in lines if line.startswith("line ")]
        if not lines or not lines[0].startswith(f"[farm] job {job.job_id} attempt {job.attempt} on "):
            return f"its log begins with {lines[:1]}"
        if lines[-1] != "[farm] finished: ok":
            return f"its log ends with {lines[-1]!r}"
        return "" if numbered == [f"line {number}" for number in range(LINES)] else f"its log has {numbered}"

    def _told(self) -> str:
        return (self._farm.directory / "controller.log").read_text()[-3000:]


def _inconsistent(jobs: Iterable[Job], attempts: Sequence[Attempt]) -> Iterator[str]:
    """Say what is wrong with attempts: numbers without gaps, all ended, the last one well."""
    of: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        of[attempt.job_id].append(attempt)
    for job in jobs:
        if not of[job.job_id]:
            continue  # it never ran: told as lost
        *before, last = sorted(of[job.job_id], key=lambda attempt: attempt.attempt)
        numbers = [attempt.attempt for attempt in (*before, last)]
        if numbers != list(range(1, job.attempt + 1)):
            yield f"{job.job_id}: attempt {job.attempt}, and the store has {numbers}"
        if last.failure is not None or not last.result or last.node != job.node:
            yield f"{job.job_id}: published, and its last attempt says {last}"
        yield from (f"{job.job_id}: {item}" for item in before if item.failure is not Failure.NODE)
        yield from (f"{job.job_id}: {item}" for item in (*before, last) if item.ended_at is None)


def _left(place: Place) -> Iterator[str]:
    """Say what is left on a node whose controller ended; its agent ends when it notices that."""
    root = Path(place.sshd.node.root)
    # Of a link that was frozen until its controller gave it up nothing is heard any more, for half an hour.
    place.proxy.hang_up()
    end = time.monotonic() + LEFT_S
    while (alive := _of(root)) and time.monotonic() < end:
        time.sleep(0.1)
    yield from (str(path) for path in (root / "jobs").iterdir())
    for pid in alive:
        kind = "a supervisor" if _at_null(pid) else "an agent"
        yield f"{kind}, {_read(pid, 'stat')!r} in {_read(pid, 'wchan')!r}: {_read(pid, 'cmdline')!r}"


def _of(root: Path) -> list[int]:
    """Return the processes that were started for a node: by their words, or by the mark of an attempt."""
    words, mark = f"\0{root}\0".encode(), f"FARM_JOB={root}/".encode()
    return [pid for pid in _processes() if words in _read(pid, "cmdline") or mark in _read(pid, "environ")]


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def _at_null(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/0") == os.devnull  # noqa: PTH115
    except OSError:
        return True


@contextmanager
def farm_of(directory: Path, storm: Storm) -> Iterator[tuple[Farm, list[Place]]]:
    """A farm in a folder: its nodes, each an sshd behind a proxy."""
    key, places = keygen(directory / "key"), list[Place]()
    try:
        for number in range(storm.nodes):
            folder = directory / f"n{number}"
            folder.mkdir()
            keygen(folder / "host")
            places.append(Place(Sshd(folder, free_port(), key), storm.slots))
        farm = Farm(
            directory,
            [place.node for place in places],
            install_farm_node(directory),
            # A node whose link is cut every other second is no bad node.
            replace(QUICK, lost_s=600, patience_s=120),
            user_timeout_s=USER_TIMEOUT_S,
            index=True,
        )
        yield farm, places
    finally:
        for place in places:
            place.close()


def storm_over(directory: Path, storm: Storm) -> Outcome:
    """Let a storm go over a farm of its own."""
    with farm_of(directory, storm) as (farm, places):
        return Chaos(farm, places, storm).run()
