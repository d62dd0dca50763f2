"""How boards were used: spans of a timeline and shares of days."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.schedule.widths import Widths
from farm.site.boards import DAY_S, LEAST_WIDTH, boards_page
from farm.site.farm_model import BoardView
from farm.site.history import History
from farm.store import Attempt, Failure

NOON = 20_000 * DAY_S + DAY_S // 2


def attempt(number: int, began: float, ended: float | None, failure: Failure | None = None) -> Attempt:
    return Attempt("demo-1", number, "demo", "cp313", "f3", Widths(4), began, ended, failure, {})


def board(*attempts: Attempt) -> BoardView:
    (found,) = boards_page(History(attempts=attempts), (), None).boards
    return found


def test_time_that_overlaps_counts_once() -> None:
    seen = board(attempt(1, NOON, NOON + 3600), attempt(2, NOON + 1800, NOON + 5400, Failure.BUILD))
    assert [use.share for use in seen.days][-1] == pytest.approx(5400 / DAY_S, abs=1e-4)
    assert (seen.days[-1].builds, seen.days[-1].failures) == (2, 1)
    assert (seen.done, seen.failed, seen.lanes) == (1, 1, 2)
    assert [span.outcome for span in seen.spans] == ["done", "build"]


def test_what_runs_over_midnight_is_of_both_days() -> None:
    midnight = 20_000 * DAY_S
    seen = board(attempt(1, midnight - 3600, midnight + 7200))
    assert [round(use.share * 24) for use in seen.days][-2:] == [1, 2]
    assert [use.builds for use in seen.days][-2:] == [1, 0]


def test_what_runs_ends_where_knowledge_ends() -> None:
    seen = board(attempt(1, NOON, None), attempt(2, NOON, NOON + 864))
    assert [span.outcome for span in seen.spans] == ["running", "done"]
    assert seen.days[-1].share == pytest.approx(0.01)


def test_only_the_last_days_are_drawn_and_all_are_counted() -> None:
    seen = board(attempt(1, NOON - 30 * DAY_S, NOON - 30 * DAY_S + 60), attempt(2, NOON, NOON + 60))
    assert (seen.done, len(seen.spans)) == (2, 1)


TIMES = st.lists(st.tuples(st.integers(0, 9 * DAY_S), st.integers(1, 2 * DAY_S)), min_size=1, max_size=20)


@given(TIMES)
def test_everything_stays_within_its_window(times: list[tuple[int, int]]) -> None:
    seen = board(*(attempt(n, NOON + at, NOON + at + took) for n, (at, took) in enumerate(times)))
    assert len(seen.days) == 7
    assert all(0 <= use.share <= 1 for use in seen.days)
    assert all(0 <= span.left <= 1 for span in seen.spans)
    assert all(span.left + span.width <= 1.01 for span in seen.spans)
    for lane in range(seen.lanes):
        mine = sorted((span.left, span.width) for span in seen.spans if span.lane == lane)
        # A short one is drawn wider than it was.
        assert all(left + width <= next_ + LEAST_WIDTH + 1e-4 for (left, width), (next_, _) in pairwise(mine))
