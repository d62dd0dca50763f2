"""Builds as units of a real systemd: what every executor must do, limits, and what builds outlive."""

from __future__ import annotations

import itertools
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from farm.doctor import Level
from farm.doctor.timers import timers
from farm.executor import AttemptState, Launch, Limits, Result, ssh
from farm.executor.ssh import FARM_NODE, SshExecutor
from farm.node.process import start_time
from farm.nodes import Address, Node
from tests.integration import controllerkit
from tests.integration.conformance import Launching
from tests.integration.nodekit import until
from tests.integration.placekit import Follower, shell, started
from tests.integration.proxykit import Proxy
from tests.integration.sandboxed import HostileBuilds, install_builder
from tests.integration.systemdkit import DRIVER, HERE, HOME, REPOSITORY, USER, Machine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="User Mode Linux exists for x86 only"),
]
MIB = 2**20
TIMERS_PLAY = HERE / "timers.yml"
EATER = "python3 -c 'x = bytearray(400 << 20)'"
numbers = itertools.count()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("systemd"))
    try:
        machine.create()
        machine.boot()
        machine.install_gcc("14.2.0")
        machine.provision()
        install_builder(machine)
        # The harshest setting: whatever a session leaves is killed at its end.
        machine.ssh("mkdir -p /etc/systemd/logind.conf.d")
        machine.ssh("printf '[Login]\\nKillUserProcesses=yes\\n' >/etc/systemd/logind.conf.d/kill.conf")
        machine.ssh(f"systemctl restart systemd-logind; cat >/var/tmp/driver.py <<'END'\n{DRIVER}\nEND")
        yield machine
    finally:
        machine.destroy()


@dataclass
class BoardPlace:
    """A root of its own on the board, behind a proxy."""

    board: Machine
    proxy: Proxy
    name: str
    made: list[SshExecutor] = field(default_factory=list)

    @property
    def root(self) -> str:
        return f"{HOME}/{self.name}"

    @property
    def node(self) -> Node:
        known_hosts = self.board.directory / f"known_hosts_{self.name}"
        text = (self.board.directory / "known_hosts").read_text()
        known_hosts.write_text(text.replace(f":{self.board.port} ", f":{self.proxy.port} "))
        key = self.board.directory / "key"
        return Node(
            Address("board", "127.0.0.1", self.proxy.port, USER, key, known_hosts), slots=1, root=self.root
        )

    def executor(self) -> SshExecutor:
        self.made.append(SshExecutor(self.node))
        return self.made[-1]

    def controller(self, launch: Launch) -> subprocess.Popen[bytes]:
        return controllerkit.spawn(self.node, FARM_NODE, launch)

    def cut_link(self) -> None:
        self.proxy.go_silent()

    def kill_agents(self) -> None:
        self.board.ask("kill_agents", self.root)

    def restart_sshd(self) -> None:
        self.board.ask("end_sessions")

    def kill_supervisor(self, attempt_id: str) -> None:
        self.board.ask("kill_supervisor", self.root, attempt_id)

    def alive(self, pids: Iterable[int]) -> set[int]:
        return set(self.board.ask("alive", *pids))

    def folder(self) -> str:
        return f"/var/tmp/{self.name}"  # noqa: S108  # on the board

    def touch(self, path: str) -> None:
        self.board.ask("touch", path)

    def shell(self, script: str) -> str:
        said = self.board.ask("shell", script)
        assert isinstance(said, str)
        return said


@pytest.fixture
def place(board: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardPlace]:
    # What a dead link costs.
    monkeypatch.setattr(ssh, "ANSWER_S", 5.0)
    proxy = Proxy(board.port)
    found = BoardPlace(board, proxy, f"place-{next(numbers)}")
    board.ask("make_place", found.root, found.folder())
    yield found
    for executor in found.made:
        executor.close()
    proxy.close()
    board.ask("end_place", found.root)


