"""The executor over SSH: the conformance tests over a real sshd, and what only SSH can get wrong."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from farm.executor import Executor, Launch, ssh
from farm.executor.ssh import SshExecutor
from farm.node.process import processes, start_time
from farm.nodes import Address, Node
from tests.integration import controllerkit
from tests.integration.conformance import Conformance
from tests.integration.nodekit import Board, kill_quietly
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
    for attempt_id in os.listdir(loopback.root / "jobs"):
        kill_quietly(Board(loopback.root, loopback.root).supervisor(attempt_id), signal.SIGTERM)
    for executor in loopback.made:
        executor.close()
    proxy.close()


class TestSshExecutor(Conformance):
    """All that every executor must do."""


def _is_an_executor(executor: SshExecutor) -> Executor:
    return executor
