"""What placing needs to know. Plain data; times in seconds, memory and disk in bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol

GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Estimate:
    """How much a build is expected to be; ``seconds`` is Amdahl's law.

    A reference second is one second of one core of speed 1.0.
    """

    serial_s: float
    """Reference seconds that can't be shared among cores."""
    parallel_s: float
    """Reference seconds that can."""
    memory_bytes: int
    """What one parallel task needs (a C++ compilation about 1.3e9, a C one about 0.3e9)."""
    spread: float
    """Expected factor of error: 1.0 is exact, 2.0 may be half or double. Cold estimates have a large one."""

    def seconds(self, width: float, speed: float) -> float:
        """Return the expected wall time with ``width`` parallel tasks on cores of ``speed``."""
        return (self.serial_s + self.parallel_s / width) / speed

    def efficient(self, floor: float) -> int:
        """Return the largest width at which at least ``floor`` of the cores' time is of use."""
        if self.serial_s <= self.work_s * 1e-6:
            return 1 << 30
        return max(1, int((self.work_s / floor - self.parallel_s) / self.serial_s))

    @property
    def work_s(self) -> float:
        """Reference seconds of one core in all."""
        return self.serial_s + self.parallel_s


@dataclass(frozen=True, slots=True)
class Needs:
    """What a node must have to take a job at all."""

    python: str
    """As in a wheel's tag: ``cp313``."""
    features: frozenset[str] = frozenset()
    """Labels, toolchains (``rust``), ISA extensions."""
    apt_packages: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
    """Only these nodes; empty: any."""
    excluded: frozenset[str] = frozenset()
    """Never these nodes."""
    memory_bytes: int = 0
    """A node with less in all can never take it."""
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that waits. Give the same object as long as nothing about it changed: policies cache by it."""

    job_id: str
    estimate: Estimate
    needs: Needs
    after: frozenset[str] = frozenset()
    """Jobs, by id, that must be published first. The caller takes out who is done; not empty: blocked."""
    failed_on: Mapping[str, int] = field(default_factory=dict)
    """Node name -> how often the node itself failed it."""
    project: str = ""
    """Jobs of one project teach about each other: while their cost is unknown, one goes ahead of the rest."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that holds cores and memory of a node."""

    job_id: str
    node: str
    width: int
    elapsed_s: float
    """Of one that was widened: as if it had had its width from the beginning (:class:`Widths`)."""
    estimate: Estimate
    project: str = ""
    widens: bool = True
    """Its node can give it more tasks while it runs."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node as it is now."""

    name: str
    cores: int
    memory_bytes: int
    """What builds may use in all."""
    disk_free_bytes: int
    speed: float
    """Of one core; 1.0 is the reference core."""
    pythons: frozenset[str]
    features: frozenset[str]
    apt_packages: frozenset[str]
    max_jobs: int | None
    """The inventory's limit of builds at once; None: cores and memory decide."""
    usable: bool = True
    """False: drained or quarantined. Nothing new is placed; what runs goes on."""


@dataclass(frozen=True, slots=True)
class FarmState:
    """All that a policy sees."""

    queued: Sequence[QueuedJob]
    running: Sequence[RunningJob]
    nodes: Sequence[NodeState]
    more: bool = False
    """Other jobs are about to join the queue: what is free is theirs, and nothing is widened."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One job to one node, with the number of parallel tasks its build may use (``-jN``).

    Of a job that runs there: with more tasks than it has.
    """

    job_id: str
    node: str
    width: int


class Policy(Protocol):
    """Decides what starts and what is widened now. Pure: same state, same answer; no clock, no I/O.

    It may cache.
    """

    name: ClassVar[str]

    def assign(self, state: FarmState) -> Sequence[Assignment]:
        """Return what is to be started now, the most urgent first, and what is to be widened."""


def unmet(needs: Needs, node: NodeState) -> tuple[str, ...]:
    """Return what the node lacks for the job, each in words for a person; empty: it can take it.

    Load is not looked at, nor whether the node is drained: this is about "ever", not about "now".
    """
    lacks: list[str] = []
    if (needs.nodes and node.name not in needs.nodes) or node.name in needs.excluded:
        lacks.append("not a node this job may use")
    if needs.python not in node.pythons:
        lacks.append(f"no {needs.python}")
    if missing := sorted(needs.features - node.features):
        lacks.append(f"no {', '.join(missing)}")
    if packages := sorted(needs.apt_packages - node.apt_packages):
        lacks.append(f"missing packages: {' '.join(packages)}")
    if needs.memory_bytes > node.memory_bytes:
        lacks.append(f"{node.memory_bytes / GIB:.1f} GiB of memory, {needs.memory_bytes / GIB:.1f} needed")
    if needs.disk_bytes > node.disk_free_bytes:
        lacks.append(
            f"{node.disk_free_bytes / GIB:.1f} GiB of free disk, {needs.disk_bytes / GIB:.1f} needed"
        )
    return tuple(lacks)
