"""A board with systemd as its first process: Debian on Linux as a program (User Mode Linux), on this machine.

It has a kernel of its own, so cgroups, logind and reboots are real, whatever this machine's own are; it needs
no virtualisation by the processor. Its network is a namespace of its own; a relay, which is in there and got
its listening socket from here, lets it be reached at a loopback port. Namespace, relay and machine have no
names, and no owner but this process: when it ends, however that may be, the kernel ends them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.nodekit import until
from tests.integration.sshkit import keygen

HERE = Path(__file__).with_name("systemd")
REPOSITORY = Path(__file__).resolve().parents[2]
BASES = Path("/var/lib/wheelfarm/systemd")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITE = "trixie"
USER = "wheelfarm"
HOME = Path("/var/lib/wheelfarm-node")
# RFC 2544: addresses for tests. They exist in the namespace alone, and are the same in each.
GATEWAY, ADDRESS, BITS = "198.19.0.1", "198.19.0.2", 30
NETWORK = f"""
set -e
ip link set lo up
ip tuntap add dev tap0 mode tap
ip addr add {GATEWAY}/{BITS} dev tap0
ip link set tap0 up
exec "$@"
"""
# The kernel ends a child whose parent is gone.
WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"]
# Several times what they take: some machines run it at a third of the speed of others.
BOOT_S = 240
COMMAND_S = 240
# Runs on the board: the module as the role installed it.
DRIVER = """
import dataclasses, json, pathlib, sys
sys.path.insert(0, str(pathlib.Path("/usr/local/lib/wheelfarm/farm-node").resolve().parents[2]))
from farm.node import unit
verb, name, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
home = pathlib.Path("/var/lib/wheelfarm-node")
record = home / f"{name}.ended"
if verb == "start":
    given = json.loads(rest[0])
    bounds = {key: given.pop(key) for key in ("memory_bytes", "processes", "shares") if key in given}
    limits = unit.Limits(unit.Bounds(**bounds), **given)
    log = home / f"{name}.log"
    print(json.dumps(unit.start(name, rest[1:], log=log, cwd=home, record=record, limits=limits)))
else:
    state = unit.state(name, record)
    print(json.dumps({**dataclasses.asdict(state), "phase": state.phase.value, "failure": state.failure}))
