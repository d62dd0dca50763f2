"""Runs as they are foreseen and as they were, and how a terminal shows them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from farm.dispatch.experience import Experience
from farm.errors import CycleError
from farm.gantt import gantt, spans_rows, summary, timeline_json
from farm.nodes import Address, Facts, Node
from farm.plan import JobSpec
from farm.recipe import Recipe
from farm.schedule import POLICIES
from farm.schedule.widths import Widths
from farm.store import Attempt, Failure, Run, Store
from farm.timeline import Timeline, foresee, review
from tests.unit.plankit import spec
from tests.unit.test_nodes import FACTS

ADDRESS = Address("f3", "h", 22, "u", Path("/k"), Path("/h"))
NODES: dict[Node, Facts] = {
    Node(replace(ADDRESS, name=name), None, "/root"): replace(FACTS, hostname=name, speed=speed)
    for name, speed in (("f3", 1.0), ("sg", 2.0))
}


@pytest.fixture
def experience() -> Experience:
    return Experience(Store(Path(":memory:")), 1.0)


def sdists(folder: Path, *specs: JobSpec) -> list[tuple[JobSpec, Path]]:
    """Sdists of which nothing is known but that they are there."""
    made = []
    for one in specs:
        path = folder / one.sdist_filename
        path.write_bytes(b"no archive")
        made.append((one, path))
    return made


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_s_run_is_foreseen(tmp_path: Path, experience: Experience, policy: str) -> None:
    jobs = [spec(name) for name in ("a", "b", "c", "torch")]
    timeline = foresee(sdists(tmp_path, *jobs), NODES, experience, policy)
    assert {span.job_id for span in timeline.timetable.spans} == {job.job_id for job in jobs}
    assert timeline.ratio is not None
    assert timeline.ratio >= 1
    assert timeline.cores == {"f3": 8, "sg": 8}


def test_order_edges_are_foreseen(tmp_path: Path, experience: Experience) -> None:
    before, after = spec("a"), spec("b", recipe=Recipe(needs=["a"]))
    timeline = foresee(sdists(tmp_path, before, after), NODES, experience, "lookahead")
    start = {span.job_id: span.start_s for span in timeline.timetable.spans}
    end = {span.job_id: span.end_s for span in timeline.timetable.spans}
    assert start[after.job_id] >= end[before.job_id]


def test_a_cycle_is_an_error(tmp_path: Path, experience: Experience) -> None:
    jobs = [spec("a", recipe=Recipe(needs=["b"])), spec("b", recipe=Recipe(needs=["a"]))]
    with pytest.raises(CycleError, match=r"a 1\.0 needs b 1\.0 needs a 1\.0"):
        foresee(sdists(tmp_path, *jobs), NODES, experience, "lookahead")


def test_what_no_node_can_take_is_named(tmp_path: Path, experience: Experience) -> None:
    odd = spec("odd", recipe=Recipe(features=["zvbb"]))
    timeline = foresee(sdists(tmp_path, spec("a"), odd), NODES, experience, "lookahead")
    assert timeline.timetable.unplaced == (odd.job_id,)
    assert f"no node can take {odd.job_id}" in summary(timeline)


def attempt(name: str, node: str, start: float, end: float | None, failure: Failure | None = None) -> Attempt:
    seconds = (end or 0) - start
    result: dict[str, object] = {"duration_s": seconds, "processor_s": {"build": seconds * 4}} if end else {}
    return Attempt(f"{name}-1.0-cp313", 1, name, "cp313", node, Widths(4), start, end, failure, result)


RUN = Run(
    number=1,
    policy="lookahead",
    began_at=100.0,
    ended_at=None,
    nodes={
        name: {"cores": 8, "memory_bytes": 16 << 30, "speed": speed}
        for name, speed in (("f3", 1.0), ("sg", 2.0))
        for name, speed in (("f3", 1.0), ("sg", 2.0))
    },
)


def reviewed() -> Timeline:
    attempts = [
        attempt("a", "f3", 100.0, 160.0),
        attempt("b", "f3", 101.0, 120.0, Failure.NODE),
        attempt("b", "sg", 121.0, 141.0),
        attempt("c", "sg", 150.0, None),
    ]
    return review(RUN, attempts, 170.0)


def test_a_run_is_compared_with_the_least_time() -> None:
    timeline = reviewed()
    assert timeline.timetable.makespan_s == 70.0
    assert timeline.bound_s is not None
    assert 0 < timeline.bound_s <= 60.0, "what ended well could not have been done much faster"
    assert [span.lost for span in timeline.timetable.rows["f3"]] == [False, True]
    assert timeline.timetable.rows["sg"][-1].end_s == 70.0, "it runs until now"


def test_a_run_without_an_end_has_no_ratio() -> None:
    timeline = review(RUN, [attempt("c", "sg", 150.0, None)], 170.0)
    assert (timeline.bound_s, timeline.ratio) == (None, None)
    assert "times" not in summary(timeline)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_chart_fits_the_terminal_and_shows_overlaps_on_lines_of_their_own(columns: int) -> None:
    console = Console(file=io.StringIO(), width=columns, force_terminal=False)
    console.print(gantt(reviewed(), columns))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(len(line.rstrip()) <= columns for line in lines)
    assert [line.split()[0] for line in lines[:3]] == ["f3", "b-1.0-cp313"[: len(lines[1].split()[0])], "sg"]
    assert "1:10" in lines[3]


def test_rows_and_json_say_the_same() -> None:
    timeline = reviewed()
    assert [row[0] for row in spans_rows(timeline)] == ["f3\n8 cores", "", "sg\n8 cores", ""]
    content = timeline_json(timeline)
    assert content["makespan_s"] == 70.0
    spans = content["spans"]
    assert isinstance(spans, list)
    assert len(spans) == 4


def test_a_build_that_was_widened_says_so() -> None:
    wide = replace(attempt("a", "f3", 100.0, 160.0), widths=Widths(4).widened(20.0, 8))
    timeline = review(RUN, [wide], 170.0)
    ((_, _, width, *_),) = spans_rows(timeline)
    assert width == "-j4 to 8"
    spans = timeline_json(timeline)["spans"]
    assert isinstance(spans, list)
    assert (spans[0]["width"], spans[0]["widened"]) == (4, [{"after_s": 20.0, "width": 8}])
