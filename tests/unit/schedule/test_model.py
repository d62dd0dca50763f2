from __future__ import annotations

import dataclasses

import pytest

from farm.schedule import POLICIES, Estimate, FarmState, Needs, RunningJob, unmet
from farm.schedule.bound import Build, lower_bound
from farm.schedule.ledger import loads_of
from tests.unit.schedule.farms import GB, board, cost


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Needs("cp313"), ()),
        (Needs("cp39"), ("no cp39",)),
        (Needs("cp313", features=frozenset({"rust", "fortran", "zvfh"})), ("no fortran, zvfh",)),
        (Needs("cp313", apt_packages=frozenset({"libz", "liba"})), ("missing packages: liba libz",)),
        (Needs("cp313", nodes=frozenset({"sg"})), ("not a node this job may use",)),
        (Needs("cp313", excluded=frozenset({"f3"})), ("not a node this job may use",)),
        (Needs("cp313", memory_bytes=32 * 2**30), ("14.9 GiB of memory, 32.0 needed",)),
        (Needs("cp313", disk_bytes=200 * 2**30), ("93.1 GiB of free disk, 200.0 needed",)),
    ],
)
def test_unmet_says_in_words_what_a_node_lacks(needs: Needs, words: tuple[str, ...]) -> None:
    assert unmet(needs, board("f3")) == words


def test_a_drained_or_busy_node_lacks_nothing() -> None:
    assert not unmet(Needs("cp313"), dataclasses.replace(board("f3"), usable=False, max_jobs=0))


def test_amdahl() -> None:
    assert Estimate(10, 80, GB, 1.0).seconds(8, 2.0) == 10.0


def test_looking_ahead_is_the_default() -> None:
    assert next(iter(POLICIES)) == "lookahead"


def test_work_that_is_next_to_nothing_has_a_bound() -> None:
    for seconds in (0.0, 5e-324, 1e-300):
        builds = [Build("a", cost(seconds), Needs("cp313")), Build("b", cost(0.0), Needs("cp313"))]
        assert lower_bound(builds, [board("x")]) < 1e-6


def test_a_node_whose_memory_is_overbooked_gets_nothing_more() -> None:
    running = [RunningJob("a", "x", 1, 1.0, cost(memory=20 * GB))]
    (load,) = loads_of(FarmState([], running, [board("x")])).values()
    assert load.room(0) == 0
