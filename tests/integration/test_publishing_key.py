"""What the key that publishes may do on the index host: real sshd, real rrsync, the role's own line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.nginxkit import REPOSITORY
from tests.integration.sshkit import USER, Sshd, free_port, keygen

pytestmark = pytest.mark.integration
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part in ("root/packages", "root/simple", "local/packages/demo"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "local/packages/demo/demo.whl").write_text("a wheel")
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "root"


@pytest.fixture
def run(tmp_path: Path, root: Path) -> Iterator[Run]:
    """Return a way to run rsync or ssh with the publishing key."""
    key = keygen(tmp_path / "key")
    keygen(tmp_path / "host")
    defaults = yaml.safe_load((REPOSITORY / "roles/index_server/defaults/main.yml").read_text())
    options = defaults["index_server_key_options"].replace("{{ index_server_root }}", str(root))
    public = key.with_name("key.pub")
    public.write_text(f"{options} {public.read_text()}")
    sshd = Sshd(tmp_path, free_port(), key)
    sshd.start()
    ssh = f"ssh -F /dev/null -p {sshd.port} -i {key} -o IdentitiesOnly=yes -o BatchMode=yes"
    ssh += f" -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={tmp_path}/known_hosts"

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        start = [program, "--rsh", ssh] if program == "rsync" else [program, *ssh.split()[1:]]
        return subprocess.run([*start, *arguments], capture_output=True, text=True, check=False, timeout=30)

    yield run
    sshd.stop()


def test_it_writes_into_the_tree(run: Run, root: Path, tmp_path: Path) -> None:
    (root / "packages/old.whl").write_text("old")
    options = ["--recursive", "--times", "--chmod=D755,F644", "--ignore-existing"]
    done = run("rsync", *options, f"{tmp_path}/local/packages/", f"{USER}@127.0.0.1:packages/")
    assert done.returncode == 0, done.stderr
    assert (root / "packages/demo/demo.whl").read_text() == "a wheel"
    assert (root / "packages/old.whl").exists()
    options = ["--recursive", "--times", "--chmod=D755,F644", "--delete-after"]
    done = run("rsync", *options, f"{tmp_path}/local/packages/", f"{USER}@127.0.0.1:packages/")
    assert done.returncode == 0, done.stderr
    assert not (root / "packages/old.whl").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("rsync", "{user}:packages/", "{local}/read/"),
        ("rsync", "-r", "{local}/packages/", "{user}:../outside/"),
        ("rsync", "-r", "{local}/packages/", "{user}:packages/../../outside/"),
        ("rsync", "-r", "--rsync-path=/bin/sh -c id;rsync", "{local}/packages/", "{user}:"),
        ("ssh", "{user}", "id"),
        ("ssh", "{user}"),
        ("ssh", "{user}", "cat ../secret"),
        ("ssh", "-s", "{user}", "sftp"),
        ("ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9", "{user}"),
    ],
)
def test_it_can_do_nothing_else(run: Run, root: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (root / "packages/mine.whl").write_text("mine")
    texts = [text.format(user=f"{USER}@127.0.0.1", local=tmp_path / "local") for text in arguments]
    # rsync wants a path behind the host.
    if texts[0] == "rsync":
        texts = [text + ":" if text == f"{USER}@127.0.0.1" else text for text in texts]
    done = run(*texts)
    assert done.returncode != 0
    assert "uid=" not in done.stdout
    assert "secret" not in done.stdout
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "local/read").exists()
