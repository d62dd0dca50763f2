"""Simulated farms keep all limits, and nobody is faster than the bound: that is the bound's proof test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.schedule import POLICIES, LookAhead, Needs, NodeState
from farm.schedule.bound import Build, Loss, lower_bound
from farm.schedule.simulate import Timetable, simulate
from tests.unit.schedule.farms import GB, board, boards, cost, queues

each_policy = pytest.mark.parametrize("name", POLICIES)
overheads = st.sampled_from([0.0, 3.0])


def check_capacity(table: Timetable, nodes: list[NodeState], builds: list[Build]) -> None:
    memory = {build.job_id: build.truth.memory_bytes for build in builds}
    for name, spans in table.rows.items():
        node = next(node for node in nodes if node.name == name)
        changes = {span.start_s + after_s for span in spans for after_s, _ in span.widths.changes}
        for moment in changes | {span.start_s for span in spans}:
            here = [span for span in spans if span.start_s <= moment < span.end_s]
            widths = {span.job_id: span.widths.at(moment - span.start_s + 1e-6) for span in here}
            assert sum(widths.values()) <= node.cores
            assert node.max_jobs is None or len(here) <= node.max_jobs
            alone = list(widths.values()) == [1]
            assert alone or sum(widths[name] * memory[name] for name in widths) <= node.memory_bytes


def check_order(table: Timetable, builds: list[Build]) -> None:
    done = {span.job_id: span for span in table.spans if not span.lost}
    assert done.keys() == {build.job_id for build in builds}
    for build in builds:
        for before in build.after:
            assert done[before].end_s <= done[build.job_id].start_s + 1e-9


@each_policy
@given(boards(able=True), queues(), overheads)
def test_everything_is_built_within_capacity_in_order_and_never_below_the_bound(
    name: str, nodes: list[NodeState], builds: list[Build], overhead: float
) -> None:
    table = simulate(builds, nodes, POLICIES[name](), overhead_s=overhead)
    assert not table.unplaced
    check_capacity(table, nodes, builds)
    check_order(table, builds)
    bound = lower_bound(builds, nodes, overhead_s=overhead)
    assert table.makespan_s >= bound * (1 - 1e-6) - 1e-6


@each_policy
@given(boards(able=True), queues(), st.floats(0.0, 2.0))
def test_a_lost_node_loses_no_job(
    name: str, nodes: list[NodeState], builds: list[Build], when: float
) -> None:
    if len(nodes) > 1:
        loss = Loss(nodes[0].name, when * lower_bound(builds, nodes))
        table = simulate(builds, nodes, POLICIES[name](), loss=loss)
        check_capacity(table, nodes, builds)
        check_order(table, builds)
        assert all(span.end_s <= loss.at_s for span in table.spans if span.node == loss.node)
        bound = lower_bound(builds, nodes, loss=loss)
        assert table.makespan_s >= bound * (1 - 1e-6) - 1e-6


def build(name: str, seconds: float, *after: str, serial: float = 0.0, memory: int = GB) -> Build:
    return Build(name, cost(seconds, serial=serial, memory=memory), Needs("cp313"), frozenset(after))


def test_the_bound_of_a_chain_is_its_length_at_full_width() -> None:
    chain = [build("a", 80), build("b", 160, "a")]
    assert lower_bound(chain, [board("f3")]) == pytest.approx(30.0, rel=1e-3)


def test_the_bound_counts_what_width_wastes() -> None:
    """One job has to be wide to end in time; the area it then wastes is missing for the others."""
    one = [build("a", 800, serial=0.1)]
    assert lower_bound(one, [board("f3")]) == pytest.approx(80 + 90, rel=1e-3)
    # 100 other core seconds for each core and 170 s of the first alone: more than work / cores = 200.
    more = [*one, *(build(f"b{n}", 100) for n in range(8))]
    bound = lower_bound(more, [board("f3")])
    assert bound > (800 + 800) / 8
    assert bound <= simulate(more, [board("f3")], LookAhead()).makespan_s


def test_the_bound_counts_memory() -> None:
    fat = [build(f"job{number}", 100, memory=16 * GB) for number in range(4)]
    assert lower_bound(fat, [board("f3")]) == pytest.approx(400, rel=1e-3)


def test_the_bound_of_a_lost_node_is_larger() -> None:
    nodes, work = [board("f3-a"), board("f3-b")], [build(f"job{n}", 100) for n in range(16)]
    assert lower_bound(work, nodes) == pytest.approx(100, rel=1e-3)
    assert lower_bound(work, nodes, loss=Loss("f3-a", 40.0)) == pytest.approx(160, rel=1e-3)


def test_a_job_that_no_node_can_take_has_no_bound_and_stays_unplaced() -> None:
    odd = Build("odd", cost(), Needs("cp39"))
    waits = build("waits", 10, "odd")
    assert lower_bound([odd], [board("f3")]) == float("inf")
    table = simulate([odd, waits, build("fine", 10)], [board("f3")], LookAhead())
    assert table.unplaced == ("odd", "waits")
    assert [span.job_id for span in table.spans] == ["fine"]


def test_jobs_that_wait_for_each_other_are_named() -> None:
    with pytest.raises(ValueError, match="a, b"):
        lower_bound([build("a", 1, "b"), build("b", 1, "a")], [board("f3")])
