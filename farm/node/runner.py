#!/usr/bin/python3
"""farm-node: runs builds on a board. Standard library only; installed by the role ``node_runner``.

Every sub-command prints one JSON object. A job's attempt is a directory under ``jobs/``, named
``JOB.ATTEMPT``; making it is the atomic claim, so that starting an attempt twice runs it once. The build
is detached from the SSH session: it survives the link, the controller and a re-provision. Its log goes to
a file, its result is written beside the target and renamed, and nothing is removed until the controller,
having re-hashed the wheels, says ``forget``.

    farm-node probe                          facts of this board
    farm-node start JOB.ATTEMPT              claim and start; reads incoming/JOB.ATTEMPT.json
    farm-node poll JOB.ATTEMPT:OFFSET ...    state of attempts and their logs from an offset (bytes)
    farm-node cancel JOB.ATTEMPT             end the whole process group
    farm-node forget JOB.ATTEMPT             remove it; the controller has the artifacts
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

VERSION = 1
LOG_CHUNK_BYTES = 64 * 1024
GRACE_S = 10
KILL_POLL_S = 0.1
LOCAL_ENVIRONMENTS = Path("/opt/wheelfarm")

Json = dict[str, object]


class StepError(Exception):
    """A step of the build did not succeed; carries the failure class of the job."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


def main() -> int:
    """Run one sub-command and print its JSON object."""
    parser = argparse.ArgumentParser(prog="farm-node", description="runs the farm's builds on this board")
    parser.add_argument("--root", type=Path, default=Path("/var/lib/wheelfarm-node"))
    parser.add_argument("--environments", type=Path, default=LOCAL_ENVIRONMENTS, help="one folder a Python")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("probe")
    for name in ("start", "cancel", "forget", "supervise"):
        commands.add_parser(name).add_argument("attempt")
    commands.add_parser("poll").add_argument("attempts", nargs="*")
    options = parser.parse_args()
    root: Path = options.root
    if options.command == "probe":
        answer = probe(root, options.environments)
    elif options.command == "poll":
        answer = {"attempts": [poll(root, *item.rsplit(":", 1)) for item in options.attempts]}
    else:
        if "/" in options.attempt or options.attempt.startswith("."):
            parser.error(f"not an attempt's name: {options.attempt}")
        if options.command in {"start", "supervise"}:
            command = {"start": start, "supervise": supervise}[options.command]
            answer = command(root, options.attempt, options.environments)
        else:
            answer = {"cancel": cancel, "forget": forget}[options.command](root, options.attempt)
    print(json.dumps(answer))
    return 0


# -- facts of the board ---------------------------------------------------------------------------------


