"""One build, from an sdist to a repaired wheel: the task ``build`` of a supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from farm.node import facts
from farm.node.environment import (
    BuildSystem,
    Environments,
    ProjectError,
    build_system,
    pinned,
    python_of,
)
from farm.node.failure import StepError
from farm.node.farm_index import FarmIndex
from farm.node.files import Json, artifacts, read_json, sha256_of, write_json
from farm.node.record import build_record
from farm.node.source import source_epoch, unpack
from farm.node.supervise import Supervisor, say
from farm.node.variables import WRAPPERS, Places, make_folders, uses_download_cache, variables
from farm.node.vitals import fingerprint

if TYPE_CHECKING:
    from pyproject_hooks import BuildBackendHookCaller

ANSWER_S = 10
CACHE_AGE_S = 60 * 24 * 3600
# Provisioning writes them; tests have their own.
SETTINGS = Path(os.environ.get("WHEELFARM_SETTINGS", "/etc/wheelfarm"))


def forget_old_caches(folder: Path) -> None:
    """Remove the caches of projects that were not built for long."""
    for cache in folder.glob("*"):
        if time.time() - cache.stat().st_mtime > CACHE_AGE_S:
            shutil.rmtree(cache, ignore_errors=True)


class Build:
    """The steps of one attempt."""

    def __init__(self, supervisor: Supervisor) -> None:
        order = supervisor.order
        self.supervisor = supervisor
        self.timed = supervisor.timed
        self.root = order.root
        self.job = order.job
        self.spec = order.task
        self.environments = order.environments
        self.toolchain: Json = {}
        self.at = Places(order.job, order.job, order.environments / str(self.spec["python"]))
        self.variables: dict[str, str] = {}
        self.constraints: Path | None = None

    @contextlib.contextmanager
    def places(self) -> Iterator[None]:
        """Claim this build's folders; the working folder goes at the end, the cache stays."""
        project, python = str(self.spec["project"]), str(self.spec["python"])
        work, lock = claim(self.root / "work", f"{project}-{python}")
        self.at = Places(work, self.root / "cache" / project, self.environments / python)
        try:
            make_folders(self.at)
            os.utime(self.at.cache)
            yield
        finally:
            if self.at.sccache.exists():
                subprocess.run(["/usr/bin/sccache", "--stop-server"], env=self.variables, check=False)
            self.supervisor.end_family()
            shutil.rmtree(work, ignore_errors=True)
            lock.close()

    def run(self) -> list[Json]:
        """Run all steps and return the files that came out, with size and sha256: the wheel is the first."""
        forget_old_caches(self.root / "cache")
        with self.places():
            return self.steps()

    def steps(self) -> list[Json]:
        """Run the steps in the build's folders."""
        wheelhouse = self.job / "wheelhouse"
        wheelhouse.mkdir(exist_ok=True)
        self.timed("describe", self.describe)
        source = self.timed("unpack", self.unpack)
        self.variables = self.make_variables(source)
        # One at a time: another version of the project may be built here, with the same cache.
        with held(self.at.cache / ".lock"):
            system, environment = self.timed("environment", lambda: self.prepare(source))
        built = self.timed("build", lambda: self.build_wheel(source, system, environment))
        if self.at.compiled.exists():
            self.toolchain["first_compiler_at"] = self.at.compiled.stat().st_mtime
        self.timed("repair", lambda: self.repair(built))
        wheels = sorted(wheelhouse.glob("*.whl"))
        if len(wheels) != 1:
            raise StepError("build", f"expected one wheel after repair, found {len(wheels)}")
        record = self.timed("record", lambda: self.record(wheels[0]))
        extra = sorted(wheelhouse.glob("*.debug.tar.gz"))
        return artifacts((*wheels, record, *extra))

    def describe(self) -> None:
        """Check that the board has what the job needs and write it all into the log (F13, F20)."""
        self.toolchain = facts.toolchain(fingerprint(self.environments))
        spec, board = self.spec, self.toolchain
        say(f"job {spec['job_id']} attempt {spec['attempt']} on {board['hostname']}")
        say(f"sdist {spec['sdist_filename']} sha256 {spec['sdist_sha256']}")
        say(f"recipe {spec['recipe_digest']} constraints {spec['build_constraints']}")
        say(f"gcc {board['gcc']} default -march {board['gcc_march']}; {board['rustc'] or 'no rustc'}")
        say(f"compilers run on {board['compilers']}")
        if not (self.at.tools / "bin/python").exists():
            raise StepError("node", f"no build environment {self.at.tools}; run `farm provision`")
        # The build tools' packages are pure Python, so they run under this interpreter as well.
        sys.path += [str(path) for path in self.at.tools.glob("lib/python3.*/site-packages")]
        wanted = [str(name) for name in _list(spec["apt_packages"])]
        missing = sorted(set(wanted) - facts.installed_packages(*wanted)) if wanted else []
        if missing:
            names = " ".join(missing)
            raise StepError("node", f"packages missing on this board: {names}; run `farm provision`")

    def unpack(self) -> Path:
        """Check the sdist's hash and unpack it; returns the source directory."""
        sdist = self.sdist()
        if not sdist.exists() or sha256_of(sdist) != self.spec["sdist_sha256"]:
            sdist.unlink(missing_ok=True)  # the next start asks the controller for it again
            raise StepError("node", f"the sdist on this board is missing or damaged: {sdist.name}")
        return unpack(
            sdist,
            self.at.work / "source",
            lambda command: self.call(command, self.at.work, {}, "source", "the sdist can't be unpacked"),
        )

    def sdist(self) -> Path:
        """Return where the controller put the sdist."""
        return self.root / "incoming" / str(self.spec["sdist_sha256"]) / str(self.spec["sdist_filename"])

    def make_variables(self, source: Path) -> dict[str, str]:
        """Return the environment of the build's commands."""
        constraints = [str(item) for item in _list(self.spec["build_constraints"])]
        if constraints:
            self.constraints = self.at.work / "constraints.txt"
            self.constraints.write_text("".join(f"{item}\n" for item in constraints), encoding="utf-8")
        distcc = " ".join(str(host) for host in _list(read_json(SETTINGS / "distcc.json").get("hosts")))
        if distcc:
            self.toolchain["distcc_hosts"] = distcc
        url, view = str(read_json(SETTINGS / "node.json").get("index") or ""), str(self.spec["python"])
        self.index = FarmIndex(url, self.at.cache / "index" / view, say, python_of(self.at.tools))
        own = self.spec["environment"]
        assert isinstance(own, dict)  # noqa: S101  # the controller validated the recipe
        return variables(
            self.at,
            width=int(str(self.spec["width"])),
            epoch=source_epoch(source),
            debug=bool(self.spec["debug"]),
            constraints=self.constraints,
            distcc_hosts=distcc,
            own={**self.download_cache(), **self.index.variables(), **own},
        )

    def download_cache(self) -> dict[str, str]:
        """Return what sends downloads through the farm's cache, or nothing where it does not answer."""
        url = str(read_json(SETTINGS / "node.json").get("download_cache") or "")
        if url and not answers(f"{url}/healthz"):
            say(f"the download cache {url} does not answer: downloads go to the internet")
            url = ""
        return uses_download_cache(url, self.at.cache / "cargo")

    def prepare(self, source: Path) -> tuple[BuildSystem, Path]:
        """Return how the project is built, and the isolated environment it is built in."""
        environments = Environments(
            self.at.cache,
            self.at.tools,
            self.constraints,
            self.index,
            lambda command: self.call(command, self.at.work, {}),
        )
        try:
            system = build_system(source)
        except ProjectError as error:
            raise StepError("source", str(error)) from error
        lock = environments.lock(system.requires)
        environment = environments.environment(lock)
        extra = self.extra_requires(source, system, environment, lock)
        if extra:
            lock = environments.lock((*system.requires, *extra))
            environment = environments.environment(lock)
        self.toolchain["environment"] = pinned(lock)
        say(f"build environment: {' '.join(pinned(lock)) or 'empty'}")
        if self.index.url:
            say(f"from the farm's index: {' '.join(self.index.taken(lock)) or 'nothing of it'}")
        return system, environment

    def extra_requires(
        self, source: Path, system: BuildSystem, environment: Path, lock: Path
    ) -> tuple[str, ...]:
        """Return what the backend wants besides (PEP 517); the answer is kept, for asking it is slow."""
        kept = self.at.cache / "requires" / f"{self.spec['sdist_sha256']}-{sha256_of(lock)}.json"
        if not kept.exists():
            asked = self.hooks(source, system, environment).get_requires_for_build_wheel()
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, {"requires": list(asked)})
        return tuple(str(item) for item in _list(read_json(kept)["requires"]))

    def hooks(self, source: Path, system: BuildSystem, environment: Path) -> BuildBackendHookCaller:
        """Return the caller of the project's own PEP 517 backend (F04)."""
        try:
            from pyproject_hooks import BuildBackendHookCaller  # noqa: PLC0415
        except ImportError as error:
            raise StepError(
                "node", f"{self.at.tools} has no pyproject_hooks; run `farm provision`"
            ) from error

        path = self.at.search_path(environment)

        def run(
            cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
        ) -> None:
            own = {"PATH": path, "VIRTUAL_ENV": str(environment), **(extra_environ or {})}
            self.call(list(cmd), Path(cwd or source), own)

        return BuildBackendHookCaller(
            str(source),
            system.backend,
            backend_path=list(system.backend_path) or None,
            runner=run,
            python_executable=str(environment / "bin/python"),
        )

    def build_wheel(self, source: Path, system: BuildSystem, environment: Path) -> Path:
        """Build the wheel."""
        dist = self.at.work / "dist"
        # meson-python's own choice is a new name each time, which projects write into what they install.
        settings = {"builddir": str(self.at.work / "meson")} if system.backend == "mesonpy" else None
        self.hooks(source, system, environment).build_wheel(str(dist), settings)
        wheels = sorted(dist.glob("*.whl"))
        if len(wheels) != 1:
            raise StepError("build", f"the build succeeded and left {len(wheels)} wheels")
        return wheels[0]

    def repair(self, wheel: Path) -> None:
        """Graft what the wheel needs from this board and give it an honest platform tag (F07)."""
        wheelhouse = self.job / "wheelhouse"
        if wheel.name.endswith("-any.whl"):
            shutil.copyfile(wheel, wheelhouse / wheel.name)
            return
        if self.spec["debug"]:
            keep_debug(wheel, wheelhouse / f"{self.job.name}.debug.tar.gz", self.at.work / "debug")
        # auditwheel can fail and leave an unrepaired wheel in its output: it gets a folder of its own.
        repaired = self.at.work / "repaired"
        command = [str(self.at.tools / "bin/auditwheel"), "repair", "--strip", "--wheel-dir"]
        stripping = {"PATH": f"{WRAPPERS}:{self.variables['PATH']}"}
        command += [str(repaired), str(wheel)]
        self.call(command, self.at.work, stripping, "policy", f"auditwheel can't repair {wheel.name}")
        for path in repaired.glob("*.whl"):
            shutil.copyfile(path, wheelhouse / path.name)

    def record(self, wheel: Path) -> Path:
        """Write down how the wheel was built, for its provenance, beside it."""
        path = wheel.with_name(f"{self.job.name}.record.json")
        known = build_record(
            spec=self.spec,
            toolchain=self.toolchain,
            variables=self.variables,
            tools=self.at.tools,
            work=self.at.work,
            wheel=wheel,
        )
        write_json(path, known)
        return path

    def call(
        self,
        command: list[str],
        cwd: Path,
        extra: Mapping[str, str],
        failure: str = "build",
        message: str = "the build did not succeed",
    ) -> None:
        """Run one command with the build's variables; see Supervisor."""
        self.supervisor.call(command, cwd, {**self.variables, **extra}, failure, message)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for a lock, and hold it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def claim(folder: Path, name: str) -> tuple[Path, TextIO]:
    """Return a working folder that nobody else uses, and the open file that holds it.

    The first choice is always the same one, so that rebuilds of a project see the same paths; what a killed
    build left there is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        work = folder / (f"{name}.{number}" if number else name)
        lock = work.with_name(f".{work.name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            number += 1
            continue
        shutil.rmtree(work, ignore_errors=True)
        return work, lock


def answers(url: str) -> bool:
    """Return whether a server answers with success."""
    import urllib.request  # noqa: PLC0415  # slow to import on a board

    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as response:  # noqa: S310  # provisioning wrote it
            return bool(response.status == 200)  # noqa: PLR2004
    except OSError:
        return False


def keep_debug(wheel: Path, archive: Path, folder: Path) -> None:
    """Split the debug information off a wheel's ELF files and keep it in one archive."""
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "wheel")  # noqa: S202  # zipfile drops absolute names and ".." itself
    for path in sorted((folder / "wheel").rglob("*.so*")):
        target = folder / "split" / f"{path.relative_to(folder / 'wheel')}.debug"
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["/usr/bin/objcopy", "--only-keep-debug", str(path), str(target)], check=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "split", arcname=wheel.stem)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
