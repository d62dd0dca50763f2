"""The ``farm`` command as a user meets it: one line that names the cause, one that names the fix."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from farm import cli
from farm.cleanroom import CleanRoom
from farm.cli import common, jobs, nodes, wheels
from farm.errors import ExitCode
from farm.nodes import Address, IndexHost, Node
from farm.paths import Paths
from farm.publish import Published, Publisher
from farm.store import Failure, Mark, State, Store, controller_lock
from tests.unit.plankit import spec
from tests.unit.verify.wheelkit import EM_X86_64, MODULE, NATIVE, make_elf, write_wheel


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
    job = store.lease(spec().job_id, "f3", 4)
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


def test_publishing_beside_a_dispatch_is_told_of_it(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "read_fleet", lambda _path: FLEET)
    with controller_lock(farm.paths.lock):
        outcome = farm("publish", write_wheel(farm.directory))
    assert outcome.code == ExitCode.BUSY
    assert is_one_line_and_fix(outcome)


def left_over(folder: Path) -> Path:
    files = {"left/x.pyc": b"", MODULE: make_elf()}
    return write_wheel(folder, NATIVE.replace("demo", "left"), files)


def test_publish_says_why_a_wheel_is_not_published(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "read_fleet", lambda _path: FLEET)
    good = write_wheel(farm.directory)
    bad = write_wheel(
        farm.directory, NATIVE.replace("demo", "left"), files={"left/x.pyc": b"", MODULE: make_elf()}
    )
    outcome = farm("publish", good, bad, "--recipes", farm.directory)
    assert outcome.code == ExitCode.FAILED
    assert f"error: {bad.name}: content: left/x.pyc" in outcome.err
    assert "nothing is published: 1 of 2 wheels did not pass" in outcome.err
    assert not farm.paths.tree.exists()


def test_publish_follows_the_recipe(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (common, wheels):
        monkeypatch.setattr(module, "read_fleet", lambda _path: FLEET)
    done: list[str] = []

    def published(_self: Publisher, files: list[Path]) -> Published:
        done.extend(file.name for file in files)
        return Published(tuple(done), 1, len(done))

    monkeypatch.setattr(Publisher, "publish", published)
    (farm.directory / "left.yml").write_text("keep_files: {'left/x.pyc': its source is lost}\n")
    wheel = write_wheel(
        farm.directory, NATIVE.replace("demo", "left"), files={"left/x.pyc": b"", MODULE: make_elf()}
    )
    outcome = farm("publish", wheel, "--recipes", farm.directory)
    assert (outcome.code, outcome.err) == (ExitCode.OK, "")
    assert done == [wheel.name]
    assert "1 files read back" in outcome.out


@pytest.mark.parametrize("command", [("dispatch",), ("publish", "x.whl")], ids=" ".join)
def test_without_a_clean_room_it_says_how_to_make_one_or_do_without(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    class WithRoom(FLEET):
        @staticmethod
        def require_index() -> IndexHost:
            return replace(FLEET.require_index(), clean_room=True)

    nowhere = CleanRoom(farm.directory / "room/userland", farm.directory / "room/work")
    monkeypatch.setattr(CleanRoom, "at", lambda: nowhere)
    for module in (jobs, wheels):
        monkeypatch.setattr(module, "read_fleet", lambda _path: WithRoom)
    outcome = farm(*command)
    assert outcome.code == ExitCode.NODE
    assert is_one_line_and_fix(outcome), outcome.err
    assert f"no clean room in {farm.directory}/room" in outcome.err
    assert "ansible-playbook playbooks/controller.yml" in outcome.err
    assert "farm_clean_room: false" in outcome.err
    assert not farm.paths.database.exists(), "nothing was queued"


def test_a_second_dispatch_joins_the_queue_of_the_first(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "read_fleet", lambda _path: FLEET)
    name = with_jobs(farm.paths)
    store = Store(farm.paths.database)
    store.retry(name)
    store.close()

    def first() -> None:
        own = Store(farm.paths.database)
        for job in own.jobs(ended=False):
            own.fail(job.job_id, Failure.BUILD, "no compiler")
        own.close()

    with controller_lock(farm.paths.lock):
        ends = threading.Timer(0.3, first)
        ends.start()
        outcome = farm("dispatch")
        ends.join()
    assert outcome.code == ExitCode.FAILED
    assert f"pid {os.getpid()}) holds" in outcome.out
    assert "it takes these jobs, too" in outcome.out
    assert outcome.out.count("failed (build)") >= 3


def test_drain_and_resume(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "read_fleet", lambda _path: FLEET)
    assert farm("drain", "f3", "--reason", "new fan").out == "f3: drained; builds nothing now\n"
    store = Store(farm.paths.database)
    assert store.marks()["f3"][Mark.DRAINED].reason == "new fan"
    assert farm("resume", "f3").out == "f3: takes jobs again\n"
    assert store.marks() == {}
    store.close()
    outcome = farm("drain", "nosuch")
    assert outcome.code == ExitCode.INPUT
    assert "the inventory has: f3" in outcome.err


def test_cancel_and_retry(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "read_fleet", lambda _path: FLEET)
    name = with_jobs(farm.paths)
    assert "queued again" in farm("retry", name).out
    assert farm("retry", name).code == ExitCode.INPUT
    assert farm("cancel", name).out == f"{name}: cancelled before it ran\n"
    outcome = farm("cancel", name)
    assert outcome.code == ExitCode.INPUT
    assert is_one_line_and_fix(outcome)


def test_gantt_of_the_last_run(farm: Farm) -> None:
    outcome = farm("status", "--gantt")
    assert outcome.code == ExitCode.INPUT
    assert is_one_line_and_fix(outcome)
    store = Store(farm.paths.database)
    number = store.begin_run("lookahead")
    store.note_nodes(number, {"f3": {"cores": 8, "memory_bytes": 16 << 30, "speed": 1.0}})
    store.enqueue(spec())
    store.lease(spec().job_id, "f3", 4)
    store.built(spec().job_id, "demo.whl", "cd" * 32, json.dumps({"duration_s": 0.1}))
    store.close()
    outcome = farm("status", "--gantt")
    assert "\n8 cores" in outcome.out
    assert "placed by lookahead" in outcome.out
    (span,) = json.loads(farm("status", "--gantt", "--json").out)["spans"]
    assert (span["node"], span["width"], span["lost"]) == ("f3", 4, False)


@pytest.mark.skipif("COLUMNS" in os.environ, reason="then the user said how wide")
def test_a_pipe_has_each_job_in_one_line(farm: Farm) -> None:
    store, remark = Store(farm.paths.database), "no compiler " * 5
    long = spec("opentelemetry-instrumentation-system-metrics-native-collector")
    store.enqueue(long)
    name = store.lease(long.job_id, "f3", 4).job_id
    store.fail(name, Failure.BUILD, remark)
    store.close()
    (line,) = (line for line in farm("status").out.splitlines() if name in line)
    assert line.rstrip().endswith(remark.strip())


class FLEET:
    builders = (Node(Address("f3", "127.0.0.1", 9, "nobody", Path("/key"), Path("/hosts")), 1, "/node"),)

    @staticmethod
    def require_index() -> IndexHost:
        return IndexHost(FLEET.builders[0].address, "/nosuch", "http://127.0.0.1:9", clean_room=False)
