"""What is learnt from an attempt."""

from __future__ import annotations

import pytest

from farm.dispatch.experience import observation
from farm.schedule.widths import Widths
from farm.store import Attempt


@pytest.mark.parametrize(
    ("result", "peak"),
    [
        ({"peak_memory_bytes": 1000, "peak_of_tree": True}, 1000),
        # The largest process is one task of four.
        ({"peak_memory_bytes": 1000, "peak_of_tree": False}, 4000),
        ({"peak_memory_bytes": 1000}, 4000),
        ({"peak_memory_bytes": None}, None),
        ({}, None),
    ],
)
def test_f25_a_peak_is_of_all_tasks_together(result: dict[str, object], peak: int | None) -> None:
    attempt = Attempt(
        "a-1.0-cp313", 1, "a", "cp313", "f3", Widths(4), 0.0, 9.0, None, {"duration_s": 9.0, **result}
    )
    assert observation(attempt).peak_memory_bytes == peak
