"""How a board's speed is computed from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.node import calibrate


def test_the_file_is_the_same_each_time_and_its_functions_differ() -> None:
    assert calibrate.source() == calibrate.source()
    bodies = calibrate.source(30).split("__attribute__((noinline)) ")[1:]
    assert len(bodies) == len(set(bodies)) == 30


def test_the_best_of_three_counts_and_then_all_cores_at_once() -> None:
    times = {1: iter([2.5, 2.0, 2.2]), 4: iter([2.5])}
    assert calibrate.measure(lambda copies: next(times[copies]), 4) == (2.0, 2.5)
    assert [next(left, None) for left in times.values()] == [None, None]


def test_a_very_slow_board_is_measured_once() -> None:
    asked: list[int] = []

    def slow(copies: int) -> float:
        asked.append(copies)
        return calibrate.ENOUGH_S + 1

    calibrate.measure(slow, 2)
    assert asked == [1, 2]


def test_one_core_alone_has_nothing_to_share() -> None:
    assert calibrate.measure(lambda _copies: 3.0, 1) == (3.0, 3.0)


def test_the_reference_core_has_speed_one() -> None:
    rating = calibrate.rating(calibrate.REFERENCE_S, calibrate.REFERENCE_S * 1.25, 8)
    assert (rating["speed"], rating["cores"], rating["parallel_efficiency"]) == (1.0, 8, 0.8)


@given(st.floats(0.05, 500), st.floats(0.05, 500))
def test_twice_the_time_is_half_the_speed_and_efficiency_stays_within_one(
    single: float, together: float
) -> None:
    rating, half = calibrate.rating(single, together, 2), calibrate.rating(2 * single, 2 * together, 2)
    assert float(str(half["speed"])) == pytest.approx(float(str(rating["speed"])) / 2, abs=0.001)
    assert 0 <= float(str(rating["parallel_efficiency"])) <= 1


def test_what_is_known_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "fingerprint", lambda: "gcc 14")
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    known = tmp_path / "calibration.json"
    known.write_text(json.dumps({"speed": 1.1, "cores": 2, "toolchain": "gcc 14"}))
    # A unit test can't start a compiler: measuring would fail.
    assert calibrate.calibrate(known) == {
        "speed": 1.1,
        "cores": 2,
        "toolchain": "gcc 14",
        "measured": False,
    }
