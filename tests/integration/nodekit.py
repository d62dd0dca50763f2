"""A board made of this machine: the real farm-node with the real uv, and a shim for `auditwheel`.

The sdists need nothing from the network: their PEP 517 backend is in their own tree, as a test makes it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import packaging
import pyproject_hooks

import farm.node
from farm.node.process import start_time

FARM_NODE = Path(farm.node.__file__).with_name("__main__.py")
# Without the virtual environment's packages, as a board's own Python is.
BOARD_PYTHON = str(Path(sys.base_prefix, "bin/python3"))
PYTHON = "cp313"
WHEEL = "demo-1.0-cp313-cp313-linux_riscv64.whl"
REPAIRED = WHEEL.replace("-linux_", "-manylinux_2_39_")
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
target.mkdir(parents=True, exist_ok=True)
shutil.copyfile(wheel, target / pathlib.Path(wheel).name.replace("-linux_", "-manylinux_2_39_"))
"""
DEADLINE_S = 30
# Backends of most tests meet them at files outside of their folders: no sandbox, but in test_sandbox.py.
os.environ["WHEELFARM_BWRAP"] = "/nonexistent"


def until(look: Callable[[], object], what: str) -> None:
    """Wait until `look` is true; the deadline is only met by a failing test."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if look():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited {DEADLINE_S} s for {what}")


def forgotten(root: Path) -> None:
    """Wait until a node has no attempt any more: it removes their folders when nobody waits for an answer."""
    until(lambda: not list((root / "jobs").iterdir()), f"{root} to forget its attempts")


def gone(pids: Path) -> bool:
    """Whether no process of those in the file lives."""
    return not any(start_time(int(pid)) for pid in pids.read_text().split())


def make_environment(directory: Path, python: str = PYTHON, *, sealed: bool = False) -> Path:
    """An environments folder whose one Python is that of the tests, with uv and a shim for `auditwheel`.

    ``sealed``: it needs nothing of the checkout, which a sandbox may hide, as it does all homes and `/tmp`.
    """
    binaries = directory / python / "bin"
    binaries.mkdir(parents=True)
    (binaries / "auditwheel.py").write_text(AUDITWHEEL_SHIM)
    packages = directory / python / "lib/python3.13/site-packages"
    packages.mkdir(parents=True)
    for package in (pyproject_hooks, packaging):
        source = Path(str(package.__file__)).parent
        if sealed:
            shutil.copytree(source, packages / package.__name__)
        else:
            (packages / package.__name__).symlink_to(source)
    uv = Path(sys.executable).with_name("uv")
    interpreter = BOARD_PYTHON if sealed else sys.executable
    commands = {"python": interpreter, "auditwheel": f"{interpreter} {binaries}/auditwheel.py"}
    if sealed:
        shutil.copy2(uv, binaries / "uv")
    else:
        commands["uv"] = str(uv)
    for name, command in commands.items():
        (binaries / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (binaries / name).chmod(0o755)
    return directory


def install_farm_node(directory: Path, source: Path = FARM_NODE) -> Path:
    """Install farm-node as a program below a folder, with environments made of shims."""
    environments = directory / "environments"
    if not environments.exists():
        make_environment(environments)
    script = directory / "farm-node"
    own = f"WHEELFARM_BWRAP={os.environ['WHEELFARM_BWRAP']}"
    script.write_text(
        f'#!/bin/sh\n{own} exec {BOARD_PYTHON} -P {source} --environments {environments} "$@"\n'
    )
    script.chmod(0o755)
    return script


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


class Talk:
    """One session with a farm-node: requests in, answers out."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._number = 0

    def send(self, operation: str, **fields: object) -> None:
        assert self.process.stdin is not None
        self._number += 1
        self.process.stdin.write(json.dumps({"id": self._number, "op": operation, **fields}) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert answer["id"] == self._number
        return answer

    def ask(self, operation: str, **fields: object) -> dict[str, Any]:
        self.send(operation, **fields)
        return self.receive()


@dataclass
class Board:
    """One farm-node root on this machine."""

    root: Path
    environments: Path
    specs: dict[str, dict[str, object]] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        options = ["--root", str(self.root), "--environments", str(self.environments)]
        return [BOARD_PYTHON, "-P", str(FARM_NODE), *options, *arguments]

    @contextmanager
    def session(self) -> Iterator[Talk]:
        process = subprocess.Popen(
            self.command("serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield Talk(process)
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            assert process.wait(DEADLINE_S) == 0
            process.stdout.close()

    def ask(self, operation: str, **fields: object) -> dict[str, Any]:
        """Ask in a session of its own, which has ended when this returns."""
        with self.session() as talk:
            return talk.ask(operation, **fields)

    def bring(self, sdist: bytes, attempt: str = "demo.1", *, time_s: float = 60, **changes: object) -> str:
        """Put an sdist where the controller's SFTP would, and keep the spec for `start`."""
        digest = hashlib.sha256(sdist).hexdigest()
        task: dict[str, object] = {
            "task": "build",
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
            "build_network": "",
            "debug": False,
            "build_tag": "",
            "system_libraries": [],
            "others_libraries": [],
            "width": 2,
            **changes,
        }
        incoming = self.root / "incoming" / digest
        incoming.mkdir(parents=True, exist_ok=True)
        (incoming / str(task["sdist_filename"])).write_bytes(sdist)
        self.specs[attempt] = {"task": task, "limits": {"time_s": time_s}, "unsandboxed": True}
        return attempt

    def run(self, script: str, attempt: str = "demo.1", *, time_s: float = 60) -> str:
        """Keep the spec of a shell script for `start`."""
        self.specs[attempt] = {
            "task": {"task": "command", "argv": ["sh", "-c", script]},
            "limits": {"time_s": time_s},
            "unsandboxed": True,
        }
        return attempt

    def start(self, attempt: str = "demo.1") -> bool:
        return bool(self.ask("start", attempt=attempt, spec=self.specs[attempt])["started"])

    def state(self, attempt: str = "demo.1") -> str:
        """What `list` says; an attempt that is not held has no state."""
        return str(self.ask("list")["attempts"].get(attempt, ""))

    def poll(self, attempt: str = "demo.1", offset: int = 0, wait_s: float = 0) -> dict[str, Any]:
        (answer,) = self.ask("poll", offsets={attempt: offset}, wait_s=wait_s)["progress"]
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

    def build(
        self, sdist: bytes, attempt: str = "demo.1", *, time_s: float = 60, **changes: object
    ) -> dict[str, Any]:
        self.bring(sdist, attempt, time_s=time_s, **changes)
        assert self.start(attempt)
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
