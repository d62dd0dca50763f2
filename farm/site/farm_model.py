"""The pages of builds, boards, the farm's status and downloads as plain data; see :mod:`.model`."""

from __future__ import annotations

from dataclasses import dataclass

from farm.site.model import BuildRow, Source


@dataclass(frozen=True, slots=True)
class Phase:
    """A step of a build; ``share`` is of the whole, from 0 to 1."""

    name: str
    seconds: float
    processor_s: float | None
    share: float


@dataclass(frozen=True, slots=True)
class BuildPage:
    """One attempt of a job. ``log`` is the end of its log, without control characters."""

    path: str
    attempt: str
    number: int
    project: str
    version: str
    python: str
    node: str
    width: int
    widest: int
    """More than ``width`` where it was widened while it ran."""
    outcome: str
    message: str
    state: str
    """The job's, if this is its last attempt; else empty."""
    began: str
    ended: str
    seconds: float | None
    phases: tuple[Phase, ...]
    peak_memory_bytes: int | None
    toolchain: tuple[tuple[str, str], ...]
    source: Source
    wheel: str
    wheel_path: str
    wheel_sha256: str
    log: tuple[str, ...]
    log_bytes: int
    log_path: str
    proof_bytes: int
    proof_path: str
    """Of the clean room's log; empty: the wheel was not proved, or the log is not published."""
    logs_withheld: bool
    """Whether the operator keeps logs to himself."""
    others: tuple[BuildRow, ...]
    """The job's other attempts."""

    @property
    def failed(self) -> bool:
        """Whether it ended badly."""
        return self.outcome not in {"running", "done"}


@dataclass(frozen=True, slots=True)
class Span:
    """A build on a board's timeline; ``left`` and ``width`` are shares of the whole window, from 0 to 1."""

    attempt: str
    path: str
    label: str
    outcome: str
    """As a :class:`BuildRow` has it."""
    lane: int
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Use:
    """How long a board built on one day. ``share`` is of the day, by at least one build."""

    day: str
    builds: int
    failures: int
    share: float


@dataclass(frozen=True, slots=True)
class BoardView:
    """One board: what it is, what it did, and its last days."""

    name: str
    model: str
    os: str
    kernel: str
    isa: str
    cores: int | None
    memory_bytes: int | None
    speed: float | None
    gcc: str
    rustc: str
    labels: tuple[str, ...]
    marks: tuple[tuple[str, str, str], ...]
    """Why it gets no jobs: the mark, its reason, and since when."""
    retired: bool
    """It is not in the inventory any more."""
    done: int
    failed: int
    projects: tuple[str, ...]
    last: BuildRow | None
    lanes: int
    spans: tuple[Span, ...]
    days: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class BoardsPage:
    """All boards; the window of the timelines is from the day ``began`` to ``ended``, at most seven days."""

    as_of: str
    days: tuple[str, ...]
    boards: tuple[BoardView, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are of something."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A job that has not ended."""

    job: str
    project: str
    version: str
    python: str
    state: str
    node: str
    message: str
    queued: str


@dataclass(frozen=True, slots=True)
class KeptOut:
    """A board that gets no jobs."""

    node: str
    mark: str
    reason: str
    since: str


@dataclass(frozen=True, slots=True)
class StatusPage:
    """The state of the farm when the pages were last made."""

    as_of: str
    states: tuple[Count, ...]
    failure_classes: tuple[Count, ...]
    queue: tuple[QueueRow, ...]
    queued: int
    """Jobs in the queue; ``queue`` has the first of them."""
    failures: tuple[BuildRow, ...]
    failed: int
    kept_out: tuple[KeptOut, ...]
    recent: tuple[BuildRow, ...]


@dataclass(frozen=True, slots=True)
class DayCount:
    """The downloads of one day (UTC); ``share`` is of the day with the most, from 0 to 1."""

    day: str
    downloads: int
    share: float


@dataclass(frozen=True, slots=True)
class ProjectCount:
    """The downloads of one project; ``share`` is of all. ``path`` is empty if it is hosted no more."""

    project: str
    path: str
    downloads: int
    share: float


@dataclass(frozen=True, slots=True)
class Share:
    """The downloads by one Python, installer or kind of machine; ``share`` is of all."""

    name: str
    downloads: int
    share: float


@dataclass(frozen=True, slots=True)
class StatisticsPage:
    """What was downloaded on the days from ``first`` to ``until``, and by what; the largest numbers first."""

    first: str
    until: str
    downloads: int
    days: tuple[DayCount, ...]
    projects: tuple[ProjectCount, ...]
    pythons: tuple[Share, ...]
    installers: tuple[Share, ...]
    machines: tuple[Share, ...]
