"""Builds as units of a real systemd: limits, what ends them, and what they outlive."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator

import pytest

from tests.integration.systemdkit import DRIVER, USER, Machine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="User Mode Linux exists for x86 only"),
]
MIB = 2**20
# A word in the command line of each process that a test looks for.
EATER = "python3 -c 'x = bytearray(400 << 20)'"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("systemd"), os.getpid() % 65536)
    machine.create()
    try:
        machine.boot()
        machine.install_gcc("14.2.0")
        machine.provision()
        machine.ssh(f"cat >/var/tmp/driver.py <<'END'\n{DRIVER}\nEND")
        yield machine
    finally:
        machine.destroy()


def test_f12_provisioning_makes_units_usable_and_a_second_run_changes_nothing(board: Machine) -> None:
    assert board.unit("why_not") == ""
    known = board.calibration()
    assert known["speed"] > 0
    assert known["cores"] == 1
    recap = board.provision()
    assert re.search(r"changed=0 ", recap), recap
    assert board.calibration() == known
    # Its owner is root: a build could not make its board look fast.
    assert board.ssh("stat -c '%U %a' /etc/wheelfarm/calibration.json").split() == ["root", "644"]


def test_what_is_missing_is_said(board: Machine) -> None:
    board.ssh(f"mv /var/lib/systemd/linger/{USER} /var/lib/systemd/{USER}.away")
    try:
        assert board.unit("why_not") == f"linger is off for {USER}"
    finally:
        board.ssh(f"mv /var/lib/systemd/{USER}.away /var/lib/systemd/linger/{USER}")


def test_a_unit_runs_once_and_its_log_environment_and_record_are_kept(board: Machine) -> None:
    script = 'echo "$HOME $1 50% $$"; sleep 2; exit 3'
    assert board.start("plain", script, memory_bytes=64 * MIB)
    assert board.unit("state", "plain")["phase"] == "running"
    assert not board.start("plain", script), "the name was taken"
    ended = board.ended("plain")
    assert (ended["result"], ended["exit_status"], ended["failure"]) == ("exit-code", "3", "node")
    assert 0 < ended["usage"]["memory_peak"] < 64 * MIB
    assert re.fullmatch(rf"/home/{USER}  50% \d+\n", board.log("plain"))
    assert not board.start("plain", script), "it ran already"


def test_f25_an_eater_is_reported_as_memory_and_nothing_else_suffers(board: Machine) -> None:
    assert board.start("neighbour", "sleep 600")
    assert board.start("eater", f"exec {EATER}", memory_bytes=100 * MIB)
    ended = board.ended("eater")
    assert ended["phase"] == "ended"
    assert ended["failure"] == "memory"
    assert ended["usage"]["oom_kills"] >= 1
    assert ended["usage"]["memory_peak"] <= 100 * MIB
    assert board.unit("state", "neighbour")["phase"] == "running"
    assert board.ssh("systemctl is-system-running").strip() == "running"
    board.unit("stop", "neighbour")


def test_f25_the_compiler_is_killed_and_the_supervisor_goes_on(board: Machine) -> None:
    supervisor = """
import pathlib, subprocess, sys
sys.path.insert(0, str(pathlib.Path("/usr/local/lib/wheelfarm/farm-node").resolve().parents[2]))
from farm.node import unit
ballast = bytearray(60 << 20)
before = unit.usage()
compiler = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1); x = bytearray(50 << 20)"])
unit.expendable(compiler.pid)
compiler.wait()
after = unit.usage()
peak = after.memory_peak > 90 << 20
print("supervisor lives", compiler.returncode, before.oom_kills, after.oom_kills, peak)
"""
    # The compiler is the smaller one of the two: by size alone, the supervisor would be killed.
    board.ssh(f"cat >/var/tmp/supervisor.py <<'END'\n{supervisor}\nEND")
    assert board.start("compiler", "exec python3 -P /var/tmp/supervisor.py", memory_bytes=100 * MIB)
    ended = board.ended("compiler")
    assert board.log("compiler") == "supervisor lives -9 0 1 True\n"
    assert (ended["result"], ended["usage"]["oom_kills"]) == ("success", 1)


def test_a_build_that_starts_processes_without_end_is_stopped(board: Machine) -> None:
    # By posix_spawn: User Mode Linux 6.12 breaks down when a plain fork is refused.
    bomb = """
