"""`farm watch`, `farm outdated` and `farm dispatch --all` as a user calls them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm import service
from farm.errors import ExitCode, InputError
from farm.index.tree import IndexTree, add_wheel
from farm.nodes import index_variables, read_fleet, read_inventory
from farm.paths import REPOSITORY, Paths
from farm.store import Failure, Store
from tests.httpkit import serving_folder
from tests.integration.nodekit import until
from tests.unit.plankit import spec
from tests.unit.verify.wheelkit import write_wheel

pytestmark = pytest.mark.integration
FARM = [sys.executable, "-c", "from farm.cli import main; main()"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An inventory of a board and an index host, with a file of what is wanted."""
    host = {
        "ansible_host": "127.0.0.1",
        "ansible_ssh_private_key_file": "/nosuch/key",
        "farm_known_hosts": "/nosuch/known_hosts",
    }
    board = {**host, "farm_build_user": "wheelfarm", "farm_node_dir": "/x"}
    index = {
        **host,
        "farm_index_url": "http://127.0.0.1:9",
        "farm_index_root": "/srv",
        "farm_index_user": "p",
    }
    index["farm_wanted"] = "wanted.txt"
    groups = {"builders": {"hosts": {"f3": board}}, "index": {"hosts": {"wheels": index}}}
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))
    (folder / "wanted.txt").write_text("# a comment\nDemo==1.0  # pinned\nmsgspec\n")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> IndexTree:
    found = IndexTree(tmp_path / "state" / "index")
    for name in ("demo", "other"):
        add_wheel(found, write_wheel(tmp_path, f"{name}-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"))
    return found


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "FARM_STATE": str(tmp_path / "state"), "PYTHONPATH": str(REPOSITORY), **more}


def test_everything_is_what_is_hosted_and_what_is_wanted(
    site: Path, tree: IndexTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    paths = Paths(tmp_path / "state")
    host = read_fleet(site).require_index()
    assert index_variables(read_inventory(site))["farm_wanted"] == "wanted.txt"
    assert service.everything(host, site, paths) == ["Demo==1.0", "msgspec", "other"]
    assert service.everything(host, site / "hosts.json", paths) == ["Demo==1.0", "msgspec", "other"]
    (site / "wanted.txt").write_text("")
    assert service.everything(host, site, paths) == ["demo", "other"]
    with pytest.raises(InputError, match="nothing is wanted"):
        service.everything(host, site, Paths(tmp_path / "empty"))
    (site / "wanted.txt").unlink()
    with pytest.raises(InputError, match="No such file"):
        service.everything(host, site, paths)
    assert tree.projects() == ["demo", "other"]


def test_watch_tells_lines_to_a_pipe(site: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "state" / "farm.sqlite")
    job = store.enqueue(spec())
    with subprocess.Popen(
        [*FARM, "watch", "-i", str(site)], env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{job.job_id} queued\n"
        store.fail(job.job_id, Failure.BUILD, "no luck")
        assert process.stdout.readline() == f"{job.job_id} failed (build): no luck\n"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    store.close()
    assert (process.returncode, rest) == (ExitCode.OK, "")


@pytest.mark.parametrize(("terminal", "drawn"), [("xterm", True), ("dumb", False)])
def test_watch_on_a_terminal(site: Path, tmp_path: Path, terminal: str, drawn: bool) -> None:
    store = Store(tmp_path / "state" / "farm.sqlite")
    job = store.enqueue(spec())
    store.close()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*FARM, "watch", "-i", str(site)],
        env=environment(tmp_path, TERM=terminal, COLUMNS="120", LINES="30"),
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
    ) as process:
        os.close(theirs)
        seen = bytearray()

        def read() -> None:
            try:
                while piece := os.read(ours, 4096):
                    seen.extend(piece)
            except OSError:
                return  # the other side is closed

        reader = threading.Thread(target=read)
        reader.start()
        until(lambda: job.job_id.encode() in seen, "the job on the screen")
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == ExitCode.OK
        reader.join(20)
    os.close(ours)
    assert (b"\x1b[?1049h" in seen) == drawn, "the whole screen, and given back"
    assert (b"\x1b[?1049l" in seen) == drawn
    assert b"Traceback" not in seen


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[str]:
    page = tmp_path / "upstream" / "simple" / "demo" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(
        "<!DOCTYPE html><a href='demo-1.0.tar.gz'>demo-1.0.tar.gz</a><a href='x'>demo-1.2.tar.gz</a>"
    )
    with serving_folder(tmp_path / "upstream") as url:
        yield f"{url}/simple/"


def test_outdated(site: Path, tree: IndexTree, tmp_path: Path, upstream: str) -> None:
    def farm(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*FARM, "outdated", "-i", str(site), "--upstream", upstream, *arguments]
        return subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=False)

    done = farm("--json")
    assert done.returncode == ExitCode.UPSTREAM, "upstream has no `other`"
    content = json.loads(done.stdout)
    assert content["news"] == [
        {"project": "demo", "python": "cp313", "hosted": "1.0", "upstream": "1.2", "news": "newer"}
    ]
    assert content["commands"] == ["farm dispatch demo --python 3.13"]
    assert [error["project"] for error in content["errors"]] == ["other"]
    assert "no such project" in done.stderr
    for wheel in tree.wheels("other"):
        wheel.unlink()
    done = farm()
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert "upstream has a newer version" in done.stdout
    assert "farm dispatch demo --python 3.13" in done.stdout
    assert farm("--python", "3.14").stdout == "nothing is outdated\n"


def test_plan_of_everything_is_a_dispatch_of_everything_foretold(
    site: Path, tree: IndexTree, tmp_path: Path, upstream: str
) -> None:
    command = [*FARM, "plan", "--all", "-i", str(site), "--upstream", upstream, "--json"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=False)
    planned = {item["requirement"]: item for item in json.loads(done.stdout)}
    assert set(planned) == {"Demo==1.0", "msgspec", *tree.projects()} - {"demo"}, "what is wanted holds"
    assert (planned["Demo==1.0"]["version"], planned["Demo==1.0"]["build"]) == ("1.0", True)
    assert "no such project" in planned["other"]["reason"]
    assert done.returncode == ExitCode.UPSTREAM
