"""A place where attempts run, with ways to hurt it; and who follows an attempt there as a controller does."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterable
from typing import Protocol

from farm.errors import LyingNodeError, NodeError
from farm.executor import AttemptState, Command, Executor, Launch, Limits, Progress, Result
from tests.integration.nodekit import DEADLINE_S

LINES = 400


class Place(Protocol):
    """One node, and ways to hurt it. Paths are the node's own."""

    def executor(self) -> Executor:
        """A new executor for it; the place closes it in the end."""

    def controller(self, launch: Launch) -> subprocess.Popen[bytes]:
        """A process of its own that starts the attempt and polls for ever."""

    def cut_link(self) -> None:
        """Let open links forward nothing more, without closing them."""

    def kill_agents(self) -> None:
        """SIGKILL what answers controllers on the node, supervisors not included."""

    def restart_sshd(self) -> None:
        """End the node's server and all its sessions, and start it again."""

    def kill_supervisor(self, attempt_id: str) -> None:
        """SIGKILL an attempt's supervisor."""

    def alive(self, pids: Iterable[int]) -> set[int]:
        """Those of the processes that live on the node."""

    def folder(self) -> str:
        """A folder that attempts can write to."""

    def touch(self, path: str) -> None:
        """Make a file."""


def shell(
    name: str,
    script: str,
    *,
    time_s: float = 120,
    disk_bytes: int = 0,
    memory_bytes: int | None = None,
    processes: int | None = None,
) -> Launch:
    limits = Limits(time_s, memory_bytes, processes, disk_bytes)
    return Launch(f"{name}.1", Command(("sh", "-c", script)), limits)


class Follower:
    """Follows one attempt as a controller does: polls from its offset, and repeats what failed."""

    def __init__(self, executor: Executor, attempt_id: str) -> None:
        self.executor = executor
        self.attempt_id = attempt_id
        self.log = b""
        self.errors = 0

    def step(self, wait_s: float = 0.5) -> Progress | None:
        try:
            progress = self.executor.poll({self.attempt_id: len(self.log)}, wait_s).progress
        except LyingNodeError:
            raise
        except NodeError:
            self.errors += 1
            time.sleep(0.05)
            return None
        for item in progress:
            self.log += item.log
            assert item.offset == len(self.log)
        return progress[0] if progress else None

    def follow(self, until_text: bytes = b"\0never") -> Progress:
        """Follow until the log has a text, or the attempt has ended and all its log is here."""
        end = time.monotonic() + 2 * DEADLINE_S
        while time.monotonic() < end:
            item = self.step()
            if item and (until_text in self.log or (item.state != AttemptState.RUNNING and not item.more)):
                return item
        raise AssertionError(f"{self.attempt_id} did not get there: {self.log!r}")

    def result(self) -> Result:
        item = self.follow()
        assert item.state is AttemptState.FINISHED
        assert item.result is not None
        return item.result

    def pids(self) -> list[int]:
        """The process ids that the attempt printed as `pids 1 2 3`."""
        (line,) = [line for line in self.log.decode().splitlines() if line.startswith("pids ")]
        return [int(word) for word in line.split()[1:]]


def seeded(seed: str | int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # it chooses moments, the same in every run


def started(executor: Executor, launch: Launch) -> Follower:
    executor.start(launch)
    return Follower(executor, launch.attempt_id)


def insist(executor: Executor, launch: Launch) -> None:
    """Start until it is not refused, as a controller does."""
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            executor.start(launch)
        except NodeError:
            assert time.monotonic() < end
        else:
            return


# Prints the numbers of: itself, a child that ignores SIGTERM, a daemon with a session and parent of its own.
FAMILY = """
(trap '' TERM; while :; do sleep 1; done) & stubborn=$!
setsid sh -c 'sleep 600 & echo $! >"$0"' {folder}/daemon.{name}.partial </dev/null >/dev/null 2>&1
mv {folder}/daemon.{name}.partial {folder}/daemon.{name}
echo pids $$ $stubborn $(cat {folder}/daemon.{name})
{end}
"""


def family(place: Place, name: str, end: str = "wait", **limits: float) -> Launch:
    return shell(name, FAMILY.format(folder=place.folder(), name=name, end=end), **limits)  # type: ignore[arg-type]


def counting(name: str) -> Launch:
    return shell(name, f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); sleep 0.01; done")


def assert_whole(follower: Follower) -> None:
    """Nothing of `counting` is lost and nothing is there twice."""
    lines = [line for line in follower.log.decode().splitlines() if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(LINES)]
