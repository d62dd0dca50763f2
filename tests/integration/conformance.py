"""What every executor must do, whatever it runs on: a test class to inherit from, and a place to run it.

A subclass has a fixture ``place``; what it gives says where attempts run and how to hurt that place.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest

from farm.errors import LyingNodeError, NodeError
from farm.executor import AttemptState, Limits, NodeFile
from tests.integration.nodekit import until
from tests.integration.placekit import (
    Follower,
    Place,
    assert_whole,
    counting,
    family,
    insist,
    seeded,
    shell,
    started,
)

KILLS = 6


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

    def test_a_running_attempt_is_widened_and_nothing_else(self, place: Place) -> None:
        executor = place.executor()
        assert not executor.widen("wide.1", 4, Limits(60))
        gate = f"{place.folder()}/gate"
        follower = started(executor, shell("wide", f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done"))
        follower.follow(b"begun")
        limits = Limits(60, memory_bytes=1 << 30, processes=600)
        assert executor.widen("wide.1", 4, limits)
        assert place.executor().widen("wide.1", 4, limits), "repeated after a broken link"
        place.touch(gate)
        assert follower.result().failure is None
        assert not executor.widen("wide.1", 8, limits)

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
