"""uv's own riscv64 program, in the clean room's userland: what users of boards run, on each core."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.cleanroom import CPUS, CleanRoom
from farm.cleanroom.sandbox import Inside, Mount, walled
from farm.index import add_wheel, build_index
from farm.index.stats import Client, read_agent
from tests.integration import trapkit
from tests.integration.indexkit import Site
from tests.integration.trapkit import SUFFIX

pytestmark = pytest.mark.integration
PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def uv(room: CleanRoom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest uv that PyPI has for riscv64, where the room's user sees it."""
    folder = tmp_path_factory.mktemp("uv")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--platform", "manylinux_2_31_riscv64", "--dest", str(folder), "uv"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".data/scripts/uv")]
        program = room.work / "uv"
        program.write_bytes(archive.read(name))
    program.chmod(0o755)
    return program


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An index with a native wheel that needs another one."""
    site = Site(tmp_path_factory.mktemp("index"))
    made = tmp_path_factory.mktemp("made")
    native = {"good/__init__.py": b"", f"good/_native{SUFFIX}": trapkit.extension(made, "_native")}
    add_wheel(site.tree, trapkit.wheel(made, "good", native, needs="kit-a"))
    add_wheel(site.tree, trapkit.wheel(made, "kit_a", {"kit_a.py": b""}))
    build_index(site.tree)
    site.start()
    yield site
    site.stop()


@pytest.mark.parametrize("cpu", CPUS)
def test_uv_locks_with_hashes_and_installs(cpu: str, uv: Path, site: Site, room: CleanRoom) -> None:
    out = room.work / cpu.replace(",", "-")
    out.mkdir()
    (out / "wanted").write_text("good\n")
    room.own(out)
    mounts = [Mount(uv, "/room/uv"), Mount(out, "/room/out", writable=True)]

    def run(*argv: str) -> str:
        program = Inside(argv, cpu, room.limits(60), mounts, {"UV_NO_CACHE": "1"}, network=True)
        command = walled(program, room.userland.resolve(), drop_to=room.drop_to)
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pip(*arguments: str) -> None:
        run("/room/uv", "pip", *arguments, "--python", PYTHON, "--index-url", site.simple)

    assert "riscv64" in run("/room/uv", "--version")
    begin = site.mark()
    pip("compile", "--generate-hashes", "--output-file", "/room/out/lock", "/room/out/wanted")
    assert not [line for line in site.lines(begin) if line.uri.endswith(".whl")], "metadata alone is read"
    pip("install", "--require-hashes", "--target", "/room/out/site", "-r", "/room/out/lock")
    imported = "import sys; sys.path.insert(0, '/room/out/site'); import kit_a; from good import _native"
    run(PYTHON, "-c", imported)
    sent = [line for line in site.lines(begin) if line.uri.endswith(".whl")]
    assert len(sent) == 2
    client = read_agent(sent[0].agent)
    assert client == Client(client.installer, "3.13", "riscv64")
    assert client.installer.startswith("uv ")
