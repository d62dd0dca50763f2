"""What the benchmarks share: builds through the farm's own dispatcher, without an index."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from farm import service
from farm.display import Lines
from farm.nodes import Node
from farm.paths import REPOSITORY, Paths
from farm.plan import JobSpec, Python
from farm.store import Job, State
from farm.upstream import Upstream

PYTHON: Final = Python.parse("3.13")
INVENTORY: Final = REPOSITORY / "inventory" / "virtual"


@dataclass(frozen=True, slots=True)
class Timed:
    """One run of builds: its wall time in seconds, and its jobs."""

    wall_s: float
    jobs: tuple[Job, ...]

    @property
    def node_s(self) -> float:
        """Time that nodes were leased for, summed over the jobs, in seconds."""
        return sum(job.duration_s or 0.0 for job in self.jobs)


def specs_of(requirements: Sequence[str]) -> list[JobSpec]:
    """Return the jobs of ``requirements`` as ``farm dispatch`` would make them."""
    planned = service.plan(requirements, [PYTHON], Upstream(), force=True)
    for item in planned:
        if item.error:
            raise item.error
    return service.jobs_of(planned, REPOSITORY / "recipes")


def build(specs: Sequence[JobSpec], nodes: Sequence[Node], console: Console) -> Timed:
    """Build on ``nodes``, one build a node at a time, in a state folder of its own; nothing is published.

    Raises:
        RuntimeError: a build failed; a ratio with it would mean nothing.
    """
    single = [dataclasses.replace(node, slots=1) for node in nodes]
    with tempfile.TemporaryDirectory(prefix="wheelfarm-bench-") as folder, Lines(console) as reporter:
        began = time.monotonic()
        run = service.run(
            specs,
            nodes=single,
            publish=Path.stat,
            paths=Paths(Path(folder)),
            upstream=Upstream(),
            reporter=reporter,
        )
        wall = time.monotonic() - began
    bad = [f"{job.job_id}: {job.message}" for job in run.jobs if job.state is not State.PUBLISHED]
    if bad or run.errors:
        raise RuntimeError("; ".join([*bad, *(error.message for error in run.errors)]))
    return Timed(wall, run.jobs)
