from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.schedule.widths import Widths
from tests.unit.schedule.farms import cost

changes = st.lists(st.tuples(st.floats(0, 1000), st.integers(1, 64)), max_size=4).map(
    lambda found: tuple(sorted(found))
)


def test_a_build_that_was_widened_half_way_is_as_far_as_one_that_ran_both_parts() -> None:
    widths = Widths(2).widened(100.0, 8)
    whole = cost(1000.0, serial=0.2)
    assert (widths.now, str(widths), widths.at(99.0), widths.at(100.0)) == (8, "2 to 8", 2, 8)
    assert widths.mean(200.0) == pytest.approx(5.0)
    # 100 s of the 600 s that it takes with 2 tasks, and 100 s of 300 s with 8: half of it all.
    assert widths.as_if(200.0, whole) == pytest.approx(0.5 * whole.seconds(8, 1.0))


@given(st.integers(1, 64), changes, st.floats(0, 2000), st.floats(0, 0.9))
def test_progress_is_between_that_of_the_least_and_of_the_largest_width(
    first: int, changed: tuple[tuple[float, int], ...], elapsed_s: float, serial: float
) -> None:
    widths, estimate = Widths(first, changed), cost(3600.0, serial=serial)
    seen = [first, *(width for _, width in changed)]
    done = widths.as_if(elapsed_s, estimate) / estimate.seconds(widths.now, 1.0)
    least, most = (elapsed_s / estimate.seconds(width, 1.0) for width in (min(seen), max(seen)))
    assert least * (1 - 1e-9) <= done <= most * (1 + 1e-9) + 1e-12
    assert min(seen) * (1 - 1e-9) <= widths.mean(elapsed_s) <= max(seen) * (1 + 1e-9)
