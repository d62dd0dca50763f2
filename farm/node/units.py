"""An attempt's unit: what it is called, how it is started and ended, and what is known of it.

That an attempt is a unit is written into its folder before systemd is asked for it: whoever looks there
later, this session or another, asks systemd as well. The claim stays what keeps it from running twice.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from farm.node import unit
from farm.node.files import Durable, Json, read_json, write_json
from farm.node.process import boot_id
from farm.node.unit import Phase, Status, UnitError

if TYPE_CHECKING:
    from farm.node.supervise import Order

MAIN = Path(__file__).with_name("__main__.py")
KEPT = "unit.json"
RECORD = "ended"
# The supervisor's own limit comes first; this one ends it where it can't.
OVERTIME_S = 60.0
# It asks its processes to end for 5 s, removes what was compiled, and writes its result, on a slow card.
GRACE_S = 30.0
# For so long an interpreter may start before systemd is asked whether it still does; then so often.
TRUST_S = 5.0
ASK_EVERY_S = 0.5
# What builds get of this session: the manager has an environment of its own, made when the board started.
PASSED = re.compile(
    r"PATH|LANG|LC_[A-Z]+|TZ|WHEELFARM_[A-Z_]+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
    r"|(https?|ftp|all|no)_proxy|(HTTPS?|FTP|ALL|NO)_PROXY"
)
LONGEST_PREFIX = 100


def name_of(job: Path) -> str:
    """Return the name of an attempt's unit: readable, and for each root another one."""
    prefix = re.sub(r"[^A-Za-z0-9_.-]", "_", job.name).lstrip("_.-")[:LONGEST_PREFIX] or "attempt"
    return f"{prefix}-{hashlib.sha256(os.fsencode(job)).hexdigest()[:12]}"


def start(order: Order) -> bool:
    """Start an attempt's supervisor as a unit; False if it was started before.

    Raises:
        OSError: it could not be started, or would find no room for its result.
    """
    job = order.job
    # A forked supervisor says so itself; from a unit it would be heard too late.
    Durable(job / "result.json").drop()
    write_json(job / KEPT, {"name": name_of(job), "boot_id": boot_id(), "asked_at": time.monotonic()})
    options = ["--root", str(order.root), "--environments", str(order.environments)]
    try:
        return unit.start(
            name_of(job),
            [sys.executable, "-P", str(MAIN), *options, "supervise", job.name],
            log=job / "log",
            cwd=job,
            record=job / RECORD,
            limits=limits(order),
            environment={name: value for name, value in os.environ.items() if PASSED.fullmatch(name)},
        )
    except UnitError as error:
        if not read_json(job / "supervisor.json"):
            (job / RECORD).unlink(missing_ok=True)  # nothing ran: it may be started again
        raise OSError(str(error)) from error


def limits(order: Order) -> unit.Limits:
    """Return what systemd and the kernel enforce on an attempt."""
    return unit.Limits(
        bounds=bounds(int(str(order.task.get("width", 1))), order.limit),
        runtime_s=order.limit("time_s") + OVERTIME_S,
        grace_s=GRACE_S,
    )


def bounds(width: int, limit: Callable[[str], float]) -> unit.Bounds:
    """Return what follows from a width and the limits of a spec, by name."""
    return unit.Bounds(
        memory_bytes=int(limit("memory_bytes")) or None,
        processes=int(limit("processes")) or None,
        # Who does not keep to its width, as a setup.py that counts the board's cores, is to cost itself only.
        shares=width,
    )


def widen(job: Path, width: int, limits: Json) -> None:
    """Give an attempt's unit what a larger width needs; where it is none, nothing limits it.

    Raises:
        UnitError: systemd refused, or could not be asked.
    """
    kept = read_json(job / KEPT)
    if kept and kept.get("boot_id") == boot_id():
        unit.change(str(kept["name"]), bounds(width, lambda name: float(str(limits.get(name) or 0))))


def look_up(job: Path, *, claimed: bool) -> Status | None:
    """Return what is known of an attempt's unit; None if it is none. What can't be said now, still runs."""
    kept = read_json(job / KEPT)
    if not kept:
        return None
    status = unit.read_record(job / RECORD)
    if status.phase is Phase.ENDED or kept.get("boot_id") != boot_id():
        return status
    now = time.monotonic()
    if not claimed and now - float(str(kept["asked_at"])) < TRUST_S:
        return Status(Phase.RUNNING)
    try:
        return _asked(str(kept["name"]), job / RECORD, int(now / ASK_EVERY_S))
    except UnitError:
        # Without a manager nothing of it is left. One that does not answer may have it.
        return Status(Phase.RUNNING if unit.has_manager() else Phase.LOST)


def stop(job: Path, *, wait: bool) -> bool:
    """End an attempt's unit; returns whether it is one, of this boot.

    Raises:
        UnitError: systemd could not be asked.
    """
    kept = read_json(job / KEPT)
    if not kept or kept.get("boot_id") != boot_id():
        return False
    unit.stop(str(kept["name"]), wait=wait)
    return True


def is_over(job: Path) -> bool:
    """Return whether nothing is left of an attempt's unit, as far as its record says."""
    return (job / RECORD).exists()


def is_mine(job: Path) -> bool:
    """Return whether this process is in the unit of an attempt."""
    return unit.is_inside(name_of(job))


def times(job: Path) -> tuple[float, float]:
    """Return when a unit that left no result began, since the epoch, and how long it ran, in seconds."""
    began = ended = 0.0
    for name in (KEPT, "supervisor.json"):
        with contextlib.suppress(OSError):
            began = (job / name).stat().st_mtime
    with contextlib.suppress(OSError):
        ended = (job / RECORD).stat().st_mtime
    return began, max(0.0, round(ended - began, 3))


@functools.lru_cache(maxsize=256)
def _asked(name: str, record: Path, _moment: int) -> Status:
    """Ask systemd, which costs a process: once a moment at most."""
    return unit.state(name, record)
