"""What is said of a unit from its record, and of a board that can't have units."""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path

import pytest

from farm.node import unit
from farm.node.unit import Limits, Phase, Status, Usage


def record(tmp_path: Path, text: str) -> Status:
    path = tmp_path / "ended"
    path.write_text(text)
    return unit.read_record(path)


def test_f25_a_supervisor_killed_for_memory_is_of_class_memory(tmp_path: Path) -> None:
    ended = record(tmp_path, "result signal\nstatus KILL\nmemory_peak 1024\noom_kill 2\nmax 7\n")
    assert ended == Status(Phase.ENDED, "signal", "KILL", Usage(1024, 2, 7))
    assert ended.failure == "memory"


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("result oom-kill\nstatus KILL\n", "memory"),
        ("result timeout\nstatus TERM\noom_kill 0\n", "timeout"),
        # It ran out of time after a compiler was killed: more time is what it asks for.
        ("result timeout\nstatus KILL\noom_kill 1\n", "timeout"),
        ("result exit-code\nstatus 3\noom_kill 0\n", "node"),
        ("result signal\nstatus KILL\nmemory_peak \noom_kill 0\n", "node"),
        # Ended well, and yet no result was found: not the build's fault.
        ("result success\nstatus 0\noom_kill 1\n", "node"),
        ("", "node"),
        ("half a reco", "node"),
    ],
)
def test_f30_each_end_without_a_result_has_a_class(tmp_path: Path, text: str, failure: str) -> None:
    assert record(tmp_path, text).failure == failure


def test_no_record_is_lost_and_a_running_unit_has_not_failed(tmp_path: Path) -> None:
    assert unit.read_record(tmp_path / "none") == Status(Phase.LOST)
    assert Status(Phase.RUNNING).failure == ""


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a", "a;b", "a/b", "a@b", "x" * 300])
def test_a_name_that_systemd_would_read_otherwise_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(unit.UnitError, match="not a unit's name"):
        unit.start(name, ["true"], log=tmp_path, cwd=tmp_path, record=tmp_path / "none", limits=Limits())


def test_what_has_a_record_is_not_started_again(tmp_path: Path) -> None:
    (tmp_path / "ended").touch()
    assert not unit.start(
        "a", ["true"], log=tmp_path, cwd=tmp_path, record=tmp_path / "ended", limits=Limits()
    )


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files as a board has them where units can be used."""
    user, uid = getpass.getuser(), os.getuid()
    manager = tmp_path / f"cgroup/user.slice/user-{uid}.slice/user@{uid}.service"
    for folder in (tmp_path / "system", tmp_path / f"run/{uid}/systemd", tmp_path / "linger", manager):
        folder.mkdir(parents=True)
    (tmp_path / f"run/{uid}/systemd/private").touch()
    (tmp_path / f"linger/{user}").touch()
    (manager / "cgroup.controllers").write_text("cpu memory pids\n")
    monkeypatch.setattr(unit, "SYSTEMD", tmp_path / "system")
    monkeypatch.setattr(unit, "RUNTIME", tmp_path / "run")
    monkeypatch.setattr(unit, "LINGER", tmp_path / "linger")
    monkeypatch.setattr(unit, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr("shutil.which", lambda _program: "/usr/bin/systemd-run")
    return tmp_path


def test_units_are_usable_where_all_is_there(board: Path) -> None:
    assert board.is_dir()
    assert unit.usable()


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("system", "systemd does not run this board"),
        ("linger/*", "linger is off"),
        ("run/*/systemd/private", "no systemd manager"),
        ("cgroup/*/*/*/cgroup.controllers", "not delegated to .*: memory, pids"),
    ],
)
def test_what_keeps_builds_from_being_units_is_said(board: Path, missing: str, why: str) -> None:
    for path in board.glob(missing):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    assert not unit.usable()
    assert re.search(why, unit.why_not())


def test_usage_is_read_from_the_own_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").write_text("0::/a/b.service\n")
    group = tmp_path / "a/b.service"
    group.mkdir(parents=True)
    (group / "memory.peak").write_text("4096\n")
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    monkeypatch.setattr(unit, "OWN_CGROUP", str(tmp_path / "own"))
    monkeypatch.setattr(unit, "CGROUPS", tmp_path)
    assert unit.usage() == Usage(4096, 2, 0)
    (tmp_path / "own").write_text("4:memory:/x\n")
    assert unit.usage() == Usage()
