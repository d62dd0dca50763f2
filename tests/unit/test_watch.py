"""`farm watch`: pictures of the store, drawn or told as lines."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rich.console import Console

from farm.paths import Paths
from farm.store import Failure, Job, Mark, State, Store, controller_lock, lock_holder
from farm.watch import Changes, Picture, drawn, left_s, pictures
from tests.unit.plankit import spec


def text_of(picture: Picture, height: int = 30, now: float | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=140).print(drawn(picture, height, now))
    return out.getvalue()


def test_before_the_first_dispatch_and_after(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    with closing(pictures(paths, ["f3", "sg"])) as found:
        first = next(found)
        assert "nothing queued; no dispatch runs" in text_of(first)
        assert "idle" in text_of(first)
        assert not paths.database.exists(), "looking makes none"
        store = Store(paths.database)
        store.begin_run("lookahead")
        job = store.enqueue(spec())
        assert "1 queued" in text_of(next(found))
        store.lease(job.job_id, "f3", 2)
        store.mark("sg", Mark.DRAINED, "a new fan")
        with controller_lock(paths.lock):
            text = text_of(next(found))
        store.close()
    lines = text.splitlines()
    assert any(line.split() == ["f3", "busy", job.job_id] for line in lines)
    assert any(line.split() == ["sg", "drained", "a", "new", "fan"] for line in lines)
    assert "1 leased; a dispatch runs" in text


def test_what_ended_before_this_run_is_not_shown(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    store = Store(paths.database)
    store.fail(store.enqueue(spec("old")).job_id, Failure.BUILD, "no")
    store.begin_run("lookahead")
    store.fail(store.enqueue(spec("new")).job_id, Failure.BUILD, "no")
    with closing(pictures(paths, [])) as found:
        text = text_of(next(found))
    store.close()
    assert "new-1.0" in text
    assert "old-1.0" not in text


def test_a_long_queue_fits_the_screen(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    store = Store(paths.database)
    jobs = [store.enqueue(spec(f"p{number}")) for number in range(100)]
    store.lease(jobs[70].job_id, "f3", 1)
    with closing(pictures(paths, ["f3"])) as found:
        text = text_of(next(found), height=20)
    store.close()
    assert len(text.splitlines()) <= 20
    assert jobs[70].job_id in text.splitlines()[4], "what is in work comes first"
    assert "99 queued; 87 not shown" in text


def running(make: Callable[[], Store]) -> Job:
    store = make()
    try:
        return store.lease(store.enqueue(spec()).job_id, "f3", 1)
    finally:
        store.close()


def test_time_left(tmp_path: Path) -> None:
    job = running(lambda: Store(tmp_path / "db"))
    assert job.started_at is not None
    usual = {("demo", "cp313"): 100.0}
    assert left_s(job, usual, job.started_at + 30) == 70
    assert left_s(job, usual, job.started_at + 300) == 0
    assert left_s(job, {}, job.started_at) is None
    assert "~1:10" in text_of(Picture((job,), ("f3",), {}, usual=usual), now=job.started_at + 30)


def test_usual_times_come_from_what_went_well(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    store = Store(paths.database)
    job = store.lease(store.enqueue(spec()).job_id, "f3", 1)
    store.built(job.job_id, "w.whl", "ab", "{}")
    with closing(pictures(paths, [])) as found:
        usual = next(found).usual
    store.close()
    assert set(usual) == {("demo", "cp313")}


def test_lines_tell_changes_only(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    store = Store(paths.database)
    job = store.enqueue(spec())
    changes = Changes()
    with closing(pictures(paths, ["f3"])) as found:
        assert changes.lines(next(found)) == [f"{job.job_id} queued"]
        assert changes.lines(next(found)) == []
        store.lease(job.job_id, "f3", 1)
        assert changes.lines(next(found)) == [f"{job.job_id} leased on f3"]
        store.mark("f3", Mark.QUARANTINED, "too hot")
        assert changes.lines(next(found)) == ["f3: quarantined: too hot"]
        store.unmark("f3", *Mark)
        assert changes.lines(next(found)) == ["f3: takes jobs"]
        store.fail(job.job_id, Failure.TIMEOUT, "too long")
        assert changes.lines(next(found)) == [f"{job.job_id} failed (timeout): too long"]
    assert store.job(job.job_id).state is State.FAILED
    store.close()


def test_the_lock_is_seen_without_being_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    with controller_lock(path):
        assert lock_holder(path) is not None
    assert lock_holder(path) is None