def probe(root: Path, environments: Path = LOCAL_ENVIRONMENTS) -> Json:
    """Return what this board is: ISA, cores, memory, disk, Pythons, toolchains, installed packages."""
    (root / "incoming").mkdir(parents=True, exist_ok=True)
    gcc_march = ""
    for line in _output("gcc", "-Q", "--help=target").splitlines():
        if line.split()[:1] == ["-march="]:
            gcc_march = line.split()[1]
    return {
        "runner_version": VERSION,
        "hostname": platform.node(),
        "machine": platform.machine(),
        "machine_id": _read("/etc/machine-id"),
        "boot_id": _read("/proc/sys/kernel/random/boot_id"),
        "kernel": platform.release(),
        "os": _os_name(),
        "isa": _cpuinfo("isa"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk_free_bytes": shutil.disk_usage(root).free,
        "load": os.getloadavg()[0],
        "clock": time.time(),
        "gcc": _output("gcc", "-dumpfullversion").strip(),
        "gcc_march": gcc_march,
        "rustc": _output("rustc", "--version").strip(),
        "pythons": sorted(path.name for path in environments.glob("cp3*") if (path / "bin/python").exists()),
        "apt_packages": [
            # A removed package whose configuration files are left is still listed.
            name
            for state, name in map(
                str.split, _output("dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n").splitlines()
            )
            if state == "installed"
        ],
        "attempts": sorted(path.name for path in (root / "jobs").glob("*") if path.is_dir()),
    }


def _output(*command: str) -> str:
    """Return a command's output, or an empty string where the board does not have it."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _cpuinfo(key: str) -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _os_name() -> str:
    for line in _read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return ""


# -- an attempt's life ----------------------------------------------------------------------------------


def start(root: Path, attempt: str, environments: Path = LOCAL_ENVIRONMENTS) -> Json:
    """Claim the attempt and start it detached; a second call finds it claimed and starts nothing."""
    spec = root / "incoming" / f"{attempt}.json"
    job = root / "jobs" / attempt
    job.parent.mkdir(parents=True, exist_ok=True)
    if (job / "claimed").exists():
        return {"attempt": attempt, "started": False}
    # A claim cut off between mkdir and this marker never started anything: it is taken again.
    job.mkdir(exist_ok=True)
    shutil.copyfile(spec, job / "spec.json")
    (job / "log").touch()
    try:
        (job / "claimed").touch(exist_ok=False)
    except FileExistsError:
        return {"attempt": attempt, "started": False}
    with (job / "log").open("ab") as log:
        supervisor = subprocess.Popen(
            [
                *(sys.executable, str(Path(__file__).resolve())),
                *("--root", str(root), "--environments", str(environments), "supervise", attempt),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=job,
            start_new_session=True,
        )
    _write_json(job / "supervisor.json", _identity(supervisor.pid))
    spec.unlink(missing_ok=True)
    return {"attempt": attempt, "started": True}


def poll(root: Path, attempt: str, offset: str) -> Json:
    """Return an attempt's state, its result if it has one, and its log from ``offset`` (bytes)."""
    job = root / "jobs" / attempt
    answer: Json = {"attempt": attempt, "state": "unknown", "log": "", "offset": int(offset)}
    if not job.is_dir():
        return answer
    result = job / "result.json"
    # The order matters: the result is looked for before the log is read, so that a finished attempt's
    # last poll never misses the end of the log.
    finished = result.exists()
    alive = finished or _alive(job)
    with (job / "log").open("rb") as log:
        log.seek(int(offset))
        chunk = log.read(LOG_CHUNK_BYTES)
        answer["more"] = log.read(1) != b""
    answer["log"] = base64.b64encode(chunk).decode()
    answer["offset"] = int(offset) + len(chunk)
    if finished or result.exists():
        answer["state"] = "finished"
        answer["result"] = json.loads(result.read_text(encoding="utf-8"))
    elif alive:
        answer["state"] = "running"
    else:
        answer["state"] = "lost"
    return answer


def cancel(root: Path, attempt: str) -> Json:
    """End the attempt: supervisor, build and all its children share one session."""
    job = root / "jobs" / attempt
    if not _alive(job):
        return {"attempt": attempt, "cancelled": False}
    identity = json.loads((job / "supervisor.json").read_text(encoding="utf-8"))
    os.kill(identity["pid"], signal.SIGTERM)
    return {"attempt": attempt, "cancelled": True}


def forget(root: Path, attempt: str) -> Json:
    """Remove a finished attempt; one that still runs is refused."""
    job = root / "jobs" / attempt
    if job.is_dir() and not (job / "result.json").exists() and _alive(job):
        return {"attempt": attempt, "forgotten": False}
    _end_orphans(job)
    if job.is_dir():
        # Renamed first: a removal that is cut off must not leave half an attempt under its name.
        doomed = job.with_name(f".{attempt}.{os.getpid()}")
        job.rename(doomed)
        shutil.rmtree(doomed)
    return {"attempt": attempt, "forgotten": True}


def _end_orphans(job: Path) -> None:
    """End what a killed supervisor left running: all of a build shares the supervisor's session."""
    try:
        identity = json.loads((job / "supervisor.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    leader = identity["pid"]
    if identity["boot_id"] != _read("/proc/sys/kernel/random/boot_id") or _start_time(leader):
        return  # a restart ended them all, or the number belongs to another process by now
    for path in Path("/proc").glob("[0-9]*"):
        fields = _read(f"{path}/stat").rpartition(")")[2].split()
        # proc_pid_stat(5): the session is field 6, the fourth after the command's name.
        if len(fields) > 3 and fields[3] == str(leader):  # noqa: PLR2004
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.name), signal.SIGKILL)


def _identity(pid: int) -> Json:
    """Return what tells a process from a later one with the same number: start time and boot id."""
    return {"pid": pid, "start_time": _start_time(pid), "boot_id": _read("/proc/sys/kernel/random/boot_id")}


def _start_time(pid: int) -> str:
    # proc_pid_stat(5): what follows the command's name begins with field 3, the state.
    fields = dict(enumerate(_read(f"/proc/{pid}/stat").rpartition(")")[2].split(), start=3))
    return "" if fields.get(3) == "Z" else fields.get(22, "")


def _alive(job: Path) -> bool:
    try:
        identity = json.loads((job / "supervisor.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        # Claimed, and the starter has not written the identity yet (or died just there).
        return job.is_dir() and time.time() - job.stat().st_mtime < GRACE_S
    return bool(identity["start_time"]) and identity == _identity(identity["pid"])


# -- the build ------------------------------------------------------------------------------------------


def supervise(root: Path, attempt: str, environments: Path = LOCAL_ENVIRONMENTS) -> Json:
    """Run the build's steps, enforce the time limit (F30) and leave a durable result (F22)."""
    job = root / "jobs" / attempt
    spec = json.loads((job / "spec.json").read_text(encoding="utf-8"))
    build = Build(root, job, spec, environments)
    signal.signal(signal.SIGTERM, build.on_terminate)
    began = time.monotonic()
    result: Json = {"attempt": attempt, "started": time.time(), "failure": None, "message": "", "wheels": []}
    try:
        result["wheels"] = build.run()
    except StepError as error:
        result["failure"], result["message"] = error.failure, str(error)
    except OSError as error:
        result["failure"], result["message"] = "node", f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001  # whatever a hostile sdist raises must leave a result
        result["failure"], result["message"] = "build", f"{type(error).__name__}: {error}"
    # From here on the build is over; a late cancel must not undo its result.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    result["duration_s"] = round(time.monotonic() - began, 2)
    result["phases_s"] = build.phases
    result["toolchain"] = build.toolchain
    say(f"finished: {result['failure'] or 'ok'} {result['message']}".rstrip())
    shutil.rmtree(job / "work", ignore_errors=True)
    _write_json(job / "result.json", result)
    return {}


def say(text: str) -> None:
    """Write a line of the farm's own into the build's log."""
    print(f"[farm] {text}", flush=True)


class Build:
    """The steps from an sdist to repaired wheels, in one attempt's directory."""

    def __init__(self, root: Path, job: Path, spec: Json, environments: Path) -> None:
        self.root = root
        self.job = job
        self.spec = spec
        self.work = job / "work"
        self.environments = environments
        self.environment = environments / str(spec["python"])
        self.deadline = time.monotonic() + float(str(spec["timeout_s"]))
        self.phases: dict[str, float] = {}
        self.toolchain: Json = {}
        self.child: subprocess.Popen[bytes] | None = None

    def run(self) -> list[Json]:
        """Run all steps and return the wheels that came out, with size and sha256."""
        for name in ("tmp", "home", "source", "dist"):
            (self.work / name).mkdir(parents=True, exist_ok=True)
        (self.job / "wheelhouse").mkdir(exist_ok=True)
        self.describe()
        source = self.timed("unpack", self.unpack)
        built = self.timed("build", lambda: self.build_wheel(source))
        self.timed("repair", lambda: self.repair(built))
        wheels = sorted((self.job / "wheelhouse").glob("*.whl"))
        if len(wheels) != 1:
            raise StepError("build", f"expected one wheel after repair, found {len(wheels)}")
        return [{"filename": w.name, "size": w.stat().st_size, "sha256": sha256_of(w)} for w in wheels]

    def timed(self, phase: str, step):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Run a step and keep how long it took, in seconds."""
        began = time.monotonic()
        try:
            return step()
        finally:
            self.phases[phase] = round(time.monotonic() - began, 2)

    def describe(self) -> None:
        """Check that the board has what the job needs and write it all into the log (F13, F20)."""
        facts = probe(self.root, self.environments)
        self.toolchain = {
            key: facts[key] for key in ("hostname", "kernel", "os", "isa", "gcc", "gcc_march", "rustc")
        }
        say(f"job {self.spec['job_id']} attempt {self.spec['attempt']} on {facts['hostname']}")
        say(f"sdist {self.spec['sdist_filename']} sha256 {self.spec['sdist_sha256']}")
        say(f"recipe {self.spec['recipe_digest']} constraints {self.spec['build_constraints']}")
        say(f"gcc {facts['gcc']} default -march {facts['gcc_march']}; {facts['rustc'] or 'no rustc'}")
        if not (self.environment / "bin/python").exists():
            raise StepError("node", f"no build environment {self.environment}; run `farm provision`")
        present = {str(name).split(":")[0] for name in _list(facts["apt_packages"])}
        missing = [str(name) for name in _list(self.spec["apt_packages"]) if name not in present]
        if missing:
            raise StepError(
                "node", f"packages missing on this board: {' '.join(missing)}; run `farm provision`"
            )

    def unpack(self) -> Path:
        """Check the sdist's hash and unpack it; returns the source directory."""
        sdist = self.root / "incoming" / str(self.spec["sdist_sha256"]) / str(self.spec["sdist_filename"])
        if not sdist.exists() or sha256_of(sdist) != self.spec["sdist_sha256"]:
            raise StepError("node", f"the sdist on this board is missing or damaged: {sdist.name}")
        target = self.work / "source"
        try:
            if sdist.suffix == ".zip":
                with zipfile.ZipFile(sdist) as archive:
                    archive.extractall(target)  # noqa: S202  # zipfile drops absolute names and ".." itself
            else:
                with tarfile.open(sdist) as archive:
                    archive.extractall(target, filter="data")  # the filter refuses what S202 fears
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise StepError("source", f"the sdist can't be unpacked: {error}") from error
        roots = [path for path in target.iterdir() if path.is_dir()]
        if len(roots) != 1:
            raise StepError("source", f"the sdist holds {len(roots)} top-level folders, not one (PEP 517)")
        return roots[0]

    def build_wheel(self, source: Path) -> Path:
        """Build with the project's own PEP 517 backend (F04) in an isolated environment."""
        dist = self.work / "dist"
        command = [
            str(self.environment / "bin/python"),
            "-m",
            "build",
            "--wheel",
            "-v",
            "--outdir",
            str(dist),
        ]
        code = self.call([*command, str(source)])
        wheels = sorted(dist.glob("*.whl"))
        if code != 0 or len(wheels) != 1:
            raise StepError("build", f"the build ended with code {code} and {len(wheels)} wheels")
        return wheels[0]

    def repair(self, wheel: Path) -> None:
        """Graft what the wheel needs from this board and give it an honest platform tag (F07)."""
        wheelhouse = self.job / "wheelhouse"
        if wheel.name.endswith("-any.whl"):
            shutil.copyfile(wheel, wheelhouse / wheel.name)
            return
        command = [str(self.environment / "bin/auditwheel"), "repair", "--wheel-dir"]
        # auditwheel can fail and leave an unrepaired wheel in its output: it gets a folder of its own.
        repaired = self.work / "repaired"
        code = self.call([*command, str(repaired), str(wheel)])
        if code != 0:
            raise StepError("policy", f"auditwheel can't repair {wheel.name} (code {code})")
        for path in repaired.glob("*.whl"):
            shutil.copyfile(path, wheelhouse / path.name)

    def call(self, command: list[str]) -> int:
        """Run one command in its own process group, within what is left of the time limit."""
        say("$ " + " ".join(command))
        self.child = subprocess.Popen(
            command, cwd=self.work, env=self.variables(), stdin=subprocess.DEVNULL, process_group=0
        )
        try:
            return self.child.wait(timeout=max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill_child()
            raise StepError("timeout", f"not done after {self.spec['timeout_s']} s") from None
        finally:
            self.child = None

    def variables(self) -> dict[str, str]:
        """Return the build's environment: what the board gives every session, one locale, private caches."""
        jobs = str(self.spec["width"])
        variables = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        variables |= {
            "PATH": f"{self.environment}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.work / "home"),
            "TMPDIR": str(self.work / "tmp"),
            "CARGO_HOME": str(self.work / "home/cargo"),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "MAKEFLAGS": f"-j{jobs}",
            "CMAKE_BUILD_PARALLEL_LEVEL": jobs,
            "CARGO_BUILD_JOBS": jobs,
        }
        constraints = [str(item) for item in _list(self.spec["build_constraints"])]
        if constraints:
            path = self.work / "constraints.txt"
            path.write_text("\n".join(constraints) + "\n", encoding="utf-8")
            # pypa/build honours the first inside its isolated environment; the second is for the builds
            # of build requirements, where pip >= 25.3 ignores the first.
            variables["PIP_CONSTRAINT"] = str(path)
            variables["PIP_BUILD_CONSTRAINT"] = str(path)
        environment = self.spec["environment"]
        if isinstance(environment, dict):
            variables.update(environment)
        return variables

    def kill_child(self) -> None:
        """End the running step's process group: first politely, then not."""
        child = self.child
        if child is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
            except ProcessLookupError:
                return
            end = time.monotonic() + GRACE_S
            while child.poll() is None and time.monotonic() < end:
                time.sleep(KILL_POLL_S)

    def on_terminate(self, _number: int, _frame: object) -> None:
        """End the build when the controller cancels it."""
        self.kill_child()
        raise StepError("cancelled", "cancelled by the controller")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, content: Json) -> None:
    """Write durably: to a temporary name, flushed to disk, then renamed."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
