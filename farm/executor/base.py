"""What the dispatcher asks of a place where builds run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from farm.nodes import Facts

if TYPE_CHECKING:
    # It brings 15 MB of what talks to PyPI, which hundreds of links can do without.
    from farm.plan import JobSpec

MAX_WHEEL_BYTES: Final = 4 << 30


class AttemptState(StrEnum):
    """What a node says of an attempt."""

    RUNNING = "running"
    FINISHED = "finished"
    LOST = "lost"  # claimed, but its supervisor is gone and left no result: killed, or the node was restarted
    UNKNOWN = "unknown"  # never claimed there


@dataclass(frozen=True, slots=True)
class Limits:
    """What the node enforces on one attempt, whatever becomes of the controller (F25, F30)."""

    time_s: float
    memory_bytes: int | None = None
    """Of the whole process tree; enforced where systemd is PID 1."""
    processes: int | None = None
    """Tasks; likewise."""
    disk_bytes: int = 0
    """With less free, the attempt fails at once, with class ``node``."""


@dataclass(frozen=True, slots=True)
class Build:
    """A wheel to build."""

    spec: JobSpec
    attempt: int
    sdist: Path
    width: int

    def to_json(self) -> dict[str, object]:
        """Return it as the node reads it."""
        recipe = self.spec.recipe
        return {
            "task": "build",
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
            "build_network": recipe.build_network,
            "debug": recipe.debug,
            "build_tag": self.spec.build_tag,
            "system_libraries": list(recipe.system_libraries),
            "others_libraries": [name for names in recipe.libraries_of.values() for name in names],
            "width": self.width,
        }


@dataclass(frozen=True, slots=True)
class Command:
    """A plain command with the life of a build; files that it leaves in ``./wheelhouse`` can be collected."""

    argv: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return it as the node reads it."""
        return {"task": "command", "argv": self.argv}


Task = Build | Command


@dataclass(frozen=True, slots=True)
class Launch:
    """One attempt to start."""

    attempt_id: str
    """``JOB.ATTEMPT``."""
    task: Task
    limits: Limits

    def to_json(self) -> dict[str, object]:
        """Return what to do and within which limits, as the node keeps it."""
        return {"task": self.task.to_json(), "limits": asdict(self.limits)}


@dataclass(frozen=True, slots=True)
class Widening:
    """What a running attempt is to have from now on."""

    width: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A file that an attempt left on its node."""

    filename: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended; ``failure`` is None for success. Durations are seconds, times since the epoch."""

    failure: str | None
    message: str
    wheels: tuple[NodeFile, ...]
    """The wheel; after it, the record of its build and, where it was asked for, its debug information. Of a
    command, all it left."""
    started_at: float
    """When the attempt began, by the node's clock."""
    duration_s: float
    phases_s: Mapping[str, float]
    processor_s: Mapping[str, float]
    toolchain: Mapping[str, object]
    peak_memory_bytes: int | None
    peak_of_tree: bool = False
    """What that is of: all its processes together, or (False) its largest process alone."""

    def to_json(self) -> str:
        """Return it as the store keeps it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Vitals:
    """What may change from minute to minute, so that a node can be judged before each job."""

    clock: float
    """The node's time, in seconds since the epoch."""
    load: float
    disk_free_bytes: int
    memory_available_bytes: int
    machine_id: str
    boot_id: str
    toolchain: str
    """Digest of its compilers' and Pythons' paths, sizes and times: another one asks for ``prepare``."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one poll brought of one attempt: its state, and the log from the asked offset on (bytes)."""

    attempt_id: str
    state: AttemptState
    log: bytes
    offset: int
    """Where the next poll is to go on."""
    more: bool
    """There is more of the log already."""
    result: Result | None


@dataclass(frozen=True, slots=True)
class Update:
    """What one poll brought; ``progress`` has only attempts with news: output, or an end."""

    vitals: Vitals
    progress: Sequence[Progress]


class Executor(Protocol):
    """One place where builds run: a node, or an engine that places jobs on its own nodes.

    Calls may block for seconds, come from one thread at a time (but ``wake`` and ``close``), and raise
    NodeError. Each may be repeated after an error: what was done already is not done again. A node that
    contradicts itself or the protocol is told by LyingNodeError.
    """

    places_jobs: ClassVar[bool]
    """Whether it chooses the node itself (an engine like Slurm)."""

    def prepare(self) -> Facts:
        """Connect, check the version of what runs there, and return what it is."""

    def start(self, launch: Launch) -> Vitals:
        """Bring what the attempt needs and start it, detached; starting it again does nothing."""

    def list(self) -> Mapping[str, AttemptState]:
        """Return every attempt that is still held there."""

    def poll(self, offsets: Mapping[str, int], wait_s: float = 0.0) -> Update:
        """Return the news of attempts, their logs from an offset each; wait up to ``wait_s`` for some.

        An end is told at once, output after it was gathered for a fraction of a second.
        """

    def ask(self, offsets: Mapping[str, int], wait_s: float, ready: Callable[[], None]) -> float:
        """Begin a poll and return at once; the next ``poll`` of the same takes its answer.

        Args:
            offsets: as of ``poll``.
            wait_s: as of ``poll``.
            ready: called once, in any thread, when that ``poll`` has something to read or the connection
                ends, by ``close`` as well; it must not block. Not called if this raises.

        Returns:
            Seconds after which that ``poll`` fails, since no answer came.
        """

    def wake(self) -> None:
        """Let a ``poll`` that waits return now, or the next one at once; may come from any thread."""

    def read_log(self, attempt_id: str, offset: int) -> bytes:
        """Return the next part of an attempt's log from an offset (bytes); empty at its end."""

    def collect(self, attempt_id: str, file: NodeFile, directory: Path) -> Path:
        """Bring a file to the controller and check its name, size and hash."""

    def widen(self, attempt_id: str, width: int, limits: Limits) -> bool:
        """Let a running attempt run so many tasks at once, within ``limits``, but for their time.

        Returns whether it may; False: not yet, not any more, or it can't be widened. Never makes it narrower.
        """

    def cancel(self, attempt_id: str) -> None:
        """End an attempt and all its processes; returns when they have ended."""

    def forget(self, attempt_id: str) -> None:
        """Let a finished or lost attempt be removed there; one that runs is refused."""

    def close(self) -> None:
        """Drop the connection; what runs goes on."""
