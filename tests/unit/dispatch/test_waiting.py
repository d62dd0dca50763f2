"""The queue as placing sees it: who waits for whom, whatever order things happen in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.dispatch.experience import Experience
from farm.dispatch.ledger import Ledger
from farm.dispatch.sources import Source
from farm.dispatch.waiting import Waiting
from farm.plan import JobSpec
from farm.recipe import Recipe
from farm.requires import OrderedJob
from farm.store import Failure, Job, State, Store
from tests.unit.plankit import spec

BASE, UPPER, OTHER = spec("base"), spec("upper", recipe=Recipe(needs=["base"])), spec("other")


class Queue:
    """A queue of jobs whose sdists arrive when a test says so."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(Path(":memory:"))
        self.ledger = Ledger(self.store)
        self.waiting = Waiting(self.ledger, Experience(self.store, 1.0))
        self.sdist = directory / "demo.tar.gz"
        self.sdist.write_bytes(b"no archive")

    def arrive(self, *specs: JobSpec) -> None:
        for one in specs:
            self.took(self.store.enqueue(one))
            self.waiting.arrived(one.job_id, Source(self.sdist, OrderedJob.of(one, self.sdist)))

    def took(self, job: Job) -> None:
        self.ledger.took(job)
        self.waiting.changed(job)

    def publish(self, one: JobSpec) -> None:
        self.took(self.store.lease(one.job_id, "f3", 1))
        self.took(self.store.advance(one.job_id, State.PUBLISHED))

    def after(self, one: JobSpec) -> frozenset[str]:
        (found,) = [job for job in self.waiting.candidates() if job.job_id == one.job_id]
        return found.after


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path)
    yield queue
    queue.store.close()


def test_a_job_waits_until_what_it_needs_is_published(queue: Queue) -> None:
    queue.arrive(BASE, UPPER)
    assert queue.after(UPPER) == {BASE.job_id}
    assert queue.waiting.waiting_for(BASE.job_id) == [UPPER.job_id]
    queue.publish(BASE)
    assert queue.after(UPPER) == frozenset()


def test_it_is_free_too_when_another_sdist_arrived_just_before(queue: Queue) -> None:
    queue.arrive(BASE, UPPER)
    assert queue.after(UPPER) == {BASE.job_id}
    queue.arrive(OTHER)
    queue.publish(BASE)
    assert queue.after(UPPER) == frozenset(), "or it would wait for ever"


def test_it_waits_too_for_what_arrives_later(queue: Queue) -> None:
    queue.arrive(UPPER)
    assert queue.after(UPPER) == frozenset()
    queue.arrive(BASE)
    assert queue.after(UPPER) == {BASE.job_id}


def test_f21_what_is_queued_again_is_waited_for_again(queue: Queue) -> None:
    queue.arrive(BASE, UPPER)
    queue.took(queue.store.lease(BASE.job_id, "f3", 1))
    queue.took(queue.store.fail(BASE.job_id, Failure.BUILD, "cc1: bad magic"))
    queue.took(queue.store.fail(UPPER.job_id, Failure.DEPENDENCY, "needs base"))
    queue.took(queue.store.blame_node(BASE.job_id, "f3 is doubted"))
    queue.took(queue.store.retry(UPPER.job_id))
    assert queue.after(UPPER) == {BASE.job_id}


def test_a_circle_is_found_once_and_gone_with_one_of_its_jobs(queue: Queue) -> None:
    back = spec("base", recipe=Recipe(needs=["upper"]))
    queue.arrive(back, UPPER)
    found = queue.waiting.cycle()
    assert found is not None
    job_id, error = found
    assert error.path[0] == error.path[-1]
    queue.took(queue.store.fail(job_id, Failure.DEPENDENCY, error.message))
    assert queue.waiting.cycle() is None
    queue.took(queue.store.retry(job_id))
    assert queue.waiting.cycle() is not None, "it is one again"


def test_nothing_is_concluded_anew_without_need(queue: Queue) -> None:
    queue.arrive(BASE, OTHER)
    before = queue.waiting.candidates()
    queue.took(queue.store.lease(OTHER.job_id, "f3", 1))
    (now,) = queue.waiting.candidates()
    assert any(now is job for job in before), "policies cache by the object"