"""

# The board has no compiler, for the tests need none: this answers what calibration asks, and takes some time.
GCC = """#!/bin/sh
case $1 in
--version) echo "gcc (shim) VERSION" ;;
-dumpmachine) echo riscv64-linux-gnu ;;
-print-prog-name=cc1) echo /usr/bin/gcc ;;
*) i=0; while [ $i -lt 30000 ]; do i=$((i + 1)); done ;;
esac
"""


def base() -> Path:
    """Return the base image, made if need be; another definition is another folder."""
    mirror = os.environ.get("FARM_DEBIAN_MIRROR", "http://deb.debian.org/debian")
    script = HERE / "make-base"
    digest = hashlib.sha256(f"{mirror} {SUITE} {script.read_text()}".encode()).hexdigest()[:16]
    target = BASES / digest
    if not target.exists():
        done = subprocess.run(
            [str(script), str(target), mirror, SUITE, KEYRING], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return target


@dataclass
class Machine:
    """One such board; `directory` holds what it changes."""

    directory: Path
    port: int = 0
    """Where its sshd is reached, at 127.0.0.1."""
    process: subprocess.Popen[bytes] | None = None
    _relays: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)
    """The first one made the network."""
    _hand: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def create(self) -> None:
        self.state.mkdir()
        keygen(self.state / "host")
        keygen(self.directory / "key")
        shutil.copyfile(self.directory / "key.pub", self.state / "key.pub")
        (self.state / "address").write_text(f"{ADDRESS}/{BITS}")
        self.port = self._relay("unshare", "--net", "sh", "-c", NETWORK, "sh", port=22)
        until(lambda: ",UP" in self._inside("ip", "link", "show", "tap0"), "the network")
        host_key = " ".join((self.state / "host.pub").read_text().split()[:2])
        (self.directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")

    def reach(self, port: int) -> int:
        """Return a port at 127.0.0.1 where a port of the machine's is reached."""
        return self._relay(*self._enter, port=port)

    def _relay(self, *network: str, port: int) -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            relay = [sys.executable, str(HERE / "relay.py"), str(server.fileno()), ADDRESS, str(port)]
            command = [*WITH_PARENT, *network, *relay]
            self._relays.append(subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[server.fileno()]))
            return int(server.getsockname()[1])

    @property
    def _enter(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._relays[0].pid}/ns/net"]

    def _inside(self, *command: str) -> str:
        done = subprocess.run([*self._enter, *command], check=False, capture_output=True, text=True)
        return done.stdout

    def boot(self) -> None:
        command = [*WITH_PARENT, *self._enter, "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
        with (self.directory / "console").open("ab") as console:
            self.process = subprocess.Popen(
                [*command, str(HERE / "boot"), str(base()), str(self.state), "tap0"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.wait()

    def wait(self) -> None:
        """Wait until the system has started: all of it, whether or not something failed."""
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, self.console()
            if self.try_ssh("systemctl is-system-running --wait >&2; true").returncode == 0:
                return
            time.sleep(0.3)
        raise AssertionError(f"not up after {BOOT_S} s: {self.console()}")

    def reboot(self) -> None:
        """Shut down in order, and start again; User Mode Linux ends instead of rebooting (see `boot`)."""
        self.let_go()
        self.try_ssh("systemctl reboot")
        assert self.process is not None
        self.process.wait(timeout=BOOT_S)
        self.boot()

    def power_off(self) -> None:
        """As if the plug were pulled."""
        self.let_go()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        # The kernel ends the processes below it in its own time; until then they may write to the disk.
        until(lambda: "NO-CARRIER" in self._inside("ip", "link", "show", "tap0"), "the machine to be gone")

    def destroy(self) -> None:
        if not self._relays:
            return
        self.power_off()
        for relay in self._relays:
            assert relay.stdin is not None
            relay.stdin.close()
            relay.wait(timeout=COMMAND_S)
        self._relays.clear()
        shutil.rmtree(self.state, ignore_errors=True)

    def ask(self, verb: str, *arguments: object) -> Any:  # noqa: ANN401  # JSON
        """Have the hand do something on the board (systemd/hand.py): at once, without a new connection."""
        if self._hand is None:
            self.ssh(f"cat >/var/tmp/hand.py <<'END'\n{(HERE / 'hand.py').read_text()}\nEND")
            self._hand = subprocess.Popen(
                [*WITH_PARENT, *self._ssh_command("root"), f"python3 -P -u /var/tmp/hand.py {USER}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._hand.stdin is not None
        assert self._hand.stdout is not None
        self._hand.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self._hand.stdin.flush()
        return json.loads(self._hand.stdout.readline())

    def let_go(self) -> None:
        """End the hand; the next `ask` begins it anew."""
        if self._hand is not None:
            for pipe in (self._hand.stdin, self._hand.stdout):
                assert pipe is not None
                pipe.close()
            self._hand.kill()
            self._hand.wait()
            self._hand = None

    def console(self) -> str:
        return (self.directory / "console").read_text(errors="replace")[-3000:]

    def ssh_options(self) -> list[str]:
        known = self.directory / "known_hosts"
        options = [
            f"UserKnownHostsFile={known}",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
        ]
        options += ["IdentitiesOnly=yes", "BatchMode=yes", "ConnectTimeout=5", "ServerAliveInterval=5"]
        return [f"-o{option}" for option in options] + ["-F/dev/null", f"-i{self.directory / 'key'}"]

    def _ssh_command(self, user: str) -> list[str]:
        return ["ssh", *self.ssh_options(), f"-p{self.port}", f"{user}@127.0.0.1"]

    def try_ssh(self, command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._ssh_command(user), command],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_S,
        )

    def ssh(self, command: str, user: str = "root") -> str:
        done = self.try_ssh(command, user)
        assert done.returncode == 0, (
            f"{command}: {done.returncode} {done.stdout} {done.stderr} {self.console()}"
        )
        return done.stdout

    def install_gcc(self, version: str) -> None:
        script = GCC.replace("VERSION", version)
        self.ssh(f"cat >/usr/bin/gcc <<'END'\n{script}END\nchmod 755 /usr/bin/gcc")

    def calibration(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads(self.ssh("cat /etc/wheelfarm/calibration.json", USER))
        return known

    def provision(self) -> str:
        """Run the roles that make a builder's user and runner; returns the output."""
        return self.play(HERE / "board.yml")

    def play(self, playbook: Path, **more: object) -> str:
        """Run a playbook on the board; returns the output."""
        variables: Mapping[str, object] = {
            "ansible_user": "root",
            "ansible_port": self.port,
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_ssh_common_args": " ".join(self.ssh_options()),
            "ansible_python_interpreter": "/usr/bin/python3",
            "farm_ssh_key": str(self.directory / "key"),
            "farm_build_user": USER,
            "farm_node_dir": str(HOME),
            "node_runner_source": str(REPOSITORY),
            **more,
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "127.0.0.1,"]
        command += [str(playbook), "-e", json.dumps(variables)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout

    def unit(self, verb: str, name: str = "-", *arguments: str) -> Any:  # noqa: ANN401  # JSON
        """Call the module on the board, as the build user, in an SSH session of its own."""
        quoted = " ".join("'" + text.replace("'", "'\\''") + "'" for text in (verb, name, *arguments))
        return json.loads(self.ssh(f"python3 -P /var/tmp/driver.py {quoted}", USER))

    def start(self, name: str, script: str, **limits: float) -> bool:
        started = self.unit("start", name, json.dumps(limits), "/bin/sh", "-c", script)
        assert isinstance(started, bool)
        return started

    def ended(self, name: str, seconds: float = 30) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state: dict[str, Any] = self.unit("state", name)
            if state["phase"] != "running":
                return state
            time.sleep(0.3)
        raise AssertionError(f"{name} still runs: {self.ssh('systemd-cgls --no-pager')}")

    def log(self, name: str) -> str:
        return self.ssh(f"cat {HOME}/{name}.log")

    def lives(self, marker: str) -> bool:
        """Whether a process lives whose command line matches; `[x]` keeps the search from finding itself."""
        found = self.try_ssh(f"grep -lsa '[{marker[0]}]{marker[1:]}' /proc/[0-9]*/cmdline")
        return bool(found.stdout.strip())
