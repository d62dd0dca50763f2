"""The clean room: good wheels pass on each core, others fail with a name, hostile ones are stopped."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farm.cleanroom import CPUS, NO_WHEEL, VECTOR_LENGTH, CleanRoom, RoomError
from farm.cleanroom.trial import Trial, prove
from farm.nodes import Address, IndexHost
from farm.paths import Paths
from farm.recipe import KnownFailure, Recipe
from farm.upstream import Upstream, sha256_of
from farm.verify.model import Gate, Verdict
from farm.vetting import trial_of_other, vet
from tests.httpkit import serving_folder
from tests.integration import trapkit
from tests.integration.nodekit import make_tar
from tests.integration.trapkit import SUFFIX

pytestmark = pytest.mark.integration

PURE = "py3-none-any"


TEST_X = b"""
import pathlib
import good, helpers
assert "site-packages" in good.__file__, good.__file__
assert pathlib.Path("tests/data/a").read_text() == "data"
pathlib.Path("tests/written").write_text("allowed")
print("ran", helpers.NAME)
"""
SDIST_OF_GOOD = make_tar(
    {
        "good-1.0/tests/run.py": TEST_X,
        "good-1.0/tests/helpers.py": b"NAME = 'them'\n",
        "good-1.0/tests/data/a": b"data",
        "good-1.0/good.py": b"raise SystemExit('the sources, not the wheel')\n",
    }
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A simple index: a helper library, something named pytest, and a project that has an sdist only."""
    root = tmp_path_factory.mktemp("index")
    trapkit.wheel(root / "simple/helper", "helper", {"helper.py": b"FOUND = 1\n"}, tags=PURE)
    trapkit.wheel(
        root / "simple/pytest", "pytest", {"pytest.py": b"import sys; print(sys.argv)\n"}, tags=PURE
    )
    (root / "simple/sdist-only").mkdir()
    (root / "simple/sdist-only/sdist_only-1.0.tar.gz").write_bytes(b"")
    (root / "simple/good").mkdir()
    (root / "simple/good/good-1.0.tar.gz").write_bytes(SDIST_OF_GOOD)
    for page in (root / "simple").iterdir():
        links = "".join(
            f'<a href="{file.name}#sha256={sha256_of(file)}">{file.name}</a>' for file in page.iterdir()
        )
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    with serving_folder(root) as url:
        yield f"{url}/simple/"


def _failure(verdicts: tuple[Verdict, ...], gate: Gate) -> Verdict:
    (failure,) = [verdict for verdict in verdicts if not verdict.ok]
    assert failure.gate is gate
    assert failure.hint
    return failure


def test_a_good_wheel_passes_on_every_core(room: CleanRoom, index: str, tmp_path: Path) -> None:
    files = {
        "good/__init__.py": b"import helper\n",
        f"good/_native{SUFFIX}": trapkit.extension(tmp_path, "_native"),
        "good/_broken.py": b"raise SystemExit\n",  # inside a package: nobody imports it by itself
    }
    wheel = trapkit.wheel(tmp_path, "good", files, needs="helper")
    recipe = Recipe(
        test_command=["python", "-m", "pytest", "--pyargs", "good"],
        test_requires=["pytest"],
        known_failures=[
            KnownFailure(
                versions="<2", tests=["good/tests/test_x.py::test_y[1 2]"], reason="needs a display"
            ),
            KnownFailure(versions=">=2", tests=["other"], reason="of a later version"),
        ],
    )
    log = tmp_path / "logs" / "good.log"
    verdicts = prove(room, Trial(wheel, index, recipe), log)
    assert all(verdict.ok for verdict in verdicts), verdicts
    assert [verdict.gate for verdict in verdicts] == [Gate.IMPORT] * 4 + [Gate.EXECUTION] * 3
    assert "good-1.0 helper-1.0" in verdicts[0].evidence
    for cpu, imported, tested in zip(CPUS, verdicts[1:4], verdicts[4:], strict=True):
        assert f"imported good, good._native under {cpu}" in imported.evidence
        assert f"under {cpu}" in tested.evidence
        assert "left out: good/tests/test_x.py::test_y[1 2]: needs a display" in tested.evidence
    text = log.read_text()
    assert "--deselect=other" not in text
    assert text.count("'--deselect=good/tests/test_x.py::test_y[1 2]'") == 2 * len(CPUS)
    imports, _, tests = text.partition("helper-1.0 pytest-1.0")
    assert "inside.py" in imports  # before pytest was there
    assert "inside.py" not in tests


