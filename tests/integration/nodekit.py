"""A board made of this machine: the real farm-node with the real uv, and a shim for `auditwheel`.

The sdists need nothing from the network: their PEP 517 backend is in their own tree, as a test makes it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import farm.node
from farm.node.process import start_time

FARM_NODE = Path(farm.node.__file__).with_name("__main__.py")
PYTHON = "cp313"
WHEEL = "demo-1.0-cp313-cp313-linux_riscv64.whl"
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = f"""
import pathlib
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("compiling demo")
    pathlib.Path(wheel_directory, "{WHEEL}").write_bytes(b"a wheel")
    return "{WHEEL}"
"""
AUDITWHEEL_SHIM = """
import pathlib, shutil, sys
assert sys.argv[1] == "repair", sys.argv
assert sys.argv[2] == "--strip", sys.argv
target, wheel = pathlib.Path(sys.argv[sys.argv.index("--wheel-dir") + 1]), sys.argv[-1]
target.mkdir(parents=True)
shutil.copyfile(wheel, target / pathlib.Path(wheel).name.replace("-linux_", "-manylinux_2_39_"))
"""
DEADLINE_S = 30


def until(look: Callable[[], object], what: str) -> None:
    """Wait until `look` is true; the deadline is only met by a failing test."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if look():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited {DEADLINE_S} s for {what}")


def gone(pids: Path) -> bool:
    """Whether no process of those in the file lives."""
    return not any(start_time(int(pid)) for pid in pids.read_text().split())


def make_environment(directory: Path, python: str = PYTHON) -> Path:
    """An environments folder whose one Python is the tests' own, with uv and a shim for `auditwheel`."""
    binaries = directory / python / "bin"
    binaries.mkdir(parents=True)
    (binaries / "auditwheel.py").write_text(AUDITWHEEL_SHIM)
    for name, command in (
        ("python", sys.executable),
        ("auditwheel", f"{sys.executable} {binaries}/auditwheel.py"),
        ("uv", Path(sys.executable).with_name("uv")),
    ):
        (binaries / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (binaries / name).chmod(0o755)
    return directory


def make_tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_sdist(backend: str = BACKEND, root: str = "demo-1.0", **files: bytes) -> bytes:
    members = {"pyproject.toml": PYPROJECT.encode(), "backend.py": textwrap.dedent(backend).encode(), **files}
    return make_tar({f"{root}/{name}": content for name, content in members.items()})


@dataclass
class Board:
    """One farm-node root on this machine."""

    root: Path
    environments: Path

    def command(self, *arguments: str) -> list[str]:
        options = ["--root", str(self.root), "--environments", str(self.environments)]
        return [sys.executable, str(FARM_NODE), *options, *arguments]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            check=check,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    def ask(self, *arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run(*arguments).stdout)
        return answer

    def bring(self, sdist: bytes, attempt: str = "demo.1", **changes: object) -> str:
        """Put an sdist and a spec where the controller's SFTP would."""
        digest = hashlib.sha256(sdist).hexdigest()
        spec: dict[str, object] = {
            "job_id": "demo",
            "attempt": 1,
            "project": "demo",
            "version": "1.0",
            "python": PYTHON,
            "sdist_filename": "demo-1.0.tar.gz",
            "sdist_sha256": digest,
            "recipe_digest": "4ec1be",
            "apt_packages": [],
            "build_constraints": [],
            "environment": {},
            "debug": False,
            "timeout_s": 60,
            "width": 2,
            **changes,
        }
        incoming = self.root / "incoming"
        (incoming / digest).mkdir(parents=True, exist_ok=True)
        (incoming / digest / str(spec["sdist_filename"])).write_bytes(sdist)
        (incoming / f"{attempt}.json").write_text(json.dumps(spec))
        return attempt

    def poll(self, attempt: str = "demo.1", offset: int = 0) -> dict[str, Any]:
        (answer,) = self.ask("poll", f"{attempt}:{offset}")["attempts"]
        assert isinstance(answer, dict)
        answer["text"] = base64.b64decode(answer["log"]).decode()
        return answer

    def finished(self, attempt: str = "demo.1") -> dict[str, Any]:
        result = self.root / "jobs" / attempt / "result.json"
        until(result.exists, f"{attempt} to finish: {self.log(attempt)}")
        answer = self.poll(attempt)
        assert answer["state"] == "finished"
        result_of: dict[str, Any] = answer["result"]
        return result_of

    def build(self, sdist: bytes, attempt: str = "demo.1", **changes: object) -> dict[str, Any]:
        self.bring(sdist, attempt, **changes)
        assert self.ask("start", attempt)["started"]
        return self.finished(attempt)

    def log(self, attempt: str = "demo.1") -> str:
        path = self.root / "jobs" / attempt / "log"
        return path.read_text() if path.exists() else ""

    def supervisor(self, attempt: str = "demo.1") -> int:
        return int(json.loads((self.root / "jobs" / attempt / "supervisor.json").read_text())["pid"])


def sleeping(pids: Path) -> str:
    """A backend that starts a child, writes both process ids and sleeps far beyond any test."""
    return f"""
    import os, pathlib, subprocess, time
    def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
        child = subprocess.Popen(["sleep", "600"])
        pathlib.Path({str(pids)!r} + ".partial").write_text(f"{{os.getpid()}} {{child.pid}}")
        os.rename({str(pids)!r} + ".partial", {str(pids)!r})
        time.sleep(600)
    """


def gated(gate: Path, wheel: str = WHEEL, content: str = "b'a wheel'") -> str:
    """A backend that says it waits, then builds once `gate` exists."""
    return f"""
    import pathlib, sys, time
    def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
        print("waiting", flush=True)
        pathlib.Path({str(gate)!r} + ".waiting").touch()
        while not pathlib.Path({str(gate)!r}).exists():
            time.sleep(0.05)
        print("gate open", flush=True)
        pathlib.Path(wheel_directory, {wheel!r}).write_bytes({content})
        return {wheel!r}
    """


def kill_quietly(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