def result_of(place: BoardPlace, launch: Launch) -> tuple[Result, str]:
    follower = started(place.executor(), launch)
    return follower.result(), follower.log.decode()


class TestUnits(Launching):
    """The rest of the conformance tests does the same as with a forked supervisor (test_ssh_executor.py)."""


class TestHostileBuilds(HostileBuilds):
    """Memory and processes are limited by the unit, everything else by the sandbox in it."""


def test_f12_builds_are_units_and_only_another_compiler_is_measured_again(place: BoardPlace) -> None:
    board = place.board
    facts = place.executor().prepare()
    assert facts.units == ""
    known = board.calibration()
    assert facts.speed == known["speed"] > 0
    assert known["cores"] == 1
    # Its owner is root: a build could not make its board look fast.
    assert board.ssh("stat -c '%U %a' /etc/wheelfarm/calibration.json").split() == ["root", "644"]
    board.install_gcc("14.3.0")
    follower = started(place.executor(), shell("lasting", "sleep 600"))
    recap = board.provision()
    assert re.search(r"changed=1 ", recap), "another compiler is measured, and nothing else is done"
    assert "14.3.0" in board.calibration()["toolchain"]
    assert follower.executor.list() == {"lasting.1": AttemptState.RUNNING}


def test_what_is_missing_is_said_and_builds_run_without_it(place: BoardPlace) -> None:
    linger = f"/var/lib/systemd/linger/{USER}"
    place.shell(f"mv {linger} /var/tmp/away")
    try:
        executor = place.executor()
        assert executor.prepare().units == f"linger is off for {USER}"
        result, log = result_of(place, shell("forked", "cat /proc/self/cgroup"))
        assert (result.failure, result.peak_of_tree) == (None, False)
        assert "/session-" in log
    finally:
        place.shell(f"mv /var/tmp/away {linger}")


def test_an_attempt_is_a_unit_with_the_sessions_environment(place: BoardPlace) -> None:
    script = 'cat /proc/self/cgroup /proc/self/oom_score_adj /proc/$PPID/oom_score_adj; echo "$PATH|$HOME"'
    result, log = result_of(place, shell("what+is_it", script))
    assert result.failure is None
    cgroup, mine, supervisors, environment = log.splitlines()[1:5]
    assert re.search(r"/user@\d+\.service/.*/wheelfarm-what_is_it\.1-[0-9a-f]{12}\.service$", cgroup)
    assert (mine, supervisors) == ("1000", "100")
    assert environment == f"{place.board.ssh('echo $PATH', USER).strip()}|/home/{USER}"


def test_who_takes_more_than_his_width_takes_it_from_nobody(board: Machine) -> None:
    folder = "/var/tmp/shares"  # noqa: S108  # on the board
    board.ssh(f"install -d -o {USER} {folder}")
    script = f"""
        touch {folder}/NAME; while [ ! -e {folder}/go ]; do sleep 0.1; done
        for _ in 1 2 3 4; do (while [ ! -e {folder}/stop ]; do :; done) & done; wait
        grep usage_usec /sys/fs/cgroup$(cut -d: -f3- /proc/self/cgroup)/cpu.stat
    """
    for name, shares in (("narrow", 1), ("wide", 3)):
        board.start(name, script.replace("NAME", name), shares=shares)
    until(lambda: board.ssh(f"ls {folder}").split() == ["narrow", "wide"], "both to wait")
    board.ssh(f"touch {folder}/go; sleep 8; touch {folder}/stop")
    ended = [board.ended(name)["result"] for name in ("narrow", "wide")]
    narrow, wide = (int(board.log(name).split()[-1]) for name in ("narrow", "wide"))
    assert ended == ["success", "success"]
    # On a slow machine they begin apart, and who is alone has all.
    assert 1.6 * narrow < wide < 6 * narrow, f"three shares against one: {wide / narrow:.2f}"


