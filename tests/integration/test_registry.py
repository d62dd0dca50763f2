"""`farm publish --to`: a real pypiserver, which is busy, broken, strict or away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from farm import cli
from farm.cli import common, wheels
from farm.errors import ExitCode, InputError, PublishError
from farm.index.tree import add_wheel
from farm.nodes import Address, IndexHost
from farm.publish import Published, Publisher
from farm.registry import Fate, Registry, Sent, token_of, upload
from farm.upstream import sha256_of
from tests.integration.registrykit import LOST, Server, serving
from tests.integration.sshkit import free_port
from tests.unit.verify.wheelkit import NATIVE, write_wheel

pytestmark = pytest.mark.integration
TOKEN = "pypi-SECRET-4711"
OTHER = "other-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("registry"), TOKEN) as found:
        yield found


@pytest.fixture
def server(started: Server) -> Server:
    started.clear()
    return started


def send(server: Server, *wheels: Path, token: str = TOKEN) -> list[Sent]:
    return upload(wheels, server.registry, token, tries=2, pause_s=0.01)


def fates(results: list[Sent]) -> list[Fate]:
    return [sent.fate for sent in results]


def test_a_wheel_arrives_whole_and_only_once(server: Server, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    results = send(server, wheel)
    assert fates(results) == [Fate.SENT]
    assert results[0].listed
    assert sha256_of(server.shelf / NATIVE) == sha256_of(wheel)
    results = send(server, wheel)
    assert fates(results) == [Fate.PRESENT]
    assert server.posts == 1


def test_f06_other_bytes_are_refused_with_the_next_build_tag(server: Server, tmp_path: Path) -> None:
    send(server, write_wheel(tmp_path))
    before = (server.shelf / NATIVE).read_bytes()
    changed = write_wheel(tmp_path, requires_python=">=3.9")
    other = write_wheel(tmp_path, OTHER)
    results = send(server, changed, other)
    assert fates(results) == [Fate.FAILED, Fate.SENT], "one file's trouble is not another's"
    error = results[0].error
    assert error is not None
    assert "with other bytes" in error.message
    assert "build tag 1" in error.hint
    assert "demo-1.0-1-cp313-cp313-manylinux_2_39_riscv64.whl" in error.hint
    assert (server.shelf / NATIVE).read_bytes() == before


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.instead(("500 Internal Server Error", []), ("429 Too Many Requests", [("Retry-After", "0")]))
    wheel = write_wheel(tmp_path)
    results = send(server, wheel)
    assert fates(results) == [Fate.SENT]
    assert server.posts == 3
    assert sha256_of(server.shelf / NATIVE) == sha256_of(wheel)


def test_an_answer_that_was_lost_is_no_failure(server: Server, tmp_path: Path) -> None:
    server.instead((LOST, []))  # it stored the file, and the second post is refused with 409
    results = send(server, write_wheel(tmp_path))
    assert fates(results) == [Fate.SENT]
    assert server.files == [NATIVE]


def test_a_broken_server_is_told_and_the_rest_not_tried(server: Server, tmp_path: Path) -> None:
    first, second = write_wheel(tmp_path), write_wheel(tmp_path, OTHER)
    server.instead(*[("503 Service Unavailable", [])] * 3)
    results = send(server, first, second)
    assert fates(results) == [Fate.FAILED, Fate.UNTRIED]
    assert "HTTP status 503" in str(results[0].error)
    assert server.posts == 3
    results = send(server, first, second)
    assert fates(results) == [Fate.SENT, Fate.SENT]


def test_a_wrong_token_is_not_shown(server: Server, tmp_path: Path) -> None:
    wheel, other = write_wheel(tmp_path), write_wheel(tmp_path, OTHER)
    results = send(server, wheel, other, token="pypi-WRONG-1")
    assert fates(results) == [Fate.FAILED, Fate.UNTRIED]
    error = results[0].error
    assert error is not None
    assert "HTTP status 403" in error.message
    assert "TOKEN" in error.hint
    assert "WRONG" not in error.message + error.hint
    assert server.files == []


def test_why_a_project_may_not_be_written_is_said(server: Server, tmp_path: Path) -> None:
    """As GitLab says it of a protected package, with the right token."""
    said = f'{{"message": "403 Forbidden - Package protected. {TOKEN}"}}'
    server.instead(("403 Forbidden", [("Content-Type", "application/json")], said))
    (sent,) = send(server, write_wheel(tmp_path))
    assert sent.error is not None
    assert "Package protected. (token)" in sent.error.message


def test_a_post_is_not_redirected(server: Server, tmp_path: Path) -> None:
    server.instead((f"307 {TOKEN}", [("Location", f"http://127.0.0.2:9/{TOKEN}")]))
    results = send(server, write_wheel(tmp_path))
    assert fates(results) == [Fate.FAILED]
    error = results[0].error
    assert error is not None
    assert "redirects" in error.message
    assert "SECRET" not in error.message


def test_a_server_that_is_away(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    away = Registry(name="away", url=url, simple_url=f"{url}/simple/", token_env="TOKEN")
    (sent,) = upload([write_wheel(tmp_path)], away, TOKEN, tries=1, pause_s=0)
    assert sent.fate is Fate.FAILED
    assert isinstance(sent.error, PublishError)
    assert "can't be reached: NewConnectionError" in sent.error.message


def test_a_token_out_of_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("sesame\n")
    vault = tmp_path / "tokens.vault"
    vault.write_text(f"shelf: {TOKEN}\n")
    encrypt = [str(Path(sys.executable).parent / "ansible-vault"), "encrypt", str(vault)]
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "password"))
    subprocess.run(encrypt, check=True, capture_output=True)
    assert TOKEN not in vault.read_text()

    def registry(name: str) -> Registry:
        url = "https://example.org/"
        return Registry(name=name, url=url, simple_url=url, token_vault="tokens.vault")

    assert token_of(registry("shelf"), tmp_path) == TOKEN
    with pytest.raises(InputError, match="has no token of another"):
        token_of(registry("another"), tmp_path)
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE")
    with pytest.raises(InputError, match="can't open it") as caught:
        token_of(registry("shelf"), tmp_path)
    assert "ANSIBLE_VAULT_PASSWORD_FILE" in caught.value.hint


def test_farm_publish_to_a_registry(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command: an index of its own first (here without a host), then the registry; partial failure."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        f"all: {{children: {{index: {{hosts: {{wheels: {{farm_registries: {{shelf: {{url: '{server.url}/',"
        f" simple_url: '{server.url}/simple/', token_env: SHELF_TOKEN}}}}}}}}}}}}}}\n"
    )
    monkeypatch.setenv("FARM_STATE", str(tmp_path / "state"))
    address = Address("wheels", "127.0.0.1", 22, "u", tmp_path, tmp_path)
    fleet = type(
        "F", (), {"require_index": lambda _: IndexHost(address, "/srv", server.url), "builders": ()}
    )()
    for module in (common, wheels):
        monkeypatch.setattr(module, "read_fleet", lambda _: fleet)

    def publish(publisher: Publisher, files: Iterable[Path]) -> Published:
        return Published(tuple(add_wheel(publisher.tree, file).filename for file in files), 0, 0)

    monkeypatch.setattr(Publisher, "publish", publish)

    def farm(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["farm", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert TOKEN not in out + err
        return int(caught.value.code or 0), out + err

    wheel = write_wheel(tmp_path)
    command = ("publish", "-i", inventory, "--to", "shelf", wheel)
    code, said = farm(*command)
    assert (code, server.files) == (ExitCode.INPUT, [])
    assert "SHELF_TOKEN is not set" in said
    assert not (tmp_path / "state" / "index").exists(), "nothing went anywhere"
    monkeypatch.setenv("SHELF_TOKEN", TOKEN)
    assert farm("publish", "-i", inventory, "--to", "attic", wheel)[0] == ExitCode.INPUT
    code, said = farm(*command)
    assert (code, server.files) == (ExitCode.OK, [NATIVE])
    assert f"{NATIVE}: sent to shelf" in said
    assert "has it already" in farm(*command)[1]
    server.instead(("400 Bad Request", []))
    other = write_wheel(tmp_path, OTHER)
    code, said = farm(*command, other)
    assert code == ExitCode.PUBLISH
    assert "shelf has it already" in said
    assert f"{OTHER}: NOT sent to shelf" in said
    assert "HTTP status 400" in said
