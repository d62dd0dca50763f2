"""Builds as transient units of the build user's systemd, where systemd runs the board.

A unit is a cgroup with limits: the kernel kills what takes more memory than it was given and refuses
processes beyond a number, and systemd ends what runs too long, whether or not anything of the farm still
looks. It belongs to the user's manager, which lives without any session (linger), so no logout and no restart
of sshd ends it.

One cgroup holds the supervisor and all that it starts. What keeps the supervisor able to write its result:

- OOMPolicy=continue: a killed compiler does not end the unit. ``usage`` tells the supervisor that one was.
- ``expendable_children`` offers what the supervisor starts to the kernel first; the supervisor stays as it
  was made.
- KillMode=mixed: a stop, and the time limit, ask the supervisor alone (SIGTERM); when it has ended, or did
  not within its grace, every other process of the cgroup is killed, whatever session it moved to.

Where the supervisor can't write a result, systemd runs some shell after the last process (ExecStopPost): the
record it leaves tells the cause, and outlives unit, user manager and reboot.
"""

from __future__ import annotations

import contextlib
import enum
import getpass
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm.node.files import read_text

SYSTEMD = Path("/run/systemd/system")
RUNTIME = Path("/run/user")
LINGER = Path("/var/lib/systemd/linger")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = "/proc/self/cgroup"
CONTROLLERS = frozenset({"memory", "pids"})
# A controller waits longer for an answer.
COMMAND_S = 20
# oom_score_adj: a user's manager and what it starts can't go below 100, and anybody may go up, to 1000.
SUPERVISOR_OOM_SCORE = 100
EXPENDABLE_OOM_SCORE = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,180}")
# systemd sets the three variables (systemd.exec(5)); the cgroup is still there, and empty but for this shell.
RECORD = """
group=/sys/fs/cgroup$(cut -d: -f3- /proc/self/cgroup)
{
    echo "result $SERVICE_RESULT"
    echo "status $EXIT_STATUS"
    echo "memory_peak $(cat "$group/memory.peak")"
    grep "^oom_kill " "$group/memory.events"
    grep "^max " "$group/pids.events"
} >"$1.partial" 2>/dev/null
sync "$1.partial"
mv "$1.partial" "$1"
"""


class UnitError(Exception):
    """systemd did not do what it was asked for."""


class Phase(enum.Enum):
    """Where a unit is in its life."""

    RUNNING = "running"
    ENDED = "ended"
    # No unit and no record: never started, or cut off with the whole board.
    LOST = "lost"


@dataclass(frozen=True)
class Bounds:
    """What a unit may take at a time, which can be changed while it runs; None is no limit."""

    memory_bytes: int | None = None
    processes: int | None = None
    # Shares of the processors, against other units; nothing is kept from a unit while nobody else wants it.
    shares: int = 1

    def properties(self) -> dict[str, object]:
        """Return it as systemd.resource-control(5) has it."""
        # Shares are from 1 to 10000, and against other units of the farm alone.
        properties: dict[str, object] = {"CPUWeight": self.shares}
        if self.memory_bytes is not None:
            properties["MemoryMax"] = self.memory_bytes
        if self.processes is not None:
            properties["TasksMax"] = self.processes
        return properties


@dataclass(frozen=True)
class Limits:
    """What a unit may take; None is no limit."""

    bounds: Bounds = Bounds()
    runtime_s: float | None = None
    # Between the request to end and SIGKILL: long enough to write a result on a slow card.
    grace_s: float = 15


@dataclass(frozen=True)
class Usage:
    """What the kernel counted in a cgroup."""

    memory_peak: int | None = None
    oom_kills: int = 0
    refused_processes: int = 0


@dataclass(frozen=True)
class Status:
    """What is known of a unit from outside."""

    phase: Phase
    # systemd's word: success, exit-code, signal, oom-kill, timeout, ...; empty if it runs or is lost.
    result: str = ""
    # An exit code, or the name of a signal.
    exit_status: str = ""
    usage: Usage = Usage()

    @property
    def failure(self) -> str:
        """The job's failure class for a unit that left no result of its own; empty while it runs."""
        if self.phase is Phase.RUNNING:
            return ""
        if self.result == "timeout":
            return "timeout"
        if self.result == "oom-kill" or (self.result not in {"", "success"} and self.usage.oom_kills):
            return "memory"
        return "node"


