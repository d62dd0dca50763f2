"""What is said of attempts that are units: without systemd, which is asked by a stand-in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from farm.node import attempt, unit, units
from farm.node.attempt import RefusedError
from farm.node.process import boot_id, identity
from farm.node.supervise import CANCELLED, Order
from farm.node.unit import Phase, Status, UnitError

GONE = {"pid": 1, "start_time": "0", "boot_id": "of this or another boot"}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    found = tmp_path / "jobs/demo.1"
    found.mkdir(parents=True)
    return found


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What systemd was asked for; it knows of nothing."""
    calls: list[Sequence[str]] = []
    monkeypatch.setattr(unit, "stop", lambda name, *, wait=True: calls.append(("stop", name, wait)))
    monkeypatch.setattr(unit, "state", lambda _name, record: unit.read_record(record))
    units._asked.cache_clear()
    return calls


def make(
    job: Path, *, record: str = "", leader: object = None, boot: str = "", asked_at: float = -1e9
) -> None:
    kept = {"name": "demo.1-0", "boot_id": boot or boot_id(), "asked_at": asked_at}
    (job / units.KEPT).write_text(json.dumps(kept))
    if leader is not None:
        (job / "supervisor.json").write_text(json.dumps(leader))
    if record:
        (job / units.RECORD).write_text(record)


@pytest.mark.parametrize("name", ["demo.1", "a+b.1", "_x.1", "x" * 200, "..."])
def test_each_attempt_has_a_units_name(tmp_path: Path, name: str) -> None:
    mine = units.name_of(tmp_path / "one" / name)
    assert unit.NAME.fullmatch(mine)
    assert mine != units.name_of(tmp_path / "other" / name)


def test_what_was_just_started_runs_without_systemd_being_asked(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(job, asked_at=1000.0)
    monkeypatch.setattr("time.monotonic", lambda: 1001.0)
    assert attempt.state(job)[0] == "running"
    monkeypatch.setattr("time.monotonic", lambda: 1010.0)
    assert attempt.state(job)[0] == "unknown"


def test_a_start_that_was_cut_off_is_made_again_until_it_is_claimed(job: Path) -> None:
    make(job)
    assert attempt.is_startable(job)
    make(job, leader=GONE)
    assert not attempt.is_startable(job)


def test_one_of_an_earlier_boot_is_lost_or_was_never_started(job: Path) -> None:
    make(job, boot="another")
    assert attempt.state(job)[0] == "unknown"
    make(job, boot="another", leader=GONE)
    assert attempt.state(job)[0] == "lost"


def test_what_systemd_can_not_say_is_not_lost_while_there_is_a_manager(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_name: str, _record: Path) -> Status:
        raise UnitError("no answer")

    monkeypatch.setattr(unit, "state", fails)
    make(job, leader=GONE)
    for manager, said in ((True, "running"), (False, "lost")):
        monkeypatch.setattr(unit, "has_manager", lambda manager=manager: manager)
        assert attempt.state(job)[0] == said


@pytest.mark.parametrize(
    ("record", "state", "failure"),
    [
        ("result signal\nstatus KILL\noom_kill 1\n", "finished", "memory"),
        ("result timeout\nstatus KILL\noom_kill 0\n", "finished", "timeout"),
        ("result signal\nstatus KILL\noom_kill 0\n", "lost", None),
        ("result success\nstatus 0\noom_kill 0\n", "lost", None),
    ],
)
@pytest.mark.parametrize("leader", [None, GONE])
def test_f25_f30_the_record_tells_what_ended_it(
    job: Path, record: str, state: str, failure: str | None, leader: object
) -> None:
    make(job, record=record, leader=leader)
    os.utime(job / units.KEPT, (1000, 1000))
    if leader:
        os.utime(job / "supervisor.json", (1000, 1000))
    os.utime(job / units.RECORD, (1090, 1090))
    found, result = attempt.state(job)
    assert (found, result.get("failure")) == (state, failure)
    if result:
        assert (result["started"], result["duration_s"]) == (1000, 90)
        (job / CANCELLED).touch()
        assert attempt.state(job)[1]["failure"] == "cancelled"
    assert not attempt.is_startable(job)


def test_its_own_result_is_taken_before_the_record(job: Path) -> None:
    make(job, record="result timeout\nstatus KILL\n", leader=GONE)
    (job / "result.json").write_text('{"failure": null}')
    assert attempt.state(job) == ("finished", {"failure": None})


def test_while_systemd_ends_what_a_dead_supervisor_left_it_runs(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(job, leader=GONE)
    monkeypatch.setattr(unit, "state", lambda _name, _record: Status(Phase.RUNNING))
    assert attempt.state(job)[0] == "running"


def test_cancel_and_forget_stop_the_unit(
    job: Path, asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(job, leader=identity(os.getpid()))
    assert attempt.cancel(job)
    assert (job / CANCELLED).exists()
    assert asked == [("stop", "demo.1-0", False)]
    with pytest.raises(RefusedError, match="still runs"):
        attempt.doomed(job)
    monkeypatch.setattr("farm.node.attempt.end_all", lambda *_: True)
    make(job, leader=GONE)
    assert attempt.doomed(job)
    assert asked[1:] == [("stop", "demo.1-0", True)]


def test_a_start_that_systemd_refuses_is_told_and_may_be_repeated(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"time_s": 10, "memory_bytes": 1 << 20, "processes": None}
    order = Order(
        job.parents[1], job, job.parents[1], {"task": {"task": "build", "width": 4}, "limits": limits}
    )
    assert units.limits(order) == unit.Limits(
        unit.Bounds(1 << 20, None, 4), 10 + units.OVERTIME_S, units.GRACE_S
    )

    def refuses(_name: str, _argv: Sequence[str], **options: object) -> bool:
        assert "SSH_CLIENT" not in str(options["environment"])
        (job / units.RECORD).write_text("result exit-code\n")
        raise UnitError("no")

    monkeypatch.setattr(unit, "start", refuses)
    monkeypatch.setenv("SSH_CLIENT", "somebody")
    with pytest.raises(OSError, match="no"):
        units.start(order)
    assert attempt.is_startable(job)
