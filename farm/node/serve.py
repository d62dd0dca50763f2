"""A controller's session: requests as JSON lines in, one answer to each as a JSON line out.

It is no daemon: it begins with one SSH channel and ends with it. Nothing is kept here that is not on the disk
as well, so there may be several at once, and any may be killed.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import selectors
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farm.node import VERSION, attempt, facts
from farm.node.attempt import RefusedError
from farm.node.files import Json, read_json
from farm.node.launch import Launcher, launch
from farm.node.process import is_alive, pid_of
from farm.node.tidy import forget_leftovers
from farm.node.vitals import Vitals

LOG_CHUNK_BYTES = 64 * 1024
SMALLEST_CHUNK_BYTES = 4 * 1024
ANSWER_BYTES = 256 * 1024
LONGEST_REQUEST_BYTES = 1 << 20
# Output is gathered for so long before it is sent; an end is sent at once.
TICK_S = 0.2
LONGEST_GATHERING_S = 5.0
# Where the kernel can't tell the end of another's child.
BLIND_TICK_S = 0.02
CANCEL_S = 40.0
IDLE_S = 1800.0
QUIET_S = 0.05
MOST_DOOMED = 50


@dataclass(slots=True)
class Waiting:
    """A request whose answer is not due yet."""

    number: object
    attempts: frozenset[str]
    deadline: float
    look: Callable[[bool], Json | None]
    """Returns the answer if there is one; if told that it is due, in any case."""
    gathered_at: float = 0.0
    """Before that, nothing but an end is told, and the kernel tells of ends."""


class Agent:
    """Answers requests until their stream ends."""

    def __init__(self, root: Path, environments: Path, launch: Launcher = launch) -> None:
        self._root = root.resolve()
        self._environments = environments
        self._launch = launch
        self._vitals = Vitals(self._root, environments)
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, int] = {}
        self._waiting: Waiting | None = None
        self._doomed: list[Path] = []
        self._pending = b""
        self._out = -1
        for name in ("incoming", "jobs"):
            (self._root / name).mkdir(parents=True, exist_ok=True)

    def serve(self, requests: int, answers: int) -> None:
        """Answer what comes in, until nothing more can come."""
        self._out = answers
        # What was imported stays: supervisors share its pages, and no collection touches them.
        gc.collect()
        gc.freeze()
        self._selector.register(requests, selectors.EVENT_READ)
        with contextlib.suppress(BrokenPipeError):
            while self._turn(requests):
                self._look()
        self._tidy(all_of_it=True)

    def _turn(self, requests: int) -> bool:
        """Take what happens next; returns False when nothing more can come."""
        ready = self._selector.select(self._patience())
        names = {key.data for key, _ in ready}
        for name in names - {None}:
            self._ended(name)
        if None in names:
            data = os.read(requests, LONGEST_REQUEST_BYTES)
            *lines, self._pending = (self._pending + data).split(b"\n")
            for line in lines:
                self._take(line)
            # A request that was sent by half is not done by half.
            return bool(data) and len(self._pending) <= LONGEST_REQUEST_BYTES
        if ready:
            return True
        idle = self._waiting is None and not self._doomed
        self._tidy()
        # Of a link that was lost silently nothing is heard: whoever needs this then, starts it anew.
        return not idle

    # -- requests ---------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        self._look(due=True)  # who asks anew no longer waits
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self._answer(None, {"error": "a request is a JSON object"})
            return
        operation = getattr(self, f"_on_{request.get('op')}", self._on_unknown)
        try:
            answer = operation(request)
        except (RefusedError, OSError) as error:
            answer = {"error": f"{error}"}
        except (KeyError, TypeError, ValueError) as error:
            answer = {"error": f"a malformed request: {type(error).__name__}: {error}"}
        if isinstance(answer, Waiting):
            self._waiting = answer
        elif answer is not None:
            self._answer(request.get("id"), answer)

    def _on_hello(self, _request: Json) -> Json:
        return {"version": VERSION}

    def _on_unknown(self, request: Json) -> Json:
        raise RefusedError(f"no such operation: {request.get('op')!r}")

    def _on_wake(self, _request: Json) -> None:
        """Nothing more: any request ends the waiting of the one before."""

    def _on_prepare(self, _request: Json) -> Json:
        forget_leftovers(self._root)
        return {"facts": facts.probe(self._root, self._environments), "vitals": self._vitals.read()}

    def _on_start(self, request: Json) -> Json:
        spec = request["spec"]
        if not isinstance(spec, dict) or not isinstance(spec.get("task"), dict):
            raise RefusedError("no task")
        job = attempt.job_of(self._root, request["attempt"])
        started = False
        if attempt.is_startable(job):
            lacking = attempt.missing(self._root, spec["task"])
            if lacking:
                return {"missing": lacking}
            order = attempt.prepared(self._root, self._environments, job, spec)
            if order.task["task"] == "build":
                import farm.node.build  # noqa: F401, PLC0415  # once, here, and not in every supervisor
            started = self._launch(order, [self._selector_fd(), *self._watched.values()])
        self._watch(job.name)
        return {"started": started, "vitals": self._vitals.read()}

    def _on_list(self, _request: Json) -> Json:
        jobs = (path for path in (self._root / "jobs").glob("[!.]*") if path.is_dir())
        return {"attempts": {job.name: attempt.state(job)[0] for job in jobs}}

    def _on_poll(self, request: Json) -> Json | Waiting:
        offsets, wait_s = request["offsets"], float(str(request.get("wait_s") or 0))
        gather_s = min(LONGEST_GATHERING_S, float(str(request.get("gather_s") or TICK_S)))
        if not isinstance(offsets, dict) or not all(isinstance(item, int) for item in offsets.values()):
            raise RefusedError("offsets are numbers by attempt")
        for name in offsets:
            attempt.job_of(self._root, name)
            self._watch(name)
        gathered_at = time.monotonic() + gather_s

        def look(due: bool) -> Json | None:
            news = {name: self._news(name, offset) for name, offset in offsets.items()}
            now = time.monotonic()
            if not (due or "end" in news.values() or ("log" in news.values() and now >= gathered_at)):
                return None
            size = max(SMALLEST_CHUNK_BYTES, min(LOG_CHUNK_BYTES, ANSWER_BYTES // max(1, len(offsets))))
            fresh = [self._progress(name, offsets[name], size) for name, what in news.items() if what]
            return {"progress": fresh, "vitals": self._vitals.read()}

        deadline = time.monotonic() + wait_s
        answer = look(wait_s <= 0)
        if answer is not None:
            return answer
        return Waiting(request.get("id"), frozenset(offsets), deadline, look, gathered_at)

    def _on_read_log(self, request: Json) -> Json:
        return {
            "log": _encoded(self._log(attempt.job_of(self._root, request["attempt"]), request["offset"])[0])
        }

    def _on_cancel(self, request: Json) -> Json | Waiting:
        job = attempt.job_of(self._root, request["attempt"])
        if not attempt.cancel(job):
            return {"state": attempt.state(job)[0]}
        self._watch(job.name)

        def look(due: bool) -> Json | None:
            now = "running" if job.name in self._watched else attempt.state(job)[0]
            return {"state": now} if due or now != "running" else None

        return Waiting(request.get("id"), frozenset({job.name}), time.monotonic() + CANCEL_S, look)

    def _on_widen(self, request: Json) -> Json:
        width, limits = request["width"], request["limits"]
        if not isinstance(width, int) or not isinstance(limits, dict):
            raise RefusedError("a width is a number, and limits are numbers by name")
        return {"wider": attempt.widen(attempt.job_of(self._root, request["attempt"]), width, limits)}

    def _on_forget(self, request: Json) -> Json:
        doomed = attempt.doomed(attempt.job_of(self._root, request["attempt"]))
        if doomed:
            self._doomed.append(doomed)  # removed when nobody waits
            self._tidy(above=MOST_DOOMED)
        return {}

    # -- attempts ---------------------------------------------------------------------------------------

    def _news(self, name: str, offset: int) -> str:
        """Return whether an attempt came to its ``end``, has more ``log``, or neither."""
        job = self._root / "jobs" / name
        if name not in self._watched:
            if attempt.state(job)[0] != "running":
                return "end"
            self._watch(name)  # a unit claims in its own time
        try:
            return "log" if os.stat(job / "log").st_size > offset else ""  # noqa: PTH116
        except FileNotFoundError:
            return ""

    def _progress(self, name: str, offset: int, size: int) -> Json:
        job = self._root / "jobs" / name
        # The order matters: the state is looked up before the log is read, so that a finished attempt's last
        # answer never misses the end of the log.
        state, result = attempt.state(job)
        chunk, more = self._log(job, offset, size)
        return {
            "attempt": name,
            "state": state,
            "log": _encoded(chunk),
            "offset": offset + len(chunk),
            "more": more,
            "result": result or None,
        }

    def _log(self, job: Path, offset: object, size: int = LOG_CHUNK_BYTES) -> tuple[bytes, bool]:
        if not isinstance(offset, int) or offset < 0:
            raise RefusedError("an offset is a number of bytes")
        try:
            with open(job / "log", "rb", buffering=0) as log:  # noqa: PTH123
                log.seek(offset)
                chunk = log.read(size) or b""
                return chunk, len(chunk) == size and os.fstat(log.fileno()).st_size > log.tell()
        except FileNotFoundError:
            return b"", False

    # -- ends -------------------------------------------------------------------------------------------

    def _watch(self, name: str) -> None:
        """Have the kernel tell when a running attempt's supervisor ends."""
        if name in self._watched:
            return
        leader = read_json(self._root / "jobs" / name / "supervisor.json")
        if not leader or not is_alive(leader):
            return
        try:
            descriptor = os.pidfd_open(pid_of(leader))
        except (AttributeError, OSError):
            return  # no such kernel, or just gone: it is looked at every now and then
        if not is_alive(leader):  # it ended before, and what was opened is a later one of this number
            os.close(descriptor)
            return
        self._watched[name] = descriptor
        self._selector.register(descriptor, selectors.EVENT_READ, name)

    def _ended(self, name: str) -> None:
        descriptor = self._watched.pop(name)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    # -- answers ----------------------------------------------------------------------------------------

    def _patience(self) -> float:
        waiting = self._waiting
        if waiting is None:
            return QUIET_S if self._doomed else IDLE_S
        now = time.monotonic()
        if not waiting.attempts <= self._watched.keys():
            tick = BLIND_TICK_S
        else:
            tick = waiting.gathered_at - now if now < waiting.gathered_at else TICK_S
        return max(0.0, min(tick, waiting.deadline - now))

    def _look(self, *, due: bool = False) -> None:
        waiting = self._waiting
        if waiting is None:
            return
        answer = waiting.look(due or time.monotonic() >= waiting.deadline)
        if answer is not None:
            self._waiting = None
            self._answer(waiting.number, answer)

    def _answer(self, number: object, answer: Json) -> None:
        data = json.dumps({"id": number, **answer}).encode() + b"\n"
        while data:
            data = data[os.write(self._out, data) :]

    def _tidy(self, *, all_of_it: bool = False, above: int = 0) -> None:
        """Remove one of the attempts that were forgotten: on a slow card that takes its time."""
        while len(self._doomed) > above:
            shutil.rmtree(self._doomed.pop(), ignore_errors=True)
            if not all_of_it:
                return

    def _selector_fd(self) -> int:
        assert isinstance(self._selector, selectors.EpollSelector)  # noqa: S101  # Linux
        return self._selector.fileno()


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
