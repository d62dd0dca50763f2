"""What holds for every policy, whatever the farm looks like (F11, F25)."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.schedule import POLICIES, Assignment, FarmState, NodeState, QueuedJob, unmet
from farm.schedule.ledger import LEAST_USE
from tests.unit.schedule.farms import GB, board, cost, job, states

each_policy = pytest.mark.parametrize("name", POLICIES)


def placed(name: str, state: FarmState) -> list[Assignment]:
    return list(POLICIES[name]().assign(state))


def preferred(wanted: QueuedJob, state: FarmState) -> set[str]:
    fit = [node for node in state.nodes if node.usable and not unmet(wanted.needs, node)]
    fewest = min((wanted.failed_on.get(node.name, 0) for node in fit), default=0)
    return {node.name for node in fit if wanted.failed_on.get(node.name, 0) == fewest}


@each_policy
@given(states())
def test_f25_never_more_cores_memory_or_builds_than_a_node_has(name: str, state: FarmState) -> None:
    memory = {item.job_id: item.estimate.memory_bytes for item in state.queued}
    memory |= {item.job_id: item.estimate.memory_bytes for item in state.running}
    started = placed(name, state)
    now = {item.job_id: Assignment(item.job_id, item.node, item.width) for item in state.running}
    now |= {item.job_id: item for item in started}
    on_node: dict[str, list[Assignment]] = defaultdict(list)
    for item in now.values():
        on_node[item.node].append(item)
    nodes: dict[str, NodeState] = {node.name: node for node in state.nodes}
    for node_name in {item.node for item in started}:
        node, here = nodes[node_name], on_node[node_name]
        assert sum(item.width for item in here) <= node.cores
        assert node.max_jobs is None or len(here) <= node.max_jobs
        # A job alone may always run one task; what ran before may be more than a new estimate allows.
        alone = len(here) == 1 and here[0].width == 1
        assert alone or sum(item.width * memory[item.job_id] for item in here) <= node.memory_bytes


@each_policy
@given(states())
def test_each_job_once_only_on_able_nodes_and_never_while_it_waits_for_another(
    name: str, state: FarmState
) -> None:
    jobs = {item.job_id: item for item in state.queued}
    started = [item for item in placed(name, state) if item.job_id in jobs]
    assert max(Counter(item.job_id for item in started).values(), default=0) <= 1
    for item in started:
        assert not jobs[item.job_id].after
        assert item.width >= 1
        assert item.node in preferred(jobs[item.job_id], state)


@each_policy
@given(states())
def test_only_what_runs_on_a_usable_node_and_can_be_widened_is_and_only_when_nobody_waits_for_its_cores(
    name: str, state: FarmState
) -> None:
    running = {item.job_id: item for item in state.running}
    usable = {node.name for node in state.nodes if node.usable}
    wider = [item for item in placed(name, state) if item.job_id in running]
    assert not (wider and state.more)
    for item in wider:
        before = running[item.job_id]
        assert before.widens
        assert (item.node, item.node in usable) == (before.node, True)
        assert before.width < item.width <= before.estimate.efficient(LEAST_USE)


@each_policy
@given(states(), st.randoms(use_true_random=False))
def test_the_same_state_in_any_order_has_the_same_answer(
    name: str, state: FarmState, rng: random.Random
) -> None:
    shuffled = FarmState(
        rng.sample(state.queued, len(state.queued)),
        rng.sample(state.running, len(state.running)),
        rng.sample(state.nodes, len(state.nodes)),
        state.more,
    )
    again = POLICIES[name]().assign(shuffled)
    assert sorted(map(repr, again)) == sorted(map(repr, placed(name, state)))


@each_policy
@given(states())
def test_an_empty_farm_always_starts_something(name: str, state: FarmState) -> None:
    idle = FarmState(state.queued, (), state.nodes, state.more)
    can = [item for item in state.queued if not item.after and preferred(item, idle)]
    if name != "round-robin":
        assert bool(placed(name, idle)) == bool(can)


@each_policy
def test_f25_a_job_too_large_for_any_node_runs_alone_with_one_task(name: str) -> None:
    state = FarmState([job("torch", cost(memory=40 * GB))], (), [board("f3-a", memory_gb=16)])
    assert placed(name, state) == [Assignment("torch", "f3-a", 1)]


@each_policy
def test_a_failed_job_goes_elsewhere_but_not_for_ever(name: str) -> None:
    failed = [job("a", failed_on={"f3-a": 1})]
    both = [board("f3-a"), board("f3-b")]
    assert [item.node for item in placed(name, FarmState(failed, (), both))] == ["f3-b"]
    assert [item.node for item in placed(name, FarmState(failed, (), both[:1]))] == ["f3-a"]
    drained = [both[0], board("f3-b", usable=False)]
    assert [item.node for item in placed(name, FarmState(failed, (), drained))] == ["f3-a"]
