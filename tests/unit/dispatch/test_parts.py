"""Small parts of the dispatcher and of its links, without nodes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.dispatch.crew import Crew
from farm.dispatch.logs import Logs
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


def test_a_crew_works_in_a_thread_for_each_key_and_tells_faults() -> None:
    crew: Crew[str] = Crew()
    told: list[Callable[[], str]] = []
    over = threading.Semaphore(0)

    def work() -> str:
        return threading.current_thread().name

    def fault() -> str:
        raise LookupError("no such thing")

    def tell(done: Callable[[], str]) -> None:
        told.append(done)
        over.release()

    for key, what in (("f3", work), ("sg", work), ("f3", work), ("f3", fault)):
        crew.send(key, what, tell)
        over.acquire()
    crew.close()
    assert [done() for done in told[:3]] == ["visit f3", "visit sg", "visit f3"]
    with pytest.raises(LookupError):
        told[3]()


def test_the_more_nodes_the_longer_output_is_gathered() -> None:
    assert [gather_s(count) for count in (1, 200, 512, 100_000)] == [0.2, 0.25, 0.64, 2.0]
