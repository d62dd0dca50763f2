"""Gate 5: files that say they use the stable ABI only."""

from __future__ import annotations

from pathlib import Path

from farm.verify import Gate
from farm.verify.judge import verify_wheel
from tests.unit.verify.linkkit import make_library
from tests.unit.verify.wheelkit import MODULE, NATIVE, write_wheel

ABI3 = "demo-1.0-cp39-abi3-manylinux_2_39_riscv64.whl"


def abi3_failures(
    tmp_path: Path,
    *symbols: str,
    filename: str = ABI3,
    path: str = "demo/_core.abi3.so",
    weak: tuple[str, ...] = (),
) -> str:
    elf = make_library(undefined=symbols, weak=weak)
    report = verify_wheel(write_wheel(tmp_path, filename, {path: elf}))
    assert {verdict.gate for verdict in report.failures} <= {Gate.ABI3}
    return "; ".join(verdict.evidence for verdict in report.failures)


def test_the_stable_abi_of_the_tag(tmp_path: Path) -> None:
    assert not abi3_failures(tmp_path, "PyObject_Call", "Py_IncRef", "PyExc_ValueError", "malloc")


def test_an_abi3_liar_uses_private_symbols(tmp_path: Path) -> None:
    failures = abi3_failures(tmp_path, "PyObject_Call", "_PyUnicode_AsString", "PyUnicode_AsUTF8")
    assert "uses PyUnicode_AsUTF8, _PyUnicode_AsString, not in the stable ABI" in failures


def test_an_abi3_liar_uses_symbols_of_a_newer_python(tmp_path: Path) -> None:
    failures = abi3_failures(tmp_path, "PyObject_Vectorcall", "PyType_GetQualName")
    assert failures == "is for 3.9 and newer, but uses PyType_GetQualName (3.11), PyObject_Vectorcall (3.12)"
    newer = ABI3.replace("cp39", "cp312")
    assert not abi3_failures(tmp_path, "PyObject_Vectorcall", "PyType_GetQualName", filename=newer)


def test_weak_symbols_are_asked_for_at_run_time(tmp_path: Path) -> None:
    assert not abi3_failures(tmp_path, weak=("PyObject_Vectorcall", "_PyPrivate"))


def test_a_file_for_one_python_in_an_abi3_wheel(tmp_path: Path) -> None:
    failures = abi3_failures(tmp_path, "Py_IncRef", path="demo/_core.cpython-39-riscv64-linux-gnu.so")
    assert "named for one CPython" in failures


def test_a_files_own_claim_counts_without_the_tag(tmp_path: Path) -> None:
    assert "_PyPrivate" in abi3_failures(tmp_path, "_PyPrivate", filename=NATIVE)
    assert not abi3_failures(tmp_path, "_PyPrivate", filename=NATIVE, path=MODULE)
    assert not abi3_failures(tmp_path, "PyObject_Vectorcall", filename=NATIVE)
