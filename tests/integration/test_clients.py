"""Real pip and uv with the index host's real nginx; a second index of ours stands in for PyPI."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.index import stats
from farm.index.refresh import refresh
from tests.integration.clientkit import OLDEST_PIP, Client, bare, installed
from tests.integration.indexkit import Line, Site
from tests.integration.nodekit import until

pytestmark = pytest.mark.integration
ANY = "py3-none-any.whl"
LARGE = b"#" * 200_000
JANUARY, MARCH, MAY = 1_767_225_600, 1_772_323_200, 1_777_593_600  # 2026, the first day at midnight, UTC


@pytest.fixture(params=["pip-oldest", "pip-newest", "uv-newest"])
def client(request: pytest.FixtureRequest, clients: dict[str, Client]) -> Client:
    return clients[request.param]


@pytest.fixture(scope="module")
def pypi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("pypi"))
    site.publish(f"kit_dep-1.0-{ANY}", f"kit_elsewhere-1.0-{ANY}")
    # Upstream has more of a project that we host, and of our private one what somebody else wrote.
    site.publish(f"kit_hosted-2.0-{ANY}", content=b"whose = 'upstream'")
    site.publish(f"kit_secret-99.0-{ANY}", f"kit_unborn-99.0-{ANY}", content=b"whose = 'stranger'")
    site.start()
    yield site
    site.stop()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, pypi: Site) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("ours"))
    site.publish(f"kit_app-1.0-{ANY}", requires=("kit-mid>=1", "kit.dep"), content=LARGE)
    site.publish(f"kit_mid-1.0-{ANY}", f"kit_mid-2.0-{ANY}", requires=("kit_leaf<2",), content=LARGE)
    site.publish(f"kit_leaf-1.0-{ANY}", f"kit_leaf-2.0-{ANY}", content=LARGE)
    site.publish(f"kit_secret-1.0-{ANY}", content=b"whose = 'ours'")
    site.publish(f"kit_hosted-1.0-{ANY}", content=b"whose = 'ours'")
    site.publish(f"kit_future-1.0-{ANY}", requires_python=">=3.99")
    for version, at in (("1.0", JANUARY), ("2.0", MARCH), ("3.0", MAY)):
        site.publish(f"kit_dated-{version}-{ANY}", at=at)
    site.publish(f"kit_yanked-1.0-{ANY}", f"kit_yanked-1.1-{ANY}")
    site.yank(f"kit_yanked-1.1-{ANY}", "eats <files>")
    private = ("kit-secret", "kit_unborn")
    refresh(site.tree, pypi.simple, private=private)
    site.start(index_server_fallback_url=pypi.simple, index_server_private_names=list(private))
    yield site
    site.stop()


def paths(lines: list[Line]) -> list[str]:
    return [line.uri for line in lines if line.status < 300]


def test_the_clients_are_what_they_are_called(clients: dict[str, Client]) -> None:
    assert clients["pip-oldest"].version == OLDEST_PIP
    assert int(clients["pip-newest"].version.split(".")[0]) >= 26
    assert clients["uv-newest"].is_uv


def test_install_with_what_is_ours_and_what_is_not(
    client: Client, ours: Site, pypi: Site, tmp_path: Path
) -> None:
    begin, elsewhere = ours.mark(), pypi.mark()
    client.install(tmp_path, "kit-app", "Kit_Elsewhere", index=ours.simple)
    assert installed(tmp_path) == {
        "kit_app": "1.0",
        "kit_mid": "2.0",
        "kit_leaf": "1.0",
        "kit_dep": "1.0",
        "kit_elsewhere": "1.0",
    }
    seen = ours.lines(begin)
    assert {line.status for line in seen} == {200, 302}
    assert not [line for line in seen if line.uri.endswith(".html")], "all of them ask for JSON and get it"
    assert f"/packages/kit-elsewhere/kit_elsewhere-1.0-{ANY}" in paths(pypi.lines(elsewhere))


def test_resolving_downloads_metadata_and_no_wheel(client: Client, ours: Site) -> None:
    begin = ours.mark()
    done = client.resolve("kit-app", index=ours.simple)
    seen = ours.lines(begin)
    assert [path for path in paths(seen) if path.endswith(".metadata")]
    wheels = [path for path in paths(seen) if path.endswith(".whl")]
    # The oldest pip fetches what it would install even in a dry run: each wheel that was chosen, no other.
    assert len(wheels) == (3 if client.name == "pip-oldest" else 0), wheels
    assert sum(line.size for line in seen if not line.uri.endswith(".whl")) < 10_000
    assert "leaf" in done.stdout + done.stderr


def test_only_binary_and_requires_python(client: Client, ours: Site, tmp_path: Path) -> None:
    client.install(tmp_path, "--only-binary", ":all:", "kit-leaf", index=ours.simple)
    assert installed(tmp_path) == {"kit_leaf": "2.0"}
    refused = client.install(tmp_path / "no", "kit-future", index=ours.simple, check=False)
    assert refused.returncode != 0


def test_what_is_yanked_is_not_chosen_but_can_be_asked_for(
    client: Client, ours: Site, tmp_path: Path
) -> None:
    client.install(tmp_path / "a", "kit-yanked", index=ours.simple)
    assert installed(tmp_path / "a") == {"kit_yanked": "1.0"}
    done = client.install(tmp_path / "b", "kit-yanked==1.1", index=ours.simple)
    assert installed(tmp_path / "b") == {"kit_yanked": "1.1"}
    assert "eats <files>" in done.stdout + done.stderr


def test_what_is_not_anywhere_is_not_found(client: Client, ours: Site, tmp_path: Path) -> None:
    done = client.install(tmp_path, "kit-nowhere", index=ours.simple, check=False)
    assert done.returncode != 0
    assert "kit-nowhere" in done.stderr


def test_as_of_a_day(clients: dict[str, Client], ours: Site, tmp_path: Path) -> None:
    day = "2026-04-01T00:00:00Z"
    clients["pip-newest"].install(tmp_path / "p", "--uploaded-prior-to", day, "kit-dated", index=ours.simple)
    clients["uv-newest"].install(tmp_path / "u", "--exclude-newer", day, "kit-dated", index=ours.simple)
    assert installed(tmp_path / "p") == installed(tmp_path / "u") == {"kit_dated": "2.0"}


def test_a_lock_of_uvs_holds_for_pip_and_uv(clients: dict[str, Client], ours: Site, tmp_path: Path) -> None:
    wanted, lock = tmp_path / "in.txt", tmp_path / "lock.txt"
    wanted.write_text("kit-app\nkit-elsewhere\n")
    uv = clients["uv-newest"].folder / "bin/uv"
    command = [str(uv), "pip", "compile", "--no-cache", "--generate-hashes", "--index-url", ours.simple]
    subprocess.run(
        [*command, str(wanted), "-o", str(lock)], check=True, capture_output=True, env=bare(), timeout=60
    )
    assert lock.read_text().count("--hash=sha256:") == 5
    for name, client in clients.items():
        client.install(tmp_path / name, "--require-hashes", "-r", str(lock), index=ours.simple)
        assert len(installed(tmp_path / name)) == 5
    first = lock.read_text().index("--hash=sha256:") + len("--hash=sha256:")
    lock.write_text(lock.read_text()[:first] + "0" * 64 + lock.read_text()[first + 64 :])
    for name, client in clients.items():
        refused = client.install(
            tmp_path / f"{name}-no", "--require-hashes", "-r", str(lock), index=ours.simple, check=False
        )
        assert refused.returncode != 0
        assert "hash" in refused.stderr.lower()


def test_download(clients: dict[str, Client], ours: Site, tmp_path: Path) -> None:
    for name in ("pip-oldest", "pip-newest"):
        clients[name].run("download", "--dest", str(tmp_path / name), "--index-url", ours.simple, "kit-app")
        names = sorted(path.name for path in (tmp_path / name).iterdir())
        assert names == [
            f"kit_app-1.0-{ANY}",
            f"kit_dep-1.0-{ANY}",
            f"kit_leaf-1.0-{ANY}",
            f"kit_mid-2.0-{ANY}",
        ]


def test_upstreams_newer_version_of_a_hosted_project_is_there(
    client: Client, ours: Site, tmp_path: Path
) -> None:
    client.install(tmp_path / "new", "kit-hosted", index=ours.simple)
    assert installed(tmp_path / "new") == {"kit_hosted": "2.0"}
    client.install(tmp_path / "own", "kit-hosted", index=f"{ours.url}/ours/simple/")
    assert installed(tmp_path / "own") == {"kit_hosted": "1.0"}


def test_uv_takes_a_project_from_an_explicit_index(
    clients: dict[str, Client], ours: Site, pypi: Site, tmp_path: Path
) -> None:
    """As docs/index.md shows it: one project from us, everything else from elsewhere."""
    table = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\n'
    table += 'dependencies = ["kit-hosted", "kit-elsewhere"]\n'
    farm = f'[[tool.uv.index]]\nname = "farm"\nurl = "{ours.url}/ours/simple/"\nexplicit = true\n'
    farm += '[tool.uv.sources]\nkit-hosted = { index = "farm" }\n'
    whole = f'[[tool.uv.index]]\nname = "farm"\nurl = "{ours.simple}"\ndefault = true\n'
    # The machine's own settings are not read, but these tables are.
    environment = {name: value for name, value in bare().items() if name != "UV_NO_CONFIG"}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    for tables, options, hosted in ((farm, ["--default-index", pypi.simple], "1.0"), (whole, [], "2.0")):
        (tmp_path / "pyproject.toml").write_text(table + tables)
        (tmp_path / "uv.lock").unlink(missing_ok=True)
        uv = [str(clients["uv-newest"].folder / "bin/uv"), "lock", "--no-cache", "--python", sys.executable]
        done = subprocess.run(
            [*uv, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        lock = (tmp_path / "uv.lock").read_text()
        assert f'name = "kit-hosted"\nversion = "{hosted}"' in lock
        assert 'name = "kit-elsewhere"\nversion = "1.0"' in lock


def whose(target: Path) -> str:
    (module,) = target.glob("kit_*.py")
    return module.read_text()


def test_dependency_confusion_with_an_extra_index(
    clients: dict[str, Client], ours: Site, pypi: Site, tmp_path: Path
) -> None:
    """What this index is for: with two indexes, whoever has the higher version, or comes first, wins."""
    for name in ("pip-oldest", "pip-newest"):
        for first, second in ((ours, pypi), (pypi, ours)):
            target = tmp_path / name / first.directory.name
            clients[name].install(
                target, "--extra-index-url", second.simple, "kit-secret", index=first.simple
            )
            assert whose(target) == "whose = 'stranger'"
    uv = clients["uv-newest"]
    # uv asks the extra index first: which one is which decides.
    uv.install(tmp_path / "u1", "--extra-index-url", pypi.simple, "kit-secret", index=ours.simple)
    assert whose(tmp_path / "u1") == "whose = 'stranger'"
    best = ("--index-strategy", "unsafe-best-match")
    uv.install(tmp_path / "u2", *best, "--extra-index-url", ours.simple, "kit-secret", index=pypi.simple)
    assert whose(tmp_path / "u2") == "whose = 'stranger'"


def test_no_dependency_confusion_with_one_index(
    client: Client, ours: Site, pypi: Site, tmp_path: Path
) -> None:
    begin = pypi.mark()
    client.install(tmp_path / "a", "kit-secret", "kit-elsewhere", index=ours.simple)
    assert (tmp_path / "a/kit_secret.py").read_text() == "whose = 'ours'"
    # Not even where we have not published it yet.
    done = client.install(tmp_path / "b", "kit-unborn", index=ours.simple, check=False)
    assert done.returncode != 0
    refused = client.install(tmp_path / "c", "kit-secret>=99", index=ours.simple, check=False)
    assert refused.returncode != 0
    asked = paths(pypi.lines(begin))
    assert asked
    assert not [path for path in asked if "secret" in path or "unborn" in path], "nobody learns the names"


def test_installers_never_meet_the_bounds(clients: dict[str, Client], tmp_path: Path) -> None:
    """As many requests at once as uv ever sends (50), for 60 projects."""
    site = Site(tmp_path)
    names = [f"kit_many{number}" for number in range(60)]
    site.publish(*(f"{name}-1.0-{ANY}" for name in names))
    site.start()
    try:
        begin = site.mark()
        clients["uv-newest"].install(tmp_path / "uv", *names, index=site.simple)
        seen = site.lines(begin)
        assert len(installed(tmp_path / "uv")) == len(names)
        assert {line.status for line in seen} == {200}
        assert len(seen) == 3 * len(names), "page, metadata, wheel"
    finally:
        site.stop()


def count_downloads(site: Site) -> dict[str, Any]:
    """Run the counter as the index host does: one file, alone, with nothing installed."""
    command = [sys.executable, "-I", "-S", str(Path(stats.__file__)), "--log", str(site.nginx.access)]
    command += ["--state", str(site.directory / "state.json"), "--out", str(site.root / "stats")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(site.get("/stats/total.json").json())


def test_downloads_are_counted_and_no_address_is_kept(clients: dict[str, Client], tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.publish(f"kit_a-1.0-{ANY}", f"kit_a-2.0-{ANY}")
    site.start()
    try:
        for name, client in clients.items():
            client.install(tmp_path / name, "kit-a", index=site.simple)
        clients["uv-newest"].install(tmp_path / "old", "kit-a==1.0", index=site.simple)
        site.get("/packages/kit-a/kit_a-1.0-py3-none-any.whl", Range="bytes=0-3")
        site.ask("HEAD", "/packages/kit-a/kit_a-1.0-py3-none-any.whl")
        site.get("/packages/kit-a/kit_a-9.0-py3-none-any.whl")
        site.mark()
        total = count_downloads(site)
        assert total["projects"] == {"kit-a": {"1.0": 1, "2.0": 3}}
        assert total["pythons"] == {f"{sys.version_info.major}.{sys.version_info.minor}": 4}
        newest = {
            " ".join([name.split("-")[0], ".".join(clients[name].version.split(".")[:2])]) for name in clients
        }
        assert set(total["installers"]) == newest
        assert total["machines"] == {platform.machine(): 4}
        # As logrotate does it: another name, then nginx is told; what it wrote in between is not lost.
        log = site.nginx.access
        log.rename(log.with_name("access.log.1"))
        clients["uv-newest"].install(tmp_path / "between", "kit-a", index=site.simple)
        time.sleep(1.2)
        assert site.nginx.process is not None
        site.nginx.process.send_signal(signal.SIGUSR1)
        until(log.exists, "nginx to open its log")
        clients["uv-newest"].install(tmp_path / "after", "kit-a", index=site.simple)
        site.mark()
        assert count_downloads(site)["projects"] == {"kit-a": {"1.0": 1, "2.0": 5}}
        assert count_downloads(site)["downloads"] == 6
        day = site.get("/stats/days/" + total["days"][0] + ".json").json()
        assert day["projects"]["kit-a"]["1.0"] == 1
        for path in (log, log.with_name("access.log.1"), tmp_path / "state.json", site.nginx.log):
            assert "127.0.0.1" not in path.read_text()
    finally:
        site.stop()
