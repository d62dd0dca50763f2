"""The sandbox on this machine: the real farm-node and bubblewrap, and builds that try what they must not.

That a build is held in memory, processes and time as well is shown where there is a systemd: test_systemd.py
and tests/vm.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from farm.executor import Build, Launch, Limits
from farm.executor.ssh import SshExecutor
from farm.node import sandbox
from farm.nodes import unfit
from farm.plan import JobSpec
from farm.recipe import DEFAULT
from farm.upstream import sha256_of
from tests.httpkit import serving
from tests.integration.hostile import GOT, STOPPED, Hostile, said, thief
from tests.integration.nodekit import (
    BOARD_PYTHON,
    PYTHON,
    WHEEL,
    Board,
    make_environment,
    make_sdist,
    make_tar,
)
from tests.integration.placekit import started
from tests.integration.sshkit import Sshd
from tests.integration.test_farm_index import Pypi

BWRAP = Path("/usr/bin/bwrap")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not BWRAP.exists(), reason="bubblewrap is not installed: `make test` does it"),
]


class Listener:
    """A server of this machine that counts who comes: TCP at `port`, and a socket with a name."""

    def __init__(self, name: Path) -> None:
        self.came = 0
        self._servers = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)]
        self.port = int(self._servers[0].getsockname()[1])
        self._servers[1].bind(str(name))
        self._servers[1].listen()
        for server in self._servers:
            threading.Thread(target=self._listen, args=[server], daemon=True).start()

    def _listen(self, server: socket.socket) -> None:
        while True:
            try:
                link, _ = server.accept()
            except OSError:
                return
            self.came += 1
            link.close()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown(socket.SHUT_RDWR)
            server.close()


@dataclass
class Prey:
    """What there is to steal: secrets of the user, the farm, other jobs and projects; services; a process."""

    listener: Listener
    secrets: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    services: list[Path] = field(default_factory=list)

    def thief(self) -> Hostile:
        return thief(
            [str(path) for path in self.secrets],
            [str(path) for path in self.folders],
            [str(path) for path in self.services],
            self.listener.port,
            os.getpid(),
        )

    def untouched(self) -> bool:
        return not any((folder / "hostile").exists() for folder in self.folders)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setenv("WHEELFARM_BWRAP", str(BWRAP))
    settings = tmp_path / "settings"
    settings.mkdir()
    monkeypatch.setenv("WHEELFARM_SETTINGS", str(settings))
    return Board(tmp_path / "node", make_environment(tmp_path / "environments", sealed=True))


@pytest.fixture
def prey(board: Board, tmp_path: Path) -> Iterator[Prey]:
    home = Path.home() / f".wheelfarm-test-{os.getpid()}"
    socket_folder = Path(f"/run/wheelfarm-test-{os.getpid()}")
    cache = board.root / "cache"
    folders = [home, cache / "other", board.root / "jobs/other.1", board.root / "work/other"]
    for folder in (*folders, socket_folder):
        folder.mkdir(parents=True)  # a name that is there is somebody else's: this fails
    found = Prey(Listener(socket_folder / "service"), services=[socket_folder / "service"])
    for folder in (*folders, tmp_path / "settings"):
        (folder / "secret").write_text("a secret")
        found.secrets.append(folder / "secret")
    (cache / "demo").mkdir()
    found.folders = [*folders, board.root, cache, cache / "demo", board.environments / PYTHON]
    yield found
    found.listener.close()
    for folder in (home, socket_folder):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_hostile_build_gets_nothing_and_the_next_one_is_well(board: Board, prey: Prey) -> None:
    hostile = prey.thief()
    result = board.build(hostile.sdist())
    log = board.log()
    assert said(log, GOT) == []
    assert len(said(log, STOPPED)) == len(hostile.attempts)
    assert prey.listener.came == 0
    assert prey.untouched()
    assert result["toolchain"]["network"] == "closed"
    assert result["toolchain"]["sandbox"].startswith("bubblewrap 0.")
    with board.session() as talk:
        assert talk.ask("prepare")["facts"]["sandbox"] == "bubblewrap"
    good = board.build(make_sdist(), "demo.2")
    assert good["failure"] is None
    assert [Path(file["filename"]).suffix for file in good["wheels"]] == [".whl", ".json"]


def test_without_the_sandbox_it_gets_all_that_it_wants(
    board: Board, prey: Prey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what stops it is the sandbox, and not a mistake of the hostile build."""
    monkeypatch.setenv("WHEELFARM_BWRAP", "/nonexistent")
    result = board.build(prey.thief().sdist())
    got = said(board.log(), GOT)
    for path in prey.secrets:
        assert f"read {path}" in got
        assert f"write {path}" in got
    assert {f"write {folder}" for folder in prey.folders} <= set(got)
    assert {f"kill {os.getpid()}", f"unix {prey.services[0]}"} <= set(got)
    assert prey.listener.came >= 2
    assert result["toolchain"]["sandbox"] == "none: bubblewrap is not installed"
    assert result["toolchain"]["network"] == "open: there is no sandbox"


