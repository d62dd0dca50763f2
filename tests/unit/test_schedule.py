from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from farm.schedule import Assignment, Candidate, Capacity, assign, unmet

PYTHONS = ["cp312", "cp313"]
PACKAGES = ["libffi-dev", "libyaml-dev"]
NODES = ["f3-a", "f3-b", "sg"]


@st.composite
def capacities(draw: st.DrawFn) -> list[Capacity]:
    names = draw(st.lists(st.sampled_from(NODES), unique=True, max_size=3))
    nodes = []
    for name in names:
        slots = draw(st.integers(1, 4))
        nodes.append(
            Capacity(
                node=name,
                free=draw(st.integers(0, slots)),
                slots=slots,
                cores=draw(st.integers(1, 64)),
                pythons=draw(st.frozensets(st.sampled_from(PYTHONS))),
                apt_packages=draw(st.frozensets(st.sampled_from(PACKAGES))),
            )
        )
    return nodes


@st.composite
def queues(draw: st.DrawFn) -> list[Candidate]:
    return [
        Candidate(
            job_id=f"job{number}",
            python=draw(st.sampled_from(PYTHONS)),
            apt_packages=draw(st.frozensets(st.sampled_from(PACKAGES))),
            work=draw(st.floats(0, 1e9)),
            failed_on=draw(st.dictionaries(st.sampled_from(NODES), st.integers(1, 3))),
        )
        for number in range(draw(st.integers(0, 8)))
    ]


def able(job: Candidate, nodes: list[Capacity]) -> list[Capacity]:
    return [node for node in nodes if unmet(job, node) is None]


def preferred(job: Candidate, nodes: list[Capacity]) -> set[str]:
    fewest = min((job.failed_on.get(node.node, 0) for node in able(job, nodes)), default=0)
    return {node.node for node in able(job, nodes) if job.failed_on.get(node.node, 0) == fewest}


@given(queues(), capacities())
def test_never_more_than_the_free_slots_and_each_job_once(
    queue: list[Candidate], nodes: list[Capacity]
) -> None:
    placed = assign(queue, nodes)
    load = Counter(item.node for item in placed)
    assert all(load[node.node] <= node.free for node in nodes)
    assert len({item.job_id for item in placed}) == len(placed)
    assert load.keys() <= {node.node for node in nodes}


@given(queues(), capacities())
def test_only_able_nodes_and_full_slots_never_overload_one(
    queue: list[Candidate], nodes: list[Capacity]
) -> None:
    jobs, by_name = {job.job_id: job for job in queue}, {node.node: node for node in nodes}
    for item in assign(queue, nodes):
        node = by_name[item.node]
        assert unmet(jobs[item.job_id], node) is None
        assert item.width >= 1
        assert item.width * node.slots <= max(node.cores, node.slots)


@given(queues(), capacities())
def test_f11_no_able_node_is_free_while_a_job_waits(queue: list[Candidate], nodes: list[Capacity]) -> None:
    placed = assign(queue, nodes)
    left = {node.node: node.free for node in nodes}
    for item in placed:
        left[item.node] -= 1
    for job in queue:
        if job.job_id not in {item.job_id for item in placed}:
            assert all(left[name] == 0 for name in preferred(job, nodes))


@given(queues(), capacities())
def test_a_node_that_failed_the_job_is_avoided_when_others_exist(
    queue: list[Candidate], nodes: list[Capacity]
) -> None:
    jobs = {job.job_id: job for job in queue}
    for item in assign(queue, nodes):
        assert item.node in preferred(jobs[item.job_id], nodes)


@given(queues(), capacities())
def test_longest_first_whatever_the_order_of_the_queue(queue: list[Candidate], nodes: list[Capacity]) -> None:
    placed = assign(queue, nodes)
    jobs = {job.job_id: job for job in queue}
    works = [jobs[item.job_id].work for item in placed]
    assert works == sorted(works, reverse=True)
    assert assign(reversed(queue), nodes) == placed


def job(name: str, work: float = 1, **failed_on: int) -> Candidate:
    return Candidate(name, "cp313", frozenset(), work, failed_on)


def board(name: str, *, free: int = 1, slots: int = 1, cores: int = 8) -> Capacity:
    return Capacity(name, free, slots, cores, frozenset({"cp313"}), frozenset())


def test_f11_two_jobs_go_to_two_nodes() -> None:
    nodes = [board("f3", free=2, slots=2), board("sg", free=2, slots=2, cores=64)]
    assert assign([job("small", 1), job("big", 9)], nodes) == [
        Assignment("big", "sg", 32),
        Assignment("small", "f3", 4),
    ]


def test_a_failed_job_waits_for_the_other_node_but_not_for_ever() -> None:
    busy = board("sg", free=0)
    assert assign([job("a", f3=1)], [board("f3"), busy]) == []
    assert assign([job("a", f3=1)], [board("f3")]) == [Assignment("a", "f3", 8)]
    assert assign([job("a", f3=1, sg=1)], [board("f3"), busy]) == [Assignment("a", "f3", 8)]


def test_unmet_names_what_is_missing() -> None:
    wants = Candidate("a", "cp313", frozenset({"libz-dev", "liba-dev"}), 1, {})
    assert unmet(wants, board("f3")) == "missing packages: liba-dev libz-dev"
    assert unmet(Candidate("a", "cp312", frozenset(), 1, {}), board("f3")) == "no cp312"