def test_a_vector_instruction_on_import_is_named(room: CleanRoom, index: str, tmp_path: Path) -> None:
    files = {
        "a_first.py": b"",
        f"trap{SUFFIX}": trapkit.extension(tmp_path, "trap", "-DWITH_VECTOR", "-DAT_IMPORT"),
        "z_last.py": b"raise ValueError('seen as well\\n, in spite of the crash')\n",
    }
    verdicts = prove(room, Trial(trapkit.wheel(tmp_path, "trap", files), index), tmp_path / "log")
    trap, after = [verdict for verdict in verdicts if not verdict.ok]
    assert (trap.gate, trap.subject) == (Gate.IMPORT, f"trap{SUFFIX}")
    assert "import trap under sifive-u54: SIGILL" in trap.evidence
    assert "vsetvli" in trap.evidence
    assert "vector_bytes+0x0" in trap.evidence
    assert "import z_last under sifive-u54: ValueError: seen as well , in spite" in after.evidence
    assert not [verdict for verdict in verdicts if CPUS[1] in verdict.evidence]


def test_a_vector_instruction_in_tests_of_tests_is_named(room: CleanRoom, index: str, tmp_path: Path) -> None:
    stripped = trapkit.extension(tmp_path, "trap", "-DWITH_VECTOR", "-s")
    call = "[sys.executable, '-c', 'import trap; trap.number()']"
    script = f"import subprocess, sys; subprocess.run({call}, check=True)"
    wheel = trapkit.wheel(tmp_path, "trap", {f"trap{SUFFIX}": stripped})
    verdicts = prove(
        room, Trial(wheel, index, Recipe(test_command=["python", "-c", script])), tmp_path / "log"
    )
    # What is not called is not proved: the import passes on all.
    assert [verdict.ok for verdict in verdicts] == [True] * 4 + [False]
    failure = _failure(verdicts, Gate.EXECUTION)
    assert failure.subject == f"trap{SUFFIX}"
    assert "vset" in failure.evidence


def test_a_vector_instruction_in_a_program_of_the_wheel_is_named(
    room: CleanRoom, index: str, tmp_path: Path
) -> None:
    program = trapkit.compiled(tmp_path, trapkit.PROGRAM, "-static-pie", "-fPIE")
    wheel = trapkit.wheel(tmp_path, "tool", {"tool-1.0.data/scripts/tool": program})
    verdicts = prove(room, Trial(wheel, index, Recipe(test_command=["tool"])), tmp_path / "log")
    failure = _failure(verdicts, Gate.EXECUTION)
    assert "vset" in failure.evidence
    assert "bin/tool, vector_bytes+0x0" in failure.evidence


def test_a_missing_library_is_named_with_its_package(room: CleanRoom, index: str, tmp_path: Path) -> None:
    wheel = trapkit.wheel(tmp_path, "needy", {f"needy{SUFFIX}": trapkit.needs_library(tmp_path, "needy")})
    trial = Trial(wheel, index, packages=lambda names: dict.fromkeys(names, "libfoo1"))
    failure = _failure(prove(room, trial, tmp_path / "log"), Gate.IMPORT)
    assert f"libfoo.so.1 (needed by needy{SUFFIX}; Debian: libfoo1)" in failure.evidence
    assert "libfoo.so.1" in failure.hint


def test_a_dependency_without_a_wheel_is_named(room: CleanRoom, index: str, tmp_path: Path) -> None:
    wheel = trapkit.wheel(tmp_path, "needy", {"needy.py": b""}, needs="sdist-only", tags=PURE)
    failure = _failure(prove(room, Trial(wheel, index), tmp_path / "log"), Gate.IMPORT)
    assert "no wheel for sdist-only" in failure.evidence
    assert "farm dispatch" in failure.hint


def test_an_index_that_is_down_is_not_the_wheels_fault(room: CleanRoom, tmp_path: Path) -> None:
    wheel = trapkit.wheel(tmp_path, "needy", {"needy.py": b""}, needs="helper", tags=PURE)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(RoomError, match="can't be reached"):
        prove(room, Trial(wheel, f"http://127.0.0.1:{port}/simple/"), tmp_path / "log")


