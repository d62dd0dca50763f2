"""Gate 5: what must not be in a wheel, and what must."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from farm.errors import InputError
from farm.verify import Allowances, Gate, JobExpectation, Report
from farm.verify.abi3 import admits
from farm.verify.judge import verify_wheel
from farm.verify.metadata import entry_point_problems
from tests.unit.verify.linkkit import ET_CORE, ET_REL, make_library
from tests.unit.verify.wheelkit import (
    EM_X86_64,
    MODULE,
    NATIVE,
    make_elf,
    wheel_members,
    write_wheel,
    zip_bytes,
)

PURE = "demo-1.0-py3-none-any.whl"
INFO = "demo-1.0.dist-info"
NOTHING = Allowances()
HEAD = "Metadata-Version: 2.4\nName: demo\nVersion: 1.0\n"


def verify_files(
    tmp_path: Path, files: dict[str, bytes], filename: str = NATIVE, allow: Allowances = NOTHING
) -> Report:
    return verify_wheel(write_wheel(tmp_path, filename, {MODULE: make_elf(), **files}), allow=allow)


def findings(report: Report, gate: Gate) -> dict[str, str]:
    return {verdict.subject: verdict.evidence for verdict in report.failures if verdict.gate is gate}


def notes(report: Report, gate: Gate) -> dict[str, str]:
    return {v.subject: v.evidence for v in report.verdicts if v.ok and v.hint and v.gate is gate}


def static_library(*machines: int) -> bytes:
    data = b"!<arch>\n"
    objects = [(b"/", b"\0" * 5), *((b"a.o/", make_elf(machine=machine)) for machine in machines)]
    for name, content in objects:
        data += (
            name.ljust(48)
            + str(len(content)).encode().ljust(10)
            + b"`\n"
            + content
            + b"\n" * (len(content) % 2)
        )
    return data


PE = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(20)
FOREIGN = {
    "demo/helper.exe": PE,
    "demo/_core.dylib": b"\xcf\xfa\xed\xfe" + bytes(28),
    "demo/fat": b"\xca\xfe\xba\xbe" + struct.pack(">I", 2),
    "demo/switch.obj": struct.pack("<H", 0x8664) + bytes(18),
}
LEFT_BEHIND = {
    "demo/_core.o": make_library(kind=ET_REL),
    "core": make_library(kind=ET_CORE),
    "demo/libdemo.a": static_library(243, 243),
    "demo/lib/libx86.a": static_library(243, EM_X86_64),
    "demo/demo.lib": b"!<arch>\n" + b"x.obj/".ljust(48) + b"4".ljust(10) + b"`\n\x64\x86\0\0",
    "demo/__pycache__/x.cpython-313.pyc": b"\xf3\r\r\n",
    "demo/x.bc": b"BC\xc0\xde",
    "demo/x.gcda": b"adcg",
}


@pytest.mark.parametrize("path", [*FOREIGN, *LEFT_BEHIND])
def test_foreign_and_left_over_files_fail_by_name(tmp_path: Path, path: str) -> None:
    content = {**FOREIGN, **LEFT_BEHIND}[path]
    assert [*findings(verify_files(tmp_path, {path: content}), Gate.CONTENT)] == [path]


@pytest.mark.parametrize("path", FOREIGN)
def test_a_pure_wheel_may_have_programs_for_other_systems(tmp_path: Path, path: str) -> None:
    report = verify_wheel(write_wheel(tmp_path, PURE, {path: FOREIGN[path], "demo/x.py": b""}))
    assert report.ok
    assert path in notes(report, Gate.CONTENT)


def test_an_x86_object_fails_the_machine_gate(tmp_path: Path) -> None:
    report = verify_files(tmp_path, {"demo/other.so": make_elf(machine=EM_X86_64)})
    assert "EM_X86_64" in findings(report, Gate.ELF)["demo/other.so"]


def test_a_static_library_in_a_folder_for_such_is_remarked(tmp_path: Path) -> None:
    report = verify_files(tmp_path, {"demo/lib/libnpymath.a": static_library(243)})
    assert report.ok
    assert "1 object" in notes(report, Gate.CONTENT)["demo/lib/libnpymath.a"]


def test_the_recipe_keeps_files_with_a_reason(tmp_path: Path) -> None:
    allow = Allowances(keep_files={"demo/*.o": "loaded by the JIT"})
    report = verify_files(tmp_path, {"demo/_core.o": LEFT_BEHIND["demo/_core.o"]}, allow=allow)
    assert report.ok
    assert any("kept: loaded by the JIT" in verdict.evidence for verdict in report.verdicts)


def test_java_classes_are_no_mach_o(tmp_path: Path) -> None:
    assert verify_files(tmp_path, {"demo/A.class": b"\xca\xfe\xba\xbe\0\0\0\x34"}).ok


@given(st.binary(max_size=80), st.sampled_from([b"!<arch>\n", b"MZ", b"\xca\xfe\xba\xbe", b"\x7fELF"]))
def test_damaged_formats_give_verdicts(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes, magic: bytes
) -> None:
    report = verify_files(tmp_path_factory.mktemp("wheel"), {"demo/x.dll": magic + rest})
    assert all("\n" not in verdict.evidence for verdict in report.verdicts)


def test_set_user_id(tmp_path: Path) -> None:
    report = with_mode(tmp_path, "demo/tool", stat.S_IFREG | 0o4755)
    assert "set-user-ID" in findings(report, Gate.CONTENT)["demo/tool"]


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (stat.S_IFLNK | 0o777, "is a symbolic link, not a file"),
        (stat.S_IFCHR | 0o666, "is a device or something else, not a file"),
        (stat.S_IFIFO | 0o666, "is a FIFO, not a file"),
    ],
)
def test_what_is_no_file_fails(tmp_path: Path, mode: int, why: str) -> None:
    assert findings(with_mode(tmp_path, "demo/x", mode), Gate.PATHS) == {"demo/x": why}


def with_mode(tmp_path: Path, path: str, mode: int) -> Report:
    members = wheel_members(NATIVE, {MODULE: make_elf(), path: b"/etc/passwd"})
    wheel = tmp_path / NATIVE
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode if name == path else 0) << 16
            archive.writestr(info, data)
    return verify_wheel(wheel)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("demo/\x1b[2Jx.py", "control characters"),
        ("demo/a\u202eyp.py", "control characters"),
        (f"demo/{'x' * 256}.py", "longer than 255 bytes"),
        ("demo", "is a file and a folder"),
    ],
)
def test_paths_that_mislead_or_cannot_be_unpacked(tmp_path: Path, path: str, why: str) -> None:
    assert why in findings(verify_files(tmp_path, {path: b""}), Gate.PATHS)[path]


@pytest.mark.parametrize("path", ["demo/X.py", "demo/aux.py"])
def test_names_that_only_other_systems_confuse_are_remarked(tmp_path: Path, path: str) -> None:
    report = verify_files(tmp_path, {"demo/x.py": b"", path: b""})
    assert report.ok
    assert path in notes(report, Gate.PATHS)


def test_a_name_twice(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    with zipfile.ZipFile(wheel, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("demo/__init__.py", b"other")
    assert findings(verify_wheel(wheel), Gate.PATHS) == {"demo/__init__.py": "occurs 2 times"}


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    wheel = tmp_path / NATIVE
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("demo/zeros", bytes(80 << 20))
    (failure,) = verify_wheel(wheel).failures
    assert failure.gate is Gate.READABLE
    assert "unpacks to more than 200 times its size" in failure.evidence


@pytest.mark.parametrize(
    "text",
    [
        b"/tmp/pip-build-env-x1/overlay",
        b"/home/runner/work/demo",
        b"/var/lib/wheelfarm-node/work/demo-cp313/x",
    ],
)
def test_a_folder_of_the_build_is_remarked(tmp_path: Path, text: bytes) -> None:
    report = verify_files(tmp_path, {"demo/config.py": b"PREFIX = '" + text + b"'"})
    assert report.ok
    assert "names a folder of the build" in notes(report, Gate.CONTENT)["demo/config.py"]


@pytest.mark.parametrize("path", ["tests/test_x.py", "LICENSE", "demo.pth"])
def test_what_lands_in_site_packages_itself_is_remarked(tmp_path: Path, path: str) -> None:
    report = verify_files(tmp_path, {path: b""})
    assert report.ok
    assert path.partition("/")[0] in notes(report, Gate.CONTENT)


def metadata_failures(tmp_path: Path, metadata: str, filename: str = NATIVE) -> str:
    report = verify_wheel(write_wheel(tmp_path, filename, {MODULE: make_elf()}, metadata=metadata))
    return "; ".join(findings(report, Gate.METADATA).values())


def test_metadata_that_packaging_refuses_is_quoted(tmp_path: Path) -> None:
    assert "requires-dist" in metadata_failures(tmp_path, f"{HEAD}Requires-Dist: a >< 1\n")
    assert "license-expression" in metadata_failures(tmp_path, f"{HEAD}License-Expression: FOO\n")


def test_metadata_newer_than_it_says_is_forgiven(tmp_path: Path) -> None:
    old = HEAD.replace("2.4", "2.1") + "License-File: LICENSE\n"
    report = verify_wheel(
        write_wheel(tmp_path, files={MODULE: make_elf(), f"{INFO}/LICENSE": b""}, metadata=old)
    )
    assert report.ok
    assert "introduced in metadata version" in notes(report, Gate.METADATA)[f"{INFO}/METADATA"]


def test_f03_requires_python_keeps_the_tags_python_out(tmp_path: Path) -> None:
    assert "keeps cp313 out" in metadata_failures(tmp_path, f"{HEAD}Requires-Python: <3.13\n")
    assert not metadata_failures(tmp_path, f"{HEAD}Requires-Python: >=3.13.2\n")


def test_f03_requires_python_keeps_the_jobs_python_out(tmp_path: Path) -> None:
    name = "demo-1.0-cp39-abi3-manylinux_2_39_riscv64.whl"
    files = {"demo/_core.abi3.so": make_elf()}
    wheel = write_wheel(tmp_path, name, files, metadata=f"{HEAD}Requires-Python: >=3.9,<3.13\n")
    assert verify_wheel(wheel).ok
    job = JobExpectation("demo", "1.0", "cp313", native=True)
    assert "keeps cp313 out" in " ".join(findings(verify_wheel(wheel, job), Gate.METADATA).values())


@given(st.integers(2, 40), st.integers(2, 40))
def test_requires_python_admits_minor_versions(floor: int, minor: int) -> None:
    assert admits(SpecifierSet(f">=3.{floor}.1"), minor) is (minor >= floor)


@pytest.mark.parametrize(
    "text",
    [
        "[console_scripts]\ndemo = demo.cli:main\nother= demo : run [extra]\n",
        "[demo.plugins]\nX = demo.plugin\n",
        "",
    ],
)
def test_entry_points_that_can_be_loaded(text: str) -> None:
    assert [*entry_point_problems(text.encode())] == []


@pytest.mark.parametrize(
    "text",
    [
        "[console_scripts]\ndemo = demo\n",
        "[console_scripts]\ndemo = demo-cli:main\n",
        "[console_scripts\n",
        "demo = x:y\n",
        "[a]\nx = y\nx = z\n",
        "[a]\nx = \n",
    ],
)
def test_entry_points_that_cannot(text: str) -> None:
    assert len([*entry_point_problems(text.encode())]) == 1


def test_entry_points_are_judged(tmp_path: Path) -> None:
    report = verify_files(tmp_path, {f"{INFO}/entry_points.txt": b"[console_scripts]\nx = demo\n"})
    assert "console_scripts: x = demo" in findings(report, Gate.METADATA)[f"{INFO}/entry_points.txt"]


def sdist(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            info = tarfile.TarInfo(f"demo-1.0/{name}")
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    return path


SOURCE = ("setup.py", "LICENSE", "NOTICE.txt", "demo/LICENSE.vendored", "license.py")


def test_a_wheel_without_the_sdists_licence(tmp_path: Path) -> None:
    report = verify_wheel(write_wheel(tmp_path), sdist=sdist(tmp_path, *SOURCE))
    assert findings(report, Gate.LICENCE) == {INFO: "no licence file; the sdist has LICENSE, NOTICE.txt"}


def test_a_missing_licence_can_be_waived_with_a_reason(tmp_path: Path) -> None:
    allow = Allowances(no_licence="public domain")
    report = verify_wheel(write_wheel(tmp_path), sdist=sdist(tmp_path, *SOURCE), allow=allow)
    assert report.ok
    assert any("waived: public domain" in verdict.evidence for verdict in report.verdicts)


def test_some_of_the_sdists_licences(tmp_path: Path) -> None:
    files = {MODULE: make_elf(), f"{INFO}/licenses/LICENSE": b"x"}
    report = verify_wheel(write_wheel(tmp_path, files=files), sdist=sdist(tmp_path, *SOURCE))
    assert report.ok
    assert notes(report, Gate.LICENCE) == {INFO: "LICENSE; not NOTICE.txt of the sdist"}


def test_an_sdist_without_a_licence_asks_for_none(tmp_path: Path) -> None:
    report = verify_wheel(write_wheel(tmp_path), sdist=sdist(tmp_path, "setup.py"))
    assert report.ok
    assert "neither here nor in the sdist" in notes(report, Gate.LICENCE)[INFO]


def test_a_zip_sdist(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0.zip"
    path.write_bytes(zip_bytes({"demo-1.0/COPYING.LESSER": b"x"}))
    assert "COPYING.LESSER" in findings(verify_wheel(write_wheel(tmp_path), sdist=path), Gate.LICENCE)[INFO]


def test_an_sdist_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0.tar.gz"
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="can't be read"):
        verify_wheel(write_wheel(tmp_path), sdist=path)


@pytest.mark.parametrize(("place", "ok"), [("licenses/sub/LICENSE", True), ("LICENSE", False), ("", False)])
def test_stated_licence_files_are_there(tmp_path: Path, place: str, *, ok: bool) -> None:
    files = {MODULE: make_elf()} | ({f"{INFO}/{place}": b"x"} if place else {})
    report = verify_wheel(write_wheel(tmp_path, files=files, metadata=f"{HEAD}License-File: sub/LICENSE\n"))
    assert (Gate.LICENCE not in {verdict.gate for verdict in report.failures}) is ok


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["METADATA", "WHEEL", "entry_points.txt", "RECORD"]),
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    st.booleans(),
)
def test_any_content_of_dist_info_gives_verdicts(file: str, content: bytes, added: bool) -> None:
    members = wheel_members(NATIVE)
    path = f"{INFO}/{file}"
    members[path] = members.get(path, b"").rstrip(b"\n") * added + content
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / NATIVE
        wheel.write_bytes(zip_bytes(members))
        assert verify_wheel(wheel).verdicts
