"""The ``farm`` command as a user meets it: one line that names the cause, one that names the fix."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from farm import cli
from farm.errors import ExitCode
from farm.paths import Paths
from farm.store import Failure, State, Store, controller_lock
from tests.unit.plankit import spec
from tests.unit.verify.wheelkit import EM_X86_64, MODULE, make_elf, write_wheel


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Farm:
    monkeypatch.setenv("FARM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", "/usr/bin")
    return Farm(monkeypatch, capsys, tmp_path)


@dataclass
class Farm:
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    directory: Path

    def __call__(self, *arguments: object) -> Outcome:
        self.monkeypatch.setattr(sys, "argv", ["farm", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err
        code = caught.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err)

    @property
    def paths(self) -> Paths:
        return Paths(self.directory / "state")


def is_one_line_and_fix(outcome: Outcome) -> bool:
    lines = outcome.err.splitlines()
    return len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("  fix: ")


def test_verify_a_good_wheel(farm: Farm) -> None:
    outcome = farm("verify", write_wheel(farm.directory))
    assert (outcome.code, outcome.err) == (ExitCode.OK, "")
    assert "pass" in outcome.out


def test_f05_verify_a_wheel_for_another_machine(farm: Farm) -> None:
    elf = make_elf(None, machine=EM_X86_64)
    outcome = farm("verify", write_wheel(farm.directory, files={MODULE: elf}))
    assert outcome.code == ExitCode.FAILED
    assert "FAIL" in outcome.out
    assert MODULE in outcome.err


def test_verify_a_truncated_wheel(farm: Farm) -> None:
    wheel = write_wheel(farm.directory)
    wheel.write_bytes(wheel.read_bytes()[:-30])
    outcome = farm("verify", wheel)
    assert outcome.code == ExitCode.FAILED
    assert outcome.err.startswith("error: ")


def test_verify_an_absent_wheel(farm: Farm) -> None:
    outcome = farm("verify", farm.directory / "demo-1.0-cp313-cp313-manylinux_2_39_riscv64.whl")
    assert outcome.code in {ExitCode.FAILED, ExitCode.INPUT}
    assert outcome.err.startswith("error: ")


def test_verify_json_is_json(farm: Farm) -> None:
    outcome = farm("verify", "--json", write_wheel(farm.directory))
    assert outcome.code == ExitCode.OK
    assert isinstance(json.loads(outcome.out), list)


def test_status_of_an_empty_farm(farm: Farm) -> None:
    outcome = farm("status")
    assert (outcome.code, outcome.err) == (ExitCode.OK, "")
    assert "farm dispatch NAME" in outcome.out
    assert json.loads(farm("status", "--json").out) == []
    assert not farm.paths.state.exists(), "looking changes nothing"


def with_jobs(paths: Paths) -> str:
    store = Store(paths.database)
    for name in ("demo", "demon", "other"):
        store.enqueue(spec(name))
    job = store.lease(spec().job_id, "f3")
    store.fail(job.job_id, Failure.BUILD, "no compiler")
    store.close()
    paths.log(job.attempt_id).parent.mkdir(parents=True)
    paths.log(job.attempt_id).write_bytes(b"[red]caf\xe9\nerror: no compiler\n")
    return job.job_id


def test_status_and_logs(farm: Farm) -> None:
    name = with_jobs(farm.paths)
    outcome = farm("status")
    assert "2 queued, 1 failed" in outcome.out
    jobs = {item["job"]: item for item in json.loads(farm("status", "--json").out)}
    assert (jobs[name]["state"], jobs[name]["failure"]) == (State.FAILED, Failure.BUILD)
    assert farm("logs", name).out == "[red]caf\ufffd\nerror: no compiler\n"
    assert farm("logs", "demo-").out.endswith("no compiler\n")


@pytest.mark.parametrize("jobs", [False, True])
def test_logs_of_no_such_job(farm: Farm, jobs: bool) -> None:
    if jobs:
        with_jobs(farm.paths)
    outcome = farm("logs", "nosuch")
    assert outcome.code == ExitCode.INPUT
    assert is_one_line_and_fix(outcome)
    assert "nosuch: no such job" in outcome.err


@pytest.mark.parametrize(
    ("name", "what"), [("dem", "2 jobs begin so"), ("other", "no log yet, it is queued")]
)
def test_logs_that_can_not_be_shown(farm: Farm, name: str, what: str) -> None:
    with_jobs(farm.paths)
    outcome = farm("logs", name)
    assert outcome.code == ExitCode.INPUT
    assert is_one_line_and_fix(outcome)
    assert what in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan",),
        ("plan", "a b"),
        ("plan", "demo[x]"),
        ("plan", "--python", "3.13.7", "demo"),
        ("plan", "-r", "/nosuch/file"),
        ("nodes", "-i", "/nosuch/inventory"),
        ("dispatch", "-i", "/nosuch/inventory", "demo"),
        ("publish", "-i", "/nosuch/inventory", "x.whl"),
        ("index", "build", "/nosuch"),
    ],
    ids=" ".join,
)
def test_wrong_input_is_one_line_and_a_fix(farm: Farm, arguments: tuple[str, ...]) -> None:
    outcome = farm(*arguments)
    assert outcome.code == ExitCode.INPUT
    assert is_one_line_and_fix(outcome), outcome.err


@pytest.mark.parametrize(
    "arguments", [("nosuch",), ("logs",), ("verify",), ("plan", "--nosuch")], ids=" ".join
)
def test_a_wrong_command_line_is_click_s_own_code(farm: Farm, arguments: tuple[str, ...]) -> None:
    assert farm(*arguments).code == ExitCode.USAGE


def test_a_second_controller_is_told_of_the_first(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "read_fleet", lambda _path: FLEET)
    with controller_lock(farm.paths.lock):
        outcome = farm("dispatch")
    assert outcome.code == ExitCode.BUSY
    assert is_one_line_and_fix(outcome)


class FLEET:
    builders = ()

    @staticmethod
    def require_index() -> None:
        return
