from __future__ import annotations

from pathlib import Path

import pytest

from farm.cleanroom.modules import modules_of
from farm.verify.wheel import read_archive
from tests.unit.verify.wheelkit import make_elf, write_wheel

NAME = "demo-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
RISCV = ".cpython-313-riscv64-linux-gnu.so"


def _extension(name: str) -> bytes:
    return make_elf() + f"\0PyInit_{name}\0".encode()


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        ({"demo/__init__.py": b"", "demo/part.py": b"", "demo/sub/__init__.py": b""}, ["demo"]),
        ({"one.py": b"", "two.py": b"", "notes.txt": b""}, ["one", "two"]),
        # A fallback in Python hides that these can't be loaded, so each is imported by itself.
        (
            {"demo/__init__.py": b"", f"demo/_speedups{RISCV}": _extension("_speedups")},
            ["demo", "demo._speedups"],
        ),
        ({"_cffi_backend.abi3.so": _extension("_cffi_backend")}, ["_cffi_backend"]),
        ({"plain.so": _extension("plain")}, ["plain"]),
        # PEP 420: nothing is proved by the import of a folder.
        (
            {"google/cloud/thing/__init__.py": b"", "google/other.py": b""},
            ["google.cloud.thing", "google.other"],
        ),
        ({"zope/_native.abi3.so": _extension("_native")}, ["zope._native"]),
        # mypyc: the package itself is an extension module.
        ({f"demo/__init__{RISCV}": _extension("demo"), "demo/x.py": b""}, ["demo"]),
        (
            {"demo-1.0.data/purelib/demo/__init__.py": b"", "demo-1.0.data/platlib/low.py": b""},
            ["demo", "low"],
        ),
        ({"demo-1.0.data/scripts/run.py": b"", "demo-1.0.data/data/share/x.py": b""}, []),
        # Libraries that only have the ending of modules, and modules of another Python.
        ({"demo.libs/libz-1234.so": make_elf(), "demo/libdemo.so": make_elf()}, []),
        ({"a.cpython-312-riscv64-linux-gnu.so": _extension("a")}, []),
        ({"not-a-name/x.py": b"", "also-not.py": b"", "demo-stubs/__init__.pyi": b""}, []),
        ({"text.so": b"PyInit_text\0"}, []),
    ],
)
def test_what_is_imported(tmp_path: Path, files: dict[str, bytes], modules: list[str]) -> None:
    archive = read_archive(write_wheel(tmp_path, NAME, files))
    assert list(modules_of(archive, "cp313")) == modules
