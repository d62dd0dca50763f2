"""One build, from an sdist to a repaired wheel: the task ``build`` of a supervisor."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from farm.node import extensions, facts, forward, sandbox
from farm.node.environment import (
    BuildSystem,
    Environments,
    ProjectError,
    build_system,
    pinned,
    python_of,
)
from farm.node.failure import NO_NETWORK, StepError
from farm.node.farm_index import FarmIndex, answers
from farm.node.files import Json, artifacts, read_json, sha256_of, write_json
from farm.node.places import WRAPPERS, Places, claim, forget_old_caches, held, make_folders, wrap_ninja
from farm.node.record import build_record
from farm.node.repair import Repair
from farm.node.sandbox import SETTINGS, Room, take
from farm.node.source import manifests, source_epoch, unpack
from farm.node.supervise import Supervisor, say
from farm.node.tokens import MAKE, at_least
from farm.node.variables import OFFLINE, uses_download_cache, variables, without_proxies
from farm.node.vitals import fingerprint

if TYPE_CHECKING:
    from pyproject_hooks import BuildBackendHookCaller

HOOK = str(WRAPPERS / "hook")


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
        # Outside of all that a build can write to: what was taken from it, and what hooks answer.
        self.taken = order.job / "taken"
        self.answers = order.job / "hooks"
        self.no_sandbox = sandbox.why_not(order.root)
        # Why the build itself has a network; empty: it has none.
        self.open = "there is no sandbox" if self.no_sandbox else str(self.spec["build_network"])

    @contextlib.contextmanager
    def places(self) -> Iterator[None]:
        """Claim this build's folders; the working folder goes at the end, the cache stays."""
        project, python = str(self.spec["project"]), str(self.spec["python"])
        work, lock = claim(self.root / "work", f"{project}-{python}")
        self.at = Places(work, self.root / "cache" / project, self.environments / python)
        try:
            make_folders(self.at)
            self.tokens = self.supervisor.share(self.at.work)  # before a stranger could take the pipes' names
            os.utime(self.at.cache)
            yield
        finally:
            self.supervisor.end_family()
            for folder in (work, self.taken, self.answers):
                shutil.rmtree(folder, ignore_errors=True)
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
        # Before anything of the project's own has run.
        if not self.open:
            self.timed("fetch", lambda: self.fetch_crates(source))
        # One at a time: another version of the project may be built here, with the same cache.
        with held(self.at.cache / ".lock"):
            system, environment = self.timed("environment", lambda: self.prepare(source))
        built = self.timed("build", lambda: self.build_wheel(source, system, environment))
        with contextlib.suppress(FileNotFoundError):
            self.toolchain["first_compiler_at"] = self.at.compiled.lstat().st_mtime
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
        self.toolchain |= self.describe_sandbox()
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

    def describe_sandbox(self) -> Json:
        """Return what shuts the build in, as its wheel's record has it; refuse what was not agreed to."""
        why = self.no_sandbox
        if why and self.supervisor.order.spec.get("unsandboxed") is not True:
            text = (
                f"no sandbox on this board: {why}; `farm provision`, or farm_allow_unsandboxed_builds, helps"
            )
            raise StepError("node", text)
        said = {
            "sandbox": f"none: {why}" if why else sandbox.version(),
            "network": f"open: {self.open}" if self.open else "closed",
        }
        say(f"sandbox {said['sandbox']}; network of the build {said['network']}")
        return dict(said)

    def unpack(self) -> Path:
        """Check the sdist's hash and unpack it; returns the source directory."""
        sdist = self.sdist()
        if not sdist.exists() or sha256_of(sdist) != self.spec["sdist_sha256"]:
            sdist.unlink(missing_ok=True)  # the next start asks the controller for it again
            raise StepError("node", f"the sdist on this board is missing or damaged: {sdist.name}")
        return unpack(
            sdist,
            self.at.work / "source",
            lambda command: self.call(
                command,
                self.at.work,
                Room((self.at.work,), (sdist.parent,)),
                failure="source",
                message="the sdist can't be unpacked",
            ),
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
        hosts = [str(host) for host in _list(read_json(SETTINGS / "distcc.json").get("hosts"))]
        if hosts:
            self.toolchain["distcc_hosts"] = " ".join(hosts)
        inside: list[str] = []
        if hosts and not self.open:
            inside, outside, hosts = forward.ways(hosts, self.at.work)
            self.supervisor.call([sys.executable, "-P", forward.__file__, *outside], self.at.work, {})
        url, view = str(read_json(SETTINGS / "node.json").get("index") or ""), str(self.spec["python"])
        self.index = FarmIndex(url, self.at.cache / "index" / view, say, python_of(self.at.tools))
        own, cores = self.spec["environment"], len(os.sched_getaffinity(0))
        assert isinstance(own, dict)  # noqa: S101  # the controller validated the recipe
        return variables(
            self.at,
            width=self.supervisor.width,
            cores=cores,
            tokens=self.tokens,
            jobserver=self.jobserver,
            epoch=source_epoch(source),
            debug=bool(self.spec["debug"]),
            constraints=self.constraints,
            distcc_hosts=" ".join(hosts),
            own={
                "FARM_FORWARDS": " ".join(inside),
                **self.download_cache(),
                **self.index.variables(),
                **extensions.side_by_side(self.at, cores, own),
                **own,
            },
        )

    @property
    def jobserver(self) -> bool:
        """Whether this board's make takes its tasks from the build's tokens."""
        return at_least(MAKE, str(self.toolchain["make"]))

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
            self.download,
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
        """Return the caller of the project's own PEP 517 backend (F04); what it runs has no network."""
        try:
            from pyproject_hooks import BuildBackendHookCaller  # noqa: PLC0415
        except ImportError as error:
            raise StepError(
                "node", f"{self.at.tools} has no pyproject_hooks; run `farm provision`"
            ) from error

        path = self.at.search_path(environment)
        ninja = wrap_ninja(self.at, environment, self.supervisor.width, jobserver=self.jobserver)
        room = Room(
            (self.at.work, self.answers, *self.at.reused, *(self.at.fetched if self.open else ())),
            (self.at.cache,),
            network=bool(self.open),
        )
        # pyproject_hooks talks to the backend by files in a folder for temporary ones.
        self.answers.mkdir(exist_ok=True)
        tempfile.tempdir = str(self.answers)

        def run(
            cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
        ) -> None:
            own = {"PATH": path, "VIRTUAL_ENV": str(environment), **ninja, **(extra_environ or {})}
            self.call([HOOK, *cmd], Path(cwd or source), room, own)

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
        hooks = self.hooks(source, system, environment)
        try:
            hooks.build_wheel(str(dist), settings)
        except StepError as error:
            if error.failure != "build" or not extensions.mixed_up(self.at, self.variables):
                raise
        if extensions.mixed_up(self.at, self.variables):
            say("two extensions may share an object: all is built again, one extension after the other")
            self.variables |= extensions.side_by_side(self.at, 1, {})
            for folder in (self.at.work / "source", dist):
                shutil.rmtree(folder)
                folder.mkdir()
            self.unpack()
            hooks.build_wheel(str(dist), settings)
        try:
            wheels = take(dist, ".whl", self.taken / "built")
        except OSError as error:
            raise StepError("build", f"the build left something else than a wheel: {error}") from error
        if len(wheels) != 1:
            raise StepError("build", f"the build succeeded and left {len(wheels)} wheels")
        return wheels[0]

    def repair(self, wheel: Path) -> None:
        """Make of what was built what may leave this board; debug information is kept where it is wanted."""
        folder = self.taken / "repair"
        folder.mkdir()
        # auditwheel looks for libraries where the build was, too.
        readable = (self.taken, self.at.work, self.at.cache)
        step = Repair(
            self.call, self.supervisor.tail, self.at.tools, folder, readable, self.variables["PATH"]
        )
        if self.spec["debug"] and not wheel.name.endswith("-any.whl"):
            step.keep_debug(wheel, self.job / "wheelhouse" / f"{self.job.name}.debug.tar.gz")
        step.repaired(
            wheel,
            self.job / "wheelhouse",
            build_tag=str(self.spec["build_tag"]),
            system_libraries=[str(name) for name in _list(self.spec["system_libraries"])],
            others_libraries=[str(name) for name in _list(self.spec["others_libraries"])],
        )

    def fetch_crates(self, source: Path) -> None:
        """Download what a build with cargo will want: it has no network then.

        A project that has its crates with it may want none of these: that none can be had is no failure yet.
        """
        for manifest in manifests(source) if shutil.which("cargo", path=self.variables["PATH"]) else ():
            # Run elsewhere: the project's own .cargo/config.toml could have it start any program.
            command = ["cargo", "fetch", "--manifest-path", str(manifest)]
            try:
                self.call(command, Path("/"), self.fetching())
            except StepError as error:
                if error.failure != "build":
                    raise
                say(f"crates of {manifest.relative_to(source)} were not fetched; the build goes on without")

    def download(self, command: list[str], output: Path | None = None) -> None:
        """Run uv with network; no setting that the project may have left changes what it does."""
        self.call(command, self.at.work, self.fetching(), {"UV_NO_CONFIG": "1"}, output=output)

    def fetching(self) -> Room:
        """Return what programs that download may touch."""
        return Room((self.at.work, *self.at.fetched, *self.at.reused), (self.at.cache,), network=True)

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
        room: Room,
        extra: Mapping[str, str] | None = None,
        *,
        failure: str = "build",
        message: str = "the build did not succeed",
        output: Path | None = None,
    ) -> None:
        """Run one command with the build's variables, in the sandbox where there is one; see Supervisor."""
        say("$ " + " ".join(command))
        program = Path(command[1] if command[0] == HOOK else command[0]).name
        own = {**self.variables, **(extra or {})}
        if not self.no_sandbox:
            own = own if room.network else {**OFFLINE, **without_proxies(own)}
            tools = (WRAPPERS, self.at.tools)
            room = Room(room.writable, (*tools, *room.readable), network=room.network)
            command = sandbox.command(command, cwd, room, self.root)
        try:
            self.supervisor.call(command, cwd, own, failure, message, program=program, output=output)
        except StepError as error:
            if error.failure == "build" and not room.network and NO_NETWORK.search(self.supervisor.tail()):
                text = f"{error}; it wanted the network, which builds do not have (recipe key build_network)"
                raise StepError("build", text) from error
            raise


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
