"""What the real farm-node makes of a built wheel: grafted libraries, tags, build tags."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from farm.node.failure import NO_LIBRARY
from farm.verify import Allowances, JobExpectation
from farm.verify.judge import verify_wheel
from tests.integration.nodekit import (
    AUDITWHEEL_SHIM,
    REPAIRED,
    WHEEL,
    Board,
    gated,
    make_sdist,
)
from tests.unit.verify.linkkit import make_library
from tests.unit.verify.wheelkit import MODULE, make_elf, write_wheel

pytestmark = pytest.mark.integration
# What auditwheel does besides: the tags in WHEEL fit the name.
RETAG = """
import subprocess
made, = target.glob("*.whl")
made = made.rename(made.with_name(made.name.replace("-manylinux_2_39_", "-linux_")))
wheel = [sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", "manylinux_2_39_riscv64"]
subprocess.run([*wheel, str(made)], check=True)
"""


def test_f07_a_wheel_that_can_not_be_repaired_is_a_policy_failure(board: Board) -> None:
    (board.environments / "cp313/bin/auditwheel").write_text("#!/bin/sh\nexit 1\n")
    result = board.build(make_sdist())
    assert (result["failure"], result["wheels"]) == ("policy", [])


def test_a_build_tag_is_in_the_name_and_in_the_wheel_and_two_builds_are_the_same(
    board: Board, tmp_path: Path
) -> None:
    name = REPAIRED.replace("-1.0-", "-1.0-12-")
    wheel = write_wheel(tmp_path, REPAIRED, {MODULE: make_elf(), "demo/data.txt": b"x" * 10_000})
    (tmp_path / "open").touch()
    sdist = make_sdist(gated(tmp_path / "open", REPAIRED, f"pathlib.Path({str(wheel)!r}).read_bytes()"))
    results = [board.build(sdist, attempt, build_tag="12") for attempt in ("demo.1", "demo.2")]
    files = [result["wheels"][0] for result in results]
    assert [file["filename"] for file in files] == [name, name], results
    assert files[0]["sha256"] == files[1]["sha256"]
    repaired = board.root / "jobs/demo.1/wheelhouse" / name
    report = verify_wheel(repaired, JobExpectation("demo", "1.0", "cp313", native=True, build_tag="12"))
    assert report.ok, report.failures
    with zipfile.ZipFile(repaired) as content, zipfile.ZipFile(wheel) as before:
        assert b"Build: 12" in content.read("demo-1.0.dist-info/WHEEL")
        changed = {n for n in before.namelist() if content.read(n) != before.read(n)}
    assert changed == {"demo-1.0.dist-info/WHEEL", "demo-1.0.dist-info/RECORD"}


def test_a_pure_wheel_gets_its_build_tag_too(board: Board, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "demo-1.0-py3-none-any.whl")
    (tmp_path / "open").touch()
    sdist = make_sdist(gated(tmp_path / "open", wheel.name, f"pathlib.Path({str(wheel)!r}).read_bytes()"))
    assert board.build(sdist, build_tag="1")["wheels"][0]["filename"] == "demo-1.0-1-py3-none-any.whl"


def test_libraries_of_the_users_system_are_not_grafted_and_the_tag_promises_nothing(
    board: Board, tmp_path: Path
) -> None:
    wheel = write_wheel(tmp_path, WHEEL, {MODULE: make_elf(needed=("libvulkan.so.1", "libc.so.6"))})
    (tmp_path / "open").touch()
    sdist = make_sdist(gated(tmp_path / "open", WHEEL, f"pathlib.Path({str(wheel)!r}).read_bytes()"))
    shim = board.environments / "cp313/bin/auditwheel.py"
    shim.write_text(f"{AUDITWHEEL_SHIM}{RETAG}\nprint('asked for', sys.argv)\n")
    result = board.build(sdist, system_libraries=["libvulkan.so.1"], build_tag="2")
    (file, *_) = result["wheels"]
    assert file["filename"] == WHEEL.replace("-1.0-", "-1.0-2-"), result
    assert "'--exclude', 'libvulkan.so.1'" in board.log()
    repaired = board.root / "jobs/demo.1/wheelhouse" / file["filename"]
    leave = Allowances(system_libraries={"libvulkan.so.1": "it comes with the driver"})
    report = verify_wheel(repaired, JobExpectation("demo", "1.0", "cp313", True, "2"), allow=leave)
    assert report.ok, report.failures
    assert not verify_wheel(repaired).ok


def test_libraries_of_other_wheels_are_left_out_and_the_tag_stays(board: Board) -> None:
    shim = board.environments / "cp313/bin/auditwheel.py"
    shim.write_text(f"{AUDITWHEEL_SHIM}\nprint('asked for', sys.argv)\n")
    result = board.build(make_sdist(), others_libraries=["libtorch.so", "libc10.so"])
    assert result["wheels"][0]["filename"] == REPAIRED
    assert "'--exclude', 'libtorch.so', '--exclude', 'libc10.so'" in board.log()


@pytest.mark.parametrize("left_out", [[], ["--exclude", "libvulkan.so.1"]])
def test_what_auditwheel_itself_says_of_a_library_that_is_nowhere(
    tmp_path: Path, left_out: list[str]
) -> None:
    wheel = write_wheel(tmp_path, WHEEL, {MODULE: make_library(needed=("libvulkan.so.1", "libc.so.6"))})
    command = [sys.executable, "-m", "auditwheel", "repair", "--patcher", "none", *left_out]
    done = subprocess.run([*command, wheel], cwd=tmp_path, capture_output=True, check=False)
    if left_out:
        assert (done.returncode, NO_LIBRARY.search(done.stderr)) == (0, None), done.stderr
    else:
        found = NO_LIBRARY.search(done.stderr)
        assert found is not None, done.stderr
        assert found[1] == b"libvulkan.so.1"


def test_a_library_that_the_board_lacks_is_named_with_the_keys_that_help(board: Board) -> None:
    error = 'ValueError: Cannot repair wheel, because required library "libvulkan.so.1" could not be located'
    (board.environments / "cp313/bin/auditwheel").write_text(f"#!/bin/sh\necho '{error}' >&2\nexit 1\n")
    result = board.build(make_sdist())
    assert result["failure"] == "policy"
    assert "no libvulkan.so.1" in result["message"]
    assert "system_libraries" in result["message"]
