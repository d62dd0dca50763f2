"""A board with systemd as its first process: Debian on Linux as a program (User Mode Linux), on this machine.

It has a kernel of its own, so cgroups, logind and reboots are real, whatever this machine's own are; it needs
no virtualisation by the processor. It is reached through an address that only this machine has.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
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
BOOT_S = 90
COMMAND_S = 60
# Runs on the board: the module as the role installed it.
DRIVER = """
import dataclasses, json, pathlib, sys
sys.path.insert(0, str(pathlib.Path("/usr/local/lib/wheelfarm/farm-node").resolve().parents[2]))
from farm.node import unit
verb, name, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
home = pathlib.Path("/var/lib/wheelfarm-node")
record = home / f"{name}.ended"
if verb == "why_not":
    print(json.dumps(unit.why_not()))
elif verb == "start":
    limits = unit.Limits(**json.loads(rest[0]))
    log = home / f"{name}.log"
    print(json.dumps(unit.start(name, rest[1:], log=log, cwd=home, record=record, limits=limits)))
elif verb == "stop":
    print(json.dumps(unit.stop(name)))
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
    number: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def tap(self) -> str:
        return f"wf{self.number}"

    @property
    def subnet(self) -> str:
        # RFC 2544: addresses for tests, of no network.
        return f"198.19.{self.number % 256}"

    @property
    def address(self) -> str:
        return f"{self.subnet}.2"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def create(self) -> None:
        self.state.mkdir()
        keygen(self.state / "host")
        keygen(self.directory / "key")
        shutil.copyfile(self.directory / "key.pub", self.state / "key.pub")
        (self.state / "address").write_text(f"{self.address}/30")
        host_key = " ".join((self.state / "host.pub").read_text().split()[:2])
        (self.directory / "known_hosts").write_text(f"{self.address} {host_key}\n")
        _ip("tuntap", "add", "dev", self.tap, "mode", "tap")
        _ip("addr", "add", f"{self.subnet}.1/30", "dev", self.tap)
        _ip("link", "set", self.tap, "up")

    def boot(self) -> None:
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", str(HERE / "boot")]
        with (self.directory / "console").open("ab") as console:
            self.process = subprocess.Popen(
                [*command, str(base()), str(self.state), self.tap],
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
        self.try_ssh("systemctl reboot")
        assert self.process is not None
        self.process.wait(timeout=BOOT_S)
        self.boot()

    def power_off(self) -> None:
        """As if the plug were pulled."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        # The kernel ends the processes below it in its own time; until then they may write to the disk.
        carrier = Path("/sys/class/net", self.tap, "carrier")
        until(lambda: carrier.read_text().strip() == "0", f"{self.tap} to be free")

    def destroy(self) -> None:
        self.power_off()
        _ip("link", "del", self.tap)
        shutil.rmtree(self.state, ignore_errors=True)

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

    def try_ssh(self, command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ssh", *self.ssh_options(), f"{user}@{self.address}", command],
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
        variables: Mapping[str, object] = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_ssh_common_args": " ".join(self.ssh_options()),
            "ansible_python_interpreter": "/usr/bin/python3",
            "farm_ssh_key": str(self.directory / "key"),
            "farm_build_user": USER,
            "farm_node_dir": str(HOME),
            "node_runner_source": str(REPOSITORY),
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", f"{self.address},"]
        command += [str(HERE / "board.yml"), "-e", json.dumps(variables)]
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


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
