from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.errors import BusyError, InputError
from farm.recipe import Recipe
from farm.store import Failure, State, Store, controller_lock
from tests.unit.plankit import spec

DEMO = spec(recipe=Recipe(apt_packages=["libffi-dev"], environment={"A": "b"}, timeout_s=60))
JOB = DEMO.job_id


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state" / "farm.sqlite")
    yield store
    store.close()


def test_a_job_s_life(store: Store) -> None:
    job = store.enqueue(DEMO)
    assert (job.spec, job.state, job.attempt, job.duration_s) == (DEMO, State.QUEUED, 0, None)
    job = store.lease(JOB, "f3")
    assert (job.state, job.attempt, job.node, job.attempt_id) == (State.LEASED, 1, "f3", f"{JOB}.1")
    assert store.advance(JOB, State.RUNNING).state is State.RUNNING
    job = store.built(JOB, "demo.whl", "cd" * 32, "{}")
    assert (job.state, job.wheel, job.wheel_sha256) == (State.BUILT, "demo.whl", "cd" * 32)
    assert not job.state.ended
    store.advance(JOB, State.VERIFIED)
    job = store.advance(JOB, State.PUBLISHED)
    assert job.state.ended
    assert job.duration_s is not None
    assert job.ended_at is not None
    assert store.failed_on(JOB) == {}


@pytest.mark.parametrize("state", [s for s in State if s is not State.FAILED])
def test_f01_asking_again_changes_nothing_but_a_failure(store: Store, state: State) -> None:
    store.enqueue(DEMO)
    store.lease(JOB, "f3")
    before = store.advance(JOB, state)
    assert store.enqueue(DEMO) == before
    assert len(store.jobs()) == 1


def test_f01_a_lease_is_no_wheel(store: Store) -> None:
    store.enqueue(DEMO)
    job = store.lease(JOB, "f3")
    assert (job.wheel, job.wheel_sha256, job.ended_at) == (None, None, None)


def test_f29_a_failure_is_tried_again(store: Store) -> None:
    store.enqueue(DEMO)
    store.lease(JOB, "f3")
    job = store.fail(JOB, Failure.BUILD, "no compiler", "{}")
    assert (job.state, job.failure, job.message) == (State.FAILED, Failure.BUILD, "no compiler")
    job = store.enqueue(DEMO)
    assert (job.state, job.failure, job.message, job.node) == (State.QUEUED, None, "", None)
    assert store.lease(JOB, "sg").attempt_id == f"{JOB}.2"
    assert store.failed_on(JOB) == {}, "only what the node itself failed counts against it"


def test_requeue_counts_against_the_node(store: Store) -> None:
    store.enqueue(DEMO)
    for node in ("f3", "sg", "f3"):
        store.lease(JOB, node)
        job = store.requeue(JOB, f"{node} lost it")
        assert (job.state, job.node, job.message) == (State.QUEUED, None, f"{node} lost it")
    assert store.failed_on(JOB) == {"f3": 2, "sg": 1}
    assert store.failed_on("other") == {}


def test_f01_a_job_whose_wheel_is_gone_is_built_again_and_no_node_is_blamed(store: Store) -> None:
    store.enqueue(DEMO)
    store.lease(JOB, "f3")
    store.built(JOB, "demo.whl", "cd" * 32, "{}")
    store.advance(JOB, State.PUBLISHED)
    job = store.requeue(JOB, "its wheel is no longer in the index")
    assert (job.state, job.node, job.wheel, job.duration_s) == (State.QUEUED, None, None, None)
    assert store.failed_on(JOB) == {}
    assert store.lease(JOB, "sg").attempt == 2


def test_lookup_by_prefix(store: Store) -> None:
    others = [spec("demo", "2.0"), spec("de_mo"), spec("dexmo")]
    for one in (DEMO, *others):
        store.enqueue(one)
    assert store.job(JOB).spec == DEMO
    assert store.job("demo-1").job_id == JOB
    assert store.job("de_").job_id == others[1].job_id, "no wildcard"
    with pytest.raises(InputError, match="2 jobs begin so: demo-1"):
        store.job("demo-")
    for absent in ("nosuch", "%", "\\"):
        with pytest.raises(InputError, match="no such job") as caught:
            store.job(absent)
        assert "farm status" in caught.value.hint


def test_an_exact_name_wins_over_longer_ones(store: Store) -> None:
    store.enqueue(DEMO)
    store._db.execute(
        "INSERT INTO job SELECT job_id || 'x', spec, state, 0, NULL, NULL, '', 1, NULL, NULL,"
        " NULL, NULL FROM job"
    )
    assert store.job(JOB).job_id == JOB


def test_jobs_come_oldest_first(store: Store) -> None:
    names = ["zz", "aa", "mm"]
    for name in names:
        store.enqueue(spec(name))
    assert [job.spec.project for job in store.jobs()] == names


def test_a_reopened_store_knows_all(tmp_path: Path) -> None:
    first = Store(tmp_path / "farm.sqlite")
    for name in ("a", "b", "c"):
        first.enqueue(spec(name))
        first.lease(spec(name).job_id, "f3")
    first.requeue(spec("b").job_id, "lost")
    first.built(spec("c").job_id, "c.whl", "cd" * 32, "{}")
    before = first.jobs()
    # Not closed: as after kill -9, every change is already on disk.
    second = Store(tmp_path / "farm.sqlite")
    assert second.jobs() == before
    assert second.failed_on(spec("b").job_id) == {"f3": 1}
    assert second.lease(spec("b").job_id, "sg").attempt == 2
    first.close()
    second.close()


def test_a_failed_change_leaves_nothing_behind(store: Store) -> None:
    store.enqueue(DEMO)
    store._db.execute("INSERT INTO attempt VALUES (?, 1, 'x', 0, NULL, NULL, NULL)", (JOB,))
    with pytest.raises(Exception, match="UNIQUE"):
        store.lease(JOB, "f3")
    assert (store.job(JOB).state, store.job(JOB).attempt) == (State.QUEUED, 0)


def test_one_controller_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "state" / "lock"
    with (
        controller_lock(path),
        pytest.raises(BusyError, match=rf"pid {os.getpid()}\) holds") as caught,
        controller_lock(path),
    ):
        pytest.fail("two controllers")
    assert "farm status" in caught.value.hint
    with controller_lock(path):
        assert path.read_text() == str(os.getpid())
