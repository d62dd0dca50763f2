"""Processes on a board, told apart from later ones that got the same number."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from farm.node.files import Json, read_text

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def identity(pid: int) -> Json:
    """Return what tells a process from a later one with the same number: start time and boot id."""
    return {"pid": pid, "start_time": start_time(pid), "boot_id": read_text(BOOT_ID)}


def start_time(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty if it is gone."""
    # proc_pid_stat(5): what follows the command's name begins with field 3, the state.
    fields = dict(enumerate(read_text(f"/proc/{pid}/stat").rpartition(")")[2].split(), start=3))
    return "" if fields.get(3) == "Z" else fields.get(22, "")


def end_session(leader: int) -> None:
    """End every process of a session whose leader is gone."""
    for path in Path("/proc").glob("[0-9]*"):
        fields = read_text(path / "stat").rpartition(")")[2].split()
        # proc_pid_stat(5): the session is field 6, the fourth after the command's name.
        if len(fields) > 3 and fields[3] == str(leader):  # noqa: PLR2004
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.name), signal.SIGKILL)
