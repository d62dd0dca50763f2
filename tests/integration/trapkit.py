"""Wheels for the clean room's tests: extension modules from a cross compiler, without Python's headers."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

from packaging.utils import parse_wheel_filename

from tests.unit.verify.wheelkit import write_wheel

SUFFIX = ".cpython-313-riscv64-linux-gnu.so"
PLATFORM = "cp313-cp313-manylinux_2_39_riscv64"
COMPILER = "riscv64-linux-gnu-gcc"

# What CPython's headers say of modules, as far as these need it: it has none.
MODULE = """
typedef struct { long count; void *type, *init; long index; void *copy; const char *name, *doc;
    long size; void *methods, *slots, *traverse, *clear, *free; } Definition;
typedef struct { const char *name; void *call; int flags; const char *doc; } Method;
extern void *PyModule_Create2(Definition *, int);
extern void *PyLong_FromLong(long);
#ifdef WITH_VECTOR
__attribute__((noinline)) long vector_bytes(void) {
    long bytes;
    __asm__ volatile(".option push\\n.option arch, +v\\n"
                     "vsetvli %0, x0, e8, m1, ta, ma\\n.option pop" : "=r"(bytes));
    return bytes;
}
#elif defined(WITH_LENGTH)
extern unsigned long getauxval(unsigned long);
/* Sixteen ones, sixteen zeros; where the kernel says that the core has vectors, "as long as mine". */
__attribute__((noinline)) long vector_bytes(void) {
    volatile unsigned char bytes[32] = {0};
    if (getauxval(16) & (1 << ('V' - 'A')))
        __asm__ volatile(".option push\\n.option arch, +v\\nvsetvli t0, x0, e8, m1, ta, ma\\n"
                         "vmv.v.i v1, 1\\nvse8.v v1, (%0)\\n.option pop" : : "r"(bytes) : "t0", "memory");
    else
        for (int at = 0; at < 16; at++) bytes[at] = 1;
    long sum = 0;
    for (int at = 0; at < 32; at++) sum += bytes[at];
    return sum;
}
#else
extern long foo(void);
__attribute__((noinline)) long vector_bytes(void) { return NUMBER; }
#endif
static void *call(void *self, void *arguments) { return PyLong_FromLong(vector_bytes()); }
static Method methods[] = {{"number", call, 4, ""}, {0}};
static Definition definition = {1, .name = "native", .size = -1, .methods = methods};
void *INIT(void) {
#ifdef AT_IMPORT
    vector_bytes();
#endif
    return PyModule_Create2(&definition, 1013);
}
"""
PROGRAM = """
__attribute__((noinline)) long vector_bytes(void) {
    long bytes;
    __asm__ volatile(".option push\\n.option arch, +v\\n"
                     "vsetvli %0, x0, e8, m1, ta, ma\\n.option pop" : "=r"(bytes));
    return bytes;
}
void _start(void) {
    register long status __asm__("a0") = vector_bytes() == 0;
    register long call __asm__("a7") = 93;
    __asm__ volatile("ecall" : : "r"(status), "r"(call));
}
"""


def compiled(folder: Path, source: str, *options: str) -> bytes:
    """Compile C to a file for plain rv64gc, apart from what the source itself says."""
    source_file, result = folder / "source.c", folder / "result"
    source_file.write_text(source)
    subprocess.run(
        [COMPILER, "-march=rv64gc", "-mabi=lp64d", "-O1", "-nostdlib", *options, "-o", result, source_file],
        check=True,
        cwd=folder,
    )
    return result.read_bytes()


def extension(folder: Path, name: str, *options: str) -> bytes:
    """Compile an extension module with a function ``number``."""
    return compiled(folder, MODULE, "-shared", "-fPIC", f"-DINIT=PyInit_{name}", "-DNUMBER=7", *options)


def needs_library(folder: Path, name: str) -> bytes:
    """Compile an extension module that needs libfoo.so.1."""
    compiled(folder, "long foo(void) { return 7; }", "-shared", "-fPIC", "-Wl,-soname,libfoo.so.1")
    (folder / "result").rename(folder / "libfoo.so")
    options = [
        "-shared",
        "-fPIC",
        f"-DINIT=PyInit_{name}",
        "-DNUMBER=foo()",
        "-L.",
        "-Wl,--no-as-needed",
        "-lfoo",
    ]
    return compiled(folder, MODULE, *options)


def wheel(
    folder: Path, project: str, files: Mapping[str, bytes], *, needs: str = "", tags: str = PLATFORM
) -> Path:
    """Write a wheel of version 1.0, with a requirement."""
    name = f"{project.replace('-', '_')}-1.0-{tags}.whl"
    metadata = f"Metadata-Version: 2.1\nName: {parse_wheel_filename(name)[0]}\nVersion: 1.0\n"
    metadata += f"Requires-Dist: {needs}\n" if needs else ""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_wheel(folder, name, files, metadata=metadata)
    with zipfile.ZipFile(path) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in members.items():
            info.external_attr = (0o100755 if "/scripts/" in info.filename else 0o100644) << 16
            archive.writestr(info, data)
    return path
