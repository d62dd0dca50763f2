"""The web pages as plain data: what a page shows, and what its JSON twin says.

Each page is one frozen dataclass; the HTML is a template of it and the JSON its fields, so the two can't
disagree. Paths are relative to the root of the index. Times are RFC 3339, UTC, whole seconds, and come from
what was recorded: no page knows when it was made, so the same data gives the same bytes. The fields are
described in docs/pages.md. Pages of builds, boards and status: :mod:`.farm_model`.
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
    proof: str
    """Path of the clean room's log of it; empty: there is none, or it is not published."""
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
    downloads: int
    """On the days of the project's :class:`Downloads`."""


@dataclass(frozen=True, slots=True)
class Downloads:
    """How many wheels the index host sent whole on the days from ``first`` to ``until`` (UTC), both whole."""

    count: int
    first: str
    until: str


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
    downloads: Downloads | None
    """Of all its versions; None: none were counted."""
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
    downloads: Downloads | None


@dataclass(frozen=True, slots=True)
class HomePage:
    """All projects, and the newest releases."""

    base_url: str
    signed: bool
    """Whether a farm's keys are here: wheels without its provenance promise nothing."""
    wheels: int
    size: int
    downloads: Downloads | None
    """Of everything; None: the index host counts none."""
    projects: tuple[ProjectRow, ...]
    newest: tuple[Release, ...]
