"""Farms, queues and builds for the tests of placing: one of each by hand, and Hypothesis strategies."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from farm.schedule import Estimate, FarmState, Needs, NodeState, QueuedJob, RunningJob
from farm.schedule.bound import Build

GB = 1_000_000_000
PYTHONS = ["cp312", "cp313"]
PACKAGES = ["libffi-dev", "libyaml-dev"]
NAMES = ["f3-a", "f3-b", "sg-a", "sg-b"]


def cost(
    seconds: float = 60.0, *, serial: float = 0.1, memory: int = GB // 2, spread: float = 1.2
) -> Estimate:
    return Estimate(seconds * serial, seconds * (1 - serial), memory, spread)


def board(
    name: str,
    *,
    cores: int = 8,
    memory_gb: int = 16,
    speed: float = 1.0,
    max_jobs: int | None = None,
    usable: bool = True,
) -> NodeState:
    return NodeState(
        name=name,
        cores=cores,
        memory_bytes=memory_gb * GB,
        disk_free_bytes=100 * GB,
        speed=speed,
        pythons=frozenset(PYTHONS),
        features=frozenset({"rust"}),
        apt_packages=frozenset(PACKAGES),
        max_jobs=max_jobs,
        usable=usable,
    )


def job(name: str, estimate: Estimate | None = None, **options: object) -> QueuedJob:
    failed = options.get("failed_on", {})
    after = options.get("after", frozenset())
    needs = options.get("needs", Needs("cp313"))
    assert isinstance(failed, Mapping)
    assert isinstance(after, frozenset)
    assert isinstance(needs, Needs)
    return QueuedJob(name, estimate or cost(), needs, after, failed, str(options.get("project", "")))


estimates = st.builds(
    Estimate,
    serial_s=st.floats(0, 5_000),
    parallel_s=st.floats(0, 50_000),
    memory_bytes=st.integers(0, 20 * GB),
    spread=st.floats(1.0, 4.0),
)
needs_of = st.builds(
    Needs,
    python=st.sampled_from(PYTHONS),
    features=st.frozensets(st.just("rust")),
    apt_packages=st.frozensets(st.sampled_from(PACKAGES)),
    nodes=st.just(frozenset[str]()) | st.frozensets(st.sampled_from(NAMES), max_size=2),
    excluded=st.frozensets(st.sampled_from(NAMES), max_size=1),
    memory_bytes=st.sampled_from([0, 0, 20 * GB]),
)


@st.composite
def boards(draw: st.DrawFn, *, able: bool = False) -> list[NodeState]:
    """Draw nodes; with ``able`` each of them can take every job."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1 if able else 0, max_size=4))
    some = st.frozensets
    return [
        NodeState(
            name=name,
            cores=draw(st.integers(1, 64)),
            memory_bytes=draw(st.integers(1, 128)) * GB,
            disk_free_bytes=100 * GB,
            speed=draw(st.sampled_from([0.5, 1.0, 2.0])),
            pythons=frozenset(PYTHONS) if able else draw(some(st.sampled_from(PYTHONS))),
            features=frozenset({"rust"}) if able else draw(some(st.just("rust"))),
            apt_packages=frozenset(PACKAGES) if able else draw(some(st.sampled_from(PACKAGES))),
            max_jobs=draw(st.none() | st.integers(1, 4)),
            usable=able or draw(st.integers(0, 5)) > 0,
        )
        for name in names
    ]


@st.composite
def states(draw: st.DrawFn) -> FarmState:
    """Draw any state that keeps the nodes' limits, as running builds always do."""
    nodes = draw(boards())
    running = []
    for node in nodes:
        free = node.cores
        for number in range(draw(st.integers(0, min(3, node.max_jobs or 3)))):
            width = draw(st.integers(0, free))
            if width:
                free -= width
                estimate = draw(estimates)
                elapsed = draw(st.floats(0, 10_000))
                running.append(
                    RunningJob(
                        f"run{number}-{node.name}",
                        node.name,
                        width,
                        elapsed,
                        estimate,
                        widens=draw(st.booleans()),
                    )
                )
    ids = [f"job{number}" for number in range(draw(st.integers(0, 8)))]
    others = [*ids, *(item.job_id for item in running)]
    queued = [
        QueuedJob(
            job_id=name,
            estimate=draw(estimates),
            needs=draw(needs_of),
            after=draw(st.frozensets(st.sampled_from([o for o in others if o != name]), max_size=1))
            if len(others) > 1 and draw(st.booleans())
            else frozenset(),
            failed_on=draw(st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), max_size=2)),
            project=draw(st.sampled_from(["", "a", "b"])),
        )
        for name in ids
    ]
    return FarmState(queued, running, nodes, draw(st.booleans()))


@st.composite
def queues(draw: st.DrawFn) -> list[Build]:
    """Draw builds without circles."""
    return [
        Build(
            f"job{number}",
            draw(estimates),
            Needs(draw(st.sampled_from(PYTHONS))),
            draw(st.frozensets(st.sampled_from([f"job{n}" for n in range(number)]), max_size=2))
            if number
            else frozenset(),
        )
        for number in range(draw(st.integers(1, 9)))
    ]
