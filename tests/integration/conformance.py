"""What every executor must do, whatever it runs on: a test class to inherit from, and a place to run it.

A subclass has a fixture ``place``; what it gives says where attempts run and how to hurt that place.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pytest

from farm.errors import LyingNodeError, NodeError
from farm.executor import AttemptState, Command, Executor, Launch, Limits, NodeFile, Progress, Result
from tests.integration.nodekit import DEADLINE_S, until

KILLS = 6
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


class Launching:
    """What depends on how a supervisor gets to run."""

    def test_prepare_says_what_it_is(self, place: Place) -> None:
        facts = place.executor().prepare()
        assert facts.cores > 0
        assert facts.memory_bytes > facts.cores
        assert facts.boot_id
        assert facts.selftest == ""
        assert abs(facts.clock - time.time()) < 60

    def test_a_life(self, place: Place, tmp_path: Path) -> None:
        executor = place.executor()
        vitals = executor.start(shell("life", "echo hello; echo wheel >wheelhouse/a.whl"))
        assert vitals.toolchain
        assert vitals.memory_available_bytes > 0
        follower = Follower(executor, "life.1")
        result = follower.result()
        assert (result.failure, result.message) == (None, "")
        assert b"hello\n" in follower.log
        assert result.peak_memory_bytes
        assert executor.list() == {"life.1": AttemptState.FINISHED}
        (file,) = result.wheels
        assert executor.collect("life.1", file, tmp_path / "new").read_text() == "wheel\n"
        executor.forget("life.1")
        executor.forget("life.1")
        assert executor.list() == {}
        (progress,) = executor.poll({"life.1": 0}).progress
        assert progress.state is AttemptState.UNKNOWN

    def test_f10_starting_again_starts_nothing(self, place: Place) -> None:
        gate = f"{place.folder()}/gate"
        launch = shell("twice", f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done")
        executors = [place.executor() for _ in range(3)]
        for executor in executors:
            executor.list()
        threads = [threading.Thread(target=executor.start, args=[launch]) for executor in executors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        executors[0].start(launch)
        follower = Follower(executors[0], "twice.1")
        follower.follow(b"begun")
        assert executors[1].list() == {"twice.1": AttemptState.RUNNING}
        with pytest.raises(NodeError, match="still runs"):
            executors[1].forget("twice.1")
        place.touch(gate)
        assert follower.result().failure is None
        executors[2].start(launch)
        assert follower.result().failure is None
        assert follower.log.count(b"begun\n") == 1

    def test_an_end_is_seen_at_once_and_output_soon(self, place: Place) -> None:
        executor = place.executor()
        gate = f"{place.folder()}/gate"
        script = f"while [ ! -e {gate} ]; do sleep 0.02; done; echo $(date +%s.%N); sleep 1; date +%s.%N"
        follower = started(executor, shell("soon", script))
        began = time.monotonic()
        follower.follow(b"$ sh")
        assert executor.poll({"soon.1": len(follower.log)}, 0.5).progress == []
        assert time.monotonic() - began >= 0.5
        place.touch(gate)
        follower.follow(b".")
        lag = time.time() - float(follower.log.decode().splitlines()[-1])
        assert lag < 0.5 + 0.2, "gathered for 0.2 s; the rest is what a busy machine adds"
        follower.result()
        lag = time.time() - float(follower.log.decode().splitlines()[-2])
        assert lag < 0.5

    def test_cancel_ends_the_whole_tree(self, place: Place) -> None:
        executor = place.executor()
        follower = started(executor, family(place, "tree"))
        follower.follow(b"\npids ")
        assert place.alive(follower.pids()) == set(follower.pids())
        executor.cancel("tree.1")
        assert place.alive(follower.pids()) == set()
        assert follower.result().failure == "cancelled"
        executor.cancel("tree.1")
        executor.cancel("nosuch.1")
        assert follower.result().failure == "cancelled"

    def test_nothing_of_an_attempt_lives_on_when_it_ended(self, place: Place) -> None:
        follower = started(place.executor(), family(place, "left", "exit 0"))
        assert follower.result().failure is None
        assert place.alive(follower.pids()) == set()

    def test_a_killed_supervisor_is_told_as_lost_and_its_tree_ends(self, place: Place) -> None:
        executor = place.executor()
        for name, end in (("one", executor.forget), ("two", executor.cancel)):
            follower = started(executor, family(place, name))
            follower.follow(b"\npids ")
            place.kill_supervisor(f"{name}.1")
            assert follower.follow().state is AttemptState.LOST
            end(f"{name}.1")
            assert place.alive(follower.pids()) == set()
        assert executor.list() == {"two.1": AttemptState.FINISHED}
        assert follower.result().failure == "cancelled"

    def test_f30_the_node_ends_what_takes_too_long_without_a_controller(self, place: Place) -> None:
        executor = place.executor()
        follower = started(executor, family(place, "long", time_s=2))
        follower.follow(b"\npids ")
        executor.close()
        until(lambda: not place.alive(follower.pids()), "the time limit")
        follower.executor = place.executor()
        result = follower.result()
        assert (result.failure, result.message) == ("timeout", "not done after 2 s")

    def test_f25_a_killed_compiler_asks_for_more_memory(self, place: Place) -> None:
        executor = place.executor()
        text = "fatal error: Killed signal terminated program cc1plus"
        scripts = {"sig": "kill -9 $$", "code": "exit 137", "text": f"echo 'g++: {text}' >&2; exit 1"}
        for name, script in scripts.items():
            assert started(executor, shell(name, script)).result().failure == "memory"

    @pytest.mark.parametrize("hurt", ["kill_agents", "restart_sshd", "cut_link"])
    def test_f10_an_attempt_outlives_what_happens_to_its_link(self, place: Place, hurt: str) -> None:
        dice = seeded(hurt)
        follower = started(place.executor(), counting("hurt"))
        over = threading.Event()

        def hurts() -> None:
            for _ in range(KILLS if hurt != "cut_link" else 2):
                if over.wait(dice.uniform(0.1, 0.7)):
                    return
                getattr(place, hurt)()

        thread = threading.Thread(target=hurts)
        thread.start()
        try:
            result = follower.result()
        finally:
            over.set()
            thread.join()
        assert result.failure is None
        assert_whole(follower)
        assert follower.errors > 0

    def test_f10_starts_that_are_cut_off_run_once(self, place: Place) -> None:
        dice = seeded(11)
        executor = place.executor()
        for number in range(8):
            launch = shell(f"cut{number}", "echo ran")
            timer = threading.Timer(dice.uniform(0, 0.015), place.kill_agents)
            timer.start()
            for _ in range(3):
                with contextlib.suppress(NodeError):
                    executor.start(launch)
            timer.join()
            insist(executor, launch)
            follower = Follower(executor, launch.attempt_id)
            assert follower.result().failure is None
            assert follower.log.count(b"\nran\n") == 1


class Conformance(Launching):
    """All that every executor must do."""

    def test_a_failing_command_is_told_with_its_log(self, place: Place) -> None:
        follower = started(place.executor(), shell("bad", "echo why >&2; exit 3"))
        result = follower.result()
        assert result.failure == "build"
        assert "code 3" in result.message
        assert b"why\n" in follower.log

    def test_a_waiting_poll_can_be_woken(self, place: Place) -> None:
        executor = place.executor()
        follower = started(executor, shell("wake", "sleep 60"))
        follower.follow(b"$ sh")
        for before in (0.0, 0.3):  # before the poll begins, and while it waits
            timer = threading.Timer(before, executor.wake)
            timer.start()
            if not before:
                timer.join()
            began = time.monotonic()
            assert executor.poll({"wake.1": len(follower.log)}, 20).progress == []
            assert time.monotonic() - began < 5
        executor.cancel("wake.1")

    def test_a_poll_can_be_left_and_taken_when_it_is_ready(self, place: Place) -> None:
        executor, ready = place.executor(), threading.Event()
        follower = started(executor, shell("left", "sleep 60"))
        follower.follow(b"$ sh")
        offsets = {"left.1": len(follower.log)}
        assert executor.ask(offsets, 20, ready.set) > 20
        assert not ready.wait(0.3)
        executor.wake()
        assert ready.wait(5)
        assert executor.poll(offsets, 20).progress == []
        # A left poll is in nobody's way, and ends with its connection.
        executor.ask(offsets, 20, lambda: None)
        executor.cancel("left.1")
        ready.clear()
        executor.ask({}, 20, ready.set)
        executor.close()
        assert ready.wait(5)
        with pytest.raises(NodeError):
            executor.poll({}, 20)

    def test_a_log_is_complete_from_any_offset(self, place: Place) -> None:
        executor = place.executor()
        follower = started(executor, shell("log", "seq 1 60000"))
        follower.result()
        again = b""
        while part := executor.read_log("log.1", len(again)):
            again += part
        assert again == follower.log
        assert [line for line in again.decode().splitlines() if line.isdecimal()] == [
            str(number) for number in range(1, 60001)
        ]

    def test_f21_too_little_disk_is_the_nodes_failure(self, place: Place) -> None:
        result = started(place.executor(), shell("disk", "echo ran", disk_bytes=1 << 60)).result()
        assert result.failure == "node"
        assert "of disk are free" in result.message

    @pytest.mark.parametrize("name", ["../evil", "/etc/passwd", ".hidden", "a/b", ".."])
    def test_a_path_is_no_file_name(self, place: Place, tmp_path: Path, name: str) -> None:
        executor = place.executor()
        follower = started(executor, shell("name", "true"))
        follower.result()
        with pytest.raises(LyingNodeError, match="not a plain file name"):
            executor.collect("name.1", NodeFile(name, 1, "0" * 64), tmp_path / "got")
        assert not (tmp_path / "got").exists()

    def test_a_file_that_changed_is_refused(self, place: Place, tmp_path: Path) -> None:
        executor = place.executor()
        (file,) = started(executor, shell("lie", "seq 100000 >wheelhouse/a.whl")).result().wheels
        for lie in (
            NodeFile("a.whl", file.size, "0" * 64),
            NodeFile("a.whl", file.size - 1, file.sha256),
            NodeFile("a.whl", file.size + 1, file.sha256),
            NodeFile("b.whl", file.size, file.sha256),
        ):
            with pytest.raises(LyingNodeError):
                executor.collect("lie.1", lie, tmp_path / "got")
            assert list((tmp_path / "got").iterdir()) == []
        executor.collect("lie.1", file, tmp_path / "got")

    def test_f10_an_attempt_outlives_its_controllers(self, place: Place) -> None:
        dice = seeded(10)
        launch = counting("killed")
        for _ in range(KILLS):
            controller = place.controller(launch)
            time.sleep(dice.uniform(0.3, 1.2))
            controller.kill()
            controller.wait()
        executor = place.executor()
        executor.start(launch)
        follower = Follower(executor, "killed.1")
        assert follower.result().failure is None
        assert_whole(follower)
        assert set(executor.list()) == {"killed.1"}
