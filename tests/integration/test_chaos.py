"""Forty builds while controllers, links, sshds and agents are killed; the large storm is bench.chaos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.chaoskit import Storm, storm_over

pytestmark = pytest.mark.integration


def test_f10_f22_in_a_storm_nothing_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    outcome = storm_over(tmp_path, Storm(jobs=40, kills=12))
    assert outcome.faults == []
    assert outcome.kills == 12
    assert outcome.again == 0, "every build was taken up again, none was begun anew"
