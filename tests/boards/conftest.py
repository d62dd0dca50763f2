"""A set of virtual boards of the tests' own: other addresses, other overlays, the same base image."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PREFIX = "127.0.31"


@dataclass(frozen=True)
class Site:
    """The tests' machines, and the commands a user has for them."""

    environment: Mapping[str, str]
    state: Path

    def playbook(self, name: str, *options: str) -> str:
        """Run a playbook; returns its output."""
        return self.try_playbook(name, *options, check=True).stdout

    def try_playbook(self, name: str, *options: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a playbook that may fail."""
        # An absolute name stays what it is: a test may bring a playbook of its own.
        command = [str(BIN / "ansible-playbook"), str(REPOSITORY / "playbooks" / name), *options]
        return self._run(command, check=check)

    def on_board(self, name: str, command: str) -> str:
        """Run a command on a board as root; returns its output."""
        shell = [str(BIN / "ansible"), name, "-m", "ansible.builtin.shell", "-a", command]
        return self._run(shell, check=True).stdout.partition(">>\n")[2]

    def farm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the farm command."""
        return self._run([str(BIN / "farm"), *arguments], check=check)

    def start_farm(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the farm command and return at once."""
        return subprocess.Popen(
            [str(BIN / "farm"), *arguments],
            env=dict(self.environment),
            cwd=REPOSITORY,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def status(self) -> dict[str, dict[str, object]]:
        """Return `farm status --json`, by project."""
        return {job["project"]: job for job in json.loads(self.farm("status", "--json").stdout)}

    def _run(self, command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=dict(self.environment), cwd=REPOSITORY, text=True, capture_output=True, check=False
        )
        if check and done.returncode != 0:
            pytest.fail(
                f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Virtual boards, provisioned; gone when the tests end."""
    state = tmp_path_factory.mktemp("state")
    environment = {
        **os.environ,
        "FARM_STATE": str(state),
        "FARM_VIRTUAL_PREFIX": PREFIX,
        "FARM_VIRTUAL_ROOT": "/var/lib/wheelfarm/test-boards",
        "ANSIBLE_FORCE_COLOR": "0",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    made = Site(environment, state)
    # What a killed test run left behind has lost its keys: begin anew.
    made.playbook("virtual_down.yml")
    try:
        made.playbook("virtual.yml")
        made.playbook("site.yml")
        yield made
    finally:
        made.playbook("virtual_down.yml")


def changed(output: str) -> dict[str, int]:
    """Return how many tasks changed something, by host, from a playbook's recap."""
    return {
        host: int(count)
        for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE)
    }
