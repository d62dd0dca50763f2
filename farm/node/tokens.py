"""How many tasks of a build may run at once: tokens in two pipes, to which more can be added while it runs.

``jobserver`` is make's (GNU make 4.4's manual, "POSIX Jobserver Interaction", the form ``fifo:``), for make,
ninja and cargo: each of them has one task for nothing and takes a byte for each further one. ``compilers`` is
for the wrapper that stands in front of gcc and g++, whoever starts it: setuptools knows no jobserver, and a
project may count the board's cores. It takes a byte for each compilation; a byte is a line, since a shell
reads lines. They are two, so that who holds a token of make's and waits for a compiler waits for compilers
alone, and these end.

A build could write tokens of its own. It gains nothing by it: its unit's memory and share of the processors
are the kernel's to keep.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

# Of make, the first that speaks this; of ninja, likewise. Others are told a number once and for all.
MAKE = (4, 4)
NINJA = (1, 13)
VERSION = re.compile(r"(\d+)\.(\d+)")


class Tokens:
    """The pipes of one build, held open here, so that what is in them stays while nobody reads."""

    def __init__(self, folder: Path, width: int) -> None:
        self.jobserver, self.compilers = folder / "jobserver", folder / "compilers"
        self._pipes = {path: _made(path) for path in (self.jobserver, self.compilers)}
        self._width = 1
        os.write(self._pipes[self.compilers], b"\n")
        self.widen(width)

    def widen(self, width: int) -> None:
        """Let ``width`` tasks run at once; never less than before."""
        more, self._width = width - self._width, max(width, self._width)
        if more > 0:
            # A build may have filled them: then it has what it wants.
            for path, token in ((self.jobserver, b"+"), (self.compilers, b"\n")):
                with contextlib.suppress(BlockingIOError):
                    os.write(self._pipes[path], token * more)

    def makeflags(self, cores: int) -> str:
        """Return what make puts into MAKEFLAGS for those that it starts."""
        return f" -j{cores} --jobserver-auth=fifo:{self.jobserver}"

    def close(self) -> None:
        """Let go of the pipes."""
        for pipe in self._pipes.values():
            os.close(pipe)


def at_least(wanted: tuple[int, int], version: str) -> bool:
    """Return whether a program whose ``--version`` says this is new enough; False if it says nothing."""
    found = VERSION.search(version)
    return found is not None and tuple(map(int, found.groups())) >= wanted


def _made(path: Path) -> int:
    os.mkfifo(path, 0o600)
    # For reading, too: to open it for writing alone would wait for a reader. Not blocking: a pipe holds
    # 64 KiB, no board has so many cores, and the supervisor must never wait for a build.
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
