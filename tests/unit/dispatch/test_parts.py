"""Small parts of the dispatcher and of its links, without nodes."""

from __future__ import annotations

import json
import queue
import threading
import time
from pathlib import Path

import pytest

from farm.dispatch.crew import FEW, Crew, beat_s
from farm.dispatch.logs import Logs
from farm.errors import NodeError
from farm.executor.session import Session
from farm.executor.ssh import gather_s
from farm.paths import Paths


class Channel:
    """An SSH channel whose timeout another thread made shorter: the first read ends early."""

    closed = eof_received = False

    def __init__(self) -> None:
        self.sent = b""
        self.reads = 0

    def settimeout(self, _seconds: float) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, _size: int) -> bytes:
        self.reads += 1
        if self.reads == 1:
            raise TimeoutError
        return b'{"id": 1, "version": 3}\n'

    def close(self) -> None:
        raise EOFError  # as paramiko does where the link broke a moment ago


def test_the_deadline_decides_not_a_timeout_that_another_thread_set() -> None:
    session = Session("f3", Channel())  # type: ignore[arg-type]
    assert session.request("hello", 5.0) == {"id": 1, "version": 3}


class Talking(Channel):
    """A channel that has all its answers already."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__()
        self.answers = list(answers)

    def recv(self, _size: int) -> bytes:
        if not self.answers:
            raise TimeoutError
        return self.answers.pop(0)


def test_an_answer_that_nobody_took_is_dropped() -> None:
    session = Session("f3", Talking(b'{"id": 1, "old": 1}\n{"id"', b': 2, "new": 1}\n'))  # type: ignore[arg-type]
    session.ask("poll", 5.0)
    assert session.request("list", 5.0)["new"] == 1


def test_an_answer_that_is_there_is_in_time_however_late_it_is_read() -> None:
    session = Session("f3", Talking(b'{"id": 1}\n'))  # type: ignore[arg-type]
    session.ask("poll", 0.0)
    assert session.answer() == {"id": 1}
    with pytest.raises(NodeError, match="no answer to `poll` within 0 s"):
        session.request("poll", 0.0)


def test_closing_a_broken_session_is_no_error() -> None:
    Session("f3", Channel()).close()  # type: ignore[arg-type]


def test_a_session_sends_one_line_a_request() -> None:
    channel = Channel()
    Session("f3", channel).request("poll", 5.0, wait_s=1.5)  # type: ignore[arg-type]
    assert channel.sent.endswith(b"\n")
    assert json.loads(channel.sent) == {"id": 1, "op": "poll", "wait_s": 1.5}


def test_a_log_is_counted_from_what_is_there(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    logs = Logs(paths)
    assert logs.size("a.1") == 0
    logs.append("a.1", b"one\n")
    logs.append("a.1", b"two\n")
    assert paths.log("a.1").read_bytes() == b"one\ntwo\n"
    assert logs.size("a.1") == 8
    assert Logs(paths).size("a.1") == 8, "as a dispatcher that follows a killed one sees it"


def test_a_log_that_could_not_be_written_is_looked_at_anew(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    logs = Logs(paths)
    logs.append("a.1", b"one\n")
    path = paths.log("a.1")
    path.rename(tmp_path / "away")
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        logs.append("a.1", b"two\n")
    path.rmdir()
    (tmp_path / "away").rename(path)
    assert logs.size("a.1") == 4


def test_a_crew_is_small_and_nodes_that_are_stuck_hold_nobody_up() -> None:
    crew, gate, done = Crew(), threading.Event(), queue.SimpleQueue[str]()
    before = threading.active_count()

    def stuck() -> None:
        gate.wait(20)
        done.put("stuck")

    for _ in range(200):
        crew.send(lambda: done.put("well"))
    for _ in range(200):
        assert done.get(timeout=10) == "well"
    assert threading.active_count() - before <= FEW
    for _ in range(FEW):
        crew.send(stuck)
    crew.send(lambda: done.put("slow"), slow=True)
    crew.send(lambda: done.put("well"))
    deadline = time.monotonic() + 10
    while done.empty() and time.monotonic() < deadline:
        crew.relieve()  # as the dispatcher does, ten times a second
        time.sleep(0.02)
    assert [done.get(timeout=10) for _ in range(2)] == ["well", "slow"], "what is quick goes first"
    assert threading.active_count() - before <= FEW + 1
    gate.set()
    crew.close()
    assert [done.get(timeout=0.1) for _ in range(FEW)] == ["stuck"] * FEW, (
        "what was under way came to its end"
    )
    assert threading.active_count() == before
    crew.send(lambda: done.put("late"))
    crew.relieve()
    assert done.empty(), "nothing is begun any more"


def test_the_more_nodes_the_longer_output_is_gathered() -> None:
    assert [round(gather_s(count), 3) for count in (1, 285, 512, 100_000)] == [0.2, 0.25, 0.449, 2.0]


def test_a_small_farm_is_heard_at_once_and_a_large_one_in_beats() -> None:
    assert [round(beat_s(count), 4) for count in (1, 10, 512, 100_000)] == [0.0001, 0.0006, 0.03, 0.03]
