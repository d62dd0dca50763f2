"""Runs on the board, as root: what tests do to it from within. A JSON list in a line, an answer each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path("/usr/local/lib/wheelfarm/farm-node").resolve().parents[2]))
from farm.node.process import processes, start_time

USER = sys.argv[1]


def run(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def make_place(root: str, folder: str) -> None:
    run("install", "-d", "-o", USER, "-g", USER, root, folder)


def units(*command: str) -> str:
    uid = run("id", "-u", USER).strip()
    runtime = f"XDG_RUNTIME_DIR=/run/user/{uid}"
    return run("runuser", "-u", USER, "--", "env", runtime, "systemctl", "--user", *command)


def end_place(root: str) -> None:
    kill_agents(root)
    units("stop", "wheelfarm-*")


def agents(root: str) -> list[int]:
    mine = f"\0--root\0{root}\0serve\0".encode()
    return [pid for pid in processes() if mine in command_line(pid)]


def kill_agents(root: str) -> None:
    for pid in agents(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_sessions() -> None:
    run("systemctl", "reset-failed", "ssh")  # tests restart it more often than systemd thinks healthy
    run("systemctl", "restart", "ssh")
    for line in run("loginctl", "list-sessions", "--no-legend").splitlines():
        session = line.split()[0]
        shown = run("loginctl", "show-session", "-p", "Class", "-p", "Name", session)
        if f"Name={USER}\n" in shown and "Class=user\n" in shown:
            run("loginctl", "terminate-session", session)


def kill_supervisor(root: str, attempt: str) -> None:
    pid = int(json.loads(Path(root, "jobs", attempt, "supervisor.json").read_text())["pid"])
    os.kill(pid, signal.SIGKILL)
    while start_time(pid):
        time.sleep(0.01)


def alive(*pids: int) -> list[int]:
    return [pid for pid in pids if start_time(pid)]


def touch(path: str) -> None:
    Path(path).touch()


def shell(script: str) -> str:
    return run("sh", "-c", script)


for line in sys.stdin:
    verb, *arguments = json.loads(line)
    print(json.dumps(globals()[verb](*arguments)), flush=True)
