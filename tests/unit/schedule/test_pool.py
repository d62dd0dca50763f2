"""Estimates of one project's builds are averaged."""

from __future__ import annotations

import pytest
from hypothesis import given

from farm.schedule import FarmState
from farm.schedule.pool import Pool
from tests.unit.schedule.farms import cost, job, states


def test_builds_of_a_project_get_the_mean_of_what_is_believed_of_them() -> None:
    jobs = [job("a-1", cost(100, spread=1.5), project="a"), job("a-2", cost(300, spread=1.5), project="a")]
    alone = job("b-1", cost(50), project="b")
    first, second, other = Pool().pooled(FarmState([*jobs, alone], [], [])).queued
    assert first.estimate == second.estimate
    assert first.estimate.work_s == pytest.approx(200)
    assert 1.3 < first.estimate.spread < 1.4
    assert other is alone


def test_jobs_of_no_project_have_nothing_in_common() -> None:
    jobs = [job("a", cost(100)), job("b", cost(300))]
    assert list(Pool().pooled(FarmState(jobs, [], [])).queued) == jobs


@given(states())
def test_pooling_keeps_all_jobs_and_what_is_not_an_estimate(state: FarmState) -> None:
    pool = Pool()
    pooled = pool.pooled(state)
    assert [(j.job_id, j.needs, j.after) for j in pooled.queued] == [
        (j.job_id, j.needs, j.after) for j in state.queued
    ]
    assert [(j.job_id, j.node, j.width) for j in pooled.running] == [
        (j.job_id, j.node, j.width) for j in state.running
    ]
    # Policies cache by identity: the same state twice makes no new jobs.
    assert all(a is b for a, b in zip(pool.pooled(state).queued, pooled.queued, strict=True))
