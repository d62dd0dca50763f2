"""Publish to an index host whose sshd lets the key do nothing but write below the index's root."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from farm.cli import app_for, common
from farm.errors import BusyError, PublishError
from farm.index import IndexTree, ProjectStatus, read_project
from farm.index.change import prune, rollback, set_status, yank
from farm.index.crawl import crawl
from farm.index.lock import tree_lock
from farm.index.stats import Client, Download, State, publish
from farm.nodes import Fleet, IndexHost
from farm.paths import Paths
from farm.publish import Publisher
from tests.httpkit import serving_folder
from tests.integration.sshkit import Sshd, free_port, keygen
from tests.unit.verify.wheelkit import NATIVE, write_wheel

pytestmark = pytest.mark.integration
OTHER = "other-2.0-py3-none-any.whl"
NEWER = NATIVE.replace("-1.0-", "-1.1-")
SMALL_DISK = """
import sys
from pathlib import Path
from farm.errors import PublishError
from farm.index import IndexTree, add_wheel, build_index
tree = IndexTree(Path(sys.argv[1]))
add_wheel(tree, Path(sys.argv[2]))
build_index(tree)
before = {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()}
try:
    add_wheel(tree, Path(sys.argv[3]))
except PublishError as error:
    print(error.message)
assert before == {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()}
assert build_index(tree) == frozenset()
"""


@dataclass
class Site:
    """A controller's state, its index host, and what that serves."""

    paths: Paths
    host: IndexHost
    sshd: Sshd
    served: Path
    wheels: Path

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.paths, self.host)

    @property
    def tree(self) -> IndexTree:
        return self.publisher.tree

    def wheel(self, name: str) -> Path:
        return self.wheels / name if (self.wheels / name).exists() else write_wheel(self.wheels, name)

    def everything(self) -> dict[str, tuple[int, int, bytes]]:
        """Return inode, mtime and content of what is served."""
        return {
            path.relative_to(self.served).as_posix(): (
                path.stat().st_ino,
                path.stat().st_mtime_ns,
                path.read_bytes(),
            )
            for path in self.served.rglob("*")
            if path.is_file()
        }

    def good(self) -> bool:
        with requests.Session() as session:
            result = crawl(self.host.simple_url, None, session)
        assert result.ok, result.problems
        return bool(result.files)

    def restrict(self, command: str) -> None:
        """Force a command upon whoever comes with the controller's key, as the role index_server does."""
        public = self.sshd.key.with_name("key.pub")
        key = " ".join(public.read_text().split()[-3:])
        public.write_text(f'command="{command}",restrict {key}\n')


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder, served, wheels = tmp_path / "sshd", tmp_path / "served", tmp_path / "wheels"
    for path in (folder, served, wheels):
        path.mkdir()
    keygen(folder / "host")
    sshd = Sshd(folder, free_port(), keygen(tmp_path / "key"))
    sshd.start()
    try:
        with serving_folder(served) as url:
            host = IndexHost(sshd.address, str(served), f"{url}/")
            site = Site(Paths(tmp_path / "state"), host, sshd, served, wheels)
            site.restrict(f"/usr/bin/rrsync -wo {served}")
            yield site
    finally:
        sshd.stop()


def test_publish_and_change_with_a_key_that_can_only_write(site: Site) -> None:
    (site.served / "stats").mkdir()
    (site.served / "stats" / "today.json").write_text("only the host has this")
    done = site.publisher.publish([site.wheel(NATIVE), site.wheel(OTHER)])
    assert (set(done.files), done.checked_files) == ({NATIVE, OTHER}, 2)
    assert site.good()
    before = site.everything()
    assert not [name for name in before if name.startswith(("records", "upstream"))]

    site.publisher.publish([site.wheel(NEWER)])
    after = site.everything()
    new = {f"packages/demo/{NEWER}", f"packages/demo/{NEWER}.metadata"}
    pages = {
        "simple/demo/index.html",
        "simple/demo/index.json",
        "simple/demo/index.json.gz",
        "pypi/demo.json",
    }
    changed = {name for name in after if before.get(name) != after[name]}
    web = {name for name in changed if name.startswith("project/demo/")}
    assert "project/demo/index.html" in web
    assert changed - web == new | pages | {"index.html", "index.json", "feed.xml", "search.json"}

    site.publisher.change(lambda tree: ["demo" for _ in yank(tree, "demo", "1.0", "broken")][:1])
    assert 'data-yanked="broken"' in (site.served / "simple/demo/index.html").read_text()
    files = read_project(site.tree, "demo").files

    def remove(tree: IndexTree) -> set[str]:
        return prune(tree, [file for file in files if file.filename == NATIVE])

    site.publisher.change(remove)
    assert [path.name for path in sorted((site.served / "packages/demo").iterdir())] == [
        NEWER,
        f"{NEWER}.metadata",
    ]
    assert site.good()
    again = write_wheel(site.wheels, NATIVE, {"demo/__init__.py": b"x = 2\n"})
    with pytest.raises(PublishError, match="published with other content"):
        site.publisher.publish([again])
    assert (site.served / "stats" / "today.json").exists()


