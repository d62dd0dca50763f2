"""Expected work: a Rust project goes before a C project many times its size (F11: the last job decides)."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from farm.estimate import expected_work


def _sdist(path: Path, *names: str, size: int) -> Path:
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
    return path


def test_a_small_rust_project_is_more_work_than_a_large_c_one(tmp_path: Path) -> None:
    rust = _sdist(tmp_path / "rust.tar.gz", "rust-1/Cargo.toml", size=10)
    c = _sdist(tmp_path / "c.tar.gz", "c-1/setup.py", size=1 << 20)
    assert expected_work(rust) > expected_work(c)


def test_more_source_is_more_work(tmp_path: Path) -> None:
    small = _sdist(tmp_path / "small.tar.gz", "a/setup.py", size=10)
    large = _sdist(tmp_path / "large.tar.gz", "a/setup.py", size=1 << 20)
    assert expected_work(large) > expected_work(small)


def test_a_damaged_sdist_is_no_error_here(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tar.gz"
    damaged.write_bytes(b"\x1f\x8bnot really")
    assert expected_work(damaged) >= 0