HOSTILE = {
    "hostile_forks": b"import os\nwhile True:\n    os.fork()\n",
    "hostile_memory": b"kept = []\nwhile True:\n    kept.append(b'x' * (8 << 20))\n",
    "hostile_output": b"while True:\n    print('x' * 65536)\n",
    "hostile_sleep": b"import time\ntime.sleep(3600)\n",
}
SPY = """
import os, pathlib, socket, sys
def refused(what, *arguments):
    try:
        what(*arguments)
    except OSError as error:
        print("refused:", error)
    else:
        sys.exit(f"not refused: {{what}} {{arguments}}")
for path in ({secret!r}, "/root/.ssh", "/var/lib/wheelfarm", "/proc/1/root" + {secret!r}):
    refused(os.stat, path)
for path in ("/usr/lib/spy", "/etc/spy", "/room/venv/spy", "/room/spy", "/var/tmp/spy", "/dev/spy"):
    refused(pathlib.Path(path).write_text, "x")
refused(socket.create_connection, ("127.0.0.1", {port}), 5)
refused(os.setuid, 0)
refused(os.kill, -1, 0) if os.getpid() == 1 else None
assert len([name for name in os.listdir("/proc") if name.isdecimal()]) < 10
assert not [name for name in os.environ if "SECRET" in name]
assert os.listdir() == []
pathlib.Path("here").write_text("is allowed")
"""