def test_a_wider_build_has_more_memory_processes_and_shares(place: BoardPlace) -> None:
    script = """
        group=/sys/fs/cgroup$(cut -d: -f3- /proc/self/cgroup); cd $group; echo begun
        while [ $(cat cpu.weight) != 4 ]; do sleep 0.1; done; cat memory.max pids.max
    """
    executor = place.executor()
    follower = started(executor, shell("wide", script, memory_bytes=100 * MIB, processes=50))
    follower.follow(b"begun")
    assert executor.widen("wide.1", 4, Limits(60, memory_bytes=400 * MIB, processes=200))
    assert follower.result().failure is None
    numbers = [line for line in follower.log.decode().splitlines() if line.isdecimal()]
    assert numbers == [f"{400 * MIB}", "200"]


def test_f25_an_eater_is_of_class_memory_and_its_neighbour_lives(place: BoardPlace) -> None:
    neighbour = started(place.executor(), shell("neighbour", "sleep 600"))
    # The shell hides how it ended: the kernel's count tells.
    result, log = result_of(place, shell("eater", f"{EATER} || exit 1", memory_bytes=100 * MIB))
    assert result.failure == "memory"
    assert "limit of 100 MiB" in result.message
    assert "[farm] finished: memory" in log
    assert neighbour.executor.list()["neighbour.1"] is AttemptState.RUNNING


def test_f25_a_supervisor_that_dies_with_its_compiler_is_of_class_memory(place: BoardPlace) -> None:
    result, _ = result_of(place, shell("both", f"{EATER}; kill -9 $PPID", memory_bytes=100 * MIB))
    assert (result.failure, result.message) == ("memory", "the kernel ended it at its limit of memory")
    assert result.duration_s > 0


def test_f25_what_files_take_is_no_peak(place: BoardPlace) -> None:
    holder = "python3 -c 'import time; x = bytearray(40 << 20); time.sleep(4)'"
    script = f"{holder} & {holder} & head -c 200M /dev/zero >big; wait"
    result, _ = result_of(place, shell("files", script, memory_bytes=150 * MIB))
    assert (result.failure, result.peak_of_tree) == (None, True)
    assert result.peak_memory_bytes is not None
    assert 80 * MIB < result.peak_memory_bytes < 130 * MIB
    kept = place.shell(f"until cat {place.root}/jobs/files.1/ended 2>/dev/null; do sleep 0.1; done")
    peak = re.search(r"^memory_peak (\d+)$", kept, re.MULTILINE)
    assert peak is not None
    assert int(peak[1]) > 149 * MIB, "what the kernel calls a peak has the file in it"


def test_a_build_that_starts_processes_without_end_is_stopped(place: BoardPlace) -> None:
    # By posix_spawn: User Mode Linux 6.12 breaks down when a plain fork is refused.
    bomb = """
import os
while True:
    os.posix_spawn("/usr/bin/sleep", ["sleep", "599"], os.environ)
"""
    place.shell(f"cat >{place.folder()}/bomb.py <<'END'\n{bomb}\nEND")
    result, log = result_of(place, shell("bomb", f"exec python3 {place.folder()}/bomb.py", processes=30))
    assert result.failure == "build"
    assert "more than 30 processes" in result.message
    assert "BlockingIOError" in log
    assert not place.board.lives("sleep.599")


def test_f30_what_does_not_react_ends_although_nobody_looks(board: Machine) -> None:
    # A unit, without an attempt: its limit is a minute later than its supervisor's.
    assert board.start("hang", "trap '' TERM; (sleep 598 &); sleep 598; sleep 598", runtime_s=3, grace_s=2)
    until(lambda: not board.lives("sleep.598"), "systemd to end it")
    ended = board.ended("hang")
    assert (ended["phase"], ended["result"], ended["failure"]) == ("ended", "timeout", "timeout")


