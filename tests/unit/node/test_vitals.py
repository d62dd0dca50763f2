from __future__ import annotations

import os
from pathlib import Path

import pytest

from farm.node import vitals
from farm.node.vitals import Vitals, fingerprint


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "gcc").write_text("gcc 14.2")
    monkeypatch.setattr(vitals, "PROGRAMS", (f"{tmp_path}/gcc", f"{tmp_path}/rustc"))
    python = tmp_path / "environments/cp313/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("python")
    return tmp_path


def test_f20_a_changed_toolchain_has_another_fingerprint(programs: Path) -> None:
    environments = programs / "environments"
    first = fingerprint(environments)
    assert fingerprint(environments) == first
    seen = {first}
    os.utime(programs / "gcc", (1, 1))
    seen.add(fingerprint(environments))
    (programs / "rustc").write_text("rustc")
    seen.add(fingerprint(environments))
    (environments / "cp313/bin/python").unlink()
    seen.add(fingerprint(environments))
    assert len(seen) == 4


def test_they_are_read_once_a_second_but_the_clock(programs: Path) -> None:
    reader = Vitals(programs, programs / "environments")
    first = reader.read()
    (programs / "gcc").unlink()
    second = reader.read()
    assert second["toolchain"] == first["toolchain"]
    assert float(str(second["clock"])) > float(str(first["clock"]))
    assert int(str(first["memory_available_bytes"])) > 0
    assert int(str(first["disk_free_bytes"])) > 0
