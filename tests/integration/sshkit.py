"""A real sshd on the loopback address, with a host key and an authorised key of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from farm.node.files import read_text
from farm.nodes import Address, Node
from tests.integration.nodekit import kill_quietly, until

USER = "root"


def keygen(path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, capture_output=True
    )
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Sshd:
    """One sshd with a host key, an authorised key and a node root of its own."""

    directory: Path
    port: int
    key: Path
    process: subprocess.Popen[bytes] | None = None
    boot_id: Path | None = None
    """A file that this sshd and all it starts see in place of the kernel's."""
    startups: int = 100
    """How many may knock at once: one test process opens many connections from one address."""

    def start(self) -> None:
        config = self.directory / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.directory}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.key}.pub\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
            f"MaxStartups {self.startups}\n"
            # bash then leaves ~/.bashrc alone: what this machine's user keeps there may take its time.
            "SetEnv SHLVL=1\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
        if self.boot_id is not None:
            # In a mount namespace of its own: nobody else's machine is rebooted.
            script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, str(self.boot_id), *command]
        with (self.directory / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True)
        until(self._answers, f"sshd: {(self.directory / 'sshd.log').read_text()}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "sshd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End the daemon and every session of it, as a reboot of the link would."""
        if self.process is None:
            return
        for pid in descendants(self.process.pid):
            if "sshd" in read_text(f"/proc/{pid}/comm"):  # a session may end by itself at any moment
                kill_quietly(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.process = None

    @property
    def address(self) -> Address:
        known_hosts = self.directory / "known_hosts"
        host_key = " ".join((self.directory / "host.pub").read_text().split()[:2])
        known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        return Address(self.directory.name, "127.0.0.1", self.port, USER, self.key, known_hosts)

    @property
    def node(self) -> Node:
        (self.directory / "node" / "incoming").mkdir(parents=True, exist_ok=True)
        return Node(self.address, slots=1, root=str(self.directory / "node"), unsandboxed=True)


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        found = [int(child) for child in children.read_text().split()]
    except OSError:  # it has just ended
        return []
    return found + [below for child in found for below in descendants(child)]
