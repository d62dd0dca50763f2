"""A build keeps to its width, whatever runs its compilers, and can be widened: real tools, from PyPI."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.nodekit import WHEEL, Board, make_sdist, until

pytestmark = pytest.mark.integration

WIDTH = 2
# What every task of a build does: says when it begins and ends, and takes long enough to be seen.
TASK = """
import sys, time
log, name = sys.argv[1:]
for what in ("+", "-"):
    with open(log, "a") as file:
        file.write(what + name + chr(10))
    time.sleep(0.2)
"""


# The same, but it waits until it may end. With -wrapper, gcc calls it in place of the compiler proper.
GATED = """
import os, sys, time
log, name = sys.argv[1:3]
def say(what):
    with open(log, "a") as file:
        file.write(what + name + chr(10))
say("+")
while not (os.path.exists(log + ".all") or os.path.exists(log + "." + name)):
    time.sleep(0.05)
say("-")
"""


def begun(log: Path) -> int:
    """How many tasks have begun so far."""
    return log.read_text().count("+") if log.exists() else 0


def most_at_once(log: Path) -> int:
    """How many tasks ran side by side, at most."""
    running = most = 0
    for line in log.read_text().split():
        running += 1 if line[0] == "+" else -1
        most = max(most, running)
    return most


def pyproject(*requires: str) -> bytes:
    text = f'[build-system]\nrequires = {list(requires)}\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    return text.encode()


def backend(body: str) -> str:
    """A backend that does something, then leaves a wheel."""
    return f"""
import os, pathlib, subprocess, sys
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
{body}
    pathlib.Path(wheel_directory, "{WHEEL}").write_bytes(b"a wheel")
    return "{WHEEL}"
"""


@pytest.mark.parametrize("jobs", ["", "-j1"])
def test_ninja_runs_as_many_tasks_as_the_build_has_cores_or_as_the_project_says(
    board: Board, tmp_path: Path, jobs: str
) -> None:
    log = tmp_path / "log"
    edges = "".join(f"build out{number}: task\n name = {number}\n" for number in range(6))
    rules = f"rule task\n command = python task.py {log} $name\n{edges}"
    files = {
        "pyproject.toml": pyproject("ninja"),
        "task.py": TASK.encode(),
        "build.ninja": rules.encode(),
    }
    sdist = make_sdist(
        backend(f'    subprocess.run(["ninja", *{jobs.split()}], check=True)'), "demo-1.0", **files
    )
    assert board.build(sdist, width=WIDTH)["failure"] is None, board.log()
    assert most_at_once(log) == (1 if jobs else WIDTH)


def test_meson_python_keeps_to_the_width(board: Board, tmp_path: Path) -> None:
    log = tmp_path / "log"
    targets = "".join(
        f"custom_target('t{number}', output: 't{number}', capture: true, build_by_default: true,\n"
        f"  command: [python, files('task.py'), '{log}', '{number}'])\n"
        for number in range(6)
    )
    meson = f"project('demo', version: '1.0')\npython = import('python').find_installation()\n{targets}"
    files = {
        "pyproject.toml": b'[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"\n'
        b'[project]\nname = "demo"\nversion = "1.0"\n',
        "task.py": TASK.encode(),
        "meson.build": meson.encode(),
    }
    board.build(make_sdist("", "demo-1.0", **files), width=WIDTH)
    assert most_at_once(log) == WIDTH, board.log()


@pytest.mark.parametrize(("environment", "at_once"), [({}, WIDTH), ({"DIST_EXTRA_CONFIG": ""}, 1)])
def test_setuptools_builds_extensions_side_by_side_unless_the_recipe_has_them_one_by_one(
    board: Board, tmp_path: Path, environment: dict[str, str], at_once: int
) -> None:
    log = tmp_path / "log"
    setup = f"""
import subprocess, sys
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

class Logged(build_ext):
    def build_extension(self, extension):
        task = f"{{sys.executable}},task.py,{log!s},{{extension.name}}"
        subprocess.run(["gcc", "-S", "part.c", "-o", extension.name, "-wrapper", task], check=True)

setup(name="demo", ext_modules=[Extension(f"part{{n}}", ["part.c"]) for n in range(4)],
      cmdclass={{"build_ext": Logged}})