import os
try:
    while True:
        os.posix_spawn("/usr/bin/sleep", ["sleep", "599"], os.environ)
except BlockingIOError:
    print("refused", flush=True)
"""
    board.ssh(f"cat >/var/tmp/bomb.py <<'END'\n{bomb}\nEND")
    assert board.start("bomb", "exec python3 /var/tmp/bomb.py", processes=30)
    ended = board.ended("bomb")
    assert board.log("bomb") == "refused\n"
    assert ended["usage"]["refused_processes"] >= 1
    assert not board.lives("sleep.599"), "the unit's end is the end of all its processes"


def test_f30_a_hanging_build_ends_although_nobody_looks(board: Machine) -> None:
    began = time.monotonic()
    assert board.start("hang", "trap '' TERM; (sleep 598 &); sleep 598; sleep 598", runtime_s=3, grace_s=2)
    time.sleep(7)
    ended = board.unit("state", "hang")
    assert time.monotonic() - began < 30
    assert (ended["phase"], ended["result"], ended["failure"]) == ("ended", "timeout", "timeout")
    assert not board.lives("sleep.598")


def test_a_stop_reaches_the_supervisor_first_and_then_everything(board: Machine) -> None:
    # A child in a session of its own, and one that has lost its parent.
    script = (
        "trap 'echo asked; exit 0' TERM; setsid sleep 597 & (setsid sh -c 'sleep 597 & sleep 597' &); wait"
    )
    assert board.start("stopped", script, grace_s=5)
    time.sleep(1)
    assert board.lives("sleep.597")
    board.unit("stop", "stopped")
    assert board.log("stopped") == "asked\n"
    assert not board.lives("sleep.597")
    assert board.unit("state", "stopped")["phase"] == "ended"
    board.unit("stop", "stopped")
    board.unit("stop", "never-there")


def test_f10_a_build_outlives_sessions_sshd_and_killed_user_processes(board: Machine) -> None:
    board.ssh("mkdir -p /etc/systemd/logind.conf.d")
    board.ssh("printf '[Login]\\nKillUserProcesses=yes\\n' >/etc/systemd/logind.conf.d/kill.conf")
    board.ssh("systemctl restart systemd-logind")
    assert board.start("lasting", "sleep 596")
    # What the farm does today, for comparison: the setting is in force.
    board.ssh("setsid sleep 595 >/dev/null 2>&1 </dev/null &", USER)
    board.ssh("systemctl restart ssh")
    deadline = time.monotonic() + 20
    while board.lives("sleep.595") and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not board.lives("sleep.595")
    board.install_gcc("14.3.0")
    recap = board.provision()
    assert re.search(r"changed=1 ", recap), "another compiler is measured again, and nothing else is done"
    assert "14.3.0" in board.calibration()["toolchain"]
    assert board.unit("state", "lasting")["phase"] == "running"
    board.unit("stop", "lasting")


@pytest.mark.parametrize("how", ["reboot", "power cut"])
def test_f12_after_a_restart_a_cut_off_build_is_known_and_new_ones_run(board: Machine, how: str) -> None:
    name = how.replace(" ", "-")
    assert board.start(name, "sleep 594", memory_bytes=64 * MIB)
    assert board.start(f"{name}-before", "true")
    assert board.ended(f"{name}-before")["result"] == "success"
    board.ssh("sync")
    if how == "reboot":
        board.reboot()
    else:
        board.power_off()
        board.boot()
    state = board.unit("state", name)
    # A clean shutdown stops the unit like any other; a power cut leaves nothing. Either way it is the node.
    assert state["phase"] == ("ended" if how == "reboot" else "lost")
    assert state["failure"] == "node"
    assert board.unit("state", f"{name}-before")["result"] == "success"
    assert board.unit("why_not") == ""
    assert board.start(f"{name}-after", "true")
    assert board.ended(f"{name}-after")["result"] == "success"