def usable() -> bool:
    """Return whether builds can be units here."""
    return not why_not()


def why_not() -> str:
    """Return what keeps builds from being units here; empty if nothing does."""
    delegated = set(read_text(_manager() / "cgroup.controllers").split())
    if not SYSTEMD.is_dir():
        return "systemd does not run this board"
    if not shutil.which("systemd-run"):
        return "systemd-run is missing"
    # Without linger the manager would be there, too, while this session lasts: and end with it.
    if not (LINGER / getpass.getuser()).exists():
        return f"linger is off for {getpass.getuser()}"
    # systemd's own socket will do; a session bus (dbus-user-session) is not needed.
    if not (_runtime() / "systemd/private").exists():
        return f"no systemd manager of {getpass.getuser()} runs"
    if missing := sorted(CONTROLLERS - delegated):
        return f"cgroup controllers are not delegated to {getpass.getuser()}: {', '.join(missing)}"
    return ""


def start(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    record: Path,
    limits: Limits,
    environment: Mapping[str, str] | None = None,
) -> bool:
    """Start a unit; False if one of this name runs, or has left its record, already.

    The environment is the manager's, not this session's; ``environment`` adds to it.

    Raises:
        UnitError: systemd refused, or the program could not be executed.
    """
    if record.exists():
        return False
    command = [
        "systemd-run",
        "--user",
        "--quiet",
        "--collect",
        "--service-type=exec",
        f"--unit={_unit(name)}",
    ]
    command += [f"--property={key}={value}" for key, value in _properties(log, cwd, record, limits).items()]
    command += [f"--setenv={key}={value}" for key, value in (environment or {}).items()]
    # systemd replaces variables in a command's arguments; it has no other meaning for a doubled dollar.
    command += ["--", *(argument.replace("$", "$$") for argument in argv)]
    done = _call(command)
    if done.returncode == 0:
        return True
    # The name is the lock. Two starts at once: systemd lets one of them through.
    if "already" in done.stderr or _show(name).get("LoadState") == "loaded":
        return False
    raise UnitError(f"{_unit(name)} was not started: {done.stderr.strip()}")


def _properties(log: Path, cwd: Path, record: Path, limits: Limits) -> dict[str, object]:
    after = " ".join(map(shlex.quote, ["/bin/sh", "-c", _flat(RECORD), "sh", str(record)]))
    properties: dict[str, object] = {
        "WorkingDirectory": cwd,
        "StandardOutput": f"append:{log}",
        "StandardError": f"append:{log}",
        "KillMode": "mixed",
        "TimeoutStopSec": limits.grace_s,
        "OOMPolicy": "continue",
        "OOMScoreAdjust": SUPERVISOR_OOM_SCORE,
        "ExecStopPost": after.replace("$", "$$"),
        # Counted even where nothing is limited.
        "MemoryAccounting": "yes",
        "TasksAccounting": "yes",
        **limits.bounds.properties(),
    }
    if limits.bounds.memory_bytes is not None:
        # Beyond its memory a build is to fail, and be retried where there is more, not to thrash for hours.
        properties["MemorySwapMax"] = 0
    if limits.runtime_s is not None:
        properties["RuntimeMaxSec"] = limits.runtime_s
    return properties


def _flat(script: str) -> str:
    """Return a script on one line: a property can't hold more."""
    lines = [line.strip() for line in script.strip().splitlines()]
    return "; ".join(lines).replace("{; ", "{ ")


def change(name: str, bounds: Bounds) -> None:
    """Give a running unit other bounds, until it ends.

    Raises:
        UnitError: systemd refused, or could not be asked.
    """
    properties = [f"{key}={value}" for key, value in bounds.properties().items()]
    done = _call(["systemctl", "--user", "set-property", "--runtime", "--", _unit(name), *properties])
    if done.returncode:
        raise UnitError(f"{_unit(name)} was not changed: {done.stderr.strip()}")


