from __future__ import annotations

import zipfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from farm.node.record import board_id, crates, grafted, installed, licences, without_secrets

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: demo

Files: *
Copyright: 2020 Somebody
License: Expat

Files: tests/*
Copyright: 2021 Somebody else
License: GPL-2+ or BSD-3-clause
 Some text.

License: Expat
 Permission is hereby granted

License: only-a-text
 ...
"""
LOCK = """\
version = 4

[[package]]
name = "demo"
version = "1.0.0"

[[package]]
name = "pyo3"
version = "0.26.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "5555555555555555555555555555555555555555555555555555555555555555"
"""


def test_licences_are_those_of_files_not_those_of_texts() -> None:
    assert licences(COPYRIGHT) == ["Expat", "GPL-2+ or BSD-3-clause"]
    assert licences("This package was debianized by hand.\n\nLicense: none\n") == []
    assert licences("") == []


def test_no_secret_of_a_build_s_variables_is_written_down() -> None:
    assert without_secrets(
        {
            "CARGO_REGISTRY_TOKEN": "a",
            "db_password": "b",
            "PIP_INDEX_URL": "https://me:secret@pypi.test/simple/",
            "CFLAGS": "-O2 -DMAIL=me@home.test",
        }
    ) == {
        "CARGO_REGISTRY_TOKEN": "(not recorded)",
        "db_password": "(not recorded)",
        "PIP_INDEX_URL": "https://pypi.test/simple/",
        "CFLAGS": "-O2 -DMAIL=me@home.test",
    }


@given(st.text(st.characters(categories=["L", "N"]), min_size=1), st.sampled_from(["https", "ftp", "x"]))
def test_no_login_of_a_url_is_written_down(password: str, scheme: str) -> None:
    (value,) = without_secrets({"URL": f"{scheme}://me:Zz{password}zZ@host.test/x"}).values()
    assert f"Zz{password}zZ" not in value


def test_a_board_s_id_is_stable_and_is_not_its_machine_id() -> None:
    one = "0123456789abcdef0123456789abcdef"
    assert board_id(one) == board_id(one) != board_id(one[::-1])
    assert one not in board_id(one)


def test_crates_are_read_from_every_lock(tmp_path: Path) -> None:
    for folder in ("demo-1.0", "demo-1.0/rust/ext"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "Cargo.lock").write_text(LOCK)
    (tmp_path / "demo-1.0/rust/Cargo.lock").write_text("not = [toml")
    found = list(crates(tmp_path))
    assert [crate["lock"] for crate in found] == ["Cargo.lock"] * 2 + ["rust/ext/Cargo.lock"] * 2
    assert found[1]["name"] == "pyo3"
    assert found[1]["checksum"] == "5" * 64
    assert "checksum" not in found[0], "what is of the sdist itself has none"


def test_tools_are_read_from_their_metadata(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.13/site-packages"
    for name in ("auditwheel-6.8.2.dist-info", "pyproject_hooks-1.2.0.dist-info", "auditwheel"):
        (packages / name).mkdir(parents=True)
    assert installed(tmp_path) == ["auditwheel==6.8.2", "pyproject_hooks==1.2.0"]


def test_a_wheel_without_libraries_and_a_file_that_is_no_wheel_have_none(tmp_path: Path) -> None:
    wheel = tmp_path / "demo.whl"
    wheel.write_bytes(b"a wheel")
    assert list(grafted(wheel, [tmp_path])) == []
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo/core.so", b"x")
    assert list(grafted(wheel, [tmp_path])) == []
