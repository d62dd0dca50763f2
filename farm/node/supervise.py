"""The supervisor: one process, in a session of its own, that sees one attempt through.

It claims the attempt, runs the task's steps, enforces the limits, ends every process that the task left
behind, and leaves a durable result. Nobody has to watch it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from farm.node import unit, units
from farm.node.failure import TAIL_BYTES, StepError, classify
from farm.node.files import Durable, Json, artifacts, read_json, write_json
from farm.node.process import MARK, adopt_orphans, end_all, family, identity
from farm.node.tokens import Tokens

if TYPE_CHECKING:
    from farm.node.peak import Peak

GRACE_S = 5.0
LEFT_BEHIND_GRACE_S = 1.0
# In an attempt's folder: a controller wants its end.
CANCELLED = "cancelled"
STOPS = (signal.SIGTERM, signal.SIGALRM)
# Likewise: how many tasks it may run, and that its supervisor hears (WIDEN) when that becomes more.
WIDTH = "width.json"
WIDEN = signal.SIGUSR1
LONGEST_MESSAGE = 2000
T = TypeVar("T")


class NotClaimedError(Exception):
    """An attempt could not be claimed, so nothing was started."""


class Task(Protocol):
    """What an attempt does."""

    toolchain: Json

    def run(self) -> list[Json]:
        """Do it, and return the files that came out: name, size and sha256."""


@dataclass(frozen=True)
class Order:
    """One attempt, and where it finds what it needs."""

    root: Path
    job: Path
    environments: Path
    spec: Json

    @property
    def task(self) -> Json:
        """What to do."""
        task = self.spec["task"]
        return task if isinstance(task, dict) else {}

    def limit(self, name: str) -> float:
        """Return a limit; 0 where there is none."""
        limits = self.spec["limits"]
        return float(limits.get(name) or 0) if isinstance(limits, dict) else 0.0


def say(text: str) -> None:
    """Write a line of the farm's own into the attempt's log."""
    # On a full disk the result says why; the log can't.
    with contextlib.suppress(OSError):
        os.write(1, f"[farm] {text}\n".encode())


class Supervisor:
    """What a task's steps have in common: commands, limits, times."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.phases: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self.in_unit = units.is_mine(order.job)
        self._began = time.monotonic()
        self._peak: Peak | None = None
        self._stopped: StepError | None = None
        self._over = False
        self._adopts = False
        self._tokens: Tokens | None = None

    def timed(self, phase: str, step: Callable[[], T]) -> T:
        """Run a step and keep how long it took, by the clock and of processors, in seconds."""
        began, used = time.monotonic(), _processor_s()
        try:
            result = step()
        finally:
            self.phases[phase] = round(time.monotonic() - began, 3)
            self.processor[phase] = round(_processor_s() - used, 3)
        if self._stopped:  # whoever caught it must not have made it undone
            raise self._stopped
        return result

    def call(
        self,
        command: list[str],
        cwd: Path,
        variables: Mapping[str, str],
        failure: str = "build",
        message: str = "the build did not succeed",
        *,
        program: str = "",
        output: Path | None = None,
    ) -> None:
        """Run one command; if it fails, so does the job, with class ``failure`` or a better one.

        What it writes goes into the log, or to ``output``, which must not be there yet. ``program`` is what
        it is called in messages, if not by its first word.
        """
        before = self._usage()
        with contextlib.ExitStack() as stack:
            kept = stack.enter_context(output.open("xb")) if output else None
            if self.in_unit:
                stack.enter_context(unit.expendable_children())
            child = subprocess.Popen(
                command, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, stdout=kept, process_group=0
            )
        pid = 0
        while pid != child.pid:  # daemons that lost their parent end here, too
            pid, status = os.waitpid(-1, 0)
        child.returncode = code = os.waitstatus_to_exitcode(status)
        if self._stopped:
            raise self._stopped
        if code:
            text = f"{message}: {program or Path(command[0]).name} ended with code {code}"
            now = self._usage()
            if now.refused_processes > before.refused_processes:
                text += f"; it wanted more than {self._allowed('processes'):g} processes at once"
            if now.oom_kills > before.oom_kills:
                limit = int(self._allowed("memory_bytes")) >> 20
                raise StepError("memory", f"{text}; the kernel ended a process at the limit of {limit} MiB")
            raise StepError(classify(failure, code, self.tail()), text)

    def watch(self) -> None:
        """Take cancels and the end of the time limit, whatever a step does (F30), from `begin` on."""
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        signal.signal(signal.SIGTERM, lambda *_: self._asked_to_end())
        signal.signal(signal.SIGALRM, lambda *_: self._out_of_time())

    @property
    def width(self) -> int:
        """How many tasks may run at once, as far as is known now."""
        begun = self.order.task.get("width", 1)
        return int(str(read_json(self.order.job / WIDTH).get("width", begun)))

    def _allowed(self, limit: str) -> float:
        """Return a limit as it is now: a wider attempt has more."""
        return float(str(read_json(self.order.job / WIDTH).get(limit) or self.order.limit(limit)))

    def share(self, folder: Path) -> Tokens:
        """Make the tokens of the attempt's tasks in a folder of its own; widened, it has more of them."""
        tokens = Tokens(folder, self.width)
        self._tokens = tokens
        self._widened()  # the signal may have come between the two
        return tokens

    def begin(self) -> None:
        """Begin to count time and memory, and check that there is room."""
        signal.signal(WIDEN, lambda *_: self._widened())
        # Now a controller may make it more. Without this file it can't: the signal would end an older farm's
        # supervisor. On a full disk it stays as it is.
        with contextlib.suppress(OSError):
            write_json(self.order.job / WIDTH, {"width": self.width})
        if self.in_unit:
            from farm.node.peak import Peak  # noqa: PLC0415  # threads are needed in units only

            self._peak = Peak()
            self._peak.begin()  # signals are still blocked
        os.environ[MARK] = str(self.order.job)
        self._adopts = adopt_orphans()
        signal.setitimer(signal.ITIMER_REAL, self.order.limit("time_s"))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        free, wanted = shutil.disk_usage(self.order.job).free, int(self.order.limit("disk_bytes"))
        if free < wanted:
            text = f"only {free >> 20} MiB of disk are free, the job needs {wanted >> 20} MiB"
            raise StepError("node", text)

    def end_family(self) -> None:
        """End every process that the task left; neither cancel nor time limit change its end any more."""
        self._over = True
        tokens, self._tokens = self._tokens, None
        if tokens is not None:
            tokens.close()
        # Descendants that lost their parents are children of this process: none means none at all.
        if self._adopts and not _reap():
            return
        mark = str(self.order.job)
        grace = GRACE_S if self._stopped else LEFT_BEHIND_GRACE_S
        if not end_all(lambda: family(os.getpid(), mark), grace):
            say("processes are left that can't be killed")
        _reap()

    def peak(self) -> Json:
        """Return how much memory was used: by the whole tree in a unit, else by the largest process."""
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return {
            "peak_memory_bytes": max(largest, self._peak.bytes if self._peak else 0),
            "peak_of_tree": self._peak is not None,
        }

    def _usage(self) -> unit.Usage:
        return unit.usage() if self.in_unit else unit.Usage()

    def _widened(self) -> None:
        if self._tokens is not None:
            self._tokens.widen(self.width)

    def _out_of_time(self) -> None:
        self._stop("timeout", f"not done after {self.order.limit('time_s'):g} s")

    def _asked_to_end(self) -> None:
        """End: a controller wants it, or systemd because the time is over, or the board shuts down."""
        if (self.order.job / CANCELLED).exists():
            self._stop("cancelled", "cancelled by the controller")
        if time.monotonic() - self._began >= self.order.limit("time_s"):
            self._out_of_time()
        self._stop("node", "ended from outside: does the board shut down?")

    def _stop(self, failure: str, message: str) -> None:
        if not self._over and self._stopped is None:
            self._stopped = StepError(failure, message)
            raise self._stopped

    def tail(self) -> bytes:
        """Return the end of the log."""
        with (self.order.job / "log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            return log.read()


class CommandTask:
    """A plain command, with the same life as a build; it runs in the attempt's folder."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.toolchain: Json = {}
        self._supervisor = supervisor

    def run(self) -> list[Json]:
        """Run it; what it leaves in ``wheelhouse`` came out."""
        order = self._supervisor.order
        argv = order.task["argv"]
        assert isinstance(argv, list)  # noqa: S101  # checked at the start
        wheelhouse = order.job / "wheelhouse"
        wheelhouse.mkdir(exist_ok=True)
        variables = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        say("$ " + " ".join(argv))
        self._supervisor.timed(
            "run", lambda: self._supervisor.call(argv, order.job, variables, message="the command failed")
        )
        return artifacts(sorted(path for path in wheelhouse.iterdir() if path.is_file()))


def claim(job: Path) -> bool:
    """Take the attempt for this process; of all that try, one succeeds.

    A claim holds the claimant's identity from its first moment: there is none without.
    """
    mine = job / f".claim.{os.getpid()}"
    mine.write_text(json.dumps(identity(os.getpid())), encoding="utf-8")
    try:
        os.link(mine, job / "supervisor.json")
    except FileExistsError:
        return False
    finally:
        mine.unlink()
    return True


def supervise(order: Order, claimed: Callable[[bool], None]) -> None:
    """See an attempt through, in this process; ``claimed`` hears whether it is this process's to run.

    Raises:
        NotClaimedError: it can't even be claimed, because the disk is full; nothing was started.
    """
    supervisor = Supervisor(order)
    supervisor.watch()
    try:
        durable = Durable(order.job / "result.json")
        mine = claim(order.job)
    except OSError as error:
        raise NotClaimedError(f"the attempt can't be claimed: {error}") from error
    if not mine:
        durable.drop()
        claimed(False)
        return
    claimed(True)
    result: Json = {"task": order.task.get("task"), "started": time.time()}
    began = time.monotonic()
    result |= _run(supervisor)
    result["duration_s"] = round(time.monotonic() - began, 3)
    result["phases_s"] = supervisor.phases
    result["processor_s"] = supervisor.processor
    result |= supervisor.peak()
    say(f"finished: {result['failure'] or 'ok'} {result['message']}".rstrip())
    durable.write(result)


def _run(supervisor: Supervisor) -> Json:
    failure, message, wheels, task = None, "", list[Json](), None
    try:
        try:
            supervisor.begin()
            task = _task(supervisor)
            wheels = task.run()
        finally:
            supervisor.end_family()
    except StepError as error:
        failure, message = error.failure, str(error)
    except OSError as error:
        failure, message = "node", f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001  # whatever a hostile sdist raises must leave a result
        failure, message = "build", f"{type(error).__name__}: {error}"
    return {
        "failure": failure,
        "message": message[:LONGEST_MESSAGE],
        "wheels": wheels if failure is None else [],
        "toolchain": task.toolchain if task else {},
    }


def _task(supervisor: Supervisor) -> Task:
    if supervisor.order.task.get("task") == "command":
        return CommandTask(supervisor)
    from farm.node.build import Build  # noqa: PLC0415  # commands do without all that it imports

    return Build(supervisor)


def _reap() -> bool:
    """Take note of children that ended; returns whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
