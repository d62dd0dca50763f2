"""The default policy: what it starts, what it leaves waiting and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from farm.schedule import Assignment, FarmState, LookAhead, Needs, NodeState, RunningJob, unmet
from farm.schedule.bound import Build, lower_bound
from farm.schedule.event import SAFE, WARM
from farm.schedule.ledger import loads_of
from farm.schedule.plan import Item, Planner, Profile, Style
from farm.schedule.pool import Pool
from farm.schedule.simulate import Fixed, simulate
from tests.unit.schedule.farms import GB, board, boards, cost, job, queues, states

HOUR = 3600.0


@given(states())
def test_f11_an_empty_node_waits_only_for_a_job_that_ends_sooner_elsewhere(state: FarmState) -> None:
    """So it is for each job that could start there; or the plan has booked the node itself for a job."""
    decision = LookAhead().decide(state)
    state = Pool().pooled(state)  # what it believes
    booked = {booking.node.name for booking in decision.waits.values()}
    used = booked | {item.node for item in state.running} | {item.node for item in decision.assignments}
    loads = loads_of(state)
    started = {item.job_id for item in decision.assignments}
    for waiting in state.queued:
        if waiting.after or waiting.job_id in started or waiting.failed_on:
            continue
        for name in loads.keys() - used:
            load = loads[name]
            if load.open and not unmet(waiting.needs, load.node):
                width = load.room(waiting.estimate.memory_bytes)
                here = waiting.estimate.seconds(width, load.node.speed)
                assert decision.waits[waiting.job_id].end_s <= here + 1e-6


@given(boards(able=True), queues())
def test_what_it_remembers_changes_no_answer(nodes: list[NodeState], builds: list[Build]) -> None:
    class Forgetful(LookAhead):
        def assign(self, state: FarmState) -> tuple[Assignment, ...]:
            return LookAhead().decide(state).assignments

    estimates = Fixed({build.job_id: cost(100.0, spread=1.5) for build in builds[::2]})
    tables = [simulate(builds, nodes, policy, forecast=estimates) for policy in (LookAhead(), Forgetful())]
    assert tables[0] == tables[1]


def test_f11_a_giant_waits_for_the_fast_node_instead_of_taking_the_slow_one() -> None:
    """The small job gets the free slow node, although the giant is more urgent."""
    busy = RunningJob("other", "sg", 64, 50.0, cost(100.0 * 64, serial=0.0))
    nodes = [board("f3"), board("sg", cores=64, memory_gb=128, speed=2.0)]
    queue = [job("giant", cost(20 * HOUR, serial=0.01)), job("small", cost(60.0))]
    decision = LookAhead().decide(FarmState(queue, [busy], nodes))
    assert [(item.job_id, item.node) for item in decision.assignments] == [("small", "f3")]
    assert decision.waits["giant"].node.name == "sg"


def test_the_critical_path_goes_first() -> None:
    """A short job that much else waits for goes before a longer one that nothing waits for."""
    nodes = [board("f3", cores=1, max_jobs=1)]
    queue = [
        job("long", cost(200.0, serial=1.0)),
        job("base", cost(100.0, serial=1.0)),
        job("top", cost(900.0, serial=1.0), after=frozenset({"base"})),
    ]
    assert [item.job_id for item in LookAhead().assign(FarmState(queue, (), nodes))] == ["base"]


def test_a_job_alone_gets_the_cores_it_can_use() -> None:
    nodes = [board("f3")]
    alone = LookAhead().assign(FarmState([job("a", cost(HOUR, serial=0.01))], (), nodes))
    assert alone == (Assignment("a", "f3", 8),)


def test_many_equal_jobs_share_a_node_and_do_not_run_one_after_the_other() -> None:
    nodes = [board("f3")]
    queue = [job(f"job{number}", cost(HOUR, serial=0.2)) for number in range(16)]
    started = LookAhead().assign(FarmState(queue, (), nodes))
    assert len(started) >= 4
    assert sum(item.width for item in started) <= 8


def test_unknown_jobs_get_several_tasks_and_one_of_a_project_goes_ahead() -> None:
    unknown = cost(100.0, serial=0.9, spread=4.0)
    queue = [job(f"a-{number}", unknown, project="a") for number in range(4)]
    queue += [job(f"b-{number}", unknown, project="b") for number in range(4)]
    started = LookAhead().assign(FarmState(queue, (), [board("f3")]))
    assert {item.job_id.partition("-")[0] for item in started} == {"a", "b"}
    assert min(item.width for item in started) >= 2


def test_a_build_that_is_overdue_is_not_expected_to_end_at_once() -> None:
    """The giant must not wait for ever for a fast node whose build should have ended long ago."""
    stuck = RunningJob("other", "sg", 64, 100 * HOUR, cost(64.0, spread=4.0))
    nodes = [board("f3"), board("sg", cores=64, memory_gb=128, speed=2.0)]
    started = LookAhead().assign(FarmState([job("giant", cost(5 * HOUR))], [stuck], nodes))
    assert [item.node for item in started] == ["f3"]


def test_a_large_farm_is_planned_in_parts_within_all_limits() -> None:
    nodes = [board(f"f3-{number:03}") for number in range(120)]
    queue = [job(f"job{number}", cost(60.0 + number)) for number in range(400)]
    started = LookAhead().assign(FarmState(queue, (), nodes))
    assert len({item.node for item in started}) == 120
    assert len(started) == len({item.job_id for item in started})


def test_what_waits_takes_no_place_from_what_it_waits_for() -> None:
    """Jobs that are expected to take no time at all are as urgent as what waits for them."""
    nothing, something = cost(0.0), cost(2.0, serial=0.0)
    queue = [job("first", nothing), job("last", something, after=frozenset({"first"}))]
    started = LookAhead().assign(FarmState(queue, [], [board("a", cores=1)]))
    assert [item.job_id for item in started] == ["first"]


def test_giants_are_not_so_narrow_that_cores_stand_idle_while_they_end() -> None:
    """Four giants that fill the memory of two fast boards, beside much small work: 1.25 bounds at most."""
    nodes = [board(f"f3-{number}") for number in range(8)]
    nodes += [board(f"sg-{number}", cores=64, memory_gb=128, speed=2.0) for number in range(2)]
    giant, small = cost(10 * HOUR, serial=0.03, memory=3 * GB), cost(HOUR / 2, memory=GB)
    builds = [Build(f"giant{number}", giant, Needs("cp313")) for number in range(4)]
    builds += [Build(f"small{number}", small, Needs("cp313")) for number in range(60)]
    table = simulate(builds, nodes, LookAhead())
    assert table.makespan_s <= 1.25 * lower_bound(builds, nodes)


@pytest.mark.parametrize(
    ("style", "serial", "width"),
    [(WARM, 0.1, 1), (SAFE, 0.1, 2), (SAFE, 0.6, 1)],
    ids=["needs one core", "a second core is cheap", "a second core is wasted"],
)
def test_a_build_is_insured_against_being_longer_where_width_is_cheap(
    style: Style, serial: float, width: int
) -> None:
    """As long as feared it would end in time on one core; if it took twice as long, it would not."""
    node = board("f3")
    item = Item(job("a", cost(700.0, serial=serial, spread=1.5)))
    plan = Planner({"f3": Profile(node, ())}, 1000.0, style).plan([item], {"a": ["f3"]})
    assert [booking.width for booking in plan.bookings] == [width]


def test_what_waits_for_a_job_that_no_node_can_take_holds_no_place() -> None:
    nowhere = job("nowhere", cost(1.0), needs=Needs("cp313", nodes=frozenset({"sold"})))
    queue = [nowhere, job("later", cost(HOUR), after=frozenset({"nowhere"})), job("small", cost(1.0))]
    started = LookAhead().assign(FarmState(queue, [], [board("a", cores=1)]))
    assert [item.job_id for item in started] == ["small"]


def test_what_is_left_over_goes_to_the_build_with_most_left() -> None:
    giant = RunningJob("giant", "sg", 8, 60.0, cost(10 * HOUR, serial=0.01))
    small = RunningJob("small", "sg", 8, 60.0, cost(0.2 * HOUR, serial=0.01))
    nodes = [board("f3", speed=1.0), board("sg", cores=64, memory_gb=128, speed=2.0)]
    assert LookAhead().assign(FarmState((), [giant, small], nodes)) == (Assignment("giant", "sg", 56),)
    # Neither what nobody can widen, nor while others are about to come.
    stiff = replace(giant, widens=False)
    assert LookAhead().assign(FarmState((), [stiff, small], nodes)) == (Assignment("small", "sg", 56),)
    assert not LookAhead().assign(FarmState((), [giant], nodes, more=True))


def test_no_build_is_widened_into_cores_that_another_waits_for() -> None:
    small = RunningJob("small", "sg", 32, 0.0, cost(0.1 * HOUR, serial=0.01))
    other = RunningJob("other", "sg", 24, 0.0, cost(0.2 * HOUR, serial=0.01))
    nodes = [board("sg", cores=64, memory_gb=128, speed=2.0)]
    queue = [job("giant", cost(60 * HOUR, serial=0.01))]
    decided = LookAhead().decide(FarmState(queue, [small, other], nodes))
    started = {item.job_id for item in decided.assignments}
    assert decided.waits or started == {"giant"}
    assert not started & {"small", "other"}
