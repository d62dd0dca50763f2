"""The web pages as plain data: what a page shows, and what its JSON twin says.

Each page is one frozen dataclass; the HTML is a template of it and the JSON its fields, so the two can't
disagree. Paths are relative to the root of the index. Times are RFC 3339, UTC, whole seconds, and come from
what was recorded: no page knows when it was made, so the same data gives the same bytes. The fields are
described in docs/pages.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from farm.index import ProjectStatus


class Outcome(StrEnum):
    """What a gate found. A note is no failure: something worth a look."""

    PASS = "pass"  # noqa: S105  # no password
    NOTE = "note"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a gate that is shown in full: a failure or a note."""

    outcome: Outcome
    subject: str
    evidence: str
    hint: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate says of one wheel; ``passed`` is what held without a remark, summed up if it is much."""

    gate: str
    outcome: Outcome
    passed: tuple[str, ...]
    findings: tuple[Finding, ...]
    left_out: int = 0
    """Findings that are in the wheel's file of verdicts only."""


@dataclass(frozen=True, slots=True)
class Library:
    """A library of the board that auditwheel grafted into the wheel."""

    file: str
    soname: str
    package: str
    version: str
    source: str
    licences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """A system package that must be installed where the wheel is used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Board:
    """The machine that built a wheel, in its own words."""

    node: str
    model: str
    os: str
    kernel: str
    isa: str


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What compiled. Empty: the board had none."""

    python: str
    gcc: str
    march: str
    rustc: str
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What was built; ``url`` is empty unless it is a plain web address."""

    filename: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a wheel comes from, by its signed provenance."""

    signer: str
    """The first digits of the sha256 of the farm's public key."""
    attempt: str
    began: str
    ended: str
    board: Board
    toolchain: Toolchain
    source: Source
    width: int
    recipe_reason: str
    """Why it needs a recipe; empty: the default was enough."""
    system_libraries: tuple[Package, ...]
    build_packages: tuple[str, ...]
    environment: tuple[str, ...]
    crates: int


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a place that was checked to be a plain web address or a path of this index."""

    label: str
    href: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """One published wheel, and all that lies beside it."""

    filename: str
    path: str
    version: str
    build_tag: str
    runs_on: str
    """Which Pythons, for people: ``3.13``, ``3.9+ (abi3)``."""
    python_abi: str
    platforms: str
    size: int
    sha256: str
    requires_python: str
    uploaded: str
    yanked: str | None
    """Why it was yanked; None: it was not."""
    gates: tuple[GateResult, ...]
    gates_problem: str
    """Why its verdicts can't be shown; empty: they are."""
    libraries: tuple[Library, ...]
    bill_problem: str
    """Why its bill of materials can't be shown; empty: it is, or there is none."""
    origin: Origin | None
    provenance_problem: str
    """Why its provenance does not hold; empty: it does, or there is none."""
    build: str
    """Path of the page of its build; empty: there is none."""
    beside: tuple[Link, ...]

    @property
    def outcome(self) -> Outcome | None:
        """Return the worst of what its gates say; None where nothing is known."""
        found = {gate.outcome for gate in self.gates}
        return next((word for word in (Outcome.FAIL, Outcome.NOTE, Outcome.PASS) if word in found), None)


class CellState(StrEnum):
    """What there is of one version for one Python."""

    PUBLISHED = "published"
    YANKED = "yanked"
    FAILED = "failed"
    WAITING = "waiting"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Cell:
    """One version for one Python; ``text`` is what is shown, ``path`` leads to its evidence."""

    state: CellState
    text: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One version, a cell for each column of the matrix."""

    version: str
    path: str
    uploaded: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Upstream:
    """What PyPI offered when it was last asked."""

    latest: str
    latest_uploaded: str
    riscv64_since: str
    """The first version with wheels for riscv64; empty: it never had any."""
    riscv64_latest: bool
    files: int
    problem: str = ""
    """Why what it offers can't be shown; empty: the rest says it."""


@dataclass(frozen=True, slots=True)
class About:
    """What a project says of itself, in the newest wheel's METADATA: a stranger's words."""

    summary: str
    licence: str
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class BuildRow:
    """A build in a list of builds."""

    attempt: str
    path: str
    project: str
    version: str
    python: str
    node: str
    outcome: str
    """``running``, ``done``, or the class of the failure."""
    message: str
    began: str
    ended: str
    seconds: float | None

    @property
    def failed(self) -> bool:
        """Whether it ended badly."""
        return self.outcome not in {"running", "done"}


@dataclass(frozen=True, slots=True)
class ProjectPage:
    """A project, with one of its versions in full: the newest one on the project's own page."""

    path: str
    project: str
    version: str
    is_newest: bool
    newest: str
    about: About
    status: ProjectStatus
    status_reason: str
    upstream: Upstream | None
    columns: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    wheels: tuple[Wheel, ...]
    builds: tuple[BuildRow, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a project, as it was published."""

    project: str
    version: str
    path: str
    summary: str
    uploaded: str
    pythons: tuple[str, ...]
    wheels: int


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project in the list of all projects. ``size`` is of all its wheels, in bytes."""

    project: str
    path: str
    summary: str
    version: str
    pythons: tuple[str, ...]
    wheels: int
    size: int
    uploaded: str
    status: ProjectStatus
    releases: tuple[Release, ...]
    """The newest ones."""


@dataclass(frozen=True, slots=True)
class HomePage:
    """All projects, and the newest releases."""

    base_url: str
    wheels: int
    size: int
    projects: tuple[ProjectRow, ...]
    newest: tuple[Release, ...]


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
    failed: bool
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
