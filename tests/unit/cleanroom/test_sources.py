from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from farm.cleanroom import sources
from farm.cleanroom.sources import copy_sources, shadowed
from farm.errors import WheelError

FILES = {
    "demo/__init__.py": b"",
    "demo/tests/test_in.py": b"in",
    "tests/test_x.py": b"x",
    "tests/data/deep/a.bin": b"\0",
    "testsuite.py": b"other",
    "conftest.py": b"conf",
}


def make_sdist(folder: Path, files: Mapping[str, bytes], kind: str = "tar.gz") -> Path:
    path = folder / f"demo-1.0.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(f"demo-1.0/{name}", data)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"demo-1.0/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("demo-1.0/tests/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def copied(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_what_is_named_is_copied_and_nothing_else(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    copy_sources(make_sdist(tmp_path, FILES, kind), ["tests", "conftest.py"], target)
    assert copied(target) == {name: FILES[name] for name in FILES if name.startswith(("tests/", "conftest"))}


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match=r"demo-1.0.tar.gz has no docs, test$"):
        copy_sources(make_sdist(tmp_path, FILES), ["test", "docs", "tests"], tmp_path / "target")


@pytest.mark.parametrize("path", ["tests/../../escaped", "../tests/x"])
def test_no_file_gets_out(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "inner"
    copy_sources(make_sdist(tmp_path, {path: b"", "tests/a": b""}), ["tests"], folder / "target")
    assert sorted(copied(folder)) == ["target/tests/a"]
    assert not list(tmp_path.rglob("escaped"))


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_BYTES", 1 << 20)
    path = make_sdist(tmp_path, {"tests/a": bytes(1 << 20), "tests/b": b"1"})
    with pytest.raises(WheelError, match="tests: more than 1 MiB"):
        copy_sources(path, ["tests"], tmp_path / "target")


def test_a_damaged_sdist_is_named(tmp_path: Path) -> None:
    path = make_sdist(tmp_path, FILES)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(WheelError, match=r"demo-1.0.tar.gz can't be read"):
        copy_sources(path, ["tests"], tmp_path / "target")


@pytest.mark.parametrize(
    ("wanted", "module"),
    [(["tests"], ""), (["demo/tests"], ""), (["demo"], "demo"), (["testsuite.py"], "testsuite")],
)
def test_the_package_itself_is_noticed(tmp_path: Path, wanted: list[str], module: str) -> None:
    copy_sources(make_sdist(tmp_path, FILES), wanted, tmp_path / "target")
    assert shadowed(tmp_path / "target", ["demo", "demo._core", "testsuite"]) == module
