"""An attempt's life on a board.

An attempt is a directory under ``jobs/``, named ``JOB.ATTEMPT``; making it is the atomic claim, so that
starting an attempt twice runs it once. The build is detached from the SSH session: it survives the link, the
controller and a re-provision. Its log goes to a file, its result is written beside the target and renamed,
and nothing is removed until the controller, having re-hashed the wheels, says ``forget``.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from farm.node.files import Json, read_json, read_text, write_json
from farm.node.process import BOOT_ID, end_session, identity, start_time

LOG_CHUNK_BYTES = 64 * 1024
GRACE_S = 10


def start(root: Path, attempt: str, environments: Path) -> Json:
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
    # The Python of the build tools has pyproject_hooks; where it is missing, the supervisor says so.
    tools = environments / str(read_json(job / "spec.json").get("python")) / "bin/python"
    python = str(tools) if tools.exists() else sys.executable
    with (job / "log").open("ab") as log:
        supervisor = subprocess.Popen(
            [
                *(python, "-P", str(Path(__file__).with_name("__main__.py"))),
                *("--root", str(root), "--environments", str(environments), "supervise", attempt),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=job,
            start_new_session=True,
        )
    write_json(job / "supervisor.json", identity(supervisor.pid))
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
    running = finished or alive(job)
    with (job / "log").open("rb") as log:
        log.seek(int(offset))
        chunk = log.read(LOG_CHUNK_BYTES)
        answer["more"] = log.read(1) != b""
    answer["log"] = base64.b64encode(chunk).decode()
    answer["offset"] = int(offset) + len(chunk)
    if finished or result.exists():
        answer["state"] = "finished"
        answer["result"] = json.loads(result.read_text(encoding="utf-8"))
    else:
        answer["state"] = "running" if running else "lost"
    return answer


def cancel(root: Path, attempt: str) -> Json:
    """End the attempt: supervisor, build and all its children share one session."""
    job = root / "jobs" / attempt
    if not alive(job):
        return {"attempt": attempt, "cancelled": False}
    os.kill(_pid(read_json(job / "supervisor.json")), signal.SIGTERM)
    return {"attempt": attempt, "cancelled": True}


def forget(root: Path, attempt: str) -> Json:
    """Remove a finished attempt; one that still runs is refused."""
    job = root / "jobs" / attempt
    if job.is_dir() and not (job / "result.json").exists() and alive(job):
        return {"attempt": attempt, "forgotten": False}
    leader = read_json(job / "supervisor.json")
    # A killed supervisor may have left its build running. After a restart, or with its number taken by
    # another process, there is nothing of it any more.
    if leader and leader["boot_id"] == read_text(BOOT_ID) and not start_time(_pid(leader)):
        end_session(_pid(leader))
    if job.is_dir():
        # Renamed first: a removal that is cut off must not leave half an attempt under its name.
        doomed = job.with_name(f".{attempt}.{os.getpid()}")
        job.rename(doomed)
        shutil.rmtree(doomed)
    return {"attempt": attempt, "forgotten": True}


def alive(job: Path) -> bool:
    """Return whether the attempt's supervisor runs, or may be about to."""
    leader = read_json(job / "supervisor.json")
    if not leader:
        # Claimed, and the starter has not written the identity yet (or died just there).
        return job.is_dir() and time.time() - job.stat().st_mtime < GRACE_S
    return bool(leader["start_time"]) and leader == identity(_pid(leader))


def _pid(leader: Json) -> int:
    return int(str(leader["pid"]))
