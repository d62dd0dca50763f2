"""Calibration with the compiler of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farm.node import calibrate
from tests.integration.nodekit import FARM_NODE

pytestmark = pytest.mark.integration


def test_a_real_compiler_is_measured_and_its_speed_is_plausible(tmp_path: Path) -> None:
    result = calibrate.calibrate(tmp_path / "none")
    assert result["measured"]
    # From an emulated core to one of the next decade.
    assert 0.01 < float(str(result["speed"])) < 100
    assert 0.1 < float(str(result["parallel_efficiency"])) <= 1
    assert result["cores"] == len(os.sched_getaffinity(0))
    assert "gcc" in str(result["toolchain"])


def test_more_work_takes_longer(tmp_path: Path) -> None:
    times = []
    for functions in (10, 60):
        path = tmp_path / f"{functions}.c"
        path.write_text(calibrate.source(functions))
        times.append(calibrate.compiled_s(path, 1))
    assert times[1] > 2 * times[0]


def test_the_whole_file_compiles_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "unit.c"
    path.write_text(calibrate.source())
    assert calibrate.compiled_s(path, 1, ("gcc", "-O1", "-Wall", "-Werror")) > 0


def test_a_compiler_that_fails_is_an_error_and_not_a_fast_board(tmp_path: Path) -> None:
    path = tmp_path / "unit.c"
    path.write_text("no C at all")
    with pytest.raises(subprocess.CalledProcessError):
        calibrate.compiled_s(path, 1)


def test_the_command_prints_what_the_role_keeps() -> None:
    command = [sys.executable, "-P", str(FARM_NODE), "health"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert set(answer) == {"units", "calibrated", "sandbox"}
