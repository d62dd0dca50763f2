"""Before the first build: a table of giants, then file lists (F11: the last job decides)."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from farm.estimate import Language, SdistFeatures, cold_estimate, giants, read_features


def _sdist(path: Path, *names: str, size: int) -> Path:
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
    return path


def work_of(path: Path) -> float:
    return cold_estimate("some-project", read_features(path)).work_s


def test_a_small_rust_project_is_more_work_than_a_large_c_one(tmp_path: Path) -> None:
    rust = _sdist(tmp_path / "rust.tar.gz", "rust-1/Cargo.toml", size=10)
    c = _sdist(tmp_path / "c.tar.gz", "c-1/big.c", size=1 << 20)
    assert work_of(rust) > work_of(c)


def test_more_source_is_more_work(tmp_path: Path) -> None:
    small = _sdist(tmp_path / "small.tar.gz", "a/a.c", size=10)
    large = _sdist(tmp_path / "large.tar.gz", "a/a.c", size=1 << 20)
    assert work_of(large) > work_of(small)


def test_a_damaged_sdist_is_no_error_here(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tar.gz"
    damaged.write_bytes(b"\x1f\x8bnot really")
    assert not read_features(damaged).readable
    assert work_of(damaged) > 0


def test_languages_are_read_from_file_names_in_zips_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/x.CPP", "a/y.pyx", "a/z.f90", "a/setup.py"):
            archive.writestr(name, "12345")
    features = read_features(path)
    assert features.source == {Language.CXX: 5, Language.CYTHON: 5, Language.FORTRAN: 5}
    assert not features.pure
    assert SdistFeatures(10).pure


def test_cython_whose_c_is_shipped_counts_once() -> None:
    both = SdistFeatures(1, {Language.CYTHON: 100_000, Language.C: 2_000_000})
    only_c = SdistFeatures(1, {Language.C: 2_000_000})
    assert cold_estimate("a", both).work_s == cold_estimate("a", only_c).work_s


@pytest.mark.parametrize("name", ["torch", "pyarrow", "scipy", "grpcio", "pandas", "tokenizers"])
def test_giants_are_known_by_name_whatever_their_sdist_says(name: str) -> None:
    assert cold_estimate(name, SdistFeatures(1000)).work_s > 10 * cold_estimate("small", None).serial_s


def test_the_table_is_sane() -> None:
    for name, giant in giants().items():
        assert name == name.lower().replace("_", "-")
        assert 0 < giant.hours < 500
        assert 0 < giant.serial < 1
        assert 10**8 < giant.memory_bytes < 10**10


def test_f25_a_task_of_c_plus_plus_needs_more_memory_than_one_of_c() -> None:
    cxx, c = SdistFeatures(1, {Language.CXX: 10**6}), SdistFeatures(1, {Language.C: 10**6})
    assert cold_estimate("a", cxx).memory_bytes > 4 * cold_estimate("a", c).memory_bytes
