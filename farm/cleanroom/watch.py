"""Run a command and watch it with all that it starts: time, memory, processes, output and the disk beside it.

The kernel's cgroups would do it better where systemd gives them to a user; they are not there in every
container, so there is one way that works everywhere. The kernel still bounds what can happen between two
looks: see sandbox.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

from farm.cleanroom.sandbox import Limits

LOOK_S: Final = 0.1
LEAST_DISK: Final = 512 << 20
_TAIL: Final = 64 << 10
_CHUNK: Final = 64 << 10
_SIGNALLED: Final = 128  # bubblewrap, like a shell, ends with 128 and the signal's number


class Stop(StrEnum):
    """Why a command was ended from outside."""

    TIME = "time"
    MEMORY = "memory"
    TASKS = "processes"
    OUTPUT = "output"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; ``exit_code`` means nothing where ``stop`` is set. ``tail``: its output's end."""

    exit_code: int
    stop: Stop | None
    seconds: float
    tail: str

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, and well."""
        return self.stop is None and self.exit_code == 0

    @property
    def died_of(self) -> signal.Signals | None:
        """The signal that ended it, if one did and nobody here sent it."""
        if self.stop is not None or self.exit_code <= _SIGNALLED:
            return None
        try:
            return signal.Signals(self.exit_code - _SIGNALLED)
        except ValueError:
            return None

    def why(self, limits: Limits) -> str:
        """Say how it ended, in words."""
        match self.stop:
            case Stop.TIME:
                return f"not done after {limits.seconds:.0f} s, ended"
            case Stop.MEMORY:
                return f"used more than {limits.memory_bytes >> 20} MiB of memory, ended"
            case Stop.TASKS:
                return f"had more than {limits.tasks} processes and threads, ended"
            case Stop.OUTPUT:
                return f"wrote more than {limits.output_bytes >> 20} MiB of output, ended"
            case Stop.DISK:
                return f"left less than {LEAST_DISK >> 20} MiB of disk, ended"
        died = self.died_of
        return f"died of {died.name}" if died else f"ended with code {self.exit_code}"


def watch(
    command: Sequence[str], limits: Limits, log: BinaryIO, *, disk: Path, keep: Sequence[int] = ()
) -> Ended:
    """Run a command to its end, or end it at a limit; its output goes to ``log``.

    Args:
        command: what to run; ending its first process must end all others (bubblewrap's does).
        limits: of the command and everything it starts.
        log: gets standard output and error as they come.
        disk: a folder on the disk that must not get full.
        keep: descriptors that stay open in the command.

    Raises:
        OSError: it can't be started.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=keep,
        start_new_session=True,
        env={"PATH": os.environ.get("PATH", os.defpath)},
    )
    reader = _Reader(process, log)
    stop = None
    try:
        while not reader.done:
            reader.read(LOOK_S)
            stop = _exceeded(process.pid, limits, time.monotonic() - began, reader.written, disk)
            if stop is not None:
                break
    finally:
        # Also where this side fails: nothing that is not watched may go on.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        reader.close()
    return Ended(_SIGNALLED - code if code < 0 else code, stop, time.monotonic() - began, reader.tail)


class _Reader:
    """Moves a process's output into the log."""

    def __init__(self, process: subprocess.Popen[bytes], log: BinaryIO) -> None:
        assert process.stdout is not None  # noqa: S101  # a pipe was asked for
        self._process = process
        self._pipe = process.stdout
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._last: deque[bytes] = deque()
        self._ended = False
        self.written = 0

    def read(self, seconds: float) -> None:
        """Wait for output, so long at most, and take what is there."""
        if not self._selector.select(seconds):
            self._ended = self._process.poll() is not None
            return
        piece = os.read(self._pipe.fileno(), _CHUNK)
        self._ended = not piece
        self._log.write(piece)
        self.written += len(piece)
        self._last.append(piece)
        while sum(map(len, self._last)) - len(self._last[0]) > _TAIL:
            self._last.popleft()

    @property
    def done(self) -> bool:
        """Whether all output is read, and the process gone."""
        return self._ended

    @property
    def tail(self) -> str:
        """The end of the output."""
        return b"".join(self._last)[-_TAIL:].decode(errors="replace")

    def close(self) -> None:
        self._selector.close()
        self._pipe.close()


def _exceeded(pid: int, limits: Limits, seconds: float, written: int, disk: Path) -> Stop | None:
    if seconds > limits.seconds:
        return Stop.TIME
    if written > limits.output_bytes:
        return Stop.OUTPUT
    if shutil.disk_usage(disk).free < LEAST_DISK:
        return Stop.DISK
    tasks, memory = _usage(pid)
    if tasks > limits.tasks:
        return Stop.TASKS
    return Stop.MEMORY if memory > limits.memory_bytes else None


def _usage(pid: int) -> tuple[int, int]:
    """Return the tasks of a process and all below it, and their memory that is in no file, in bytes."""
    parents = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  # ten times a second
        if name.isdecimal():
            # The name of a program, in brackets, may hold anything; after it come the state and the parent.
            fields = _read(f"/proc/{name}/stat").rpartition(")")[2].split()
            if fields:
                parents[int(name)] = int(fields[1])
    children: dict[int, list[int]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    tasks = memory = 0
    ahead = [pid]
    while ahead:
        one = ahead.pop()
        ahead += children.get(one, ())
        status = dict(line.split(":", 1) for line in _read(f"/proc/{one}/status").splitlines() if ":" in line)
        tasks += int(status.get("Threads", "0"))
        memory += sum(int(status.get(key, "0 kB").split()[0]) << 10 for key in ("RssAnon", "RssShmem"))
    return tasks, memory


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:  # it has ended meanwhile
        return ""
