"""The executor over SSH: the conformance tests over a real sshd, and what only SSH can get wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from farm.errors import LyingNodeError, NodeError
from farm.executor import AttemptState, Build, Executor, Launch, Limits, ssh
from farm.executor.link import Link
from farm.executor.ssh import SshExecutor
from farm.node import VERSION
from farm.node.files import RESERVE_BYTES
from farm.node.process import processes, start_time
from farm.nodes import Address, Node
from farm.plan import JobSpec
from farm.recipe import DEFAULT
from farm.upstream import sha256_of
from tests.integration import controllerkit
from tests.integration.conformance import Conformance
from tests.integration.nodekit import PYTHON, Board, kill_quietly, make_sdist, until
from tests.integration.placekit import shell, started
from tests.integration.proxykit import Proxy
from tests.integration.sshkit import Sshd

pytestmark = pytest.mark.integration


@dataclass
class Loopback:
    """This machine behind a real sshd, with a proxy in between."""

    sshd: Sshd
    proxy: Proxy
    farm_node: Path
    made: list[SshExecutor] = field(default_factory=list)

    @property
    def address(self) -> Address:
        direct = self.sshd.address
        text = direct.known_hosts.read_text()
        known_hosts = self.sshd.directory / "known_hosts_proxy"
        known_hosts.write_text(text.replace(f":{self.sshd.port} ", f":{self.proxy.port} "))
        return replace(direct, port=self.proxy.port, known_hosts=known_hosts)

    @property
    def node(self) -> Node:
        return replace(self.sshd.node, address=self.address)

    @property
    def root(self) -> Path:
        return Path(self.node.root)

    def executor(self) -> SshExecutor:
        self.made.append(SshExecutor(self.node))
        return self.made[-1]

    def controller(self, launch: Launch) -> subprocess.Popen[bytes]:
        return controllerkit.spawn(self.node, str(self.farm_node), launch)

    def cut_link(self) -> None:
        self.proxy.go_silent()

    def agents(self) -> list[int]:
        mine = f"\0--root\0{self.root}\0serve\0".encode()
        found = [pid for pid in processes() if mine in _command_line(pid)]
        board = Board(self.root, self.root)
        forked = {board.supervisor(path.parent.name) for path in self.root.glob("jobs/*/supervisor.json")}
        return [pid for pid in found if pid not in forked]

    def kill_agents(self) -> None:
        for pid in self.agents():
            kill_quietly(pid, signal.SIGKILL)

    def restart_sshd(self) -> None:
        self.sshd.stop()
        self.sshd.start()

    def kill_supervisor(self, attempt_id: str) -> None:
        pid = Board(self.root, self.root).supervisor(attempt_id)
        os.kill(pid, signal.SIGKILL)
        while start_time(pid):
            pass

    def alive(self, pids: Iterable[int]) -> set[int]:
        return {pid for pid in pids if start_time(pid)}

    def folder(self) -> str:
        return str(self.sshd.directory)

    def touch(self, path: str) -> None:
        Path(path).touch()


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def place(sshd: Sshd, farm_node: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    # What a dead link costs; the default is made for boards on the other side of the world.
    monkeypatch.setattr(ssh, "ANSWER_S", 2.0)
    proxy = Proxy(sshd.port)
    loopback = Loopback(sshd, proxy, farm_node)
    yield loopback
    for path in loopback.root.glob("jobs/*/supervisor.json"):
        kill_quietly(Board(loopback.root, loopback.root).supervisor(path.parent.name), signal.SIGTERM)
    for executor in loopback.made:
        executor.close()
    proxy.close()


class TestSshExecutor(Conformance):
    """All that every executor must do."""


def _is_an_executor(executor: SshExecutor) -> Executor:
    return executor


def build(sdist: Path, attempt_id: str = "demo.1") -> Launch:
    spec = JobSpec("demo", "1.0", PYTHON, "demo-1.0.tar.gz", "", sha256_of(sdist), DEFAULT)
    return Launch(attempt_id, Build(spec, 1, sdist, 2), Limits(time_s=60))


def test_an_sdist_is_brought_once_and_built(place: Loopback, tmp_path: Path) -> None:
    sdist = tmp_path / "sdist"
    sdist.write_bytes(make_sdist())
    executor = place.executor()
    result = started(executor, build(sdist)).result()
    assert result.failure is None
    assert list(result.phases_s) == ["describe", "unpack", "environment", "build", "repair", "record"]
    wheel, record = result.wheels
    assert executor.collect("demo.1", wheel, tmp_path / "got").read_bytes() == b"a wheel"
    assert record.filename == "demo.1.record.json"
    (there,) = (place.root / "incoming").glob("*/*")
    brought = there.stat().st_ino
    assert started(executor, build(sdist, "demo.2")).result().failure is None
    assert [path.stat().st_ino for path in (place.root / "incoming").glob("*/*")] == [brought]


def test_a_start_that_was_sent_by_half_starts_nothing(place: Loopback) -> None:
    executor = place.executor()
    assert executor.list() == {}
    link = Link(place.address)
    channel = link.execute(f"{place.farm_node} --root {place.root} serve")
    channel.sendall(b'{"id": 1, "op": "hello"}\n')
    assert json.loads(channel.recv(1000))["id"] == 1
    request = {"id": 2, "op": "start", "attempt": "half.1", "spec": shell("half", "true").to_json()}
    channel.sendall(json.dumps(request).encode())  # and no end of line
    link.close()
    until(lambda: len(place.agents()) == 1, "the agent to end with its link")
    assert executor.list() == {}


@pytest.fixture
def small_disk(place: Loopback) -> Iterator[Loopback]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", str(place.root)], check=True)
    (place.root / "jobs").mkdir()
    yield place
    for pid in place.agents():
        kill_quietly(pid, signal.SIGKILL)
    subprocess.run(["umount", "--lazy", str(place.root)], check=True)


def test_f21_a_disk_that_gets_full_is_the_nodes_failure_and_the_result_is_kept(small_disk: Loopback) -> None:
    executor = small_disk.executor()
    result = started(executor, shell("fill", "cat /dev/zero >wheelhouse/a.whl")).result()
    assert result.failure == "node"
    assert shutil.disk_usage(small_disk.root).free < RESERVE_BYTES
    with pytest.raises(NodeError, match="No space left"):
        executor.start(shell("next", "true"))
    assert executor.list()["fill.1"] is AttemptState.FINISHED
    executor.forget("fill.1")
    until(lambda: shutil.disk_usage(small_disk.root).free, "the room to be free again")
    assert started(executor, shell("next", "true")).result().failure is None


VITALS = {
    "clock": 1.0,
    "load": 0.0,
    "disk_free_bytes": 1,
    "memory_available_bytes": 1,
    "machine_id": "m",
    "boot_id": "b",
    "toolchain": "t",
}
RESULT: dict[str, object] = {
    "task": "build",
    "failure": None,
    "message": "",
    "wheels": [],
    "started": 1.0,
    "duration_s": 1.0,
}
WHEEL = {"filename": "a.whl", "size": 1, "sha256": "0" * 64}
PROGRESS = {"attempt": "a.1", "state": "finished", "log": "", "offset": 0, "more": False}


def answering(place: Loopback, *lines: str) -> SshExecutor:
    """An executor whose node says hello, and then what it is told to, line by line."""
    script = ["#!/bin/sh", "read _", f'echo \'{{"id": 1, "version": {VERSION}}}\'', "read _"]
    # It ends with its link: nothing of it may outlive the test.
    place.farm_node.write_text("\n".join([*script, *lines, "cat >/dev/null", ""]))
    return place.executor()


def poll_answer(**changes: object) -> str:
    return f"echo '{json.dumps({'id': 2, 'vitals': VITALS, 'progress': [{**PROGRESS, **changes}]})}'"


@pytest.mark.parametrize(
    "line",
    [
        "echo 'no JSON'",
        "echo '[]'",
        "echo '{}'",
        "echo '{\"id\": 7}'",
        "echo '{\"id\": 2}'",
        'echo \'{"id": 2, "vitals": {}, "progress": []}\'',
        "cat /dev/zero",
        poll_answer(state="asleep"),
        poll_answer(),
        poll_answer(attempt="other.1"),
        poll_answer(offset=3, result=RESULT),
        poll_answer(log="@", result=RESULT),
        poll_answer(result=RESULT),
        poll_answer(result={**RESULT, "failure": "bad luck"}),
        poll_answer(result={**RESULT, "wheels": [{**WHEEL, "filename": "../../evil"}]}),
        poll_answer(result={**RESULT, "wheels": [{**WHEEL, "size": -1}]}),
        poll_answer(result={**RESULT, "wheels": [{**WHEEL, "size": 1 << 50}]}),
        poll_answer(result={**RESULT, "wheels": [{**WHEEL, "sha256": "no"}]}),
        poll_answer(result={**RESULT, "wheels": [WHEEL], "duration_s": "long"}),
    ],
)
def test_a_node_that_lies_is_told_apart(place: Loopback, line: str) -> None:
    executor = answering(place, line)
    with pytest.raises(LyingNodeError) as caught:
        executor.poll({"a.1": 0})
    assert len(caught.value.message) < 500
    assert "\n" not in caught.value.message


def test_a_node_that_asks_for_another_file_gets_none(place: Loopback, tmp_path: Path) -> None:
    executor = answering(place, 'echo \'{"id": 2, "missing": "../../etc/passwd"}\'')
    sdist = tmp_path / "sdist"
    sdist.write_bytes(make_sdist())
    with pytest.raises(LyingNodeError, match="it asks for"):
        executor.start(build(sdist))


def test_an_answer_that_never_comes_ends_the_waiting(place: Loopback) -> None:
    executor = answering(place, "printf '{'")
    began = time.monotonic()
    with pytest.raises(NodeError, match="no answer to `list` within 2 s"):
        executor.list()
    assert time.monotonic() - began < 10


def test_a_refusal_is_told_and_the_session_goes_on(place: Loopback) -> None:
    executor = answering(
        place, 'echo \'{"id": 2, "error": "no"}\'', "read _", 'echo \'{"id": 3, "attempts": {}}\''
    )
    with pytest.raises(NodeError, match="it refuses `forget`: no"):
        executor.forget("a.1")
    assert executor.list() == {}


def test_a_shell_that_prints_is_named(place: Loopback) -> None:
    script = place.farm_node.read_text()
    place.farm_node.write_text(script.replace("#!/bin/sh\n", "#!/bin/sh\necho Welcome to F3\n"))
    executor = place.executor()
    assert executor.list() == {}
    assert executor.warnings == ("its shell prints text at login: 'Welcome to F3'",)
    with pytest.raises(NodeError) as caught:
        executor.forget("../a")
    assert "its shell prints text at login ('Welcome to F3')" in caught.value.hint


def test_a_slow_shell_is_named(place: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "SLOW_S", 0.5)
    script = place.farm_node.read_text()
    place.farm_node.write_text(script.replace("#!/bin/sh\n", "#!/bin/sh\nsleep 0.6\n"))
    executor = place.executor()
    executor.list()
    (warning,) = executor.warnings
    assert "took" in warning
    assert executor.shell_s is not None
    assert executor.shell_s > 0.6


def test_a_session_that_ended_by_itself_is_begun_anew(place: Loopback) -> None:
    executor = place.executor()
    executor.list()
    place.kill_agents()
    until(lambda: executor._session is None or executor._session.ended, "the end to be seen")
    assert executor.list() == {}
