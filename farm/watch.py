"""What goes on in the farm: pictures of the queue and the nodes, taken from the store."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rich.console import Group
from rich.text import Text

from farm.controller import open_store
from farm.display import Cell, duration, job_row, table
from farm.paths import Paths
from farm.store import Attempt, Job, Mark, NodeMark, State, Store, lock_holder

LOOK_S: Final = 0.5
_ORDER: Final = (
    State.RUNNING,
    State.LEASED,
    State.BUILT,
    State.VERIFIED,
    State.QUEUED,
    State.FAILED,
    State.PUBLISHED,
)
Usual = Mapping[tuple[str, str], float]
"""How long a project's builds for a Python take as a rule, in seconds."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The farm at one time; its last dispatch began at ``began_at``, in seconds since the epoch."""

    jobs: tuple[Job, ...]
    nodes: tuple[str, ...]
    marks: Mapping[str, Mapping[Mark, NodeMark]]
    began_at: float = 0.0
    usual: Usual = field(default_factory=dict)
    running: bool = False

    @property
    def current(self) -> list[Job]:
        """Jobs that are not done, and those that ended in this run; what is in work comes first."""
        jobs = [job for job in self.jobs if not job.state.ended or (job.ended_at or 0) >= self.began_at]
        return sorted(jobs, key=lambda job: (_ORDER.index(job.state), -(job.ended_at or 0), job.queued_at))


def pictures(paths: Paths, nodes: Sequence[str]) -> Generator[Picture, None, None]:
    """Yield the farm as it is, for ever; each new picture when the next one is asked for.

    Only what others write is read; the database is made by the first dispatch, and waited for.
    """
    while not paths.database.exists():
        yield Picture((), tuple(nodes), {})
    with open_store(paths) as store:
        picture = replace(_look(store, nodes), usual=usual_s(store.attempts()))
        while True:
            yield replace(picture, running=lock_holder(paths.lock) is not None)
            if store.changed_elsewhere():
                # Usual times change slowly, and all attempts are many.
                picture = replace(_look(store, nodes), usual=picture.usual)


def _look(store: Store, nodes: Sequence[str]) -> Picture:
    run, jobs, marks = store.last_run(), tuple(store.jobs()), store.marks()
    # A machine that left the inventory may still have a job.
    names = dict.fromkeys([*nodes, *(job.node for job in jobs if job.node and job.state.on_node)])
    return Picture(jobs, tuple(names), marks, run.began_at if run else 0.0)


def usual_s(attempts: Sequence[Attempt]) -> Usual:
    """Return the median time of builds that went well (pure)."""
    times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for attempt in attempts:
        if attempt.failure is None and attempt.ended_at is not None:
            times[attempt.project, attempt.python].append(attempt.ended_at - attempt.leased_at)
    return {key: statistics.median(found) for key, found in times.items()}


def left_s(job: Job, usual: Usual, now: float) -> float | None:
    """Return how long a job in work goes on as a rule, in seconds; None where nobody knows (pure)."""
    expected = usual.get((job.spec.project, job.spec.python))
    if not job.state.on_node or expected is None or job.started_at is None:
        return None
    return max(0.0, expected - (now - job.started_at))


def drawn(picture: Picture, height: int, now: float | None = None) -> Group:
    """Return a picture that fits into so many lines."""
    now = time.time() if now is None else now
    jobs = picture.current
    room = max(3, height - len(picture.nodes) - 6)
    rows = [_job_cells(job, picture.usual, now) for job in jobs[:room]]
    counts = Counter(job.state for job in jobs)
    said = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state]) or "nothing queued"
    more = f"; {len(jobs) - room} not shown" if len(jobs) > room else ""
    who = "a dispatch runs" if picture.running else "no dispatch runs"
    return Group(
        table("node", "state", "builds", rows=[_node_cells(name, picture) for name in picture.nodes]),
        Text(),
        table("job", "state", "node", "time", "left", "remark", rows=rows),
        Text(f"{said}{more}; {who}", "bold"),
    )


def _job_cells(job: Job, usual: Usual, now: float) -> list[Cell]:
    *cells, remark = job_row(job)
    left = left_s(job, usual, now)
    return [*cells, "" if left is None else f"~{duration(left)}", remark]


def _node_cells(name: str, picture: Picture) -> list[Cell]:
    builds = [job.job_id for job in picture.jobs if job.state.on_node and job.node == name]
    marks = picture.marks.get(name, {})
    if marks:
        return [name, Text(" ".join(marks), "yellow"), ", ".join(builds) or _why(marks)]
    return [name, Text("busy", "cyan") if builds else Text("idle", "dim"), ", ".join(builds)]


def _why(marks: Mapping[Mark, NodeMark]) -> Text:
    return Text("; ".join(mark.reason for mark in marks.values()), "dim", no_wrap=True, overflow="ellipsis")


class Changes:
    """Tells one picture from the next as lines, for pipes and terminals that can't be drawn on."""

    def __init__(self) -> None:
        self._jobs: dict[str, str] = {}
        self._marks: dict[str, str] = {}

    def lines(self, picture: Picture) -> list[str]:
        """Return what changed since the last picture; at first, what there is."""
        jobs, marks = {}, {}
        for job in picture.current:
            where = f" on {job.node}" if job.node and not job.state.ended else ""
            failure = f" ({job.failure})" if job.failure else ""
            remark = f": {job.message}" if job.message else ""
            jobs[job.job_id] = f"{job.job_id} {job.state}{failure}{where}{remark}"
        for name in picture.nodes:
            kept = picture.marks.get(name, {})
            marks[name] = "; ".join(f"{mark.mark}: {mark.reason}" for mark in kept.values()) or "takes jobs"
        found = [text for name, text in jobs.items() if self._jobs.get(name) != text]
        found += [
            f"{name}: {text}" for name, text in marks.items() if self._marks.get(name, "takes jobs") != text
        ]
        self._jobs |= jobs
        self._marks = marks
        return found
