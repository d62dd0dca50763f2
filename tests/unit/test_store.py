from __future__ import annotations

import dataclasses
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.errors import BusyError, InputError
from farm.recipe import KnownFailure, Recipe
from farm.store import Failure, Mark, State, Store, controller_lock
from farm.store.schema import STEPS
from farm.store.spec import spec_to_json
from tests.unit.plankit import spec

DEMO = spec(recipe=Recipe(apt_packages=["libffi-dev"], environment={"A": "b"}, test_command=["pytest"]))
JOB = DEMO.job_id


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state" / "farm.sqlite")
    yield store
    store.close()


def test_a_job_s_life(store: Store) -> None:
    job = store.enqueue(DEMO)
    assert (job.spec, job.state, job.attempt, job.duration_s) == (DEMO, State.QUEUED, 0, None)
    job = store.lease(JOB, "f3", 4)
    assert (job.state, job.attempt, job.node, job.attempt_id) == (State.LEASED, 1, "f3", f"{JOB}.1")
    assert store.advance(JOB, State.RUNNING).state is State.RUNNING
    job = store.built(JOB, "demo.whl", "cd" * 32, "{}")
    assert (job.state, job.wheel, job.wheel_sha256) == (State.BUILT, "demo.whl", "cd" * 32)
    assert not job.state.ended
    assert store.advance(JOB, State.STAGED).state.collected
    job = store.verified(JOB, ["other.2", "base.1"])
    assert (job.state, job.proved_with) == (State.VERIFIED, ("base.1", "other.2"))
    job = store.advance(JOB, State.PUBLISHED)
    assert job.state.ended
    assert job.duration_s is not None
    assert job.ended_at is not None
    assert store.failures(JOB) == {}


@pytest.mark.parametrize("state", [s for s in State if s is not State.FAILED])
def test_f01_asking_again_changes_nothing_but_a_failure(store: Store, state: State) -> None:
    store.enqueue(DEMO)
    store.lease(JOB, "f3", 4)
    before = store.advance(JOB, state)
    assert store.enqueue(DEMO) == before
    assert len(store.jobs()) == 1


def test_f01_a_lease_is_no_wheel(store: Store) -> None:
    store.enqueue(DEMO)
    job = store.lease(JOB, "f3", 4)
    assert (job.wheel, job.wheel_sha256, job.ended_at) == (None, None, None)


def test_f29_a_failure_is_tried_again(store: Store) -> None:
    store.enqueue(DEMO)
    store.lease(JOB, "f3", 4)
    job = store.fail(JOB, Failure.BUILD, "no compiler", "{}")
    assert (job.state, job.failure, job.message) == (State.FAILED, Failure.BUILD, "no compiler")
    job = store.enqueue(DEMO)
    assert (job.state, job.failure, job.message, job.node) == (State.QUEUED, None, "", None)
    assert store.lease(JOB, "sg", 4).attempt_id == f"{JOB}.2"
    assert Failure.NODE not in store.failures(JOB), "only what the node itself failed counts against it"


def test_requeue_counts_against_the_node(store: Store) -> None:
    store.enqueue(DEMO)
    for node in ("f3", "sg", "f3"):
        store.lease(JOB, node, 4)
        job = store.requeue(JOB, f"{node} lost it")
        assert (job.state, job.node, job.message) == (State.QUEUED, None, f"{node} lost it")
    assert store.failures(JOB) == {Failure.NODE: {"f3": 2, "sg": 1}}
    assert store.failures("other") == {}


def test_f01_a_job_whose_wheel_is_gone_is_built_again_and_no_node_is_blamed(store: Store) -> None:
    store.enqueue(DEMO)
    store.lease(JOB, "f3", 4)
    store.built(JOB, "demo.whl", "cd" * 32, "{}")
    store.advance(JOB, State.PUBLISHED)
    job = store.requeue(JOB, "its wheel is no longer in the index")
    assert (job.state, job.node, job.wheel, job.duration_s) == (State.QUEUED, None, None, None)
    assert store.failures(JOB) == {}
    assert store.lease(JOB, "sg", 4).attempt == 2


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
        "INSERT INTO job (job_id, spec, state, queued_at) SELECT job_id || 'x', spec, state, 1 FROM job"
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
        first.lease(spec(name).job_id, "f3", 4)
    first.requeue(spec("b").job_id, "lost")
    first.built(spec("c").job_id, "c.whl", "cd" * 32, "{}")
    before = first.jobs()
    # Not closed: as after kill -9, every change is already on disk.
    second = Store(tmp_path / "farm.sqlite")
    assert second.jobs() == before
    assert second.failures(spec("b").job_id) == {Failure.NODE: {"f3": 1}}
    assert second.lease(spec("b").job_id, "sg", 4).attempt == 2
    first.close()
    second.close()


def test_a_failed_change_leaves_nothing_behind(store: Store) -> None:
    store.enqueue(DEMO)
    store._db.execute("INSERT INTO attempt (job_id, attempt, node, leased_at) VALUES (?, 1, 'x', 0)", (JOB,))
    with pytest.raises(Exception, match="UNIQUE"):
        store.lease(JOB, "f3", 4)
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


def test_cancelling_ends_what_no_node_has_and_marks_what_one_has(store: Store) -> None:
    store.enqueue(DEMO)
    job = store.cancel(JOB)
    assert (job.state, job.failure, job.cancelling) == (State.FAILED, Failure.CANCELLED, False)
    with pytest.raises(InputError, match="it is failed"):
        store.cancel(JOB)
    store.retry(JOB)
    store.lease(JOB, "f3", 4)
    job = store.cancel(JOB)
    assert (job.state, job.cancelling) == (State.LEASED, True)
    assert not store.fail(JOB, Failure.CANCELLED, "cancelled").cancelling