def test_what_a_build_leaves_is_taken_without_following_links(board: Board, prey: Prey) -> None:
    result = board.build(Hostile(link=str(prey.secrets[0])).sdist())
    assert result["failure"] == "build"
    assert "something else than a wheel" in result["message"]
    folder = board.root / "jobs/demo.1/wheelhouse"
    assert not list(folder.iterdir())


LEAVES_A_LINK_FOR_ITS_FOLDER = f"""
import os, pathlib, shutil
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    shutil.rmtree(wheel_directory)
    os.symlink({{target!r}}, wheel_directory)
    return "{WHEEL}"
"""


def test_nor_is_a_link_in_the_place_of_a_folder(board: Board, prey: Prey) -> None:
    (prey.folders[0] / WHEEL).write_text("somebody's")
    result = board.build(make_sdist(LEAVES_A_LINK_FOR_ITS_FOLDER.format(target=str(prey.folders[0]))))
    (prey.folders[0] / WHEEL).unlink()
    assert result["failure"] == "build"
    assert "something else than a wheel" in result["message"]


def test_a_node_without_it_refuses_by_itself(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEELFARM_BWRAP", "/nonexistent")
    attempt = board.bring(make_sdist())
    del board.specs[attempt]["unsandboxed"]
    board.start(attempt)
    result = board.finished(attempt)
    assert result["failure"] == "node"
    assert "no sandbox on this board: bubblewrap is not installed" in result["message"]
    assert "farm_allow_unsandboxed_builds" in result["message"]
    assert "compiling demo" not in board.log()


def test_one_that_does_not_work_is_told_from_one_that_is_missing(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sandbox, "PROGRAM", broken)
    board.root.mkdir()
    assert sandbox.why_not(board.root) == (
        "bwrap ended with code 1: bwrap: setting up uid map: Permission denied"
    )


CALLER = f"""
import pathlib, socket
def get_requires_for_build_wheel(config_settings=None):
    return ["kit-extra"]
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    from importlib.metadata import distributions
    print("built with", sorted(d.name for d in distributions() if d.name.startswith("kit-")))
    socket.create_connection(("127.0.0.1", {{port}}), timeout=5).close()
    pathlib.Path(wheel_directory, "{WHEEL}").write_bytes(b"a wheel")
    return "{WHEEL}"
"""


@pytest.fixture
def pypi(tmp_path: Path) -> Iterator[Pypi]:
    pypi = Pypi(tmp_path / "pypi")
    for name in ("kit_base", "kit_extra"):
        pypi.add(f"{name}-1.0-py3-none-any.whl")
    with serving(pypi.server):
        yield pypi


def test_requirements_are_fetched_and_only_a_recipe_s_reason_opens_the_build(
    board: Board, prey: Prey, pypi: Pypi
) -> None:
    pyproject = '[build-system]\nrequires = ["kit-base"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    backend = CALLER.format(port=prey.listener.port)
    sdist = make_tar({"demo-1.0/pyproject.toml": pyproject.encode(), "demo-1.0/backend.py": backend.encode()})
    environment = {"UV_DEFAULT_INDEX": pypi.url}
    closed = board.build(sdist, environment=environment)
    assert "built with ['kit-base', 'kit-extra']" in board.log()
    assert (closed["failure"], prey.listener.came) == ("build", 0)
    reason = "its build asks a server for the time"
    open_ = board.build(sdist, "demo.2", environment=environment, build_network=reason)
    assert (open_["failure"], prey.listener.came) == (None, 1)
    assert open_["toolchain"]["network"] == f"open: {reason}"
    assert f"network of the build open: {reason}" in board.log("demo.2")


def test_a_build_that_wants_a_name_is_told_what_it_lacks(board: Board) -> None:
    backend = """
    import socket
    def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
        socket.getaddrinfo("pypi.org", 443)
    """
    result = board.build(make_sdist(backend))
    assert result["failure"] == "build"
    assert "wanted the network, which builds do not have (recipe key build_network)" in result["message"]


CARGO = """#!/bin/sh
# Says from where it is called with what, and whether it has a network.
echo "cargo $* in $(pwd) offline=$CARGO_NET_OFFLINE" >>"$CARGO_HOME/called"
exec {python} -c 'import socket; socket.create_connection(("127.0.0.1", {port}), timeout=5)'
"""


def test_crates_are_fetched_before_anything_of_the_project_runs(board: Board, prey: Prey) -> None:
    cargo = board.environments / PYTHON / "bin/cargo"
    cargo.write_text(CARGO.format(python=BOARD_PYTHON, port=prey.listener.port))
    cargo.chmod(0o755)
    backend = f"""
    import os, pathlib
    def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
        print("offline", os.environ["CARGO_NET_OFFLINE"])
        pathlib.Path(wheel_directory, "{WHEEL}").write_bytes(b"a wheel")
        return "{WHEEL}"
    """
    files = {
        "Cargo.toml": b"",
        "Cargo.lock": b"",
        "crates/one/Cargo.toml": b"",
        "fuzz/Cargo.toml": b"",
        "fuzz/Cargo.lock": b"",
        "vendor/libc/Cargo.toml": b"",
        "vendor/libc/.cargo-checksum.json": b"{}",
    }
    result = board.build(make_sdist(backend, "demo-1.0", **files))
    assert result["failure"] is None, board.log()
    called = (board.root / "cache/demo/cargo/called").read_text().splitlines()
    source = board.root / "work/demo-cp313/source/demo-1.0"
    assert called == [
        f"cargo fetch --manifest-path {source}/{name} in / offline="
        for name in ("Cargo.toml", "fuzz/Cargo.toml")
    ]
    assert prey.listener.came == 2
    assert "offline true" in board.log()
    assert list(result["phases_s"]).index("fetch") < list(result["phases_s"]).index("environment")


def test_compile_helpers_are_reached_and_nothing_else(board: Board, prey: Prey, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as helper:
        port = helper.getsockname()[1]
        hosts = [f"127.0.0.1:{port}/8,lzo", "localhost"]
        (tmp_path / "settings/distcc.json").write_text(json.dumps({"hosts": hosts}))
        backend = f"""
        import os, pathlib, socket
        def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
            (host,) = os.environ["DISTCC_HOSTS"].split()
            address, options = host.split("/")
            name, port = address.split(":")
            with socket.create_connection((name, int(port)), timeout=5) as link:
                link.sendall(b"preprocessed text")
                link.shutdown(socket.SHUT_WR)
                print("compiled", options, link.makefile("rb").read())
            for port in ({port}, {prey.listener.port}):
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5)
                    raise SystemExit("reached")
                except OSError as error:
                    print("not reached", error)
            pathlib.Path(wheel_directory, "{WHEEL}").write_bytes(b"a wheel")
            return "{WHEEL}"
        """
        board.start(board.bring(make_sdist(backend)))
        helper.settimeout(30)
        link, _ = helper.accept()
        with link:
            assert link.makefile("rb").read() == b"preprocessed text"
            link.sendall(b"an object")
        result = board.finished()
    assert result["failure"] is None, board.log()
    assert "compiled 8,lzo b'an object'" in board.log()
    assert board.log().count("not reached") == 2
    assert result["toolchain"]["distcc_hosts"] == " ".join(hosts)
    assert prey.listener.came == 0


def test_over_ssh_the_inventory_decides(sshd: Sshd, farm_node: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "environments")
    make_environment(tmp_path / "environments", sealed=True)
    sdist = tmp_path / "demo-1.0.tar.gz"
    sdist.write_bytes(make_sdist())
    spec = JobSpec("demo", "1.0", PYTHON, sdist.name, "", sha256_of(sdist), DEFAULT)

    def launch(number: int) -> Launch:
        return Launch(f"{spec.job_id}.{number}", Build(spec, number, sdist, 1), Limits(time_s=60))

    strict = replace(sshd.node, unsandboxed=False)
    executor = SshExecutor(strict)
    try:
        facts = replace(executor.prepare(), machine="riscv64", isa="rv64imafdc", gcc_march="rv64gc")
        assert "it has no sandbox: bubblewrap is not installed" in (unfit(facts, strict) or "")
        assert unfit(facts, sshd.node) is None
        refused = started(executor, launch(1)).result()
        assert (refused.failure, "no sandbox" in refused.message) == ("node", True)
        farm_node.write_text(farm_node.read_text().replace("/nonexistent", str(BWRAP)))
        executor.close()
        assert executor.prepare().sandboxed
        done = started(executor, launch(2)).result()
        assert done.failure is None
        assert str(done.toolchain["sandbox"]).startswith("bubblewrap")
    finally:
        executor.close()
