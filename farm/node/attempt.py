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

from farm.node.files import Json, read_json, write_json
from farm.node.process import end_all, is_alive, pid_of, remnants
from farm.node.supervise import Order

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
    if not leader:
        return "unknown", {}  # a claim that was cut off half way never started anything: it is taken again
    if is_alive(leader):
        return "running", {}
    # It may have ended between the two looks.
    content = read_json(result)
    return ("finished", content) if content else ("lost", {})


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
    leader = read_json(job / "supervisor.json")
    if now == "running":
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid_of(leader), signal.SIGTERM)
            return True
    if now == "lost":
        end_remnants(job)
        write_json(job / "result.json", _cancelled())
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
    target = job.with_name(f".{job.name}.{os.getpid()}")
    try:
        job.rename(target)
    except FileNotFoundError:
        return None
    return target


def end_remnants(job: Path) -> None:
    """End the processes that a killed supervisor left."""
    leader = read_json(job / "supervisor.json")
    end_all(lambda: remnants(leader, str(job)), 0.0)


def _cancelled() -> Json:
    return {
        "failure": "cancelled",
        "message": "cancelled by the controller, after its supervisor was killed",
        "wheels": [],
        "started": 0.0,
        "duration_s": 0.0,
    }
