from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.errors import InputError, WheelError
from farm.verify import Gate, JobExpectation, Report
from farm.verify.judge import verify_wheel
from tests.unit.verify.wheelkit import (
    EM_X86_64,
    MODULE,
    NATIVE,
    make_elf,
    wheel_members,
    write_wheel,
    zip_bytes,
)

JOB = JobExpectation("demo", "1.0", "cp313", native=True)
PURE = "demo-1.0-py3-none-any.whl"
GOOD = zip_bytes(wheel_members(NATIVE))
INFO = "demo-1.0.dist-info"


def verify_bytes(data: bytes, filename: str = NATIVE) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / filename
        path.write_bytes(data)
        return verify_wheel(path)


def verify_members(members: dict[str, bytes], filename: str = NATIVE) -> Report:
    return verify_bytes(zip_bytes(members), filename)


def failed(report: Report) -> dict[Gate, str]:
    return {v.gate: f"{v.subject}: {v.evidence}" for v in report.failures}


def test_good_wheel_passes_every_gate(tmp_path: Path) -> None:
    report = verify_wheel(write_wheel(tmp_path), JOB)
    assert report.ok
    assert {v.gate for v in report.verdicts} == set(Gate) - {
        Gate.ABI3,
        Gate.IMPORT,
        Gate.EXECUTION,
        Gate.PROVENANCE,
    }
    data = json.loads(report.to_json())
    assert data["ok"] is True
    assert data["wheel"] == NATIVE
    report.raise_if_failed()


def test_good_pure_wheel(tmp_path: Path) -> None:
    assert verify_wheel(write_wheel(tmp_path, PURE)).ok


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        verify_wheel(tmp_path / NATIVE)


def test_name_that_is_no_wheel_name() -> None:
    assert list(failed(verify_bytes(GOOD, "demo.whl"))) == [Gate.NAME]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD) - 1))
def test_truncated_wheel_never_passes(size: int) -> None:
    report = verify_bytes(GOOD[:size])
    assert failed(report).keys() == {Gate.READABLE}
    assert "truncated or not a zip" in report.failures[0].evidence
    with pytest.raises(WheelError, match="truncated") as caught:
        report.raise_if_failed()
    assert caught.value.hint


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changed_byte_of_a_member_is_caught_by_record(data: st.DataObject) -> None:
    members = wheel_members(NATIVE)
    path = data.draw(st.sampled_from([p for p in members if not p.endswith("RECORD")]))
    at = data.draw(st.integers(0, len(members[path]) - 1))
    content = bytearray(members[path])
    content[at] ^= data.draw(st.integers(1, 255))
    assert path in failed(verify_members({**members, path: bytes(content)}))[Gate.RECORD]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_corrupt_archive_gives_a_report_not_a_traceback(edits: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, value in edits:
        data[at] = value
    for verdict in verify_bytes(bytes(data)).verdicts:
        assert "\n" not in verdict.evidence


def test_zip_with_something_before_it() -> None:
    assert failed(verify_bytes(b"#!/bin/sh\n" + GOOD)).keys() == {Gate.READABLE}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x.py", "demo/../../x.py", "demo\\x.py", "c:x.py", "a//b.py"]
)
def test_escaping_paths(path: str) -> None:
    members = wheel_members(NATIVE, {MODULE: make_elf(), path: b""})
    assert path in failed(verify_members(members))[Gate.PATHS]


def test_record_extra_missing_and_unlisted() -> None:
    members = wheel_members(NATIVE)
    assert "extra.py: not listed" in failed(verify_members({**members, "extra.py": b""}))[Gate.RECORD]
    del members["demo/__init__.py"]
    assert "missing in the wheel" in failed(verify_members(members))[Gate.RECORD]
    del members[f"{INFO}/RECORD"]
    assert failed(verify_members(members))[Gate.RECORD] == f"{INFO}/RECORD: missing"


def test_record_signatures_are_exempt() -> None:
    assert verify_members({**wheel_members(NATIVE), f"{INFO}/RECORD.jws": b"{}"}).ok


@pytest.mark.parametrize(
    ("metadata", "wheel", "why"),
    [
        ("Name: other\nVersion: 1.0\n", None, "project is 'other'"),
        ("Name: Demo\nVersion: 1.1\n", None, "version is '1.1'"),
        ("Name: demo\n", None, "exactly one Name"),
        (None, "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n", "tags are py3-none-any"),
        (None, "Wheel-Version: 2.0\nRoot-Is-Purelib: false\n", "file name's differ"),
        (None, "Wheel-Version: 1.0\nTag: cp313-cp313-manylinux_2_39_riscv64\n", "Root-Is-Purelib"),
        (
            None,
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: cp313-cp313-manylinux_2_39_riscv64\n",
            "native file in purelib",
        ),
    ],
)
def test_metadata_disagrees(metadata: str | None, wheel: str | None, why: str) -> None:
    members = wheel_members(NATIVE, metadata=metadata, wheel=wheel)
    assert why in failed(verify_members(members))[Gate.METADATA]


