"""`farm verify` of URLs and of an index, against a small server on the loopback address."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from farm.cli import main
from farm.errors import ExitCode, HashMismatchError, UpstreamError
from farm.provenance.check import Beside
from farm.provenance.dsse import pem_of
from farm.verify import Report
from farm.verify.debian import DebianPackages
from farm.verify.judge import verify_wheel
from farm.verify.remote import RemoteWheel, Unread, remote_wheel, verify_all
from tests.httpkit import Quiet, answering
from tests.unit.provenance.kit import KEY, said, signed
from tests.unit.provenance.kit import OTHER as OTHER_KEY
from tests.unit.verify.wheelkit import MODULE, NATIVE, make_elf, wheel_members, zip_bytes

pytestmark = pytest.mark.integration
WHEEL = zip_bytes(wheel_members(NATIVE))
SHA256 = hashlib.sha256(WHEEL).hexdigest()
OTHER = NATIVE.replace("1.0", "0.9")


@dataclass
class Server:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_to: int | None = None
    """Bytes after which an answer ends, short of what its head promised."""
    asked: list[str] = field(default_factory=list)

    def page(self, *links: str) -> None:
        body = "".join(f'<a href="/files/{link}">{link.partition("#")[0]}</a>' for link in links)
        self.files["/simple/demo/"] = f"<!DOCTYPE html><html><body>{body}</body></html>".encode()


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(files={f"/files/{NATIVE}": WHEEL})

    class Handler(Quiet):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            body = state.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "text/html" if self.path.startswith("/simple") else "a/b")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write((body or b"")[: state.cut_to])

    with answering(Handler) as state.url:
        yield state


def judge(wheel: Path, beside: Beside) -> Report:
    del beside
    return verify_wheel(wheel)


def one(argument: str, index: str | None = None) -> Report | Unread:
    (result,) = verify_all([argument], index, judge)
    return result


def refused(argument: str, index: str | None = None) -> UpstreamError:
    result = one(argument, index)
    assert isinstance(result, Unread)
    assert isinstance(result.error, UpstreamError)
    assert result.error.hint
    return result.error


def test_a_url_is_verified(server: Server) -> None:
    result = one(f"{server.url}/files/{NATIVE}#sha256={SHA256}")
    assert isinstance(result, Report)
    assert result.ok
    assert result.sha256 == SHA256


def test_other_bytes_than_the_fragment_promises(server: Server) -> None:
    error = refused(f"{server.url}/files/{NATIVE}#sha256={'0' * 64}")
    assert isinstance(error, HashMismatchError)
    assert error.actual == SHA256


def test_nothing_is_there(server: Server) -> None:
    assert "404" in refused(f"{server.url}/nowhere/{NATIVE}").message


def test_a_download_that_ends_early(server: Server) -> None:
    server.cut_to = len(WHEEL) // 2
    refused(f"{server.url}/files/{NATIVE}")


def test_a_download_that_is_too_large(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.verify.remote.MOST_BYTES", len(WHEEL) - 1)
    assert "more than" in refused(f"{server.url}/files/{NATIVE}").message


def test_all_riscv64_wheels_of_a_version(server: Server) -> None:
    x86 = NATIVE.replace("riscv64", "x86_64")
    pure = "demo-1.0-py3-none-any.whl"
    server.files[f"/files/{OTHER}"] = zip_bytes(wheel_members(OTHER))
    server.page(f"{NATIVE}#sha256={SHA256}", OTHER, x86, pure, "demo-2.0.tar.gz")
    index = f"{server.url}/simple/"
    for argument, wheels in (("demo", [NATIVE]), ("demo==0.9", [OTHER]), ("demo<2", [NATIVE, OTHER])):
        reports = [*verify_all([argument], index, judge)]
        assert [report.wheel for report in reports if isinstance(report, Report) and report.ok] == wheels
    assert f"/files/{x86}" not in server.asked
    error = refused("demo==2.0", index)
    assert error.hint == "the index has riscv64 wheels of: 0.9, 1.0"
    assert "no such project" in refused("other", index).message


def test_an_index_that_states_another_hash(server: Server) -> None:
    server.page(f"{NATIVE}#sha256={'1' * 64}")
    assert isinstance(refused("demo", f"{server.url}/simple/"), HashMismatchError)


def test_a_name_in_a_url_does_not_lead_out_of_the_folder() -> None:
    for url in ("http://h/x%2f..%2fdemo.whl", "http://h/..%5cdemo.whl", "http://h/demo.zip", "http://h/"):
        (result,) = verify_all([url], None, judge)
        assert isinstance(result, Unread)
        assert "not the URL of a wheel" in result.error.message
    assert remote_wheel("http://h/a%2Bb.whl?x=1#sha256=00") == RemoteWheel(
        "http://h/a%2Bb.whl?x=1", "a+b.whl", "00"
    )


def farm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["farm", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def test_one_that_cannot_be_had_does_not_stop_the_rest(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / NATIVE).write_bytes(WHEEL)
    monkeypatch.setenv("FARM_STATE", str(tmp_path / "state"))
    wheels = ("absent.whl", f"{server.url}/absent.whl", str(tmp_path / NATIVE))
    code, out, err = farm(monkeypatch, capsys, "verify", *wheels)
    assert code == ExitCode.FAILED
    assert f"{NATIVE}: pass" in out
    assert err.count("error: ") == err.count("  fix: ") == 2
    code, out, _ = farm(monkeypatch, capsys, "verify", "--json", *wheels)
    assert code == ExitCode.FAILED
    assert [item["ok"] for item in json.loads(out)] == [False, False, True]


def served_provenance(server: Server, folder: str = "/files") -> None:
    content = said()
    content["subject"] = [{"name": NATIVE, "digest": {"sha256": SHA256}}]
    byproduct = {"name": f"{NATIVE}.cdx.json", "digest": {"sha256": hashlib.sha256(b"{}").hexdigest()}}
    run = content["predicate"]["runDetails"]  # type: ignore[index]
    run["byproducts"] = [byproduct]
    server.files[f"{folder}/{NATIVE}.provenance"] = signed(content=content)
    server.files[f"/files/{NATIVE}.cdx.json"] = b"{}"


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FARM_STATE", str(tmp_path / "state"))
    (tmp_path / "keys.pub").write_bytes(pem_of(KEY.public_key()))
    return tmp_path / "keys.pub"


def provenance_of(out: str) -> tuple[bool, str]:
    (result,) = json.loads(out)
    (verdict,) = [item for item in result["verdicts"] if item["gate"] == "provenance"]
    return verdict["ok"], verdict["evidence"]


def test_the_provenance_of_a_url_lies_beside_it(
    server: Server, keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served_provenance(server)
    arguments = ("verify", "--json", "--provenance", str(keys), f"{server.url}/files/{NATIVE}")
    code, out, err = farm(monkeypatch, capsys, *arguments)
    assert (code, err) == (ExitCode.OK, "")
    assert "signed by" in provenance_of(out)[1]
    server.files[f"/files/{NATIVE}.cdx.json"] = b"{ }"
    code, out, _ = farm(monkeypatch, capsys, *arguments)
    assert code == ExitCode.FAILED
    assert provenance_of(out) == (
        False,
        f"{NATIVE}: {NATIVE}.cdx.json is not the file that the provenance names",
    )
    del server.files[f"/files/{NATIVE}.cdx.json"]
    assert (
        "named by the provenance, and not there" in provenance_of(farm(monkeypatch, capsys, *arguments)[1])[1]
    )
    del server.files[f"/files/{NATIVE}.provenance"]
    ok, evidence = provenance_of(farm(monkeypatch, capsys, *arguments)[1])
    assert not ok
    assert evidence == f"{NATIVE}.provenance can't be read: there is none"


def test_the_provenance_on_an_index_is_where_its_page_says(
    server: Server, keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served_provenance(server, "/simple/said")
    where = f'href="/files/{NATIVE}#sha256={SHA256}" data-provenance="../said/{NATIVE}.provenance"'
    page = f"<a {where}>{NATIVE}</a>"
    server.files["/simple/demo/"] = f"<!DOCTYPE html><html><body>{page}</body></html>".encode()
    arguments = ("verify", "--json", "--index", f"{server.url}/simple/", "demo", "--provenance")
    code, out, _ = farm(monkeypatch, capsys, *arguments, str(keys))
    assert code == ExitCode.OK, out
    keys.write_bytes(pem_of(OTHER_KEY.public_key()))
    code, out, _ = farm(monkeypatch, capsys, *arguments, str(keys))
    assert code == ExitCode.FAILED
    assert not provenance_of(out)[0]


def test_keys_that_cannot_be_read_are_told_before_anything_is_fetched(
    server: Server, keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server.url}/files/{NATIVE}"
    code, _, err = farm(monkeypatch, capsys, "verify", "--provenance", str(keys.with_name("none")), url)
    assert (code, server.asked) == (ExitCode.INPUT, [])
    assert "  fix: take the index's provenance.pub" in err


def test_f07_the_package_of_a_missing_library_comes_from_debians_index(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    contents = b"usr/lib/riscv64-linux-gnu/libnuma.so.1   libs/libnuma1\n"
    server.files["/debian/dists/trixie/main/Contents-riscv64.gz"] = gzip.compress(contents)
    monkeypatch.setenv("FARM_DEBIAN_MIRROR", f"{server.url}/debian/")
    monkeypatch.setenv("FARM_STATE", str(tmp_path / "state"))
    wheel = tmp_path / NATIVE
    wheel.write_bytes(zip_bytes(wheel_members(NATIVE, {MODULE: make_elf(needed=("libnuma.so.1",))})))
    for _ in range(2):
        code, out, _ = farm(monkeypatch, capsys, "verify", str(wheel))
        assert code == ExitCode.FAILED
        assert "needs libnuma.so.1 (Debian package libnuma1), which manylinux_2_39_riscv64" in out
    assert len([path for path in server.asked if "Contents" in path]) == 1, "it is kept"


def test_a_mirror_that_sends_nonsense(server: Server, tmp_path: Path) -> None:
    server.files["/dists/sid/main/Contents-riscv64.gz"] = b"<html>"
    with pytest.raises(UpstreamError, match="not a gzip file"):
        DebianPackages(tmp_path, server.url, "sid")(["libx.so"])
    assert not list(tmp_path.iterdir())