def stop(name: str, *, wait: bool = True) -> None:
    """End a unit: its supervisor is asked, and everything else in its cgroup is killed after it.

    A unit that is not there is what was wanted.

    Raises:
        UnitError: systemd could not be asked.
    """
    # Not `kill`: only a stop waits, and goes on to SIGKILL.
    done = _call(["systemctl", "--user", "stop", *([] if wait else ["--no-block"]), "--", _unit(name)])
    if done.returncode and "not loaded" not in done.stderr:
        raise UnitError(f"{_unit(name)} was not stopped: {done.stderr.strip()}")


def state(name: str, record: Path) -> Status:
    """Return whether a unit runs, and what ended it.

    Raises:
        UnitError: systemd could not be asked, so it can't be said.
    """
    shown = _show(name)
    if shown.get("ActiveState", "inactive") not in {"inactive", "failed"}:
        peak = shown.get("MemoryPeak", "")
        return Status(Phase.RUNNING, usage=Usage(int(peak) if peak.isdigit() else None))
    # Read after systemd was asked: the record is complete before the unit is gone.
    return read_record(record)


def read_record(record: Path) -> Status:
    """Return what the record of an ended unit says; lost if there is none."""
    lines = [line.partition(" ") for line in read_text(record).splitlines()]
    kept = {key: value for key, _, value in lines}
    if "result" not in kept:
        return Status(Phase.LOST)
    return Status(
        Phase.ENDED,
        result=kept["result"],
        exit_status=kept.get("status", ""),
        usage=Usage(
            memory_peak=_number(kept.get("memory_peak", "")),
            oom_kills=_number(kept.get("oom_kill", "")) or 0,
            refused_processes=_number(kept.get("max", "")) or 0,
        ),
    )


def usage() -> Usage:
    """Return what the kernel counted in this process's cgroup; nothing where cgroups are not version 2."""
    group = _own_cgroup()
    if group is None:
        return Usage()
    return Usage(
        memory_peak=_number(read_text(group / "memory.peak")),
        oom_kills=_counter(group / "memory.events", "oom_kill"),
        refused_processes=_counter(group / "pids.events", "max"),
    )


def held_bytes() -> int:
    """Return how much memory this process's cgroup holds that the kernel can't drop: no cached files."""
    group = _own_cgroup()
    if group is None:
        return 0
    return sum(_counter(group / "memory.stat", key) for key in ("anon", "shmem"))


def is_inside(name: str) -> bool:
    """Return whether this process is in the unit of that name."""
    group = _own_cgroup()
    return group is not None and group.name == _unit(name)


def has_manager() -> bool:
    """Return whether there is a manager of this user, or something is left that it started."""
    return _manager().is_dir()


@contextlib.contextmanager
def expendable_children() -> Iterator[None]:
    """Have the kernel, short of memory, kill what is started meanwhile, and its children, before others.

    It is inherited from this process: set after the start, the first grandchildren would be without it.
    """
    _offer(EXPENDABLE_OOM_SCORE)
    try:
        yield
    finally:
        _offer(SUPERVISOR_OOM_SCORE)


def _offer(score: int) -> None:
    # A container may forbid it: the kernel then decides by size.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(score), encoding="ascii")


def _counter(path: Path, key: str) -> int:
    pairs = (line.split() for line in read_text(path).splitlines())
    return next((int(pair[1]) for pair in pairs if pair[0] == key), 0)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _unit(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UnitError(f"not a unit's name: {name}")
    return f"wheelfarm-{name}.service"


def _show(name: str) -> dict[str, str]:
    done = _call(
        ["systemctl", "--user", "show", "--property=LoadState,ActiveState,MemoryPeak", "--", _unit(name)]
    )
    if done.returncode:
        raise UnitError(f"the user's systemd does not answer: {done.stderr.strip()}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _manager() -> Path:
    return CGROUPS / f"user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service"


def _own_cgroup() -> Path | None:
    own = [line[3:] for line in read_text(OWN_CGROUP).splitlines() if line.startswith("0::/")]
    return CGROUPS / own[0].lstrip("/") if own else None


def _runtime() -> Path:
    return RUNTIME / str(os.getuid())


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # sshd without PAM sets no XDG_RUNTIME_DIR; the language decides what "already" is called.
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(_runtime()), "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, timeout=COMMAND_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnitError(f"{command[0]}: {error}") from error
