"""What the dispatcher asks of a place where builds run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from farm.nodes import Facts
from farm.plan import JobSpec


class AttemptState(StrEnum):
    """What a node says of an attempt."""

    RUNNING = "running"
    FINISHED = "finished"
    LOST = "lost"  # claimed, but its process is gone and left no result: the node was restarted
    UNKNOWN = "unknown"  # never claimed there


@dataclass(frozen=True, slots=True)
class Launch:
    """One attempt to start."""

    attempt_id: str
    attempt: int
    spec: JobSpec
    sdist: Path
    width: int

    def to_json(self) -> dict[str, object]:
        """Return the object that ``farm-node start`` reads."""
        recipe = self.spec.recipe
        return {
            "job_id": self.spec.job_id,
            "attempt": self.attempt,
            "project": self.spec.project,
            "version": self.spec.version,
            "python": self.spec.python,
            "sdist_filename": self.spec.sdist_filename,
            "sdist_sha256": self.spec.sdist_sha256,
            "recipe_digest": recipe.digest(),
            "apt_packages": recipe.apt_packages,
            "build_constraints": recipe.build_constraints,
            "environment": recipe.environment,
            "debug": recipe.debug,
            "timeout_s": recipe.timeout_s,
            "width": self.width,
        }


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A file that a build left on its node."""

    filename: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended; ``failure`` is None for success. Durations are seconds, times since the epoch."""

    failure: str | None
    message: str
    wheels: tuple[NodeFile, ...]
    """The wheel; after it, where it was asked for, its debug information."""
    started_at: float
    """When the build began, by the node's clock."""
    duration_s: float
    phases_s: Mapping[str, float]
    processor_s: Mapping[str, float]
    toolchain: Mapping[str, object]

    def to_json(self) -> str:
        """Return it as the store keeps it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Progress:
    """What one poll brought of one attempt: its state, and the log from the asked offset on (bytes)."""

    attempt_id: str
    state: AttemptState
    log: bytes
    offset: int
    more: bool
    result: Result | None


class Executor(Protocol):
    """One node. Calls may block for seconds, come from one thread at a time, and raise NodeError."""

    def probe(self) -> Facts:
        """Return the node's facts."""

    def start(self, launch: Launch) -> None:
        """Bring the sdist and start the attempt, detached; starting it again does nothing."""

    def poll(self, offsets: Mapping[str, int]) -> Sequence[Progress]:
        """Return state, and log from the given offset, of each attempt."""

    def collect(self, attempt_id: str, file: NodeFile, directory: Path) -> Path:
        """Bring a file to the controller and check its hash."""

    def cancel(self, attempt_id: str) -> None:
        """End an attempt and all its processes."""

    def forget(self, attempt_id: str) -> None:
        """Let the node remove a finished attempt."""

    def close(self) -> None:
        """Drop the connection; what runs goes on."""