def test_the_commands_change_what_users_get(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "read_fleet", lambda _path: Fleet((), site.host))

    def farm(*arguments: str) -> str:
        command = [*arguments, "--state", str(site.paths.state)]
        done = CliRunner().invoke(app_for(), command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    def offered() -> str:
        return (site.served / "simple/demo/index.html").read_text()

    site.publisher.publish([site.wheel(NATIVE)])
    site.publisher.publish([site.wheel(NEWER)])
    assert farm("yank", "Demo", "1.0", "--reason", "leaks") == f"{NATIVE} is yanked\n"
    assert 'data-yanked="leaks"' in offered()
    assert farm("yank", "demo", "1.0", "--reason", "leaks") == "nothing to do: demo 1.0 is yanked\n"
    assert json.loads(farm("unyank", "demo", "1.0", "--json"))["files"] == [NATIVE]
    assert "data-yanked" not in offered()
    assert farm("index", "status", "demo", "quarantined", "--reason", "odd") == "demo is quarantined\n"
    assert NATIVE not in offered()
    undone = farm("index", "rollback").splitlines()
    assert [line.split()[3] for line in undone] == ["status", "yank", "yank", "publish"]
    assert undone[-1].endswith(f"demo: {NEWER}")
    assert NATIVE in offered()
    assert NEWER not in offered()
    assert not (site.served / "packages/demo" / NEWER).exists()
    assert site.good()
    (entry,) = json.loads(farm("index", "journal", "--json"))
    number = str(entry["number"])
    assert json.loads(farm("index", "rollback", "--to-before", number, "--json")) == [entry]
    assert not (site.served / "simple/demo").exists()


def test_what_the_index_host_counted_comes_to_the_pages(site: Site) -> None:
    site.publisher.publish([site.wheel(NATIVE)])
    page = site.served / "project/demo/index.html"
    assert "Downloads" not in page.read_text()
    state = State()
    for day in ("2026-11-20", "2026-11-21"):
        state.count(Download(day, "demo", "1.0", Client("uv 0.13", "3.13", "riscv64")))
    publish(state, site.served / "stats", date(2026, 11, 22))
    publisher = replace(site.publisher, upstream=f"{site.host.url}none/")
    assert publisher.refresh().warning == ""
    assert "2 from" in page.read_text()
    assert "uv 0.13" in (site.served / "statistics/index.html").read_text()
    assert publisher.refresh().changed == frozenset()
    # Nonsense stops nothing: what was known stays, and it is said.
    (site.served / "stats/recent.json").write_text("{}")
    done = publisher.refresh()
    assert "older counts of downloads: http://127.0.0.1" in done.warning
    assert done.changed == frozenset()
    # Who counts no more has no statistics, here and there.
    (site.served / "stats/recent.json").unlink()
    assert publisher.refresh().warning == ""
    assert "Downloads" not in page.read_text()
    assert not (site.served / "statistics/index.html").exists()


def test_logs_leave_the_index_host_when_the_inventory_says_so(site: Site) -> None:
    site.paths.logs.mkdir(parents=True)
    site.paths.proof(NATIVE).write_text("imported demo\n")
    site.publisher.publish([site.wheel(NATIVE)])
    proof = site.served / f"proof/{NATIVE}.txt"
    assert proof.read_text() == "imported demo\n"
    silent = replace(site.publisher, host=replace(site.host, publish_logs=False))
    silent.tell()
    assert not proof.exists()
    assert "proof" not in (site.served / "project/demo/index.html").read_text()


def test_the_key_can_do_nothing_else(site: Site) -> None:
    site.publisher.publish([site.wheel(NATIVE)])
    address = site.host.address
    options = ["-F", "/dev/null", "-p", str(address.port), "-i", str(address.key_file), "-o", "BatchMode=yes"]
    ssh = ["ssh", *options, "-o", f"UserKnownHostsFile={address.known_hosts}"]
    who = f"{address.user}@{address.host}"
    assert subprocess.run([*ssh, who, "cat /etc/passwd"], capture_output=True, check=False).returncode != 0
    for source, target in (
        (f"{who}:packages/", str(site.wheels / "read")),
        (str(site.wheels), f"{who}:../above/"),
    ):
        command = ["rsync", "-r", "--rsh", " ".join(ssh), source, target]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0, source
    assert not (site.served.parent / "above").exists()


def test_rollback_takes_links_first_and_files_after(site: Site) -> None:
    site.publisher.publish([site.wheel(NATIVE)])
    first = {name: content for name, (_, _, content) in site.everything().items()}
    site.publisher.publish([site.wheel(NEWER), site.wheel(OTHER)])
    site.publisher.change(lambda tree: ["demo"] if yank(tree, "demo", "1.0", "") else [])
    quiet = ProjectStatus.QUARANTINED
    site.publisher.change(lambda tree: ["demo"] if set_status(tree, "demo", quiet, "") else [])
    assert ".whl" not in (site.served / "simple/demo/index.json").read_text()

    site.publisher.change(lambda tree: rollback(tree)[0])
    assert {name: content for name, (_, _, content) in site.everything().items()} == first
    assert site.good()
    other = write_wheel(site.wheels, OTHER, {"other/__init__.py": b"another build\n"})
    with pytest.raises(PublishError, match="published with other content") as caught:
        site.publisher.publish([other])
    assert "build tag 1" in caught.value.hint


def test_a_link_that_breaks_leaves_the_old_index_and_is_mended_by_the_next(site: Site) -> None:
    site.publisher.publish([site.wheel(NATIVE)])
    before = site.everything()
    # rrsync is called for files first, then for pages: it dies when it comes to these.
    script = site.sshd.directory / "breaks"
    script.write_text(
        '#!/bin/sh\ncase "$SSH_ORIGINAL_COMMAND" in *delay-updates*) exit 1;; esac\n'
        f"exec /usr/bin/rrsync -wo {site.served}\n"
    )
    script.chmod(0o755)
    site.restrict(str(script))
    with pytest.raises(PublishError, match="rsync of") as caught:
        site.publisher.publish([site.wheel(NEWER)])
    assert "nothing is lost" in caught.value.hint
    after = site.everything()
    assert {name: after[name] for name in before} == before
    assert site.good()
    site.restrict(f"/usr/bin/rrsync -wo {site.served}")
    site.publisher.publish([site.wheel(NEWER)])
    assert NEWER in (site.served / "simple/demo/index.html").read_text()
    assert site.good()


def test_two_publishers_at_once(site: Site) -> None:
    with (
        tree_lock(site.tree),
        pytest.raises(BusyError, match="another process is changing"),
        tree_lock(site.tree, wait_s=0.2),
    ):
        pytest.fail("both had it")
    wheels = [site.wheel(name) for name in (NATIVE, OTHER, NEWER)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda wheel: site.publisher.publish([wheel]), wheels))
    assert [one.files for one in done] == [(NATIVE,), (OTHER,), (NEWER,)]
    assert site.good()
    listed = (site.served / "simple/demo/index.html").read_text()
    assert NATIVE in listed
    assert NEWER in listed


def test_a_disk_that_fills_in_mid_write(tmp_path: Path) -> None:
    small = write_wheel(tmp_path, NATIVE)
    large = write_wheel(
        tmp_path, NEWER, {"demo/data.bin": b"".join(bytes([n % 251]) * 7 for n in range(40_000))}
    )
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=96k none "$0" && exec "$@"'
    python = [sys.executable, "-c", SMALL_DISK, str(disk / "index"), str(small), str(large)]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, str(disk), *python],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "can't be written: No space left on device" in done.stdout
