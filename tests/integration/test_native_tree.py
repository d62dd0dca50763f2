"""A host that can't offer native compilers says so and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
SCRIPT = Path(__file__).resolve().parents[2] / "roles/virtual_board/files/vboard-native"


def make(tmp_path: Path, fetch: str, architecture: str = "amd64") -> subprocess.CompletedProcess[str]:
    """Run the script with a fetch that answers as told, on a machine that calls itself `architecture`."""
    for name, text in (("fetch", fetch), ("dpkg", f"echo {architecture}")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    command = ["sh", str(SCRIPT), str(tmp_path / "native/tree"), "http://mirror.test", "trixie", "/keys"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run(
        [*command, str(tmp_path / "fetch")], env=environment, capture_output=True, text=True, check=False
    )


def test_an_exotic_host_is_told_apart_before_anything_is_fetched(tmp_path: Path) -> None:
    done = make(tmp_path, "echo fetched >&2", architecture="s390x")
    assert done.returncode == 4
    assert done.stderr == "nothing is known of native compilers on s390x\n"


def test_a_suite_without_the_packages_is_told_by_the_same_code(tmp_path: Path) -> None:
    done = make(tmp_path, "echo 'trixie has no package gcc-14-riscv64-linux-gnu' >&2; exit 4")
    assert done.returncode == 4
    assert "no package" in done.stderr
    assert not list((tmp_path / "native").glob("tree*"))


def test_a_failed_download_is_an_error_not_a_fallback(tmp_path: Path) -> None:
    done = make(tmp_path, "exit 100")
    assert done.returncode == 100
    assert not list((tmp_path / "native").glob("tree*"))