def test_two_dist_infos() -> None:
    members = wheel_members(NATIVE, {MODULE: make_elf(), "other-1.dist-info/METADATA": b""})
    assert "exactly one .dist-info" in failed(verify_members(members))[Gate.METADATA]


def test_wheel_for_another_machine_gets_one_clear_verdict() -> None:
    name = "demo-1.0-cp313-cp313-linux_x86_64.whl"
    report = verify_members(wheel_members(name, {"x.so": make_elf(machine=EM_X86_64)}), name)
    assert [v.evidence for v in report.failures] == ["linux_x86_64 wheel, not riscv64: EM_X86_64 in x.so"]


def test_f05_isa_gate_reads_vendored_files_too() -> None:
    files = {MODULE: make_elf(), "demo.libs/libopenblas-1a2b.so.0": make_elf("rv64gcv_zvl256b")}
    report = verify_members(wheel_members(NATIVE, files))
    assert [(v.gate, v.subject) for v in report.failures] == [(Gate.ISA, "demo.libs/libopenblas-1a2b.so.0")]
    assert "v, zvl256b" in report.failures[0].evidence


@pytest.mark.parametrize("version", ["1.1", "1.0.dev3", "1.0+local.1"])
def test_f02_another_version_than_asked_is_refused(tmp_path: Path, version: str) -> None:
    path = write_wheel(tmp_path, NATIVE.replace("1.0", version))
    assert f"the job is for {JOB.version}" in " ".join(v.evidence for v in verify_wheel(path, JOB).failures)


def test_f02_dev_version_is_refused_even_if_asked(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, NATIVE.replace("1.0", "1.0.dev3"))
    job = JobExpectation("demo", "1.0.dev3", "cp313", native=True)
    assert "development version" in failed(verify_wheel(path, job))[Gate.JOB]


@pytest.mark.parametrize(
    ("tags", "module", "ok"),
    [
        ("cp313-cp313", MODULE, True),
        ("cp39-abi3", "demo/_core.abi3.so", True),
        ("cp313-abi3", "demo/_core.abi3.so", True),
        ("py3-none", "demo/libdemo.so", True),
        ("cp314-abi3", "demo/_core.abi3.so", False),
        ("cp312-cp312", "demo/_core.cpython-312-riscv64-linux-gnu.so", False),
        ("cp313-cp313t", "demo/_core.cpython-313t-riscv64-linux-gnu.so", False),
        ("cp313-cp313", "demo/_core.cpython-312-riscv64-linux-gnu.so", False),
        ("py3-none", MODULE, False),
    ],
)
def test_f03_tags_are_checked_against_the_job(tmp_path: Path, tags: str, module: str, *, ok: bool) -> None:
    path = write_wheel(tmp_path, f"demo-1.0-{tags}-manylinux_2_39_riscv64.whl", {module: make_elf()})
    report = verify_wheel(path, JOB)
    assert report.ok is ok, report.failures
    assert set(failed(report)) <= {Gate.JOB}


def test_f04_native_job_refuses_a_pure_wheel(tmp_path: Path) -> None:
    report = verify_wheel(write_wheel(tmp_path, PURE), JOB)
    assert "pure wheel (py3-none-any)" in failed(report)[Gate.JOB]


def test_f04_platform_wheel_without_native_code(tmp_path: Path) -> None:
    report = verify_wheel(write_wheel(tmp_path, NATIVE, {"demo/__init__.py": b""}), JOB)
    assert "without any native file" in failed(report)[Gate.ELF]
    assert "without any native file" in failed(report)[Gate.JOB]


def test_f04_native_code_in_a_wheel_for_any_platform(tmp_path: Path) -> None:
    assert Gate.ELF in failed(verify_wheel(write_wheel(tmp_path, PURE, {"x.so": make_elf()})))


def test_f06_build_tag_is_the_jobs(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, NATIVE.replace("-1.0-", "-1.0-2-"))
    assert "build tag is 2, the job is for none" in failed(verify_wheel(path, JOB))[Gate.JOB]
    assert verify_wheel(path, JobExpectation("Demo", "1.0", "cp313", native=True, build_tag="2")).ok


def test_expectation_that_makes_no_sense() -> None:
    with pytest.raises(InputError):
        JobExpectation("demo", "1.0", "python3.13", native=True)
    with pytest.raises(InputError):
        JobExpectation("demo", "one", "cp313", native=True)
