"""One trial's folder, and programs run in the room with it: logged, watched and, where wanted, traced."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from farm.cleanroom import inside
from farm.cleanroom.fault import Fault, name_fault
from farm.cleanroom.install import CACHE, VENV, WHEELS
from farm.cleanroom.room import CleanRoom, RoomError
from farm.cleanroom.sandbox import SHELF, Inside, Limits, Mount, walled
from farm.cleanroom.trace import Spot, tracing
from farm.cleanroom.watch import Ended, Stop, watch

DRIVER: Final = f"{SHELF}/inside.py"
_TRACE: Final = f"{SHELF}/trace"
_SOURCES: Final = f"{SHELF}/sources"
_COPY: Final = f'cp -R {_SOURCES}/. . && exec "$@"'
_HOST_FILES: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_MOST_RESULT: Final = 1 << 20
_ACTIVATED: Final = {"VIRTUAL_ENV": VENV, "PATH": f"{VENV}/bin:/usr/local/bin:/usr/bin:/bin"}


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one module; ``error`` is empty where it was imported, None where that never ended."""

    module: str
    error: str | None


class Stage:
    """Runs programs for one trial."""

    def __init__(self, room: CleanRoom, folder: Path, log: BinaryIO) -> None:
        self._room = room
        self._folder = folder
        self._log = log

    def install(self, venv: str, python: str, command: Sequence[str]) -> Ended:
        """Make a virtual environment and run pip in it, with the network.

        No code of any wheel runs here: the environment is new, and only wheels are installed.
        """
        room = self._folder / venv
        room.mkdir()
        self._room.own(room)
        limits = self._room.limits(self._room.install_s)
        made = self._run(
            [python, "-m", "venv", "--without-pip", VENV], limits, [Mount(room, VENV, writable=True)]
        )
        if not made.ok:
            return made
        cache = self._room.work / "cache"
        cache.mkdir(exist_ok=True)
        self._room.own(cache)
        mounts = [
            Mount(room, VENV, writable=True),
            Mount(cache, CACHE, writable=True),
            Mount(self._folder / "wheels", WHEELS),
            *(Mount(Path(path).resolve(), path) for path in _HOST_FILES if Path(path).exists()),
        ]
        environment = {name: os.environ[name] for name in _PROXIES if name in os.environ}
        return self._run(command, limits, mounts, environment=environment, network=True)

    def imports(self, modules: Sequence[str], cpu: str) -> tuple[list[Imported], Ended]:
        """Import modules in one process, in this order; what it did not get to is left out."""
        with tempfile.TemporaryFile() as results:
            command = [f"{VENV}/bin/python", DRIVER, str(results.fileno()), *modules]
            limits = self.import_limits(len(modules))
            ended = self._run(command, limits, self._mounts("venv"), cpu=cpu, keep=(results.fileno(),))
            results.seek(0)
            return _outcomes(results.read(_MOST_RESULT), modules), ended

    def import_limits(self, modules: int) -> Limits:
        """Return the limits of a process that imports so many modules."""
        return self._room.limits(self._room.import_s + modules)

    @property
    def sources(self) -> Path:
        """Where tests that are in no wheel are put, to be copied into the folder that tests run in."""
        return self._folder / "sources"

    def tests(self, venv: str, command: Sequence[str], seconds: float, cpu: str) -> Ended:
        """Run a recipe's tests."""
        limits, mounts = self._room.limits(seconds), self._test_mounts(venv)
        return self._run(self._with_sources(command), limits, mounts, cpu=cpu, environment=_ACTIVATED)

    def import_fault(self, module: str, cpu: str) -> Fault | None:
        """Import a module again, traced: where was the illegal instruction?"""
        with tempfile.TemporaryFile() as results:
            command = [f"{VENV}/bin/python", DRIVER, str(results.fileno()), module]
            limits = self._room.limits(2 * self._room.import_s)
            return self._traced(command, limits, "venv", cpu, keep=(results.fileno(),))

    def test_fault(self, venv: str, command: Sequence[str], seconds: float, cpu: str) -> Fault | None:
        """Run the tests again, traced: where was the illegal instruction?"""
        return self._traced(self._with_sources(command), self._room.limits(2 * seconds), venv, cpu)

    def _traced(
        self, command: Sequence[str], limits: Limits, venv: str, cpu: str, keep: Sequence[int] = ()
    ) -> Fault | None:
        pipe = self._folder / "trace"
        environment = {**_ACTIVATED, "QEMU_LOG": "strace", "QEMU_LOG_FILENAME": _TRACE}
        with tracing(pipe, command[0]) as trace:
            mounts = [*self._test_mounts(venv), Mount(pipe, _TRACE)]
            self._run(command, limits, mounts, cpu=cpu, environment=environment, keep=keep)
        # The last one: what came before may have been caught by a program that tries what its processor has.
        return self._named(trace.spots[-1], trace.program, venv) if trace.spots else None

    def _named(self, spot: Spot, program: str, venv: str) -> Fault | None:
        path = spot.path or program
        file = self._outside(path, venv)
        return None if file is None else name_fault(spot, path, file)

    def _outside(self, path: str, venv: str) -> Path | None:
        """Return this machine's path of a file inside; None where it would be none of the room's."""
        for prefix, root in ((f"{VENV}/", self._folder / venv), ("/", self._room.userland.resolve())):
            if path.startswith(prefix):
                file = root / path.removeprefix(prefix)
                if file.is_symlink() and (target := str(file.readlink())).startswith("/") and target != path:
                    return self._outside(target, venv)  # the environment's python
                return file if file.resolve().is_relative_to(root.resolve()) and file.is_file() else None
        return None

    def _with_sources(self, command: Sequence[str]) -> Sequence[str]:
        """Return a command that finds copies of its sources in its folder, within the limits of scratch."""
        return ["/bin/sh", "-c", _COPY, "sh", *command] if self.sources.exists() else command

    def _test_mounts(self, venv: str) -> list[Mount]:
        sources = [Mount(self.sources, _SOURCES)] if self.sources.exists() else []
        return [*self._mounts(venv), *sources]

    def _mounts(self, venv: str) -> list[Mount]:
        return [Mount(self._folder / venv, VENV), Mount(self._folder / "inside.py", DRIVER)]

    def _run(
        self,
        argv: Sequence[str],
        limits: Limits,
        mounts: Sequence[Mount],
        *,
        cpu: str | None = None,
        environment: Mapping[str, str] | None = None,
        network: bool = False,
        keep: Sequence[int] = (),
    ) -> Ended:
        cpu = cpu or self._room.cpus[0]
        program = Inside(argv, cpu, limits, mounts, environment, network)
        command = walled(program, self._room.userland.resolve(), drop_to=self._room.drop_to)
        self._log.write(f"$ QEMU_CPU={cpu} {shlex.join(argv)}\n".encode())
        try:
            ended = watch(command, limits, self._log, disk=self._folder, keep=keep)
        except OSError as error:
            raise RoomError(f"the clean room can't be entered: {error}") from error
        self._log.write(f"= {ended.why(limits)} ({ended.seconds:.1f} s)\n".encode())
        if ended.stop is Stop.DISK:
            raise RoomError(f"{self._folder}: the disk is full", hint="free some space and try again")
        return ended


@contextmanager
def trial_folder(room: CleanRoom, wheels: Sequence[Path]) -> Iterator[Path]:
    """Make a trial's folder with the wheels in it; it is gone afterwards."""
    try:
        with tempfile.TemporaryDirectory(prefix="trial-", dir=room.work) as name:
            folder = Path(name)
            (folder / "wheels").mkdir()
            for wheel in wheels:
                shutil.copyfile(wheel, folder / "wheels" / wheel.name)
            # The checkout may be where only its owner gets to.
            shutil.copyfile(inside.__file__, folder / "inside.py")
            room.own(folder)
            yield folder
    except OSError as error:
        raise RoomError(
            f"{room.work}: {error}", hint="see that the disk has space and the folder is there"
        ) from error


def _outcomes(data: bytes, modules: Sequence[str]) -> list[Imported]:
    """Read what the driver wrote; a wheel may have written to it as well, so only what makes sense counts."""
    found: dict[str, str | None] = {}
    for line in data.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("module") in modules:
            error = row.get("error")
            found[row["module"]] = error if isinstance(error, str) else None
    return [Imported(module, error) for module, error in found.items()]
