"""What finished builds teach of projects and of nodes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.estimate import Knowledge, Observation, cold_estimate

SPEEDS = {"f3-a": 1.0, "f3-b": 1.0, "sg": 2.0}


def seen(
    project: str = "lxml",
    *,
    node: str = "f3-a",
    width: int = 4,
    duration_s: float = 100.0,
    processor_s: float | None = 250.0,
    peak: int | None = None,
    finished: bool = True,
) -> Observation:
    return Observation(project, "cp313", node[:2], node, width, duration_s, processor_s, peak, finished)


def test_one_build_gives_serial_and_parallel_work() -> None:
    """250 s of work in 100 s of wall time by 4 tasks: 50 s can't be shared, 200 s can."""
    estimate = Knowledge.of([seen()], SPEEDS).estimate("lxml", "cp312")
    assert (estimate.serial_s, estimate.parallel_s) == pytest.approx((50.0, 200.0))
    assert estimate.spread < cold_estimate("lxml", None).spread


def test_work_is_the_same_wherever_it_was_measured() -> None:
    slow = Knowledge.of([seen(node="f3-a")], SPEEDS)
    fast = Knowledge.of([seen(node="sg", duration_s=50.0, processor_s=125.0)], SPEEDS)
    assert slow.estimate("lxml", "cp313") == fast.estimate("lxml", "cp313")


def test_without_processor_time_the_serial_share_is_the_one_believed_before() -> None:
    before = Knowledge(SPEEDS).estimate("numpy", "cp313")
    after = Knowledge.of([seen("numpy", processor_s=None)], SPEEDS).estimate("numpy", "cp313")
    assert after.serial_s / after.work_s == pytest.approx(before.serial_s / before.work_s)
    assert after.seconds(4, 1.0) == pytest.approx(100.0)


def test_one_spike_does_not_spoil_what_was_learnt_but_a_change_gets_through() -> None:
    knowledge = Knowledge.of([seen()] * 5, SPEEDS)
    spike = seen(duration_s=100_000.0, processor_s=250_000.0)
    knowledge.observe(spike)
    assert knowledge.estimate("lxml", "cp313").work_s < 250 * 3
    for _ in range(40):
        knowledge.observe(spike)
    assert knowledge.estimate("lxml", "cp313").work_s > 60_000


def test_many_equal_builds_make_an_estimate_sure() -> None:
    knowledge = Knowledge.of([seen()] * 20, SPEEDS)
    assert knowledge.estimate("lxml", "cp313").spread < 1.2


def test_a_build_that_lasts_longer_than_expected_raises_the_estimate_of_its_siblings() -> None:
    knowledge = Knowledge(SPEEDS)
    cold = knowledge.estimate("unknown", "cp313")
    running = seen("unknown", width=8, duration_s=10_000.0, processor_s=None, finished=False)
    knowledge.observe(running)
    assert knowledge.estimate("unknown", "cp312").work_s > 5 * cold.work_s
    assert not knowledge.knows("unknown")
    knowledge.observe(dataclasses.replace(running, duration_s=20_000.0, finished=True))
    assert knowledge.knows("unknown")
    assert knowledge.estimate("unknown", "cp312").seconds(8, 1.0) == pytest.approx(20_000.0)


def test_a_build_that_just_started_teaches_nothing() -> None:
    knowledge = Knowledge(SPEEDS)
    cold = knowledge.estimate("torch", "cp313")
    knowledge.observe(seen("torch", duration_s=1.0, processor_s=None, finished=False))
    assert knowledge.estimate("torch", "cp313") == cold


def test_a_node_slower_than_calibrated_is_found_out() -> None:
    knowledge = Knowledge.of([seen(node="f3-a")] * 3, SPEEDS)
    for _ in range(30):
        knowledge.observe(seen(node="f3-a"))
        knowledge.observe(seen(node="f3-b", duration_s=200.0, processor_s=500.0))
    assert knowledge.speed("f3-b", "f3") < 0.75 * knowledge.speed("f3-a", "f3")


def test_memory_of_a_task_is_learnt_and_only_slowly_forgotten() -> None:
    knowledge = Knowledge.of([seen(peak=8_000_000_000, width=4)], SPEEDS)
    assert knowledge.estimate("lxml", "cp313").memory_bytes == 2_000_000_000
    knowledge.observe(seen(peak=4_000_000_000, width=4))
    assert 1_500_000_000 < knowledge.estimate("lxml", "cp313").memory_bytes < 2_000_000_000


@given(
    st.lists(
        st.builds(
            seen,
            st.sampled_from(["a", "torch"]),
            node=st.sampled_from(["f3-a", "sg", "never-seen"]),
            width=st.integers(1, 64),
            duration_s=st.floats(0, 1e6),
            processor_s=st.none() | st.floats(0, 1e7),
            peak=st.none() | st.integers(0, 10**12),
            finished=st.booleans(),
        ),
        max_size=12,
    )
)
def test_whatever_was_seen_estimates_stay_usable(history: list[Observation]) -> None:
    knowledge = Knowledge.of(history, SPEEDS)
    for project in ("a", "torch", "other"):
        estimate = knowledge.estimate(project, "cp313")
        assert estimate.serial_s >= 0
        assert estimate.parallel_s >= 0
        assert estimate.work_s > 0
        assert estimate.memory_bytes > 0
        assert estimate.spread >= 1
    assert all(0 < knowledge.speed(node, node[:2]) < 100 for node in SPEEDS)
