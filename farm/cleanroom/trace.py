"""Which instruction was it? Read QEMU's record of system calls and find the file and place behind an address.

`QEMU_LOG=strace` makes user emulation write each system call and each signal with its address. Libraries are
mapped by calls of the program's own loader, so the record tells which file was where; the program itself is
mapped by QEMU.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

_OPENED = re.compile(rb'(\d+) openat\(AT_FDCWD,"([^"]+)",[^)]*\) = (\d+)')
_MAPPED = re.compile(rb"(\d+) mmap\([^,]+,(\d+),[^,]*,[^,]*,(\d+),(0x[0-9a-f]+|\d+)\) = 0x([0-9a-f]+)")
_STARTED = re.compile(rb'execve\("([^"]+)"')
_SIGILL = re.compile(rb"--- SIGILL \{.*?si_addr=0x([0-9a-f]+)")
_LONGEST_LINE: Final = 16 << 10
_MOST_MAPPINGS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Spot:
    """An address, as a place in a file inside the room; ``path`` is empty where no library is mapped."""

    address: int
    path: str
    offset: int


@dataclass(slots=True)
class Trace:
    """Follows the record of one run, its children included, as it is written."""

    program: str
    spots: list[Spot] = field(default_factory=list)
    _open: dict[tuple[bytes, bytes], str] = field(default_factory=dict)
    _mapped: list[tuple[int, int, int, str]] = field(default_factory=list)

    def feed(self, line: bytes) -> None:
        """Take one line. Threads write at once, so a line may begin within another one."""
        if match := _OPENED.search(line):
            self._open[match[1], match[3]] = match[2].decode(errors="replace")
        elif match := _MAPPED.search(line):
            path = self._open.get((match[1], match[3]))
            if path is not None and len(self._mapped) < _MOST_MAPPINGS:
                start = int(match[5], 16)
                self._mapped.append((start, start + int(match[2]), int(match[4], 0), path))
        elif match := _STARTED.search(line):
            self.program = match[1].decode(errors="replace")
        elif match := _SIGILL.search(line):
            self.spots.append(self._spot(int(match[1], 16)))

    def _spot(self, address: int) -> Spot:
        for start, end, offset, path in reversed(self._mapped):
            if start <= address < end:
                return Spot(address, path, address - start + offset)
        return Spot(address, "", 0)


@contextmanager
def tracing(pipe: Path, program: str) -> Iterator[Trace]:
    """Make a named pipe for QEMU's record and follow it until the block ends.

    A pipe, for a program may write whatever it likes to it: nothing is kept but what is found.
    """
    os.mkfifo(pipe)
    pipe.chmod(0o666)  # whoever writes is another user
    # Opened for both, so that neither side waits for the other to open it, and writers may come and go.
    stream = os.fdopen(os.open(pipe, os.O_RDWR), "rb", buffering=0)
    trace = Trace(program)
    end = b"\nend of record %d\n" % threading.get_ident()
    thread = threading.Thread(target=_follow, args=(stream, trace, end.strip()), daemon=True)
    thread.start()
    try:
        yield trace
    finally:
        writer = os.open(pipe, os.O_WRONLY)
        os.write(writer, end)
        os.close(writer)
        thread.join()
        stream.close()
        pipe.unlink()


def _follow(stream: BinaryIO, trace: Trace, end: bytes) -> None:
    rest = b""
    while True:
        *lines, rest = (rest + stream.read(1 << 16)).split(b"\n")
        for line in lines:
            if line == end:
                return
            trace.feed(line[:_LONGEST_LINE])
        rest = rest[-_LONGEST_LINE:]
