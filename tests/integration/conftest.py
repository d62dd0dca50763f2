"""Nodes behind real sshds, and farm-node where the controller calls it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farm.cleanroom import CleanRoom
from farm.executor import ssh
from tests.integration.clientkit import OLDEST_PIP, Client, make_client
from tests.integration.farmkit import Farm
from tests.integration.nodekit import Board, install_farm_node, kill_quietly, make_environment
from tests.integration.sshkit import Sshd, free_port, keygen


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return keygen(tmp_path / "key")


@pytest.fixture
def sshds(tmp_path: Path, key: Path) -> Iterator[list[Sshd]]:
    made = []
    for name in ("f3", "sg"):
        (tmp_path / name).mkdir()
        keygen(tmp_path / name / "host")
        made.append(Sshd(tmp_path / name, free_port(), key))
    yield made
    for sshd in made:
        sshd.stop()


@pytest.fixture
def sshd(sshds: list[Sshd]) -> Sshd:
    sshds[0].start()
    return sshds[0]


@pytest.fixture
def farm_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install farm-node where the controller calls it, with environments made of shims."""
    script = install_farm_node(tmp_path)
    monkeypatch.setattr(ssh, "FARM_NODE", str(script))
    return script


@pytest.fixture
def farm(tmp_path: Path, sshds: list[Sshd], farm_node: Path) -> Farm:
    """Two nodes that run, and nothing queued."""
    for sshd in sshds:
        sshd.start()
    return Farm(tmp_path, [sshd.node for sshd in sshds], farm_node)


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Client]:
    """The installers, made once; a machine without a package index can't run these tests, and fails."""
    folder = tmp_path_factory.mktemp("clients")
    wanted = {"pip-oldest": f"pip=={OLDEST_PIP}", "pip-newest": "pip", "uv-newest": "uv"}
    return {name: make_client(folder / name, name, what) for name, what in wanted.items()}


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "node", make_environment(tmp_path / "environments"))
    yield board
    for job in (board.root / "jobs").glob("[!.]*"):
        board.ask("cancel", attempt=job.name)
    for pid in tmp_path.glob("pids"):
        for number in map(int, pid.read_text().split()):
            kill_quietly(number, signal.SIGKILL)


@pytest.fixture(scope="module")
def room() -> Iterator[CleanRoom]:
    """The room that playbooks/controller.yml made, with a folder of the tests' own to work in."""
    made = CleanRoom.at()
    made.check()
    work = made.work / f"tests-{os.getpid()}"
    work.mkdir()
    made.own(work)
    yield replace(made, work=work)
    shutil.rmtree(work)
