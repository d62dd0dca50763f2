"""`farm doctor` and an index that is really served, with a certificate and without."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from farm import cli
from farm.cleanroom import CleanRoom
from farm.doctor import Check, Level, rounds, served
from farm.errors import ExitCode
from farm.index import IndexTree, build_index
from farm.index.tree import add_wheel
from farm.nodes import Address, IndexHost
from tests.httpkit import serving_folder
from tests.integration.sshkit import free_port
from tests.unit.verify.wheelkit import NATIVE, write_wheel

pytestmark = pytest.mark.integration


@contextmanager
def serving(root: Path, certificate: Path | None = None) -> Iterator[IndexHost]:
    with serving_folder(root, certificate=certificate) as url:
        yield IndexHost(Address("wheels", "127.0.0.1", 22, "u", root, root), str(root), url)


@pytest.fixture
def tree(tmp_path: Path) -> IndexTree:
    found = IndexTree(tmp_path / "tree")
    add_wheel(found, write_wheel(tmp_path))
    build_index(found)
    return found


def only(checks: Iterable[Check]) -> Check:
    (check,) = checks
    return check


def test_an_index_that_is_what_it_should_be(tree: IndexTree) -> None:
    with serving(tree.root) as host, requests.Session() as http:
        assert [check.level for check in served.answers(host, http)] == [Level.OK, Level.OK]
        assert only(served.newest(tree, host, http)).evidence == "demo: its page is right about 1 file"
        assert only(served.pages(tree, host, http)).level is Level.OK


def test_a_damaged_wheel_and_a_stale_page(tree: IndexTree, tmp_path: Path) -> None:
    with serving(tree.root) as host, requests.Session() as http:
        (tree.packages / "demo" / NATIVE).write_bytes(b"damaged")
        assert "sha256 is" in only(served.newest(tree, host, http)).evidence
        other = IndexTree(tmp_path / "other")
        add_wheel(other, write_wheel(tmp_path, requires_python=">=3.9"))
        build_index(other)
        stale = only(served.pages(other, host, http))
        assert (stale.level, "demo/" in stale.evidence) == (Level.FAIL, True)


def test_an_index_that_is_away(tree: IndexTree) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    host = IndexHost(Address("wheels", "127.0.0.1", 22, "u", tree.root, tree.root), "/srv", url)
    with requests.Session() as http:
        found = only(served.answers(host, http))
        assert (found.level, found.hint) == (Level.FAIL, "farm provision wheels")
        assert only(served.pages(tree, host, http)).level is Level.FAIL
    only(served.newest(IndexTree(tree.root / "none"), host, http))


def certificate_of(days: int, path: Path) -> Path:
    """Write a certificate of 127.0.0.1 that signs itself, good for so many days, with its key."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]),
    )
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(4711)
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(("days", "level"), [(90, Level.OK), (10, Level.WARN), (-2, Level.FAIL)])
def test_a_certificate(days: int, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificate_of(days, tmp_path / "pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with serving(tmp_path, path) as host:
        found = only(served.certificate(host, time.time()))
    assert found.level is level
    assert ("renew it" in found.hint) == (level is not Level.OK)


def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    with serving(tmp_path, certificate_of(90, tmp_path / "pem")) as host:
        found = only(served.certificate(host, time.time()))
    assert (found.level, "clients refuse it: self" in found.evidence) == (Level.FAIL, True)


def test_farm_doctor(
    tree: IndexTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, with a farm whose only board is away: that is told, with the fix."""
    monkeypatch.setenv("FARM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(CleanRoom, "check", lambda _: None)
    room = tmp_path / "room" / "userland" / "etc"
    room.mkdir(parents=True)
    (room / "passwd").touch()
    monkeypatch.setattr(
        rounds, "CleanRoom", type("Room", (), {"at": lambda: CleanRoom.at(tmp_path / "room")})
    )
    common = {
        "ansible_host": "127.0.0.1",
        "ansible_ssh_private_key_file": str(tmp_path / "key"),
        "farm_known_hosts": str(tmp_path / "known_hosts"),
    }

    def farm(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["farm", "doctor", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "fault of the farm" not in err
        return int(caught.value.code or 0), out

    with serving(tree.root) as host:
        board = {**common, "ansible_port": free_port(), "farm_build_user": "wheelfarm", "farm_node_dir": "/x"}
        index = {
            **common,
            "farm_index_url": host.url,
            "farm_index_root": "/srv",
            "farm_index_user": "p",
            "ansible_connection": "local",
            "farm_registries": {
                "shelf": {
                    "url": "https://example.org/",
                    "simple_url": "https://example.org/",
                    "token_env": "NO_SUCH_TOKEN",
                    "expires": "2020-01-01",
                }
            },
        }
        groups = {"builders": {"hosts": {"f3": board}}, "index": {"hosts": {"wheels": index}}}
        inventory = tmp_path / "hosts.json"
        inventory.write_text(json.dumps({"all": {"children": groups}}))
        code, out = farm("-i", inventory, "--json")
        found = {check["name"]: check for check in json.loads(out)}
    assert code == ExitCode.FAILED
    assert set(found["node f3"]) == {"name", "level", "evidence", "hint"}
    assert found["node f3"]["level"] == "fail"
    assert found["registry shelf: expiry"]["level"] == "fail"
    assert found["registry shelf: token"]["level"] == "warn"
    for name in ("controller: programs", "inventory: index", "clean room", "index: answers", "index: newest"):
        assert found[name]["level"] == "ok", found[name]
    code, out = farm("-i", "/nosuch/inventory", "--quiet")
    assert code == ExitCode.FAILED
    assert "FAIL inventory: /nosuch/inventory: no such inventory" in out
    assert "fix: give one with --inventory" in out
    assert "controller: programs" not in out