def test_f10_a_build_outlives_what_a_logout_kills(place: BoardPlace) -> None:
    follower = started(place.executor(), shell("lasting", "sleep 2; echo pids $$; sleep 600"))
    # What it would be without systemd, for comparison: the setting is in force.
    place.board.ssh("setsid sleep 595 >/dev/null 2>&1 </dev/null &", USER)
    place.restart_sshd()
    until(lambda: not place.board.lives("sleep.595"), "logind to end what the session left")
    follower.follow(b"\npids ")
    assert place.alive(follower.pids())


@pytest.mark.parametrize("how", ["reboot", "power cut"])
def test_f12_after_a_restart_a_cut_off_build_is_known_and_new_ones_run(place: BoardPlace, how: str) -> None:
    executor = place.executor()
    cut_off = shell("cut", "echo pids $$; sleep 594")
    follower = started(executor, cut_off)
    follower.follow(b"\npids ")
    started(executor, shell("before", "true")).result()
    executor.close()
    place.shell("sync")
    if how == "reboot":
        place.board.reboot()
    else:
        place.board.power_off()
        place.board.boot()
    executor = place.executor()
    assert executor.prepare().units == ""
    executor.start(cut_off)
    (item,) = executor.poll({"cut.1": 0}).progress
    assert item.log.count(b"\npids ") == 1, "it runs once"
    if how == "reboot":
        assert item.result is not None
        assert item.result.failure == "node", "a shutdown asks it to end like any other unit"
    else:
        assert item.state is AttemptState.LOST
    before = Follower(executor, "before.1").follow()
    assert before.result is not None
    assert before.result.failure is None
    assert started(executor, shell("after", "true")).result().failure is None


def test_the_machines_network_ends_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.integration.systemdkit import Machine\n"
        "machine = Machine(Path(sys.argv[1])); machine.create()\n"
        "print(machine._relays[0].pid, machine.port, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as run:
        assert run.stdout is not None
        relay, port = map(int, run.stdout.readline().split())
        assert start_time(relay)
        assert (
            "198.19." not in subprocess.run(["ip", "addr"], check=True, capture_output=True, text=True).stdout
        )
        run.kill()
    until(lambda: not start_time(relay), "the kernel to end the relay")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_farms_own_timers(board: Machine) -> None:
    """roles/farm_timers on a machine that systemd runs: set up, run, seen by the doctor, and removed."""
    board.ssh(
        "cat >/usr/local/bin/farm <<'END'\n#!/bin/sh\necho \"$FARM_INVENTORY $*\" >>/var/tmp/farm-calls\n"
        'test "$2" != refresh\nEND\nchmod 755 /usr/local/bin/farm; rm -f /var/tmp/farm-calls'
    )
    assert "changed=0" not in board.play(TIMERS_PLAY)
    assert "changed=0" in board.play(TIMERS_PLAY), "a second run changes nothing"
    verified = board.try_ssh("systemd-analyze verify /etc/systemd/system/farm-*.service")
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    board.ssh("systemctl start farm-index-try.service")
    board.try_ssh("systemctl start farm-index-refresh.service")
    board.ssh("systemctl start farm-doctor.service")
    calls = [f"/srv/site {call}" for call in ("index try", "index refresh", "doctor --quiet")]
    assert board.ssh("cat /var/tmp/farm-calls").splitlines() == calls

    def shown(unit: str) -> dict[str, str]:
        lines = board.ssh(f"systemctl show --no-pager {unit}").splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    found = {check.name: check for check in timers(shown, Path("/"))}
    assert found["timer farm-index-try"].level is Level.OK
    assert found["timer farm-index-refresh"].level is Level.FAIL
    assert "exit-code, code 1" in found["timer farm-index-refresh"].evidence
    board.play(TIMERS_PLAY, farm_timers_refresh="", farm_timers_try="", farm_timers_doctor="")
    assert board.ssh("ls /etc/systemd/system | grep -c ^farm- || :").strip() == "0"
    assert not any(check.level is Level.OK for check in timers(shown, Path("/")))
