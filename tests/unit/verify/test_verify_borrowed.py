"""Libraries that a wheel takes out of another wheel, such as torchvision's out of torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.verify import Allowances, Gate, Report
from farm.verify.judge import verify_wheel
from tests.unit.verify.linkkit import make_library
from tests.unit.verify.wheelkit import MODULE, write_wheel

NAME = "demo-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
TORCH = {"torch": ["libtorch.so", "libc10.so"]}
HEADER = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
NEEDS = make_library(
    needed=["libtorch.so", "libc10.so", "libc.so.6"],
    versions={"libc.so.6": ["GLIBC_2.27"], "libtorch.so": ["TORCH_9"]},
    runpath="$ORIGIN/../torch/lib",
)


def judged(
    folder: Path,
    requires: str,
    libraries_of: dict[str, list[str]],
    files: dict[str, bytes] | None = None,
) -> Report:
    wheel = write_wheel(folder, NAME, files or {MODULE: NEEDS}, metadata=HEADER + requires)
    return verify_wheel(wheel, allow=Allowances(libraries_of=libraries_of))


def failures(report: Report) -> list[str]:
    assert {verdict.gate for verdict in report.failures} <= {Gate.PLATFORM}
    return [verdict.evidence for verdict in report.failures]


def test_without_the_recipe_nothing_promises_them(tmp_path: Path) -> None:
    report = judged(tmp_path, "Requires-Dist: torch\n", {})
    assert len(failures(report)) == 2
    assert "needs libtorch.so" in failures(report)[0]


def test_with_it_they_are_the_other_projects(tmp_path: Path) -> None:
    report = judged(tmp_path, "Requires-Dist: Torch==2.9.0\n", TORCH)
    assert report.ok, report.failures
    assert "uses libtorch.so, libc10.so of torch, which it requires" in [v.evidence for v in report.verdicts]


@pytest.mark.parametrize(
    "requires",
    [
        "",
        "Requires-Dist: torchaudio\n",
        'Requires-Dist: torch; extra == "gpu"\n',
        'Requires-Dist: torch; platform_machine == "x86_64"\n',
    ],
)
def test_a_user_must_have_the_other_project(tmp_path: Path, requires: str) -> None:
    (evidence,) = failures(judged(tmp_path, requires, TORCH))
    assert evidence == "uses libtorch.so, libc10.so of torch, which METADATA does not require"


def test_a_marker_of_riscv64_holds(tmp_path: Path) -> None:
    requires = 'Requires-Dist: torch; platform_machine == "riscv64" and python_version >= "3.13"\n'
    assert judged(tmp_path, requires, TORCH).ok


def test_everything_else_is_judged_as_ever(tmp_path: Path) -> None:
    elf = make_library(needed=["libtorch.so", "libnuma.so.1"])
    (evidence,) = failures(judged(tmp_path, "Requires-Dist: torch\n", TORCH, {MODULE: elf}))
    assert "needs libnuma.so.1" in evidence


def test_a_second_copy_in_the_wheel_is_refused(tmp_path: Path) -> None:
    copy = "libtorch-0123abcd.so"
    files = {
        MODULE: make_library(needed=[copy], rpath="$ORIGIN/../demo.libs"),
        f"demo.libs/{copy}": make_library(soname=copy),
    }
    report = judged(tmp_path, "Requires-Dist: torch\n", TORCH, files)
    assert failures(report) == ["is grafted, though it is torch's: a process would have it twice"]


def test_a_recipe_that_says_too_much_is_told(tmp_path: Path) -> None:
    elf = make_library(needed=["libc.so.6"])
    report = judged(tmp_path, "", TORCH, {MODULE: elf})
    assert report.ok
    (note,) = [verdict for verdict in report.verdicts if "no file does" in verdict.evidence]
    assert "libraries_of" in note.hint
