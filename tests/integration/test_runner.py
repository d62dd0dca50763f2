"""The real farm-node, started as a process, on this machine."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import textwrap
import zipfile
import zlib
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from farm.node import VERSION
from farm.node.attempt import prepared
from farm.node.files import sha256_of, write_json
from farm.node.process import identity, start_time
from tests.integration.nodekit import (
    BACKEND,
    PYPROJECT,
    REPAIRED,
    Board,
    gated,
    gone,
    make_sdist,
    make_tar,
    sleeping,
    until,
)

pytestmark = pytest.mark.integration


def test_probe_names_the_environments(board: Board) -> None:
    facts = json.loads(subprocess.run(board.command("probe"), check=True, capture_output=True).stdout)
    assert facts["pythons"] == ["cp313"]
    assert facts["runner_version"] == VERSION
    assert isinstance(facts["apt_packages"], list)


def test_f13_a_build_and_what_its_log_states(board: Board) -> None:
    sdist = make_sdist()
    result = board.build(sdist, build_constraints=["setuptools<82"])
    assert (result["failure"], result["message"]) == (None, "")
    assert [file["filename"] for file in result["wheels"]] == [REPAIRED, "demo.1.record.json"]
    kept = board.root / "jobs" / "demo.1" / "wheelhouse" / REPAIRED
    assert sha256_of(kept) == result["wheels"][0]["sha256"]
    assert result["wheels"][0]["size"] == kept.stat().st_size
    assert set(result["phases_s"]) == {"describe", "unpack", "environment", "build", "repair", "record"}
    assert {"gcc", "gcc_march", "isa", "hostname"} <= set(result["toolchain"])
    log = board.log()
    assert "recipe 4ec1be constraints ['setuptools<82']" in log
    assert f"sdist demo-1.0.tar.gz sha256 {hashlib.sha256(sdist).hexdigest()}" in log

    assert "compiling demo" in log
    assert "finished: ok" in log
    assert not (board.root / "jobs" / "demo.1" / "work").exists()


def _sdist(board: Board) -> Path:
    (path,) = (board.root / "incoming").glob("*/demo-1.0.tar.gz")
    return path


def test_f13_constraints_and_environment_reach_the_build(board: Board) -> None:
    backend = BACKEND.replace(
        'print("compiling demo")',
        'import os\n    print(open(os.environ["PIP_CONSTRAINT"]).read(), os.environ["CFLAGS"],'
        ' os.environ["MAKEFLAGS"], os.environ["PIP_BUILD_CONSTRAINT"] == os.environ["PIP_CONSTRAINT"])',
    )
    board.build(make_sdist(backend), build_constraints=["setuptools<82"], environment={"CFLAGS": "-O1"})
    assert "setuptools<82\n -O1 -j2 True" in board.log()


def test_f10_start_is_idempotent_and_detached(board: Board, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    sdist = make_sdist(gated(gate))
    attempt = board.bring(sdist)
    assert board.start(attempt)  # and the process that started it has ended
    assert not board.start(attempt)
    until(Path(f"{gate}.waiting").exists, "the build to begin")
    assert board.state() == "running"
    pid = board.supervisor()
    assert os.getsid(pid) == pid != os.getsid(0), "a session of its own: no hangup reaches it"
    assert "still runs" in board.ask("forget", attempt=attempt)["error"]
    gate.touch()
    assert board.finished()["failure"] is None
    assert board.log().count("gate open") == 1
    assert not board.start(attempt), "nor is a finished one built again"


def test_f10_many_starts_at_once_build_once(board: Board) -> None:
    attempt = board.bring(make_sdist())
    with ExitStack() as stack:
        talks = [stack.enter_context(board.session()) for _ in range(4)]
        for talk in talks:
            talk.ask("hello")
        for talk in talks:
            talk.send("start", attempt=attempt, spec=board.specs[attempt])
        assert sum(talk.receive()["started"] for talk in talks) == 1
    assert board.finished()["failure"] is None
    assert board.log().count("compiling demo") == 1


def test_f22_the_result_stays_until_it_is_forgotten(board: Board) -> None:
    result = board.build(make_sdist())
    assert board.finished() == result
    assert board.state() == "finished"
    board.ask("forget", attempt="demo.1")
    assert board.state() == ""
    assert board.poll()["state"] == "unknown"
    assert "error" not in board.ask("forget", attempt="demo.1"), "twice does no harm"


def test_f30_the_node_enforces_the_time_limit(board: Board, tmp_path: Path) -> None:
    result = board.build(make_sdist(sleeping(tmp_path / "pids")), time_s=2)
    assert (result["failure"], result["message"]) == ("timeout", "not done after 2 s")
    until(lambda: gone(tmp_path / "pids"), "the whole process group to end")


def test_cancel_ends_the_whole_group(board: Board, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    attempt = board.bring(make_sdist(sleeping(pids)))
    board.start(attempt)
    until(pids.exists, "the build to begin")
    assert board.ask("cancel", attempt=attempt)["state"] == "finished"
    assert gone(pids), "the whole process group has ended"
    assert board.finished()["failure"] == "cancelled"
    assert board.ask("cancel", attempt=attempt)["state"] == "finished", "twice does no harm"
    assert board.ask("cancel", attempt="nosuch.1")["state"] == "unknown"


def test_f10_a_killed_supervisor_is_told_as_lost(board: Board, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    attempt = board.bring(make_sdist(sleeping(pids)))
    board.start(attempt)
    until(pids.exists, "the build to begin")
    os.kill(board.supervisor(), signal.SIGKILL)
    until(lambda: not start_time(board.supervisor()), "the supervisor to end")
    assert board.poll()["state"] == "lost"
    board.ask("forget", attempt=attempt)
    assert gone(pids), "the orphaned build has ended"


def test_a_claim_that_was_cut_off_half_way_is_taken_again(board: Board) -> None:
    job = board.root / "jobs" / "demo.1"
    job.mkdir(parents=True)
    for name in ("spec.json", "log", ".claim.77"):
        (job / name).write_text("{")
    assert board.state() == "unknown"
    assert board.build(make_sdist())["failure"] is None


@pytest.mark.parametrize("torn", ["", "\0\0\0"])
def test_a_claim_that_a_power_cut_tore_is_taken_again(board: Board, torn: str) -> None:
    job = board.root / "jobs" / "demo.1"
    job.mkdir(parents=True)
    (job / "supervisor.json").write_text(torn)
    assert board.state() == "unknown"
    assert board.build(make_sdist())["failure"] is None


def test_a_supervisor_that_something_else_starts_does_the_same(board: Board) -> None:
    attempt = board.run("echo ran")
    prepared(board.root, board.environments, board.root / "jobs" / attempt, board.specs[attempt])
    for _ in range(2):
        subprocess.run(board.command("supervise", attempt), check=True, timeout=60)
    assert board.finished()["failure"] is None
    assert board.log().count("\nran\n") == 1
    refused = subprocess.run(
        board.command("supervise", "../evil"), check=False, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "not an attempt's name" in refused.stderr


def test_a_session_that_ends_in_the_middle_of_a_long_poll_ends(board: Board) -> None:
    board.run("sleep 60")
    assert board.start()
    with board.session() as talk:
        talk.send("poll", offsets={"demo.1": 10_000}, wait_s=60)
    assert board.state() == "running"


@pytest.mark.parametrize(
    "request_",
    [
        "no JSON",
        "[]",
        '{"op": "nosuch"}',
        '{"op": "__init__"}',
        '{"op": "poll"}',
        '{"op": "poll", "offsets": {"demo.1": -1}}',
        '{"op": "poll", "offsets": {"../a": 0}}',
        '{"op": "poll", "offsets": []}',
        '{"op": "start", "attempt": "a.1", "spec": 3}',
        '{"op": "start", "attempt": "a.1", "spec": {"task": {}, "limits": {"time_s": 1}}}',
        '{"op": "start", "attempt": "a.1", "spec": {"task": {"task": "command", "argv": []}, "limits": {}}}',
        '{"op": "start", "attempt": "a.1", "spec": {"task": {"task": "command", "argv": ["true"]}}}',
        '{"op": "start", "attempt": "a.1", "spec": {"task": {"task": "build", "sdist_sha256": "../../x"}}}',
        '{"op": "read_log", "attempt": "a.1", "offset": "0"}',
    ],
)
def test_a_malformed_request_is_refused_and_the_session_goes_on(board: Board, request_: str) -> None:
    with board.session() as talk:
        assert talk.process.stdin is not None
        assert talk.process.stdout is not None
        talk.process.stdin.write(request_ + "\n")
        talk.process.stdin.flush()
        assert "error" in json.loads(talk.process.stdout.readline())
        assert talk.ask("list")["attempts"] == {}


def test_f20_the_toolchain_is_asked_for_once_until_it_changes(board: Board) -> None:
    assert board.build(make_sdist())["failure"] is None
    with board.session() as talk:
        talk.ask("prepare")
        assert talk.ask("start", attempt="demo.2", spec=board.specs["demo.1"])["started"]
        result = board.finished("demo.2")
    assert result["phases_s"]["describe"] < board.finished()["phases_s"]["describe"] / 2


def test_a_reused_process_id_is_not_the_supervisor(board: Board) -> None:
    job = board.root / "jobs" / "demo.1"
    job.mkdir(parents=True)
    (job / "log").touch()
    write_json(job / "supervisor.json", {**identity(os.getpid()), "start_time": "1"})
    assert board.poll()["state"] == "lost"
    board.ask("cancel", attempt="demo.1")
    assert start_time(os.getpid()), "or it would have ended someone else's process"


def test_f10_polling_by_offset_returns_the_whole_log(board: Board) -> None:
    lines = 3000
    backend = BACKEND.replace(
        'print("compiling demo")', f'print("".join(f"line {{i}} \\u00e9\\n" * 3 for i in range({lines})))'
    )
    assert board.build(make_sdist(backend))["failure"] is None
    whole, offset, polls = b"", 0, 0
    while True:
        (raw,) = board.ask("poll", offsets={"demo.1": offset})["progress"]
        chunk = base64.b64decode(raw["log"])
        assert raw["offset"] == offset + len(chunk)
        whole, offset, polls = whole + chunk, raw["offset"], polls + 1
        if not raw["more"]:
            break
        assert chunk, "more is promised only where there is more"
    assert whole == (board.root / "jobs/demo.1/log").read_bytes()
    assert whole.count(b"line ") == 3 * lines
    assert polls > 1
    assert board.poll(offset=offset)["text"] == ""


def test_a_damaged_sdist_is_the_node_s_failure(board: Board) -> None:
    attempt = board.bring(make_sdist())
    _sdist(board).write_bytes(b"damaged on the way")
    board.start(attempt)
    result = board.finished()
    assert result["failure"] == "node"
    assert "missing or damaged" in result["message"]
    again = board.ask("start", attempt="demo.2", spec=board.specs[attempt])
    assert again["missing"].endswith("/demo-1.0.tar.gz"), "the next attempt gets it anew"


def damaged_stream() -> bytes:
    tar = gzip.decompress(make_sdist(BACKEND + "#" * 80_000))
    packer = zlib.compressobj(wbits=31)
    return packer.compress(tar[: len(tar) // 2]) + packer.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 64


@pytest.mark.parametrize(
    ("sdist", "message"),
    [
        (make_tar({"a-1/x": b"", "b-1/x": b""}), "holds 2 top-level folders"),
        (make_tar({"x": b""}), "holds 0 top-level folders"),
        (make_tar({"demo-1.0/x": b"", "../../evil": b"evil"}), "can't be unpacked"),
        (b"no tar at all", "can't be unpacked"),
        (make_sdist()[:-40], "can't be unpacked"),
        (damaged_stream(), "can't be unpacked"),
    ],
    ids=["two roots", "no root", "traversal", "no tar", "truncated", "damaged deflate stream"],
)
def test_a_wrong_sdist_is_the_source_s_failure(board: Board, sdist: bytes, message: str) -> None:
    result = board.build(sdist)
    assert result["failure"] == "source", result
    assert message in result["message"]
    assert result["wheels"] == []
    assert not list(board.root.rglob("evil"))


def test_a_failing_build_is_a_build_failure_with_its_output(board: Board) -> None:
    backend = "def build_wheel(*_):\n    raise SystemExit('error: no compiler')\n"
    result = board.build(make_sdist(backend))
    assert (result["failure"], result["wheels"]) == ("build", [])
    assert "error: no compiler" in board.log()


def test_a_missing_environment_or_package_is_the_node_s_failure(board: Board) -> None:
    result = board.build(make_sdist(), python="cp312")
    assert result["failure"] == "node"
    assert "farm provision" in result["message"]
    result = board.build(make_sdist(), "demo.2", apt_packages=["no-such-package-dev"])
    assert result["failure"] == "node"
    assert "no-such-package-dev" in result["message"]


@pytest.mark.parametrize("operation", ["start", "cancel", "forget", "read_log"])
@pytest.mark.parametrize("name", ["../evil", ".hidden", "a/b", "", 3, None])
def test_an_attempt_s_name_is_no_path(board: Board, operation: str, name: object) -> None:
    spec = {"task": {"task": "command", "argv": ["true"]}, "limits": {"time_s": 1}}
    answer = board.ask(operation, attempt=name, spec=spec, offset=0)
    assert "not an attempt's name" in answer["error"]


def test_an_environment_whose_lock_is_the_same_is_used_again(board: Board) -> None:
    sdist = make_sdist()
    assert board.build(sdist)["failure"] is None
    assert "/uv venv " in board.log()
    assert board.build(sdist, "demo.2")["failure"] is None
    assert "/uv " not in board.log("demo.2")
    assert "get_requires_for_build_wheel" not in board.log("demo.2")
    assert board.build(sdist, "other.1", project="other")["failure"] is None
    assert "/uv venv " in board.log("other.1"), "another project finds nothing of the first one's"


def _waits(board: Board, attempt: str) -> bool:
    return "waiting" in board.log(attempt)


def test_a_build_has_the_same_path_in_every_attempt_and_two_at_once_have_two(
    board: Board, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    attempts = [board.bring(make_sdist(gated(gate)), name) for name in ("demo.1", "demo.2")]
    for attempt in attempts:
        board.start(attempt)
        until(partial(_waits, board, attempt), f"{attempt} to begin")
    assert {path.name for path in (board.root / "work").glob("[!.]*")} == {"demo-cp313", "demo-cp313.1"}
    gate.touch()
    assert [board.finished(attempt)["failure"] for attempt in attempts] == [None, None]
    assert not list((board.root / "work").glob("[!.]*"))


def test_a_zip_sdist_gives_the_same_epoch_each_time(board: Board) -> None:
    backend = textwrap.dedent(BACKEND).replace(
        'print("compiling demo")', 'import os\n    print("epoch", os.environ["SOURCE_DATE_EPOCH"])'
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in (("pyproject.toml", PYPROJECT), ("backend.py", backend)):
            archive.writestr(zipfile.ZipInfo(f"demo-1.0/{name}", (2023, 11, 14, 22, 13, 20)), text)
    assert board.build(buffer.getvalue(), sdist_filename="demo-1.0.zip")["failure"] is None, board.log()
    assert "epoch 1700000000\n" in board.log()
