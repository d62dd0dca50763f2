"""What follows from a failed attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.dispatch.outcome import (
    FAST_IN_A_ROW,
    FAST_S,
    MEMORY_TRIES,
    NODE_TRIES,
    Streak,
    Then,
    after,
    memory_factor,
)
from farm.store import Failure

FINAL = [failure for failure in Failure if failure not in {Failure.NODE, Failure.MEMORY}]


@pytest.mark.parametrize("failure", FINAL)
def test_f29_what_says_something_of_the_project_is_final(failure: Failure) -> None:
    assert after(failure, {failure: {"f3": 1}}) is Then.FAIL


@pytest.mark.parametrize(("failure", "tries"), [(Failure.NODE, NODE_TRIES), (Failure.MEMORY, MEMORY_TRIES)])
def test_infrastructure_failures_are_tried_elsewhere_but_not_for_ever(failure: Failure, tries: int) -> None:
    for times in range(1, tries):
        assert after(failure, {failure: {"f3": times}}) is Then.AGAIN
    assert after(failure, {failure: {"f3": 1, "sg": tries - 1}}) is Then.FAIL


def test_other_failures_don_t_count() -> None:
    assert after(Failure.NODE, {Failure.NODE: {"f3": 1}, Failure.MEMORY: {"f3": 9}}) is Then.AGAIN


def test_f25_each_time_memory_was_lacking_twice_as_much_is_asked_for() -> None:
    assert memory_factor({}) == 1.0
    assert memory_factor({Failure.MEMORY: {"f3": 2, "sg": 1}}) == 8.0


def failing(streak: Streak, job: str, seconds: float = 1.0, *nodes: str) -> bool:
    return streak.failed(job, seconds, {Failure.BUILD: dict.fromkeys(nodes or ("f3",), 1)})


def test_f21_fast_failures_in_a_row_are_doubted() -> None:
    streak = Streak()
    doubted = [failing(streak, f"job{number}") for number in range(FAST_IN_A_ROW)]
    assert doubted == [False] * (FAST_IN_A_ROW - 1) + [True]
    assert streak.jobs == [f"job{number}" for number in range(FAST_IN_A_ROW)]


def test_one_success_or_one_real_try_ends_the_row() -> None:
    for end in (Streak.succeeded, lambda streak: failing(streak, "slow", FAST_S)):
        streak = Streak()
        for number in range(FAST_IN_A_ROW - 1):
            failing(streak, f"job{number}")
        end(streak)
        assert not failing(streak, "another")


def test_a_job_that_fails_everywhere_says_nothing_against_a_node() -> None:
    streak = Streak()
    assert not any(failing(streak, f"job{number}", 1.0, "f3", "sg") for number in range(9))


def doubted_node() -> Streak:
    streak = Streak()
    for number in range(FAST_IN_A_ROW):
        failing(streak, f"job{number}")
    assert streak.blamed() == tuple(f"job{number}" for number in range(FAST_IN_A_ROW))
    return streak


def test_f21_a_doubted_node_is_blamed_for_all_that_fails_there_at_once() -> None:
    streak = doubted_node()
    for job in ("running then", "after its quarantine"):
        assert failing(streak, job)
        assert streak.blamed() == (job,)


def test_a_doubted_node_is_believed_again_after_one_success_or_one_real_try() -> None:
    for end in (Streak.succeeded, lambda streak: failing(streak, "slow", FAST_S)):
        streak = doubted_node()
        end(streak)
        assert not failing(streak, "another")


def test_a_job_that_another_bad_node_failed_still_speaks_against_this_one_but_not_for_ever() -> None:
    for given_back in range(NODE_TRIES + 1):
        streak = doubted_node()
        so_far = {Failure.NODE: {"sg": given_back}, Failure.BUILD: {"f3": 1}}
        assert streak.failed("one", 1.0, so_far) == (given_back < NODE_TRIES)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 120), st.booleans())))
def test_a_node_is_doubted_only_after_that_many_different_jobs(events: list[tuple[str, float, bool]]) -> None:
    streak = Streak()
    row: list[str] = []
    for job, seconds, ended_well in events:
        if ended_well:
            streak.succeeded()
            row = []
        else:
            doubted = failing(streak, job, seconds)
            row = [*row, job] if seconds < FAST_S else []
            assert doubted == (len(set(row)) >= FAST_IN_A_ROW)
