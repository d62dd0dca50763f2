"""An attempt's life on a board.

An attempt is a directory under ``jobs/``, named ``JOB.ATTEMPT``. Its supervisor claims it by linking its own
identity to ``supervisor.json``, so that starting an attempt twice runs it once. Its log goes to a file, its
result is written beside the target and renamed, and nothing is removed until the controller, having re-hashed
the files, says ``forget``.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

from farm.node import units
from farm.node.files import Json, read_json, write_json
from farm.node.process import end_all, is_alive, pid_of, remnants
from farm.node.supervise import CANCELLED, WIDEN, WIDTH, Order
from farm.node.unit import Phase, Status, UnitError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,200}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class RefusedError(Exception):
    """A request that can't be met; its text goes to the controller."""


def job_of(root: Path, attempt: object) -> Path:
    """Return an attempt's folder."""
    if not isinstance(attempt, str) or not NAME.fullmatch(attempt):
        raise RefusedError(f"not an attempt's name: {attempt!r}")
    return root / "jobs" / attempt


def state(job: Path) -> tuple[str, Json]:
    """Return an attempt's state, and its result if it has one."""
    result = job / "result.json"
    content = read_json(result)
    if content:
        return "finished", content
    leader = read_json(job / "supervisor.json")
    if leader and is_alive(leader):
        return "running", {}
    as_unit = units.look_up(job, claimed=bool(leader))
    if as_unit is not None and as_unit.phase is Phase.RUNNING:
        return "running", {}  # it has not claimed yet, or systemd ends what a dead supervisor left
    if not leader and (as_unit is None or as_unit.phase is Phase.LOST):
        return "unknown", {}  # a claim that was cut off half way never started anything: it is taken again
    # It may have ended between the two looks.
    content = read_json(result) or _cut_off(job, as_unit)
    return ("finished", content) if content else ("lost", {})


def is_startable(job: Path) -> bool:
    """Return whether a start is to launch an attempt: none has claimed it, nor ended before it could.

    One that was launched and has not claimed yet is launched again: who did it may have been killed half way.
    The claim, and a unit's name, keep it from running twice.
    """
    return not (read_json(job / "result.json") or read_json(job / "supervisor.json") or units.is_over(job))


def missing(root: Path, task: Json) -> str:
    """Return the sdist that the task needs and this board lacks, as a path below the root, or nothing."""
    if task.get("task") != "build":
        return ""
    digest, name = task.get("sdist_sha256"), task.get("sdist_filename")
    if not isinstance(digest, str) or not SHA256.fullmatch(digest):
        raise RefusedError(f"not a sha256: {digest!r}")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RefusedError(f"not a file's name: {name!r}")
    folder = root / "incoming" / digest
    try:
        os.utime(folder / name)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return f"incoming/{digest}/{name}"
    return ""


def prepared(root: Path, environments: Path, job: Path, spec: Json) -> Order:
    """Make an attempt ready to be claimed."""
    order = Order(root, job, environments, spec)
    argv = order.task.get("argv")
    if order.task.get("task") == "command" and not (
        isinstance(argv, list) and argv and all(isinstance(item, str) for item in argv)
    ):
        raise RefusedError("a command is a list of texts")
    if order.task.get("task") not in {"build", "command"} or not order.limit("time_s") > 0:
        raise RefusedError("a spec has a task that is known, and a time limit")
    job.mkdir(parents=True, exist_ok=True)
    leader = job / "supervisor.json"
    if leader.exists() and not read_json(leader):
        leader.unlink()  # torn by a power cut: a claim is never without an identity
    write_json(job / "spec.json", spec)
    return order


def order_of(root: Path, environments: Path, attempt: str) -> Order:
    """Return the order of an attempt that was made ready."""
    job = job_of(root, attempt)
    return Order(root, job, environments, read_json(job / "spec.json"))


def cancel(job: Path) -> bool:
    """Tell a running attempt's supervisor to end it; what a killed one left is ended here and now.

    Returns True where the supervisor was told and its end is to be waited for.
    """
    now, _ = state(job)
    if now == "running":
        with contextlib.suppress(OSError):  # on a full disk it is ended all the same
            (job / CANCELLED).touch()
        return _asked_to_end(job)
    if now == "lost":
        end_remnants(job)
        message = "cancelled by the controller, after its supervisor was killed"
        write_json(job / "result.json", _result(job, "cancelled", message))
    return False


def widen(job: Path, width: int, limits: Json) -> bool:
    """Let a running attempt have more tasks at once, and with them more memory; returns whether it has.

    One that has so many already stays as it is, as does one that no longer runs or whose supervisor, of an
    older farm, does not know how.
    """
    known = read_json(job / WIDTH).get("width")
    if state(job)[0] != "running" or not isinstance(known, int) or known >= width:
        return isinstance(known, int) and known >= width
    try:
        units.widen(job, width, limits)
    except UnitError as error:
        raise RefusedError(str(error)) from error
    write_json(job / WIDTH, {**limits, "width": width})
    with contextlib.suppress(ProcessLookupError, KeyError):
        os.kill(pid_of(read_json(job / "supervisor.json")), WIDEN)
    return True


def _asked_to_end(job: Path) -> bool:
    try:
        if units.stop(job, wait=False):
            return True
    except UnitError as error:
        if not read_json(job / "supervisor.json"):
            raise RefusedError(str(error)) from error
    # No unit; or systemd does not answer, and the supervisor, which does, ends all but itself.
    with contextlib.suppress(ProcessLookupError, KeyError):
        os.kill(pid_of(read_json(job / "supervisor.json")), signal.SIGTERM)
        return True
    return False


def doomed(job: Path) -> Path | None:
    """Take an attempt away from under its name; what is returned is then to be removed, if it is anything.

    Renamed first: a removal that is cut off must not leave half an attempt under its name.
    """
    now, _ = state(job)
    if now == "running":
        raise RefusedError(f"{job.name} still runs: cancel it first")
    if now == "lost":
        end_remnants(job)
    elif not units.is_over(job):
        _stop_unit(job)  # the supervisor's last breath: its folder is not to go before it
    target = job.with_name(f".{job.name}.{os.getpid()}")
    try:
        job.rename(target)
    except FileNotFoundError:
        return None
    return target


def end_remnants(job: Path) -> None:
    """End the processes that a killed supervisor left."""
    _stop_unit(job)
    leader = read_json(job / "supervisor.json")
    end_all(lambda: remnants(leader, str(job)), 0.0)


def _stop_unit(job: Path) -> None:
    try:
        units.stop(job, wait=True)
    except UnitError as error:
        raise RefusedError(str(error)) from error


def _cut_off(job: Path, as_unit: Status | None) -> Json:
    """Return the result of a unit that systemd or the kernel ended before it wrote one.

    Nothing where that was the node's fault: it is lost, as without systemd.
    """
    if as_unit is None or as_unit.phase is not Phase.ENDED:
        return {}
    if (job / CANCELLED).exists():
        return _result(job, "cancelled", "cancelled by the controller")
    messages = {
        "memory": "the kernel ended it at its limit of memory",
        "timeout": "systemd ended it: it did not end by itself when its time was over",
    }
    failure = as_unit.failure
    return _result(job, failure, messages[failure]) if failure in messages else {}


def _result(job: Path, failure: str, message: str) -> Json:
    started, duration_s = units.times(job)
    return {
        "failure": failure,
        "message": message,
        "wheels": [],
        "started": started,
        "duration_s": duration_s,
    }
