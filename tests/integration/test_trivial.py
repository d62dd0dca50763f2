"""The benchmark of trivial jobs runs; its figures are for a machine that has nothing else to do."""

from __future__ import annotations

import pytest

from bench.trivial import measure

pytestmark = pytest.mark.integration


def test_it_measures() -> None:
    figures = measure(3)
    assert figures["jobs"] == 3
    for name in ("life_ms", "control_master_ms", "life_to_control_master"):
        assert float(str(figures[name])) > 0
