"""The page of the boards: what each is, what it built, and how it was used in the last days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from farm.errors import FarmError
from farm.gantt import lanes
from farm.nodes import Node
from farm.paths import Paths
from farm.provenance.record import BoardIdentity, parse_record
from farm.schedule.simulate import Span as Ran
from farm.site.farm_model import BoardsPage, BoardView, Span, Use
from farm.site.history import History, attempt_id, build_path, build_row, final_failure, moment
from farm.site.text import clean
from farm.store import Attempt

DAYS: Final = 7
DAY_S: Final = 86400
MOST_PROJECTS: Final = 12
# Shorter ones would be thinner than a line on a phone.
LEAST_WIDTH: Final = 0.002


def boards_page(history: History, nodes: Sequence[Node], paths: Paths | None) -> BoardsPage:
    """Return all boards of the inventory, then those that built something and are in it no more."""
    ends = (int(history.as_of) // DAY_S + 1) * DAY_S
    attempts: dict[str, list[Attempt]] = {}
    for attempt in history.attempts:
        attempts.setdefault(attempt.node, []).append(attempt)
    present = {node.name: node for node in nodes}
    names = [*present, *sorted(set(attempts) - set(present))]
    return BoardsPage(
        as_of=moment(history.as_of),
        days=tuple(
            f"{datetime.fromtimestamp(ends - DAY_S * back, UTC):%Y-%m-%d}" for back in range(DAYS, 0, -1)
        ),
        boards=tuple(
            _board(name, present.get(name), attempts.get(name, []), history, ends, paths, bool(nodes))
            for name in names
        ),
    )


def _board(
    name: str,
    node: Node | None,
    attempts: Sequence[Attempt],
    history: History,
    ends: int,
    paths: Paths | None,
    inventory: bool,
) -> BoardView:
    rows = [build_row(attempt, history.jobs.get(attempt.job_id)) for attempt in attempts]
    noted = history.run.nodes.get(name, {}) if history.run else {}
    said = _last_toolchain(attempts)
    identity = _identity(attempts, paths)
    spans = _spans(attempts, history, ends)
    projects = list(dict.fromkeys(row.project for row in reversed(rows) if row.outcome == "done"))
    return BoardView(
        name=name,
        model=clean(identity.model) if identity else "",
        os=said.get("os", ""),
        kernel=said.get("kernel", ""),
        isa=said.get("isa", ""),
        cores=_number(noted.get("cores")),
        memory_bytes=_number(noted.get("memory_bytes")),
        speed=_speed(noted.get("speed")),
        gcc=said.get("gcc", ""),
        rustc=said.get("rustc", ""),
        labels=tuple(sorted(node.labels)) if node else (),
        marks=tuple(
            (str(mark.mark), clean(mark.reason), moment(mark.since))
            for mark in history.marks.get(name, {}).values()
        ),
        retired=inventory and node is None,
        done=sum(row.outcome == "done" for row in rows),
        failed=sum(row.failed for row in rows),
        projects=tuple(projects[:MOST_PROJECTS]),
        last=rows[-1] if rows else None,
        lanes=max((span.lane + 1 for span in spans), default=1),
        spans=spans,
        days=_uses(attempts, history, ends),
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _speed(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _last_toolchain(attempts: Sequence[Attempt]) -> Mapping[str, str]:
    """Return what a board last said of its system and compilers."""
    for attempt in reversed(attempts):
        said = attempt.result.get("toolchain")
        if isinstance(said, dict) and said:
            return {str(key): clean(str(value), 300) for key, value in said.items()}
    return {}


def _identity(attempts: Sequence[Attempt], paths: Paths | None) -> BoardIdentity | None:
    """Return who a board is, by the record of its last good build; None where there is none that is right."""
    for attempt in reversed(attempts):
        record = paths.record(attempt_id(attempt)) if paths and attempt.failure is None else None
        if record is not None and record.exists():
            try:
                return parse_record(record.read_bytes(), attempt_id(attempt)).board
            except FarmError:  # it is told to whoever dispatches; older ones may be right
                continue
    return None


# -- timeline -----------------------------------------------------------------------------------------------


def _window(attempts: Sequence[Attempt], history: History, ends: int) -> list[tuple[Attempt, Ran]]:
    """Return the attempts of the last days, in seconds since the window's beginning."""
    began = ends - DAYS * DAY_S
    found = []
    for attempt in attempts:
        end = min(attempt.ended_at or history.as_of, float(ends))
        if end > began:
            start = max(0.0, attempt.leased_at - began)
            ran = Ran(attempt_id(attempt), attempt.node, attempt.widths, start, max(start, end - began))
            found.append((attempt, ran))
    return found


def _spans(attempts: Sequence[Attempt], history: History, ends: int) -> tuple[Span, ...]:
    window = _window(attempts, history, ends)
    by_name = {ran.job_id: attempt for attempt, ran in window}
    whole = DAYS * DAY_S
    return tuple(
        Span(
            attempt=ran.job_id,
            path=build_path(ran.job_id),
            label=_label(by_name[ran.job_id], history),
            outcome=final_failure(by_name[ran.job_id], history.jobs.get(by_name[ran.job_id].job_id)),
            lane=lane,
            left=round(ran.start_s / whole, 5),
            width=round(max((ran.end_s - ran.start_s) / whole, LEAST_WIDTH), 5),
        )
        for lane, line in enumerate(lanes([ran for _, ran in window]))
        for ran in line
    )


def _label(attempt: Attempt, history: History) -> str:
    job = history.jobs.get(attempt.job_id)
    what = f"{attempt.project} {job.spec.version if job else ''} {attempt.python}"
    return f"{what}: {final_failure(attempt, job)}, {moment(attempt.leased_at)}"


def _uses(attempts: Sequence[Attempt], history: History, ends: int) -> tuple[Use, ...]:
    """Return for each day how long at least one build ran, and what began on it."""
    began = ends - DAYS * DAY_S
    window = _window(attempts, history, ends)
    busy = _united([(ran.start_s, ran.end_s) for _, ran in window])
    uses = []
    for day in range(DAYS):
        left, right = day * DAY_S, (day + 1) * DAY_S
        used = sum(max(0.0, min(end, right) - max(start, left)) for start, end in busy)
        mine = [attempt for attempt, _ in window if left <= attempt.leased_at - began < right]
        failures = sum(final_failure(a, history.jobs.get(a.job_id)) not in {"done", "running"} for a in mine)
        date = f"{datetime.fromtimestamp(began + left, UTC):%Y-%m-%d}"
        uses.append(Use(date, len(mine), failures, round(used / DAY_S, 4)))
    return tuple(uses)


def _united(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the times that some spans cover, without overlap."""
    united: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((start, end))
    return united