def test_only_a_failed_job_is_tried_again(store: Store) -> None:
    store.enqueue(DEMO)
    with pytest.raises(InputError, match="it is queued"):
        store.retry(JOB)
    store.lease(JOB, "f3", 4)
    store.fail(JOB, Failure.BUILD, "no compiler")
    job = store.retry(JOB)
    assert (job.state, job.failure, job.attempt) == (State.QUEUED, None, 1)
    assert store.failures(JOB) == {}, "what was is over"


def test_f21_a_doubted_node_gets_the_blame_for_what_failed_there(store: Store) -> None:
    store.enqueue(DEMO)
    store.lease(JOB, "f3", 4)
    store.fail(JOB, Failure.BUILD, "cc1: bad magic", "{}")
    job = store.blame_node(JOB, "f3 is doubted")
    assert (job.state, job.failure, job.message) == (State.QUEUED, None, "f3 is doubted")
    assert store.failures(JOB) == {Failure.NODE: {"f3": 1}}


def test_where_a_job_may_run_is_taken_from_its_newest_recipe(store: Store) -> None:
    store.enqueue(DEMO)
    pinned = dataclasses.replace(DEMO, recipe=dataclasses.replace(DEMO.recipe, nodes=["sg"]))
    assert pinned.job_id == JOB
    assert store.enqueue(pinned).spec.recipe.nodes == ["sg"]


def test_keys_of_another_version_s_recipes_are_passed_over(store: Store) -> None:
    old = spec_to_json(DEMO).replace('"apt_packages"', '"system_packages": {"libgl1": "x"}, "apt_packages"')
    store.enqueue(DEMO)
    store._db.execute("UPDATE job SET spec = ?", (old,))
    assert store.job(JOB).spec == DEMO


def test_a_build_tag_stays_when_the_job_is_asked_for_again(store: Store) -> None:
    store.enqueue(DEMO)
    assert store.retag(JOB, "3").spec.build_tag == "3"
    assert store.enqueue(DEMO).spec.build_tag == "3"
    assert store.job(JOB).spec.job_id == JOB


def test_marks_on_nodes(store: Store) -> None:
    store.mark("f3", Mark.DRAINED, "new fan")
    store.mark("f3", Mark.QUARANTINED, "disk")
    since = store.marks()["f3"][Mark.QUARANTINED].since
    store.mark("f3", Mark.QUARANTINED, "disk, still")
    marks = store.marks()["f3"]
    assert (marks[Mark.QUARANTINED].reason, marks[Mark.QUARANTINED].since) == ("disk, still", since)
    store.unmark("f3", Mark.QUARANTINED)
    assert list(store.marks()["f3"]) == [Mark.DRAINED]
    store.unmark("f3", *Mark)
    assert store.marks() == {}


def test_runs_and_their_attempts(store: Store) -> None:
    assert store.last_run() is None
    store.enqueue(DEMO)
    number = store.begin_run("lookahead")
    store.note_nodes(number, {"f3": {"cores": 8}})
    store.lease(JOB, "f3", 4)
    store.built(JOB, "demo.whl", "cd" * 32, '{"duration_s": 3}')
    store.end_run(number)
    run = store.last_run()
    assert run is not None
    assert (run.policy, run.nodes) == ("lookahead", {"f3": {"cores": 8}})
    assert run.ended_at is not None
    (attempt,) = store.attempts(since=run.began_at)
    assert (attempt.node, str(attempt.widths), attempt.failure, attempt.result) == (
        "f3",
        "4",
        None,
        {"duration_s": 3},
    )
    assert store.attempt(JOB) == attempt
    assert store.attempts(since=time.time() + 1) == []


def test_a_wider_attempt_is_remembered_and_the_next_begins_anew(store: Store) -> None:
    store.enqueue(DEMO)
    store.lease(JOB, "f3", 4)
    assert (store.widen(JOB, 6).width, store.widen(JOB, 8).width) == (6, 8)
    widths = store.attempt(JOB).widths
    assert (widths.first, [width for _, width in widths.changes]) == (4, [6, 8])
    assert all(0 <= after_s < 60 for after_s, _ in widths.changes)
    store.requeue(JOB, "the board was lost")
    assert str(store.lease(JOB, "sg", 2).widths) == "2"
    assert [str(attempt.widths) for attempt in store.attempts()] == ["4 to 8", "2"]


def test_another_process_s_changes_are_noticed(tmp_path: Path) -> None:
    mine, other = Store(tmp_path / "farm.sqlite"), Store(tmp_path / "farm.sqlite")
    mine.enqueue(DEMO)
    assert not mine.changed_elsewhere()
    other.enqueue(spec("other"))
    assert mine.changed_elsewhere()
    assert not mine.changed_elsewhere()
    mine.close()
    other.close()


@pytest.mark.parametrize(
    ("before", "today"),
    [("{}", []), ('{"t.py::x": "flaky"}', [KnownFailure(tests=["t.py::x"], reason="flaky")])],
)
def test_the_first_farm_s_database_becomes_today_s(
    tmp_path: Path, before: str, today: list[KnownFailure]
) -> None:
    path = tmp_path / "farm.sqlite"
    old = sqlite3.connect(path)
    old.executescript(STEPS[0])
    old.execute(
        "INSERT INTO job (job_id, spec, state, queued_at) VALUES (?, ?, 'queued', 1)",
        (JOB, spec_to_json(DEMO).replace('"known_failures": []', f'"known_failures": {before}')),
    )
    old.commit()
    old.close()
    store = Store(path)
    assert [(job.job_id, job.width) for job in store.jobs()] == [(JOB, 1)]
    assert store.job(JOB).spec.recipe.known_failures == today
    assert store.lease(JOB, "f3", 8).width == 8
    store.close()