"""
    files = {
        "pyproject.toml": pyproject("setuptools"),
        "task.py": TASK.replace("sys.argv[1:]", "sys.argv[1:3]").encode(),
        "setup.py": setup.encode(),
        "part.c": b"",
    }
    body = '    subprocess.run([sys.executable, "setup.py", "build_ext"], check=True)'
    sdist = make_sdist(backend(body), "demo-1.0", **files)
    result = board.build(sdist, width=WIDTH, environment=environment)
    assert result["failure"] is None, board.log()
    assert most_at_once(log) == at_once


def compilers() -> tuple[str, dict[str, bytes]]:
    """A project that starts all its compilers at once, as one that counts the board's cores."""
    body = """
    task = f"{sys.executable},task.py,LOG,"
    command = ["gcc", "-S", "x.c", "-wrapper"]
    running = [subprocess.Popen([*command, f"{task}{n}", "-o", f"{n}.s"]) for n in range(8)]
    assert not any([compiler.wait() for compiler in running])
"""
    return body, {"pyproject.toml": pyproject(), "x.c": b""}


def ninja() -> tuple[str, dict[str, bytes]]:
    edges = "".join(f"build out{number}: task\n name = {number}\n" for number in range(8))
    rules = f"rule task\n command = python task.py LOG $name\n{edges}"
    files = {"pyproject.toml": pyproject("ninja>=1.13"), "build.ninja": rules.encode()}
    return '    subprocess.run(["ninja"], check=True)', files


@pytest.mark.parametrize("project", [compilers, ninja])
def test_a_running_build_can_be_given_more_tasks(
    board: Board,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    project: Callable[[], tuple[str, dict[str, bytes]]],
) -> None:
    # What boards have; this machine's own may be too old to speak of jobservers by name.
    make = tmp_path / "bin/make"
    make.parent.mkdir()
    make.write_text("#!/bin/sh\necho GNU Make 4.4.1\n")
    make.chmod(0o755)
    monkeypatch.setenv("PATH", f"{make.parent}:{os.environ['PATH']}")
    log = tmp_path / "log"
    body, files = project()
    files = {name: content.replace(b"LOG", str(log).encode()) for name, content in files.items()}
    files["task.py"] = GATED.encode()
    sdist = make_sdist(backend(body.replace("LOG", str(log))), "demo-1.0", **files)
    board.bring(sdist, width=1)
    assert board.start()
    until(lambda: begun(log) == 1, f"the first task: {board.log()}")

    def widened(width: int) -> object:
        return board.ask("widen", attempt="demo.1", width=width, limits={"memory_bytes": 1 << 30})["wider"]

    assert widened(3) is True
    # ninja looks for more tokens when a task ends.
    Path(f"{log}.{log.read_text()[1]}").touch()
    until(lambda: begun(log) == 4, "one to end and three to run")
    assert widened(2) is True, "it has more already"
    assert widened(3) is True
    Path(f"{log}.all").touch()
    assert board.finished()["failure"] is None, board.log()
    assert (most_at_once(log), begun(log)) == (3, 8)
    assert widened(4) is False, "it has ended"


@pytest.mark.parametrize(
    ("sources", "variables", "again"),
    [
        (("number.c", "number.c"), {}, True),
        (("one.c", "two.c"), {}, False),
        # A compiler that nothing stands in front of: they are built one by one from the beginning.
        (("number.c", "number.c"), {"CC": "/usr/bin/gcc"}, False),
        # What the recipe says holds, and setuptools compiles the file twice, as it always did.
        (("number.c", "number.c"), {"DIST_EXTRA_CONFIG": ""}, False),
    ],
)
def test_extensions_that_may_share_an_object_are_built_again_one_by_one(
    board: Board, sources: tuple[str, str], variables: dict[str, str], *, again: bool
) -> None:
    setup = f"""
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

class Plain(build_ext):
    def get_export_symbols(self, extension):
        return []

setup(name="demo", cmdclass={{"build_ext": Plain}}, ext_modules=[
    Extension("one", [{sources[0]!r}], define_macros=[("NUMBER", "1")]),
    Extension("two", [{sources[1]!r}], define_macros=[("NUMBER", "2")]),
])
"""
    body = """
    import ctypes
    subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], check=True)
    for name in ("one", "two"):
        (built,) = pathlib.Path().glob(name + "*.so")
        print(name, "is", ctypes.c_int.in_dll(ctypes.CDLL(str(built.resolve())), "number").value)
"""
    files = {
        "pyproject.toml": pyproject("setuptools"),
        "setup.py": setup.encode(),
        **dict.fromkeys(("number.c", "one.c", "two.c"), b"int number = NUMBER;\n"),
    }
    sdist = make_sdist(backend(body), "demo-1.0", **files)
    result = board.build(sdist, width=WIDTH, environment=variables)
    log = board.log()
    assert result["failure"] is None, log
    assert log.rpartition("one is")[2].split()[:4] == ["1", "two", "is", "2"]
    assert ("one extension after the other" in log) == again
    assert log.count("one is") == (2 if again else 1)
