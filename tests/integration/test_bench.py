"""The benchmark of the dispatcher, with tiny numbers: it runs, and its figures have their names."""

from __future__ import annotations

import json

import pytest

from bench import dispatch

pytestmark = pytest.mark.integration


def test_the_figures_have_their_names() -> None:
    figures = dispatch.measure(lives=5, jobs=4, kills=1, count=4, seconds=1.0)
    assert json.loads(json.dumps(figures)) == figures
    assert isinstance(figures["overhead_vs_controlmaster"], float)
    assert figures["overhead_vs_parallel"] or figures["overhead_vs_parallel_reason"]
    storm, held = figures["chaos"], figures["connections"]
    assert isinstance(storm, dict)
    assert isinstance(held, dict)
    assert storm["faults"] == []
    assert {"jobs", "kills", "lost", "duplicated", "incomplete_logs", "seconds"} <= storm.keys()
    assert held["held"] == 4
    assert {"held", "rss_mib", "cpu_share", "lag_s", "lag_p99_s"} <= held.keys()
    assert len(dispatch.tables(figures)) == 3
