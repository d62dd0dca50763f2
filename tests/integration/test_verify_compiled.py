"""Gates against files that a real riscv64 compiler and linker made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from farm.verify import Gate, Report
from farm.verify.elf import read_elf
from farm.verify.judge import verify_wheel
from tests.unit.verify.wheelkit import MODULE, write_wheel

pytestmark = pytest.mark.integration
CC, AR = "riscv64-linux-gnu-gcc", "riscv64-linux-gnu-ar"
THREADS = """
#include <pthread.h>
static void *idle(void *p) { return p; }
int start(void) { pthread_t t; return pthread_create(&t, 0, idle, 0); }
"""
"""In glibc 2.34 pthread_create moved into libc.so.6, as a new symbol version."""
LIAR = """
void *PyObject_Vectorcall(void *, void *, long, void *);
void *_PyObject_Private(void *);
void *PyInit__core(void) { return PyObject_Vectorcall(_PyObject_Private(0), 0, 0, 0); }
"""


def compiled(folder: Path, source: str, *options: str, name: str = "lib.so") -> bytes:
    text, target = folder / f"{name}.c", folder / name
    text.write_text(source)
    kind = () if "-c" in options else ("-shared",)
    command = [
        CC,
        "-march=rv64gc",
        "-mabi=lp64d",
        "-fPIC",
        "-O1",
        *kind,
        "-o",
        str(target),
        str(text),
        *options,
    ]
    subprocess.run(command, check=True, cwd=folder)
    return target.read_bytes()


def verified(folder: Path, platform: str, files: dict[str, bytes], python: str = "cp313-cp313") -> Report:
    return verify_wheel(write_wheel(folder, f"demo-1.0-{python}-{platform}_riscv64.whl", files))


def evidence(report: Report, gate: Gate) -> str:
    return "; ".join(verdict.evidence for verdict in report.failures if verdict.gate is gate)


def test_a_lying_platform_tag(tmp_path: Path) -> None:
    elf = compiled(tmp_path, THREADS)
    lying = verified(tmp_path, "manylinux_2_31", {MODULE: elf})
    assert evidence(lying, Gate.PLATFORM).startswith("needs GLIBC_2.34 of libc.so.6, which manylinux_2_31")
    assert verified(tmp_path, "manylinux_2_34", {MODULE: elf}).ok


def test_an_abi3_liar(tmp_path: Path) -> None:
    elf = compiled(tmp_path, LIAR)
    report = verified(tmp_path, "manylinux_2_39", {"demo/_core.abi3.so": elf}, "cp39-abi3")
    assert evidence(report, Gate.ABI3) == "uses _PyObject_Private, not in the stable ABI"
    elf = compiled(tmp_path, LIAR.replace("_PyObject_Private", "PyObject_Str"))
    report = verified(tmp_path, "manylinux_2_39", {"demo/_core.abi3.so": elf}, "cp39-abi3")
    assert evidence(report, Gate.ABI3) == "is for 3.9 and newer, but uses PyObject_Vectorcall (3.12)"


@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
@pytest.mark.parametrize(("run_path", "ok"), [("$ORIGIN/../demo.libs", True), ("/home/builder/lib", False)])
def test_a_library_in_the_wheel(tmp_path: Path, tags: str, run_path: str, *, ok: bool) -> None:
    library = compiled(tmp_path, "int x(void) { return 1; }", "-Wl,-soname,libx.so.1", name="libx.so.1")
    needs = "int x(void); int y(void) { return x(); }"
    elf = compiled(tmp_path, needs, "./libx.so.1", f"-Wl,{tags},-rpath,{run_path}")
    assert read_elf(elf).linkage.needed[0] == "libx.so.1"
    report = verified(tmp_path, "manylinux_2_31", {MODULE: elf, "demo.libs/libx.so.1": library})
    assert report.ok is ok
    if not ok:
        assert "on no run path" in evidence(report, Gate.PLATFORM)
        assert "searches libraries in /home/builder/lib" in evidence(report, Gate.PLATFORM)


def test_what_the_compiler_left_behind(tmp_path: Path) -> None:
    code = "int x(void) { return 1; }"
    objects = {"demo/x.o": compiled(tmp_path, code, "-c", name="x.o"), MODULE: compiled(tmp_path, code)}
    subprocess.run([AR, "rcs", "libx.a", "x.o"], check=True, cwd=tmp_path)
    files = {**objects, "demo/libx.a": (tmp_path / "libx.a").read_bytes()}
    failures = verified(tmp_path, "manylinux_2_31", files).failures
    assert {verdict.subject: verdict.evidence for verdict in failures} == {
        "demo/x.o": "object file left behind by the compiler",
        "demo/libx.a": "static library left behind by the build, 1 object",
    }
