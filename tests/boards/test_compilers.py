"""Compilers: native ones make the same bytes as the board's own, and what a build asks of them arrives."""

from __future__ import annotations

import io
import json
import platform
import tarfile
import textwrap
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.boards.conftest import Site
from tests.httpkit import serving_folder

pytestmark = pytest.mark.boards

BUILDERS = ("vboard-f3", "vboard-sg2044")
C_AND_CPP = ("markupsafe==3.0.3", "ujson==6.1.0")
C_COMPILERS = ("cc1", "cc1plus", "as", "ld")
NATIVE_WIRE = "/usr/local/lib/wheelfarm/native-wire"
OTHER_VERSIONS = (
    f"mkdir -p /tmp/other && echo 'gcc gcc-14 14.0.0-1' >/tmp/other/versions && {NATIVE_WIRE} /tmp/other"
)
SETUP = """
from setuptools import Extension, setup
flags = ["-frecord-gcc-switches"]
setup(ext_modules=[Extension("farm_probe", ["farm_probe.c"], extra_compile_args=flags)])
"""
MODULE = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "farm_probe", __FILE__, 0, NULL};
PyMODINIT_FUNC PyInit_farm_probe(void) { return PyModule_Create(&module); }
"""


@pytest.fixture(scope="module")
def built_both_ways(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """A C and a C++ project: first with the boards' own compilers, then with the native ones."""
    jobs: dict[str, dict[str, Any]] = {}
    try:
        for board in BUILDERS:
            site.on_board(board, OTHER_VERSIONS)
        jobs["emulated"] = _build(site, tmp_path_factory.mktemp("emulated"))
    finally:
        for board in BUILDERS:
            # No cache may answer for the compilers that are compared.
            site.on_board(board, f"{NATIVE_WIRE} && rm -rf /var/lib/wheelfarm-node/cache")
    jobs["native"] = _build(site, tmp_path_factory.mktemp("native"))
    return jobs


def _build(site: Site, state: Path) -> dict[str, Any]:
    site.farm("dispatch", "--force", *C_AND_CPP, "--state", str(state))
    # Another state folder is another farm, with another key: to it these files would be a stranger's.
    site.on_board("vindex", "find /srv/wheelfarm/index -mindepth 1 -delete")
    jobs = json.loads(site.farm("status", "--json", "--state", str(state)).stdout)
    return {job["project"]: job for job in jobs}


def test_a_c_and_a_cpp_project_are_byte_identical(built_both_ways: dict[str, dict[str, Any]]) -> None:
    emulated, native = built_both_ways["emulated"], built_both_ways["native"]
    assert set(emulated) == {"markupsafe", "ujson"}
    for project, job in emulated.items():
        assert set(job["toolchain"]["compilers"].values()) == {"riscv64"}
        compilers = native[project]["toolchain"]["compilers"]
        assert {compilers[name] for name in C_COMPILERS} == {platform.machine()}
        assert job["sha256"] == native[project]["sha256"]


def test_compilers_of_another_version_are_not_used_and_the_board_says_so(site: Site) -> None:
    found = site.on_board(
        BUILDERS[0],
        f"{OTHER_VERSIONS} && cat /etc/wheelfarm/compilers && gcc -print-prog-name=cc1"
        f" && ls -l /usr/bin/riscv64-linux-gnu-gcc-14 && {NATIVE_WIRE} && cat /etc/wheelfarm/compilers",
    )
    before, after = found[: found.index("gcc native")], found[found.index("gcc native") :]
    assert "gcc emulated gcc-14 is 14.2.0" in before
    assert "and 14.0.0-1 on the host" in before
    assert "/opt/wheelfarm/native" not in before
    assert "rust native" in after


def test_nodes_tell_for_which_processor_their_compilers_were_built(site: Site) -> None:
    nodes = json.loads(site.farm("nodes", "--json").stdout)
    for node in nodes.values():
        assert {node["compilers"][name] for name in (*C_COMPILERS, "rustc")} == {platform.machine()}


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[str]:
    """An index with one sdist, whose extension tells how it was compiled."""
    pages = tmp_path / "upstream" / "simple" / "farm-probe"
    pages.mkdir(parents=True)
    links = []
    for version in ("1.0", "1.1"):
        sdist = _sdist(version)
        (pages / f"farm_probe-{version}.tar.gz").write_bytes(sdist)
        link = f"farm_probe-{version}.tar.gz"
        links.append(f'<a href="{link}#sha256={sha256(sdist).hexdigest()}">{link}</a>')
    (pages / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")
    with serving_folder(tmp_path / "upstream") as url:
        yield f"{url}/simple/"


def _sdist(version: str) -> bytes:
    metadata = f"Metadata-Version: 2.1\nName: farm-probe\nVersion: {version}\n"
    pyproject = f"""
    [build-system]
    requires = ["setuptools>=84"]
    build-backend = "setuptools.build_meta"
    [project]
    name = "farm-probe"
    version = "{version}"
    """
    files = {
        "PKG-INFO": metadata,
        "pyproject.toml": textwrap.dedent(pyproject),
        "setup.py": SETUP,
        "farm_probe.c": MODULE,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"farm_probe-{version}/{name}")
            member.size, member.mtime = len(content), 1_700_000_000
            archive.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


def _sections(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as content:
        (name,) = [name for name in content.namelist() if name.endswith(".so")]
        return {
            section.name: section.data()
            for section in ELFFile(io.BytesIO(content.read(name))).iter_sections()
        }


def test_setuptools_84_keeps_the_optimisation_and_no_debug_information(
    site: Site, upstream: str, tmp_path: Path
) -> None:
    site.farm("dispatch", "farm-probe==1.0", "--upstream", upstream, "--state", str(tmp_path))
    (wheel,) = (tmp_path / "index/packages/farm-probe").glob("farm_probe-1.0-*.whl")
    sections = _sections(wheel)
    seen = sections.pop(".GCC.command.line").decode()
    assert "-O2" in seen
    assert "-O0" not in seen
    assert not [name for name in sections if name.startswith(".debug")]
    assert b"/var/lib" not in b"".join(sections.values())
    with zipfile.ZipFile(wheel) as content:
        assert {item.date_time for item in content.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_debug_information_on_demand_lies_beside_the_log(site: Site, upstream: str, tmp_path: Path) -> None:
    options = ["--upstream", upstream, "--state", str(tmp_path), "--debug-info"]
    site.farm("dispatch", "farm-probe==1.1", *options)
    (wheel,) = (tmp_path / "index/packages/farm-probe").glob("farm_probe-1.1-*.whl")
    assert not [name for name in _sections(wheel) if name.startswith(".debug")]
    (kept,) = (tmp_path / "logs").glob("farm-probe-1.1-*.debug.tar.gz")
    with tarfile.open(kept) as archive:
        (member,) = [item for item in archive.getmembers() if item.isfile()]
        debug = archive.extractfile(member)
        assert debug is not None
        assert ELFFile(io.BytesIO(debug.read())).has_dwarf_info()
