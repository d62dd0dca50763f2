"""Hostile builds on Debian's own riscv64 kernel: a virtual board made by the playbooks."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from farm.executor.ssh import SshExecutor
from farm.nodes import Address, Node
from farm.paths import REPOSITORY
from tests.integration.sandboxed import HostileBuilds, install_builder
from tests.integration.sshkit import free_port
from tests.integration.systemdkit import HOME, USER

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes disks with root's files: run it as root"),
]
BOOT_S = 400
PLAYBOOK_S = 1500
COMMAND_S = 120
numbers = itertools.count()


@dataclass
class VirtualMachine:
    """The one machine of an inventory of its own."""

    directory: Path
    port: int = field(default_factory=free_port)

    @property
    def inventory(self) -> Path:
        return self.directory / "hosts.json"

    @property
    def node(self) -> Node:
        """As the farm would read it: nothing allows builds without a sandbox."""
        own = self.directory / "ssh"
        address = Address("vm", "127.0.0.1", self.port, USER, own / "id_ed25519", own / "known_hosts")
        return Node(address, slots=1, root=str(HOME))

    def write_inventory(self) -> None:
        state = self.directory / "ssh"
        known_hosts = state / "known_hosts"
        known = f"-o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=/dev/null"
        board = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(state / "id_ed25519"),
            "ansible_ssh_common_args": f"{known} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
            "farm_build_user": USER,
            "farm_node_dir": str(HOME),
            "node_runner_source": str(REPOSITORY),
            "virtual_board_kind": "system",
            "virtual_board_qemu_cpu": "rv64",
            "virtual_board_start_timeout": BOOT_S,
            "virtual_board_system_disk": "4G",
        }
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        everywhere = {
            "farm_ssh_key": str(state / "id_ed25519"),
            "farm_known_hosts": str(known_hosts),
            "farm_state": str(self.directory),
            "virtual_board_root": str(self.directory / "boards"),
        }
        groups = {
            "controller": {"hosts": {"localhost": local}},
            "virtual_boards": {"children": {"builders": {}}},
            "builders": {"hosts": {"vm-riscv64": board}},
        }
        self.inventory.write_text(json.dumps({"all": {"children": groups, "vars": everywhere}}))

    def play(self, playbook: str) -> None:
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            str(self.inventory),
            playbook,
        ]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=REPOSITORY, timeout=PLAYBOOK_S
        )
        assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr[-2000:]}{self.console()}"

    def console(self) -> str:
        path = self.directory / "boards/vm-riscv64/console.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def ssh(self, command: str, user: str = "root") -> str:
        options = [
            "-F/dev/null",
            f"-i{self.directory}/ssh/id_ed25519",
            "-oBatchMode=yes",
            "-oIdentitiesOnly=yes",
        ]
        options += [
            f"-oUserKnownHostsFile={self.directory}/ssh/known_hosts",
            "-oGlobalKnownHostsFile=/dev/null",
        ]
        done = subprocess.run(
            ["ssh", *options, f"-p{self.port}", f"{user}@127.0.0.1", command],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_S,
        )
        assert done.returncode == 0, f"{command}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout


@dataclass
class MachinePlace:
    """A root of its own on the machine."""

    machine: VirtualMachine
    name: str
    made: list[SshExecutor] = field(default_factory=list)

    @property
    def root(self) -> str:
        return f"{HOME}/{self.name}"

    def executor(self) -> SshExecutor:
        self.made.append(SshExecutor(replace(self.machine.node, root=self.root)))
        return self.made[-1]

    def shell(self, script: str) -> str:
        return self.machine.ssh(script)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualMachine]:
    made = VirtualMachine(tmp_path_factory.mktemp("vm"))
    made.write_inventory()
    try:
        made.play("playbooks/virtual.yml")
        made.play("tests/vm/board.yml")
        install_builder(made)
        yield made
    finally:
        made.play("playbooks/virtual_down.yml")


@pytest.fixture
def place(machine: VirtualMachine) -> Iterator[MachinePlace]:
    found = MachinePlace(machine, f"place-{next(numbers)}")
    machine.ssh(f"install -d -o {USER} -g {USER} {found.root}")
    yield found
    for executor in found.made:
        executor.close()


def test_it_is_a_board_with_a_kernel_of_its_own(place: MachinePlace) -> None:
    facts = place.executor().prepare()
    assert (facts.machine, facts.units, facts.sandbox) == ("riscv64", "", "bubblewrap")
    assert facts.kernel.endswith("-riscv64"), "Debian's"
    assert facts.isa.startswith("rv64")
    assert not place.machine.node.unsandboxed


class TestHostileBuilds(HostileBuilds):
    """As under User Mode Linux (tests/integration/test_systemd.py), here on riscv64."""

    time_s = 300.0
