"""What hostile builds must not get on a board that systemd runs: a class to inherit from."""

from __future__ import annotations

import base64
import io
import shlex
import tarfile
import time
from pathlib import Path
from typing import Protocol

import pyproject_hooks

from farm.executor import Build, Launch, Limits, Result
from farm.executor.ssh import SshExecutor
from farm.plan import JobSpec
from farm.recipe import DEFAULT
from farm.upstream import sha256_of
from tests.integration.hostile import GOT, STOPPED, Hostile, said, thief
from tests.integration.nodekit import AUDITWHEEL_SHIM, PYTHON, make_sdist
from tests.integration.placekit import Follower, shell, started
from tests.integration.systemdkit import HOME, USER

MIB = 2**20
# There is no compiler, and nothing to be fetched: a virtual environment is all that the build needs of uv.
UV = """#!/bin/sh
[ "$1" = venv ] || exit 1
for path; do :; done
exec /usr/bin/python3 -m venv --without-pip "$path"
"""
INSTALL = f"""
set -e
mkdir -p /opt/wheelfarm/{PYTHON}
base64 -d | tar -xz -C /opt/wheelfarm/{PYTHON}
ln -sf /usr/bin/python3 /opt/wheelfarm/{PYTHON}/bin/python
"""


class Board(Protocol):
    """A machine that was provisioned as a builder."""

    def ssh(self, command: str, user: str = "root") -> str:
        """Run a command there; returns what it says."""


def install_builder(board: Board) -> None:
    """Install shims where the roles put the build tools."""
    hooks = Path(str(pyproject_hooks.__file__)).parent
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(
            hooks,
            "lib/python3.13/site-packages/pyproject_hooks",
            filter=lambda member: None if member.name.endswith("__pycache__") else member,
        )
        for name, text in (("uv", UV), ("auditwheel", f"#!/usr/bin/python3{AUDITWHEEL_SHIM}")):
            info = tarfile.TarInfo(f"bin/{name}")
            info.size, info.mode = len(text.encode()), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    board.ssh(f"sh -c {shlex.quote(INSTALL)} <<'END'\n{base64.encodebytes(buffer.getvalue()).decode()}END")


class Place(Protocol):
    """One node; see systemdkit and vmkit."""

    @property
    def root(self) -> str: ...

    def executor(self) -> SshExecutor: ...

    def shell(self, script: str) -> str:
        """Run it on the board, as root."""


class HostileBuilds:
    """Each test builds on the node of a fixture ``place``: it has ``node``, ``shell`` and ``executor``."""

    time_s = 120.0

    def build(
        self,
        executor: SshExecutor,
        folder: Path,
        sdist: bytes,
        name: str,
        *,
        memory_bytes: int = 300 * MIB,
        processes: int = 60,
    ) -> tuple[Result, Follower]:
        path = folder / f"{name}-1.0.tar.gz"
        path.write_bytes(sdist)
        spec = JobSpec(name, "1.0", PYTHON, path.name, "", sha256_of(path), DEFAULT)
        limits = Limits(self.time_s, memory_bytes, processes)
        follower = started(executor, Launch(f"{spec.job_id}.1", Build(spec, 1, path, 1), limits))
        end = time.monotonic() + self.time_s
        while time.monotonic() < end:
            item = follower.step()
            if item and item.result and not item.more:
                return item.result, follower
        raise AssertionError(f"{name} has not ended: {follower.log.decode()}")

    def test_keys_other_projects_services_and_the_network_are_out_of_reach(
        self, place: Place, tmp_path: Path
    ) -> None:
        cache = f"{place.root}/cache"
        secrets = [f"/home/{USER}/.ssh/authorized_keys", "/etc/wheelfarm/node.json", f"{cache}/other/secret"]
        secret, kept = secrets[2], f"/home/{USER}/kept"
        place.shell(
            f"install -d -o {USER} {cache} {cache}/other && echo secret >{secret} && echo kept >{kept}"
            f" && chown {USER} {secret} {kept}"
        )
        uid = place.shell(f"id -u {USER}").strip()
        manager = f"/run/user/{uid}/systemd/private"
        cgroup = f"/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service"
        pid = int(place.shell(f"cat {cgroup}/init.scope/cgroup.procs").split()[0])
        folders = [f"/home/{USER}", place.root, cache, str(HOME), f"{cgroup}/cgroup.procs"]
        hostile = thief([*secrets, kept], folders, [manager], 22, pid)
        executor = place.executor()
        assert executor.prepare().sandboxed
        # They are there to be had: a plain command of this user gets them.
        script = f"cat {' '.join(secrets)} && test -w {cgroup}/cgroup.procs -a -S {manager}"
        plain = started(executor, shell("plain", script))
        assert plain.result().failure is None
        result, follower = self.build(executor, tmp_path, hostile.sdist(), "thief")
        log = follower.log.decode()
        assert said(log, GOT) == []
        assert len(said(log, STOPPED)) == len(hostile.attempts)
        assert str(result.toolchain["sandbox"]).startswith("bubblewrap ")
        assert result.toolchain["network"] == "closed"
        self.is_well(executor, tmp_path, "after-thief")

    def test_one_that_starts_processes_without_end_is_stopped(self, place: Place, tmp_path: Path) -> None:
        executor = place.executor()
        result, _ = self.build(executor, tmp_path, Hostile(end="fork").sdist(), "forker")
        assert result.failure == "build"
        assert "it wanted more than 60 processes at once" in result.message
        assert not place.shell("grep -lsa '[s]leep.593' /proc/[0-9]*/cmdline; true").strip()
        self.is_well(executor, tmp_path, "after-forker")

    def test_one_that_eats_memory_is_stopped(self, place: Place, tmp_path: Path) -> None:
        executor = place.executor()
        sdist = Hostile(end="eat").sdist()
        result, _ = self.build(executor, tmp_path, sdist, "eater", memory_bytes=150 * MIB)
        assert result.failure == "memory"
        assert "the limit of 150 MiB" in result.message
        self.is_well(executor, tmp_path, "after-eater")

    def is_well(self, executor: SshExecutor, folder: Path, name: str) -> None:
        """The node answers, its runner is as it was, and the next build ends well."""
        assert executor.poll({}).vitals.memory_available_bytes > 100 * MIB
        result, follower = self.build(executor, folder, make_sdist(root=f"{name}-1.0"), name)
        assert result.failure is None, follower.log.decode()
        assert [file.filename.rpartition(".")[2] for file in result.wheels] == ["whl", "json"]
