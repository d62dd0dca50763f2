"""What the store keeps: jobs, their attempts, nodes that are kept out, runs of the dispatcher."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from farm.plan import JobSpec
from farm.schedule.widths import Widths


class State(StrEnum):
    """Where a job is in its life; see docs/architecture.md."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    BUILT = "built"
    STAGED = "staged"
    VERIFIED = "verified"
    PUBLISHED = "published"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self in {State.PUBLISHED, State.FAILED}

    @property
    def collected(self) -> bool:
        """Whether the controller holds its wheel, and has something to do with it."""
        return self in {State.BUILT, State.STAGED, State.VERIFIED}

    @property
    def on_node(self) -> bool:
        """Whether a node has the job."""
        return self in {State.LEASED, State.RUNNING}


class Failure(StrEnum):
    """Why a job failed, and so what is done about it (:mod:`farm.dispatch.outcome`)."""

    NODE = "node"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    SOURCE = "source"
    BUILD = "build"
    TEST = "test"
    ISA = "isa"
    POLICY = "policy"
    DEPENDENCY = "dependency"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store knows it. Times are seconds since the epoch."""

    job_id: str
    """Its name; that of its spec, which is a digest and dear to make."""
    spec: JobSpec
    state: State
    attempt: int
    node: str | None
    widths: Widths
    """How many tasks the current attempt may run at once."""
    failure: Failure | None
    message: str
    queued_at: float
    started_at: float | None
    ended_at: float | None
    wheel: str | None
    wheel_sha256: str | None
    cancelling: bool
    """Somebody wants it ended; the controller sees to it."""
    proved_with: tuple[str, ...] = ()
    """The attempts whose wheels its proof took from the staging index."""

    @property
    def attempt_id(self) -> str:
        """The name of the current attempt's directory on the node."""
        return f"{self.job_id}.{self.attempt}"

    @property
    def width(self) -> int:
        """How many tasks the current attempt may run at once now."""
        return self.widths.now

    @property
    def duration_s(self) -> float | None:
        """Wall time of the last attempt, from lease to end, in seconds."""
        if self.started_at is None:
            return None
        return (self.ended_at or time.time()) - self.started_at


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a job on a node. Times are seconds since the epoch; ``result`` is what the node said."""

    job_id: str
    attempt: int
    project: str
    python: str
    node: str
    widths: Widths
    leased_at: float
    ended_at: float | None
    failure: Failure | None
    result: dict[str, object]


class Mark(StrEnum):
    """Why a node gets no new jobs."""

    DRAINED = "drained"  # by a person, until `farm resume`
    QUARANTINED = "quarantined"  # by the farm, until a probe finds it well


@dataclass(frozen=True, slots=True)
class NodeMark:
    """A node that is kept out, since when (seconds since the epoch) and why."""

    node: str
    mark: Mark
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the dispatcher; ``nodes`` is what it knew of its nodes, by name. Times as above."""

    number: int
    policy: str
    began_at: float
    ended_at: float | None
    nodes: dict[str, dict[str, object]]
