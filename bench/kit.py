"""What the benchmarks share: builds through the farm's own dispatcher, without an index."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from farm import controller, service
from farm.display import Lines
from farm.nodes import Node
from farm.paths import REPOSITORY, Paths
from farm.plan import JobSpec, Python
from farm.recipe_file import checked
from farm.store import Job, State, Store
from farm.upstream import Upstream

PYTHON: Final = Python.parse("3.13")
INVENTORY: Final = REPOSITORY / "inventory" / "virtual"
NATIVE_WIRE: Final = "/usr/local/lib/wheelfarm/native-wire"


@dataclass(frozen=True, slots=True)
class Built:
    """One job that ended well, what its node said of it, and its wheel's files with their bytes."""

    job: Job
    result: Mapping[str, object]
    content: Mapping[str, bytes]

    @property
    def processor_s(self) -> float:
        """Processor time of the build itself, in seconds."""
        times = self.result["processor_s"]
        assert isinstance(times, dict)  # noqa: S101  # the executor made it one
        return float(times["build"])

    @property
    def duration_s(self) -> float:
        """Wall time on the node, in seconds."""
        return float(str(self.result["duration_s"]))

    def lease_to_compiler_s(self) -> dict[str, float]:
        """Return the seconds from the lease on the controller to the first compiler on the node, by step.

        Both are read as one clock, as they are on a virtual board.
        """
        toolchain, phases = self.result["toolchain"], self.result["phases_s"]
        assert isinstance(toolchain, dict)  # noqa: S101  # the executor made both
        assert isinstance(phases, dict)  # noqa: S101
        leased, started = self.job.started_at or 0.0, float(str(self.result["started_at"]))
        whole = float(toolchain["first_compiler_at"]) - leased
        steps = {"reach_the_node": started - leased}
        steps |= {name: float(phases[name]) for name in ("describe", "unpack", "environment")}
        steps["backend"] = whole - sum(steps.values())
        return {name: round(value, 2) for name, value in {**steps, "whole": whole}.items()}


@dataclass(frozen=True, slots=True)
class Timed:
    """One run of builds and its wall time in seconds."""

    wall_s: float
    built: tuple[Built, ...]

    @property
    def node_s(self) -> float:
        """Time that nodes were leased for, summed over the jobs, in seconds."""
        return sum(built.job.duration_s or 0.0 for built in self.built)


def specs_of(requirements: Sequence[str]) -> list[JobSpec]:
    """Return the jobs of ``requirements`` as ``farm dispatch`` would make them."""
    planned = service.plan(requirements, [PYTHON], Upstream(), REPOSITORY / "recipes", force=True)
    for item in planned:
        if item.error:
            raise item.error
    return service.jobs_of(planned, REPOSITORY / "recipes")


def changed(spec: JobSpec, **recipe: object) -> JobSpec:
    """Return the job with another recipe."""
    return dataclasses.replace(spec, recipe=checked(dataclasses.asdict(spec.recipe) | recipe))


def build(specs: Sequence[JobSpec], nodes: Sequence[Node], console: Console) -> Timed:
    """Build on ``nodes``, one build a node at a time, in a state folder of its own; nothing is published.

    Raises:
        RuntimeError: a build failed; a ratio with it would mean nothing.
    """
    single = [dataclasses.replace(node, slots=1) for node in nodes]
    with tempfile.TemporaryDirectory(prefix="wheelfarm-bench-") as folder, Lines(console) as reporter:
        paths = Paths(Path(folder))
        began = time.monotonic()
        run = controller.run(
            specs,
            nodes=single,
            publish=lambda wheels: [wheel.stat() for wheel in wheels],
            paths=paths,
            upstream=Upstream(),
            reporter=reporter,
        )
        wall = time.monotonic() - began
        bad = [f"{job.job_id}: {job.message}" for job in run.jobs if job.state is not State.PUBLISHED]
        if bad or run.errors:
            raise RuntimeError("; ".join([*bad, *(error.message for error in run.errors)]))
        store = Store(paths.database)
        built = tuple(Built(job, store.result(job.job_id), _content(job, paths)) for job in run.jobs)
        store.close()
    return Timed(wall, built)


def _content(job: Job, paths: Paths) -> Mapping[str, bytes]:
    with zipfile.ZipFile(paths.wheels(job.attempt_id) / str(job.wheel)) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def on_node(inventory: Path, node: Node, command: str) -> None:
    """Run a command on a node as the user that Ansible logs in as."""
    ansible = Path(sys.executable).with_name("ansible")
    subprocess.run(
        [str(ansible), "-i", str(inventory), node.name, "-m", "ansible.builtin.command", "-a", command],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=REPOSITORY,
    )


def forget_caches(inventory: Path, node: Node, spec: JobSpec) -> None:
    """Make the next build of a project on a node a cold one."""
    on_node(inventory, node, f"rm -rf {node.root}/cache/{spec.project}")