def test_hostile_wheels_are_stopped_and_reported(
    room: CleanRoom, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    monkeypatch.setenv("FARM_SECRET", "key")
    port = int(index.split(":")[2].partition("/")[0])
    files = {f"{name}.py": source for name, source in HOSTILE.items()}
    files["spy.py"] = SPY.format(secret=str(secret), port=port).encode()
    wheel = trapkit.wheel(tmp_path, "hostile", files, tags=PURE)
    small = replace(room, slowness=1.0, import_s=10, memory_bytes=256 << 20, tasks=48)
    began = time.monotonic()
    verdicts = prove(small, Trial(wheel, index), tmp_path / "log")
    assert time.monotonic() - began < 120
    found = {verdict.evidence.split()[1]: verdict.evidence for verdict in verdicts if not verdict.ok}
    assert sorted(found) == sorted(HOSTILE)  # and not spy: all that it tried was refused
    assert "processes" in found["hostile_forks"]
    assert "memory" in found["hostile_memory"].lower()
    assert "output" in found["hostile_output"]
    assert "not done after" in found["hostile_sleep"]
    assert "refused: [Errno 30] Read-only file system" in (tmp_path / "log").read_text(errors="replace")
    assert not list(room.work.glob("trial-*"))
    assert not _processes_of(room)


def _processes_of(room: CleanRoom) -> list[str]:
    owner = room.work.stat().st_uid
    running = [path for path in Path("/proc").glob("[0-9]*") if _is_emulated(path, owner)]
    return [(path / "cmdline").read_text() for path in running]


def _is_emulated(path: Path, owner: int) -> bool:
    try:
        return path.stat().st_uid == owner and "qemu-riscv64" in os.readlink(path / "exe")  # noqa: PTH115
    except OSError:  # it has ended meanwhile
        return False


def test_farm_verify_runs_wheels_on_demand(index: str, tmp_path: Path) -> None:
    wheel = trapkit.wheel(tmp_path, "pure", {"pure.py": b"import absent\n"}, tags=PURE)
    farm = Path(sys.executable).parent / "farm"
    logs = tmp_path / "logs"
    command = [str(farm), "verify", "--run", "--index-url", index, "--logs", str(logs), "--json", str(wheel)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    (report,) = json.loads(done.stdout)
    assert [v["gate"] for v in report["verdicts"] if not v["ok"]] == ["import"]
    assert "import absent" in (logs / f"{wheel.name}.log").read_text()
    assert "ModuleNotFoundError: No module named 'absent'" in report["verdicts"][-1]["evidence"]


def test_tests_that_the_sdist_alone_has_are_run_against_the_wheel(
    room: CleanRoom, index: str, tmp_path: Path
) -> None:
    """Of a wheel that was built elsewhere, too: upstream has the sdist."""
    baseline, paths = replace(room, cpus=room.cpus[:1]), Paths(tmp_path / "state")
    recipe = Recipe(test_command=["python", "tests/run.py"], test_sources=["tests"])

    def trial(project: str) -> Trial:
        wheel = trapkit.wheel(tmp_path, project, {f"{project}.py": b""}, tags=PURE)
        return trial_of_other(wheel, recipe, index_url=index, upstream=Upstream(index), sdists=paths.sdists)

    good = trial("good")
    *_, tested = prove(baseline, good, tmp_path / "log")
    assert tested.ok, tested
    assert tested.gate is Gate.EXECUTION
    assert tested.evidence.endswith("ran them; tests from good-1.0.tar.gz")
    shadowing = replace(recipe, test_sources=["tests", "good.py"])
    *_, refused = prove(baseline, replace(good, recipe=shadowing), tmp_path / "log")
    assert not refused.ok
    assert "test_sources has good itself" in refused.evidence
    # Where upstream has none, the wheel is imported, and it is said why it is not tested.
    *_, imported = prove(baseline, trial("lone"), tmp_path / "log")
    assert imported.gate is Gate.IMPORT
    assert "its tests are in the sdist, which is not here: not run" in imported.evidence
    assert f"(lone: no such project on {index}" in imported.evidence


def test_a_dependency_that_is_only_staged_is_installed(room: CleanRoom, index: str, tmp_path: Path) -> None:
    files = {"needy.py": b"import staged\nassert staged.VERSION == 2\n"}
    wheel = trapkit.wheel(tmp_path, "needy", files, needs="staged", tags=PURE)
    trial = Trial(wheel, index)
    baseline = replace(room, cpus=room.cpus[:1])
    (failure,) = prove(baseline, trial, tmp_path / "log")
    assert (failure.ok, failure.verdict, failure.subject) == (False, NO_WHEEL, "staged")
    beside = trapkit.wheel(tmp_path / "beside", "staged", {"staged.py": b"VERSION = 2\n"}, tags=PURE)
    installed, imported = prove(baseline, replace(trial, beside=(beside,)), tmp_path / "log")
    assert imported.ok, imported
    assert f"and what is staged ({beside.name})" in installed.evidence


def test_a_bug_that_one_vector_length_shows_is_named_so(room: CleanRoom, index: str, tmp_path: Path) -> None:
    """Code for vectors, run only where the core has them, that supposes 128 bits: an F3 has 256."""
    native = trapkit.extension(tmp_path, "short", "-DWITH_LENGTH")
    wheel = trapkit.wheel(tmp_path, "short", {f"short{SUFFIX}": native})
    recipe = Recipe(test_command=["python", "-c", "import short; n = short.number(); assert n == 16, n"])
    verdicts = prove(room, Trial(wheel, index, recipe), tmp_path / "log")
    failure = _failure(verdicts, Gate.EXECUTION)
    assert failure.verdict == VECTOR_LENGTH
    assert f"under {CPUS[2]}: ended with code 1" in failure.evidence
    assert "AssertionError: 32" in failure.evidence
    assert f"it depends on the vector length: under {CPUS[1]} it passed" in failure.evidence
    tested = [verdict for verdict in verdicts if verdict.gate is Gate.EXECUTION]
    assert [verdict.ok for verdict in tested] == [True, True, False]


def test_wheels_that_are_published_together_are_proved_with_each_other(
    room: CleanRoom, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CleanRoom, "at", lambda: replace(room, cpus=room.cpus[:1]))
    upper = trapkit.wheel(tmp_path, "upper", {"upper.py": b"import base\n"}, needs="base", tags=PURE)
    base = trapkit.wheel(tmp_path, "base", {"base.py": b"import absent\n"}, tags=PURE)
    address = Address("index", "127.0.0.1", 9, "nobody", Path("/key"), Path("/hosts"))
    host = IndexHost(address, "/nosuch", index.removesuffix("/simple/"))
    (tmp_path / "base.yml").write_text("import_skip: {base: its helper is on the boards only}\n")
    reports = vet(
        [upper, base], index=host, paths=Paths(tmp_path / "state"), recipes=tmp_path, upstream=Upstream(index)
    )
    seen = {report.wheel: [verdict.evidence for verdict in report.failures] for report in reports}
    assert list(seen) == [upper.name, base.name]
    assert "No module named 'absent'" in seen[upper.name][0]
    assert seen[base.name] == []
