"""Processes on a board: told apart from later ones of the same number, and ended with all they started."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from farm.node.files import Json, read_text

BOOT_ID = "/proc/sys/kernel/random/boot_id"
# In the environment of all that an attempt starts: what left its session and its parents is still found.
MARK = "FARM_JOB"
PR_SET_CHILD_SUBREAPER = 36
LONGEST_PAUSE_S = 0.1
GIVE_UP_S = 30.0


class Process(NamedTuple):
    """What proc_pid_stat(5) says of a process."""

    state: str
    parent: int
    session: int
    start_time: str


def look_up(pid: int) -> Process | None:
    """Return a process, or None if it is gone."""
    # Its first thread's: user emulation makes up /proc/PID/stat for a process that asks of itself, and others
    # see the truth. What follows the command's name begins with field 3, the state.
    fields = read_text(f"/proc/{pid}/task/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20:  # noqa: PLR2004
        return None
    return Process(fields[0], int(fields[1]), int(fields[3]), fields[19])


@functools.cache
def boot_id() -> str:
    """Return what tells this boot of the machine from others."""
    return read_text(BOOT_ID)


def identity(pid: int) -> Json:
    """Return what tells a process from a later one with the same number: start time and boot id."""
    return {"pid": pid, "start_time": start_time(pid), "boot_id": boot_id()}


def start_time(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty if it is gone."""
    process = look_up(pid)
    return "" if process is None or process.state in "ZX" else process.start_time


def is_alive(leader: Json) -> bool:
    """Return whether the process of a kept identity still runs."""
    return bool(leader.get("start_time")) and leader == identity(pid_of(leader))


def pid_of(leader: Json) -> int:
    """Return the process number of a kept identity."""
    return int(str(leader["pid"]))


def adopt_orphans() -> bool:
    """Become the parent of whatever a descendant leaves behind, so that daemons stay in the tree.

    Returns False where that is not to be had: sessions and marks have to do.
    """
    try:
        import ctypes  # noqa: PLC0415  # not in Debian's python3-minimal
    except ImportError:
        return False
    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def processes() -> dict[int, Process]:
    """Return all living processes."""
    found = {int(name): look_up(int(name)) for name in os.listdir("/proc") if name.isdecimal()}  # noqa: PTH208
    return {pid: process for pid, process in found.items() if process and process.state not in "ZX"}


def family(leader: int, mark: str) -> set[int]:
    """Return the living processes of an attempt without its leader: its tree, its session, its mark."""
    table = processes()
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found, ahead = set[int](), [leader]
    while ahead:
        below = children.get(ahead.pop(), [])
        found.update(below)
        ahead += below
    found |= {pid for pid in table if _belongs(pid, table, leader, mark)}
    return found - {leader, os.getpid()}


def remnants(leader: Json, mark: str) -> set[int]:
    """Return what an attempt left whose supervisor is gone."""
    if leader.get("boot_id") != boot_id():
        return set()
    # A number that is in use again is no session's: the kernel keeps it back as long as it is one's.
    number = pid_of(leader)
    return family(-1 if look_up(number) else number, mark)


def _belongs(pid: int, table: Mapping[int, Process], leader: int, mark: str) -> bool:
    if table[pid].session == leader:
        return True
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return f"{MARK}={mark}".encode() in file.read().split(b"\0")
    except OSError:  # it is gone, or another user's
        return False


def end_all(find: Callable[[], set[int]], grace_s: float) -> bool:
    """End processes, politely until ``grace_s`` is over, then not, until none is left."""
    began, told, pause = time.monotonic(), set[int](), 0.002
    while members := find():
        waited = time.monotonic() - began
        if waited > grace_s + GIVE_UP_S:
            return False
        for pid in members if waited >= grace_s else members - told:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM if waited < grace_s else signal.SIGKILL)
        told |= members
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
    return True
